"""Dagster's real UI on a demo's lake, in a headless Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ddb_lake.orchestration.demo.home import DemoHome
from ddb_lake_tests.support.system_packages import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
START_S = 300.0
WAIT_MS = 60_000
RUN_MS = 180_000
"""A run is a process of its own, which imports all of Dagster first."""

STAGES = ("dynamodb", "export", "snapshot", "changes", "current")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def serving(home: DemoHome) -> Iterator[str]:
    """Dagster's webserver on the demo's DAGSTER_HOME; its URL. Nothing of AWS is reached."""
    with serving_code(["-w", "workspace.yaml"], home.environment(), home.folder / "webserver.log") as url:
        yield url


@contextmanager
def serving_code(code: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """Dagster's webserver on some code, with the variables of `environment`; its URL. It writes to `log`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), *code]
    variables = {**os.environ, **environment, "AWS_EC2_METADATA_DISABLED": "true"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=output, stderr=output)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, process, log)
            yield url
        finally:
            process.terminate()
            process.wait(120)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError(f"the webserver did not start: {log.read_text()[-2000:]}")


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened_page(browser: Browser, width: int = 1440, height: int = 900) -> Iterator[Page]:
    """A page with cookies and storage of its own."""
    with browser.new_page(viewport={"width": width, "height": height}) as page:
        page.set_default_timeout(WAIT_MS)
        yield page


def open_lineage(page: Page, url: str) -> None:
    """The graph of all assets, with the group of the table `orders` open."""
    page.goto(f"{url}/asset-groups?{urllib.parse.urlencode({'expanded': 'global@global:orders'})}")
    page.get_by_text("Global asset lineage").first.wait_for()
    page.locator("svg").get_by_text("orders", exact=True).nth(len(STAGES) - 1).wait_for()


def open_asset(page: Page, url: str, asset: str, view: str = "overview") -> None:
    """A view of an asset's page: overview, events, checks or lineage."""
    page.goto(f"{url}/assets/{asset}?view={view}")
    page.get_by_role("tab", name="Overview").first.wait_for()


def open_check(page: Page, url: str, asset: str, check: str) -> None:
    """The last evaluation of a check."""
    page.goto(f"{url}/assets/{asset}?{urllib.parse.urlencode({'view': 'checks', 'checkDetail': check})}")
    page.get_by_text("Latest execution").first.wait_for()
