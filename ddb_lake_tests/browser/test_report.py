"""`ddb-lake report` as a browser shows it, wide and narrow, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from ddb_lake.cli.report.page import page as report_page
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.read.overview import lake_overview
from ddb_lake_tests.support.browser import opened_page
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import lake_of
from ddb_lake_tests.support.skips import need

pytestmark = [
    pytest.mark.needs("chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop, closed late
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a lake of two tables."""
    need("chromium")
    folder = tmp_path_factory.mktemp("report")
    with lake_of(folder / "lake", {"name": "orders"}, {"name": "a-table-with-quite-a-long-name"}) as lake:
        for number, name in enumerate(("orders", "a-table-with-quite-a-long-name")):
            items = [item(str(key), n=key) for key in range(20)]
            load_export(lake, name, str(full(items, table=name).write(folder / f"exports-{number}")))
            records = [
                change(T0_US + n * HOUR_US // 7, item(str(n), n=-n), item(str(n), n=n), table=name) for n in range(20)
            ]
            apply_objects(lake, name, [land(folder / "landing" / name, *records, "garbage")])
        path = folder / "report.html"
        path.write_text(report_page(lake.settings.warehouse, lake.now(), lake_overview(lake)), encoding="utf-8")
    return path


@pytest.fixture(params=[1280, 390], ids=["wide", "narrow"])
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Page]:
    """The open report. Fails if the page made a request or logged a message."""
    asked: list[str] = []
    complaints: list[str] = []
    with opened_page(browser, width=request.param) as opened:
        opened.on("request", lambda sent: asked.append(sent.url))
        opened.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.goto(report.as_uri())
        opened.locator("#rows-1 .main-svg").first.wait_for()
        yield opened
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_charts_are_drawn_within_the_page(page: Page) -> None:
    charts = page.locator(".js-plotly-plot")

    assert charts.count() == 5  # freshness, and two for each table
    assert page.locator("#volumes-0 .bars path").count() >= 3
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for number in range(5):
        box, frame = charts.nth(number).bounding_box(), page.locator(".chart").nth(number).bounding_box()
        drawn = charts.nth(number).locator(".main-svg").first.bounding_box()
        assert box and frame and drawn
        assert drawn["width"] <= frame["width"] + 1
        assert drawn["height"] > 100


def test_table_of_tables_leads_to_each_table(page: Page) -> None:
    page.get_by_role("link", name="orders").click()

    assert page.url.endswith("#table-0")
    assert page.get_by_text("1 quarantined").count() == 4
