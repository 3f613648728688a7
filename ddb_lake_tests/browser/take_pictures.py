"""Takes the pictures of `ddb_lake/docs/images` from the real product: `python -m ddb_lake_tests.browser.take_pictures`.

They are pages of Dagster's UI, and the recording of a terminal that `ddb_lake_tests.docs.record_terminal` makes. The lake of the UI is
that of a new demo with a gap in its changes; `--folder` takes one that `ddb_lake_tests.support.demo_lake` has made.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect

from ddb_lake.cli.demo_run import DemoSize
from ddb_lake.orchestration.demo.home import DemoHome
from ddb_lake_tests.docs.record_terminal import PICTURE, record
from ddb_lake_tests.support.browser import (
    ROOT,
    RUN_MS,
    browsing,
    open_asset,
    open_check,
    open_lineage,
    opened_page,
    serving,
)
from ddb_lake_tests.support.demo_lake import prepare

IMAGES = ROOT / "ddb_lake" / "docs" / "images"
MOST_BYTES = 300_000
SETTLE_MS = 4_000


def main(arguments: list[str] | None = None) -> int:
    """Take all pictures; 1 if one is too large to keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="a folder that was prepared before (default: a temporary one)")
    parser.add_argument("--images", type=Path, default=IMAGES, help="where the pictures go")
    options = parser.parse_args(arguments)
    options.images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        home = DemoHome(options.folder or Path(scratch) / "demo")
        if options.folder is None:
            prepare(home, DemoSize())
        take_pages(home, options.images)
    record((options.images / PICTURE.name).absolute())
    too_large = [path.name for path in options.images.glob("*.png") if path.stat().st_size > MOST_BYTES]
    if too_large:
        print(f"larger than {MOST_BYTES:,} bytes: {', '.join(too_large)}", file=sys.stderr)
    return 1 if too_large else 0


def take_pages(home: DemoHome, images: Path) -> dict[str, str]:
    """Take the pictures of Dagster's UI.

    Returns:
        The visible text of each page, by the name of its picture without the suffix.
    """
    texts: dict[str, str] = {}

    def take(page: Page, name: str) -> None:
        _settle(page)
        texts[name] = page.locator("body").inner_text()
        path = images / f"{name}.png"
        page.screenshot(path=path)
        print(f"{path} ({path.stat().st_size:,} bytes)")

    with serving(home) as url, browsing() as browser:
        with opened_page(browser, width=1800, height=900) as page:
            open_lineage(page, url)
            _hide_panels(page)
            open_lineage(page, url)
            take(page, "lineage")
        with opened_page(browser, height=940) as page:
            open_asset(page, url, "current/orders")
            take(page, "current-orders")
            open_asset(page, url, "current/orders", "checks")
            page.get_by_text("unique_keys").first.wait_for()
            take(page, "checks")
            open_check(page, url, "current/orders", "no_gaps")
            page.get_by_text("what to do").first.wait_for()
            take(page, "red-check")
        with opened_page(browser, width=1280, height=1100) as page:
            open_asset(page, url, "lake/lake")
            page.get_by_text(re.compile("needs? a look")).first.wait_for()
            take(page, "overview")
            page.get_by_role("button", name="Materialize").click()
            page.get_by_text("Launched run").wait_for()
            page.get_by_text("View", exact=True).click()
            page.get_by_text("Success", exact=True).first.wait_for(timeout=RUN_MS)
            take(page, "run")
    return texts


def _hide_panels(page: Page) -> None:
    """Leave the graph alone on the page; the UI remembers it."""
    page.get_by_text("Hide navigation").click()


def _settle(page: Page) -> None:
    """Wait until the page does not change any more."""
    loading = page.get_by_text(re.compile("^Loading")).filter(visible=True)
    expect(loading).to_have_count(0, timeout=RUN_MS)
    page.wait_for_timeout(SETTLE_MS)  # plots are drawn after their data is there


if __name__ == "__main__":
    sys.exit(main())
