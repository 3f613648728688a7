"""`ddb-lake report`: the page's text. How it looks is `browser.test_report`'s."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ddb_lake.cli.report import charts
from ddb_lake.cli.report.page import CHARTED_TABLES, page
from ddb_lake.pipeline.read.check_results import CheckResult
from ddb_lake.pipeline.read.overview import RowsAt, TableOverview, Volume
from ddb_lake.pipeline.read.quarantine import QuarantineGroup
from ddb_lake.pipeline.read.status import TableStatus
from ddb_lake_tests.support.command_line import Run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def short_script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "project" not in request.fixturenames:
        monkeypatch.setattr(charts, "script", lambda: "")


class Tags(HTMLParser):
    """Fails on a tag that is closed and was not opened, or the reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def overview(name: str = "orders", **status: object) -> TableOverview:
    found = TableStatus(name, rows=3, changes=2, watermark_us=1_772_357_400_000_000, lag_s=90.0, **status)  # type: ignore[arg-type]
    volumes = (Volume(datetime(2026, 3, 1, 9), "inserted", 2),)
    return TableOverview(found, "hour", volumes, (RowsAt(1_772_357_400_000_000, 3),))


def test_page_is_well_formed_and_escapes_what_it_is_given() -> None:
    odd = replace(overview("orders"), quarantine=(QuarantineGroup("<b>&", 2, 0, 0),))

    text = page("s3://b/<i>", NOW, [odd])

    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert "s3://b/&lt;i&gt;" in text
    assert "&lt;b&gt;&amp;" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_page_shows_states() -> None:
    document = {"outcome": "different", "strength": "full", "kinds": {"missing": 2, "extra": 0}, "compared": 5}
    document |= {"source": "an export", "rows": 3, "read_to_us": 1_772_357_400_000_000}
    checks = (
        CheckResult("current", "no_gaps", "whether", "red", "1 stretch is missing.", 1_772_357_400_000_000),
        CheckResult("current", "up_to_date", "whether", "green", "All are applied.", 1_772_357_400_000_000),
    )
    worst = replace(overview(quarantined=1), verification=document, checks=checks)

    text = page("lake", NOW, [worst, overview("late", pending_batches=2), TableOverview(TableStatus("new"))])

    for text_of_state in (
        "1 red, 1 green",
        "1 stretch is missing.",
        "different (full, 2026-03-01)",
        "2 missing",
        "not evaluated",
        "not verified",
    ):
        assert text_of_state in text
    assert "0 extra" not in text
    assert 'id="lags"' in text


def test_tables_beyond_the_charted_ones_have_figures_only() -> None:
    text = page("lake", NOW, [overview(f"t{number}") for number in range(CHARTED_TABLES + 1)])

    assert f'id="rows-{CHARTED_TABLES - 1}"' in text
    assert f'id="rows-{CHARTED_TABLES}"' not in text
    assert f'id="table-{CHARTED_TABLES}"' in text


def test_command_writes_the_page(run: Run, project: Path, landing: Path) -> None:
    run("load", "orders", "--export", landing / "export")
    run("apply", "orders", landing / "changes")

    done = run("report", "--output", "pages/lake.html")

    assert done.exit_code == 0, done.output
    assert "Wrote pages/lake.html" in done.output
    text = (project / "pages" / "lake.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert "12345678901234567890" not in text  # no item's values


def test_json_has_the_path_size_and_tables(run: Run, project: Path, landing: Path) -> None:
    done = run("report", "--json")

    size = (project / "report.html").stat().st_size
    assert json.loads(done.stdout) == {"path": "report.html", "bytes": size, "tables": ["orders", "customers"]}


def test_missing_plotly_is_named(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)

    done = run("report")

    assert done.exit_code == 2
    assert "pip install '.[report]'" in done.output


def layouts(volumes: list[Volume], grain: str = "hour") -> dict[str, dict[str, object]]:
    """The layouts of the charts of change records, by title."""
    table = TableOverview(TableStatus("orders"), grain, tuple(volumes))  # type: ignore[arg-type]
    found = {}
    for chart in charts.volumes(table, 0):
        given = re.search(r'Plotly\.newPlot\(\s*"[\w-]+",\s*(\[.*?\]),\s*(\{.*?\}),\s*\{', str(chart.html), re.DOTALL)
        assert given is not None
        found[chart.title] = json.loads(given[2])
    return found


def test_single_hour_is_a_bar_and_the_axis_has_its_date() -> None:
    ((title, layout),) = layouts([Volume(datetime(2026, 3, 1, 9), "inserted", 2)]).items()
    axis = layout["xaxis"]
    assert title.startswith("Change records by hour")
    assert isinstance(axis, dict)
    first, last = (datetime.fromisoformat(text) for text in axis["range"])
    assert (last - first) / timedelta(hours=1) == charts.MIN_BARS
    assert "%Y-%m-%d" in axis["tickformat"]
    assert isinstance(layout["legend"], dict) and layout["legend"]["yanchor"] == "bottom"
    many = [Volume(datetime(2026, 3, 1) + timedelta(hours=hour), "inserted", 1) for hour in range(charts.MIN_BARS)]
    assert "range" not in str(next(iter(layouts(many).values()))["xaxis"])


def test_asserted_records_have_a_chart_of_their_own() -> None:
    hour = datetime(2026, 3, 1, 9)
    found = layouts([Volume(hour, "inserted", 2), Volume(hour, "asserted", 900)])
    assert [title.partition(" records")[0] for title in found] == ["Change", "Asserted"]
    assert len(layouts([Volume(hour, "asserted", 900)])) == 1


def test_growing_number_of_rows_does_not_begin_at_zero() -> None:
    html = str(charts.rows(overview(), 0).html)
    assert '"rangemode":"normal"' in html
    assert "tozero" not in html
