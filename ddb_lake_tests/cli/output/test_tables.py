"""Aligned tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.output.tables import GAP, display_width, fit_widths, print_facts, print_table, printable


def test_show_aligns_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    count = print_table(["name", "rows"], [("a", 5), ("long name", 12345), (None, None)])
    assert count == 3
    assert capsys.readouterr().out.splitlines() == [
        "name        rows",
        "---------  -----",
        "a              5",
        "long name  12345",
        "NULL        NULL",
    ]


def test_show_without_rows_has_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(["a", "b"], []) == 0
    assert capsys.readouterr().out == "a  b\n-  -\n"


def test_show_streams_more_rows_than_it_samples(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(["n"], ((number,) for number in range(2_000))) == 2_000
    assert capsys.readouterr().out.splitlines()[-1] == "1999"


def test_show_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    print_table(["id", "note", "further", "last"], [(1, "日本語のとても長いテキスト", "x" * 50, "y" * 50)])
    *lines, hidden = capsys.readouterr().out.splitlines()
    assert all(display_width(line.replace("\x1b[1m", "").replace("\x1b[0m", "")) <= 30 for line in lines)
    assert lines[-1].count("…") == 2
    assert hidden == "(no room for: last)"


def test_show_cuts_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["note"], [("x" * 500,)])
    assert "x" * 500 in capsys.readouterr().out


def test_printable_leaves_no_control_character() -> None:
    assert printable("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb\\nc\\u202e"


@given(st.text())
def test_printable_is_one_printable_line(value: str) -> None:
    assert printable(value).isprintable()


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(20, 250))
def test_fit_never_exceeds_the_terminal(widths: list[int], limit: int) -> None:
    fitted = fit_widths(widths, limit)
    assert sum(fitted) + len(GAP) * (len(fitted) - 1) <= limit
    assert all(0 < new <= old for new, old in zip(fitted, widths, strict=False))
    if sum(widths) + len(GAP) * (len(widths) - 1) <= limit:
        assert fitted == widths


def test_facts_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("rows", 3), ("first change", "-")])
    assert capsys.readouterr().out == "rows          3\nfirst change  -\n"
