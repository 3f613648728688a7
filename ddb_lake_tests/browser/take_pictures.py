"""Takes the pictures of `ddb_lake/docs/images` from Dagster's real UI: `python -m ddb_lake_tests.browser.take_pictures`.

The lake is that of a new demo with a gap in its changes; `--folder` takes one that `browser.stage` has made.
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
        _take_all(home, options.images)
    too_large = [path.name for path in options.images.glob("*.png") if path.stat().st_size > MOST_BYTES]
    if too_large:
        print(f"larger than {MOST_BYTES:,} bytes: {', '.join(too_large)}", file=sys.stderr)
    return 1 if too_large else 0


def _take_all(home: DemoHome, images: Path) -> None:
    with serving(home) as url, browsing() as browser:
        with opened_page(browser, width=1800, height=900) as page:
            open_lineage(page, url)
            _hide_panels(page)
            open_lineage(page, url)
            _take(page, images / "lineage.png")
        with opened_page(browser, height=940) as page:
            open_asset(page, url, "current/orders")
            _take(page, images / "current-orders.png")
            open_asset(page, url, "current/orders", "checks")
            page.get_by_text("unique_keys").first.wait_for()
            _take(page, images / "checks.png")
            open_check(page, url, "current/orders", "no_gaps")
            page.get_by_text("what to do").first.wait_for()
            _take(page, images / "red-check.png")
        with opened_page(browser, width=1280, height=1100) as page:
            open_asset(page, url, "lake/lake")
            page.get_by_text(re.compile("needs? a look")).first.wait_for()
            _take(page, images / "overview.png")
            page.get_by_role("button", name="Materialize").click()
            page.get_by_text("Launched run").wait_for()
            page.get_by_text("View", exact=True).click()
            page.get_by_text("Success", exact=True).first.wait_for(timeout=RUN_MS)
            _take(page, images / "run.png")


def _hide_panels(page: Page) -> None:
    """Leave the graph alone on the page; the UI remembers it."""
    page.get_by_text("Hide navigation").click()


def _take(page: Page, path: Path) -> None:
    loading = page.get_by_text(re.compile("^Loading")).filter(visible=True)
    expect(loading).to_have_count(0, timeout=RUN_MS)
    page.wait_for_timeout(SETTLE_MS)  # plots are drawn after their data is there
    page.screenshot(path=path)
    print(f"{path} ({path.stat().st_size:,} bytes)")


if __name__ == "__main__":
    sys.exit(main())
