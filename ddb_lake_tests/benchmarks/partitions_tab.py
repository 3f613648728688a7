"""How long the partitions page of `changes/<table>` takes to load in Chromium: `python -m ddb_lake_tests.benchmarks.partitions_tab`.

Prints the number of partitions, and the median seconds until the newest partition is shown: from a click on the tab of an open page, and
from the request of the page by a browser that has loaded nothing of Dagster yet; and how the latter divides: the page's files, and
the longest request of the data. `--pictures` keeps a picture of each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ddb_lake.config import PartitionsSettings
from ddb_lake.orchestration.arrival_partitions import ArrivalPartitions
from ddb_lake_tests.support.browser import browsing, open_asset, opened_page, serving_code

CODE = """
import dagster as dg
from ddb_lake import DynamoDBLakeComponent

changes = {{"uri": "s3://landing/", "partitions": {partitions!r}}}
tables = [{{"name": "orders", "key": ["id"], "changes": changes}}]
defs = dg.build_defs_for_component(DynamoDBLakeComponent.resolve_from_dict({{"warehouse": "lake", "tables": tables}}))
"""
FILES_S = """Math.max(...performance.getEntriesByType('resource').filter(e => e.name.endsWith('.js')).map(e => e.responseEnd)) / 1000"""
"""When the last file of the page's code was there, in seconds from its request."""

REQUEST_S = """Math.max(...performance.getEntriesByType('resource').filter(e => e.name.includes('graphql')).map(e => e.duration)) / 1000"""
"""The time of the longest request of data."""

ASSET = dg.AssetKey(["changes", "orders"])


def main(arguments: list[str] | None = None) -> int:
    """Measure the page with hourly and daily partitions since 2025, and with daily ones of a table that is `--days` old."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=5, help="how often each page is loaded")
    parser.add_argument("--days", type=int, default=30, help="the age of the youngest table in days")
    parser.add_argument("--only", choices=["hour", "day", "young"], help="one of the tables")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures")
    options = parser.parse_args(arguments)
    start = datetime.now(UTC).date() - timedelta(days=options.days)
    tables = {"hour": {"every": "hour"}, "day": {"every": "day"}, "young": {"every": "day", "start": f"{start}"}}
    for name, partitions in tables.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
                _measure(name, partitions, Path(scratch), options)
    return 0


def _measure(name: str, settings: dict[str, str], folder: Path, options: argparse.Namespace) -> None:
    loads, pictures = options.loads, options.pictures
    partitions = ArrivalPartitions(PartitionsSettings.model_validate(settings))
    keys = partitions.definition.get_partition_keys()
    (folder / "definitions.py").write_text(CODE.format(partitions=settings))
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        for key in keys[-200:]:
            instance.report_runless_asset_event(dg.AssetMaterialization(ASSET, partition=key))
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\nnux: {enabled: false}\n")
    newest = keys[-1]
    clicked: list[float] = []
    loaded: list[float] = []
    files: list[float] = []
    requests: list[float] = []
    code = ["-f", str(folder / "definitions.py")]
    with serving_code(code, {"DAGSTER_HOME": str(folder)}, folder / "log") as url, browsing() as browser:
        for number in range(loads + 1):  # the first makes the server compute what it keeps
            with opened_page(browser) as page:
                started = time.perf_counter()
                page.goto(f"{url}/assets/changes/orders?view=partitions", wait_until="commit")
                page.get_by_text(newest, exact=True).first.wait_for(timeout=300_000)
                loaded.append(time.perf_counter() - started)
                files.append(page.evaluate(FILES_S))
                requests.append(page.evaluate(REQUEST_S))
                open_asset(page, url, "changes/orders")
                tab = page.get_by_role("tab", name="Partitions")
                tab.wait_for()
                started = time.perf_counter()
                tab.click()
                page.get_by_text(newest, exact=True).first.wait_for(timeout=300_000)
                clicked.append(time.perf_counter() - started)
                if pictures is not None and number == loads:
                    pictures.mkdir(parents=True, exist_ok=True)
                    page.wait_for_timeout(2_000)
                    page.screenshot(path=pictures / f"partitions-{name}.png")
    click_s, load_s, files_s, request_s = (
        statistics.median(values[1:]) for values in (clicked, loaded, files, requests)
    )
    print(
        f"{name}: {len(keys):,} partitions, shown {click_s:.2f} s after a click, {load_s:.2f} s in a new browser (until"
        f" {files_s:.2f} s the page's files, at most {request_s:.2f} s for one request of data)"
    )


if __name__ == "__main__":
    sys.exit(main())
