"""What somebody sees who opens Dagster after the demo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from ddb_lake_tests.browser.ui import STAGES, browsing, open_asset, open_lineage

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop, closed late
]


@pytest.fixture
def page() -> Iterator[Page]:
    with browsing() as opened:
        yield opened


def test_graph_shows_the_stages_of_the_table(ui: str, page: Page) -> None:
    open_lineage(page, ui)

    graph = page.locator("svg").filter(has_text="orders").first
    for stage in STAGES:
        expect(graph.get_by_text(stage, exact=True).first).to_be_visible()
    expect(graph.get_by_text("orders", exact=True)).to_have_count(len(STAGES))


def test_asset_shows_its_rows_columns_and_place(ui: str, page: Page) -> None:
    open_asset(page, ui, "current/orders")

    expect(page.get_by_text("Row count")).to_be_visible()
    expect(page.get_by_text("ddb_lake.orders", exact=True).first).to_be_visible()
    expect(page.get_by_text("address__geo__lat", exact=True).first).to_be_visible()
    expect(page.get_by_text("decimal(38,6)").first).to_be_visible()


def test_checks_are_green(ui: str, page: Page) -> None:
    open_asset(page, ui, "current/orders", "checks")

    for name in ("rows_match_source", "schema_unchanged", "unique_keys", "up_to_date"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.get_by_text("Succeeded", exact=True)).to_have_count(4)
    expect(page.get_by_text("Passed", exact=True).first).to_be_visible()


def test_hours_have_their_rows(ui: str, page: Page) -> None:
    open_asset(page, ui, "changes/orders", "events")

    expect(page.get_by_text("dagster/partition_row_count").first).to_be_visible()
    expect(page.get_by_text("duplicates", exact=True).first).to_be_visible()


def test_what_could_not_be_read_is_told(ui: str, page: Page) -> None:
    open_asset(page, ui, "changes/orders", "checks")

    expect(page.get_by_text("quarantine_empty", exact=True).first).to_be_visible()
    expect(page.get_by_text("no JSON object").first).to_be_visible()
