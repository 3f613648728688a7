"""The recording in README is what the product prints today, and a valid picture."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from ddb_lake_tests.docs.record_terminal import COLUMNS, PICTURE, ROWS, Frame, film, first_commands, record, svg
from ddb_lake_tests.support.docs_blocks import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def last_frame(picture: str) -> list[str]:
    """The rows of the last frame."""
    tree = ElementTree.fromstring(picture)
    texts = {text.attrib["id"]: text.text or "" for text in tree.iter(f"{SVG}text")}
    *_, last = tree.findall(f"{SVG}g/{SVG}g")
    return [texts[use.attrib["href"].removeprefix("#")] for use in last.iter(f"{SVG}use")]


def test_recording_is_a_run_of_this_product(tmp_path: Path) -> None:
    record(tmp_path / "again.svg")
    made = (tmp_path / "again.svg").read_text()
    shown = last_frame(made)
    assert [row for row in shown if row.startswith("$ ")][-1] == f"$ {first_commands(README)[-1]}"[:COLUMNS]
    result = README.partition("## A first query in one minute")[2].partition("```text\n")[2].partition("```")[0]
    assert shown[-len(result.splitlines()) :] == result.splitlines()
    assert made == PICTURE.read_text(), "run `python -m ddb_lake_tests.docs.record_terminal`"
    assert f"]({PICTURE.relative_to(ROOT)})" in README


def test_film_types_each_command_and_shows_its_output_without_durations() -> None:
    frames = film(["ddb-lake one", "ddb-lake two"], lambda command: f"{command[-3:]} & <1>, 3.4 s\n" + "x" * 200)
    rows = [row for frame in frames for row in frame.rows]
    assert {"$ ", "$ ddb-la", "$ ddb-lake one", "one & <1>, … s"} <= set(rows)
    assert frames[-1].rows[-2:] == ("two & <1>, … s", "x" * (COLUMNS - 1) + "…")
    assert frames[-1].rows[0] == "$ ddb-lake one"
    assert last_frame(svg(frames)) == list(frames[-1].rows)


def test_film_shows_the_last_rows_and_is_played_in_order() -> None:
    frames = film(["ddb-lake long"], lambda command: "\n".join(map(str, range(100))))
    assert frames[-1].rows == tuple(map(str, range(100 - ROWS, 100)))
    picture = svg([Frame(("a",), 1.0), Frame(("b",), 2.0), Frame(("c",), 1.0)])
    shares = re.findall(r"([\d.]+)%\{transform:translateX\((-?\d+)px\)\}", picture)
    assert [float(share) for share, _ in shares] == [0.0, 25.0, 75.0]
    places = [int(place) for _, place in shares]
    assert places == [0, places[1], 2 * places[1]] and places[1] < 0
