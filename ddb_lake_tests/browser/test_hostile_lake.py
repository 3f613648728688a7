"""Dagster's UI shows names and values as they are: none becomes an image, a link, code, or a request to another host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from ddb_lake_tests.support.browser import browsing, opened_page, serving_code
from ddb_lake_tests.support.dagster_runs import DAGSTERS_OWN
from ddb_lake_tests.support.dagster_runs import quiet_runs as quiet_runs
from ddb_lake_tests.support.dagster_runs import without_telemetry as without_telemetry
from ddb_lake_tests.support.hostile_page import HOST, TABLE, Findings, HostileLake
from ddb_lake_tests.support.no_aws import no_aws as no_aws

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.needs("chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", *DAGSTERS_OWN),  # playwright's own event loop, closed late
    pytest.mark.usefixtures("quiet_runs", "without_telemetry"),
]

SHOWN_ON_REQUEST = ("Show Markdown", "Show JSON", "Show Table")
SETTLE_MS = 500


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[HostileLake, str, Page, Findings]]:
    """The filled lake, the URL of Dagster's webserver on it, a page, and what the page does."""
    lake, findings = HostileLake(tmp_path), Findings()
    lake.fill()
    code, variables = lake.code()
    with (
        serving_code(code, variables, tmp_path / "webserver.log") as url,
        browsing() as browser,
        opened_page(browser, height=2400) as page,
    ):
        findings.watch(page, url)
        yield lake, url, page, findings


def test_names_and_values_become_no_link_image_or_code(opened: tuple[HostileLake, str, Page, Findings]) -> None:
    lake, url, page, findings = opened
    failed = [run for run in lake.runs if not run.success]
    assert len(failed) == 1
    for path in (
        f"/assets/lake/{lake.name}",
        *_asset_pages(),
        *_check_pages(),
        "/runs",
        *map(_run_page, lake.run_ids()),
    ):
        _open(page, url + path, findings)
    assert (findings.requests, findings.dialogs, findings.elements, findings.controls) == ([], [], [], [])
    shown = "\n".join(findings.texts)
    for text in ("<script>alert(1)", f"http\\x3a//{HOST}/link", "\\u202e", "<img src=", "the MD5 is not"):
        assert text in shown


def _asset_pages() -> list[str]:
    stages = ("snapshot", "changes", "current")
    return [f"/assets/{stage}/{TABLE}?view={view}" for stage in stages for view in ("overview", "events")]


def _check_pages() -> list[str]:
    """The checks whose evaluations have names of data."""
    changes, current = ("quarantine_empty", "continuity"), ("schema_unchanged", "no_gaps", "objects_intact")
    checks = [("changes", name) for name in changes] + [("current", name) for name in current]
    return [f"/assets/{asset}/{TABLE}?view=checks&checkDetail={name}" for asset, name in checks]


def _run_page(run_id: str) -> str:
    return f"/runs/{run_id}"


def _open(page: Page, address: str, findings: Findings) -> None:
    """Open a page, and what it shows on request."""
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(SETTLE_MS)
    findings.look(page)
    for label in SHOWN_ON_REQUEST:
        buttons = page.get_by_text(label)
        for number in range(buttons.count()):
            buttons.nth(number).dispatch_event("click")  # another button may lie over it
            page.wait_for_timeout(SETTLE_MS)
            findings.look(page)
            page.keyboard.press("Escape")
            page.wait_for_timeout(SETTLE_MS)
