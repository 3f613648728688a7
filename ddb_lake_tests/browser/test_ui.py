"""The pages of Dagster after the demo, as a user sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ddb_lake_tests.support.browser import RUN_MS, STAGES, WAIT_MS, open_asset, open_check, open_lineage, opened_page

pytestmark = [
    pytest.mark.needs("chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # playwright's own event loop, closed late
]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    expect.set_options(timeout=WAIT_MS)  # its own five seconds are short on a machine with other work
    with opened_page(browser) as opened:
        yield opened


def test_graph_shows_the_stages_of_the_table(ui: str, page: Page) -> None:
    page.set_viewport_size({"width": 2600, "height": 1200})
    open_lineage(page, ui)

    expect(page.locator("svg").get_by_text("orders", exact=True)).to_have_count(len(STAGES) + 1)  # and the group's
    for _ in range(3):
        page.get_by_role("button", name="zoom_in").click()
    for stage in STAGES:
        expect(page.get_by_text(stage, exact=True).first).to_be_visible()


def test_asset_shows_its_rows_columns_and_place(ui: str, page: Page) -> None:
    open_asset(page, ui, "current/orders")

    expect(page.get_by_text("Row count")).to_be_visible()
    expect(page.get_by_text("ddb_lake.orders", exact=True).first).to_be_visible()
    expect(page.get_by_text("address__geo__lat", exact=True).first).to_be_visible()
    expect(page.get_by_text("decimal(38,6)").first).to_be_visible()


def test_checks_are_green(ui: str, page: Page) -> None:
    open_asset(page, ui, "current/orders", "checks")

    for name in ("rows_match_source", "schema_unchanged", "unique_keys", "up_to_date"):
        green = page.locator("div").filter(has_text=re.compile(rf"^({name}\s*)+Succeeded$"))
        expect(green.first).to_be_visible()


def test_red_check_says_what_is_wrong_and_what_to_do(ui: str, page: Page) -> None:
    open_check(page, ui, "current/orders", "no_gaps")

    expect(page.get_by_text("Failed", exact=True).first).to_be_visible()
    expect(page.get_by_text("the Kinesis destination was disabled")).to_be_visible()
    expect(page.get_by_text("what to do", exact=True)).to_be_visible()
    expect(page.get_by_text('"ddb-lake repair orders --gaps" exports exactly those stretches')).to_be_visible()


def test_overview_shows_which_table_needs_a_look(ui: str, page: Page) -> None:
    open_asset(page, ui, "lake/lake")

    expect(page.get_by_text("1 of 1 table needs a look.")).to_be_visible()
    expect(page.get_by_text("1 stretch in which changes may be missing")).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_timeout(500)
    assert cut_tables(page) == []


def cut_tables(page: Page) -> list[str]:
    """The texts of the tables that are wider than their place."""
    cut = (
        "[...document.querySelectorAll('table')].filter(t => t.parentElement.scrollWidth > t.parentElement.clientWidth)"
    )
    found: list[str] = page.evaluate(f"{cut}.map(t => t.innerText)")
    return found


def test_sample_of_rows_fits_in_its_panel(ui: str, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 4000})
    open_asset(page, ui, "current/orders")

    expect(page.get_by_text("values in 3 rows")).to_be_visible()
    expect(page.get_by_text("address__city: ")).to_be_visible()
    assert cut_tables(page) == []


def test_run_is_launched_from_the_page_and_succeeds(ui: str, page: Page) -> None:
    """Of the overview, which writes nothing to the lake that other tests look at."""
    open_asset(page, ui, "lake/lake")
    page.get_by_role("button", name="Materialize").click()
    expect(page.get_by_text("Launched run")).to_be_visible()
    page.get_by_text("View", exact=True).click()

    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=RUN_MS)


def test_hours_have_their_rows(ui: str, page: Page) -> None:
    open_asset(page, ui, "changes/orders", "events")

    expect(page.get_by_text("dagster/partition_row_count").first).to_be_visible()
    expect(page.get_by_text("duplicates", exact=True).first).to_be_visible()


def test_what_could_not_be_read_is_reported(ui: str, page: Page) -> None:
    open_check(page, ui, "changes/orders", "quarantine_empty")

    expect(page.get_by_text("no JSON object").first).to_be_visible()
