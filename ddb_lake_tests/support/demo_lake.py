"""The lake of one demo, for all tests that look at such a lake.

The demo runs, its table continues to change, and then its lake gets a gap in its changes and a damaged object, which turn checks red and
yellow. `Seen` is what was seen before that.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import yaml

from ddb_lake.cli.demo_run import DemoSize, run_demo
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.demo.home import TABLE, DemoHome
from ddb_lake.orchestration.demo.source import DemoSource, canonical_text
from ddb_lake.orchestration.dev import evaluate_checks, living
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.gap_log import record_gap
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.quarantine import list_discarded
from ddb_lake.pipeline.verify.conservation import compare_counts

SMALL = DemoSize(items=60, steps=24)
"""Has every kind of write and every fault; `make demo`, which CI runs, has the usual size."""

WITHOUT_A_QUEUE = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"}}
"""The webserver starts runs itself: there is no daemon to take them from a queue."""

SEEN = "seen.json"


@dataclass(frozen=True)
class Seen:
    """What the demo printed, and what was seen while its table lived on.

    `kept` and `alive` are the items of the lake and of the table. `failed` has name and severity of each check that did not pass.
    `accepted` and `counts` are of three inserted items: how many records Kinesis accepted, and for each count whose records were
    compared, how many are missing and whether there are duplicates.
    """

    printed: str
    kept: list[str]
    alive: list[str]
    failed: list[list[str]]
    discarded: int
    accepted: int | None
    counts: list[list[int]]

    @classmethod
    def of(cls, home: DemoHome) -> Self:
        """What was seen when the lake in this folder was made."""
        return cls(**json.loads((home.folder / SEEN).read_text()))


def prepare(home: DemoHome, size: DemoSize = SMALL) -> None:
    """Make the lake in `home`. Raises AssertionError with what the demo printed if it fails."""
    home.folder.mkdir()
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fixture comes before a test's filters
        status = run_demo(home.folder, keep=True, emit=lines.append, seed=7, size=size)
        printed = "\n".join(lines)
        assert status == 0, printed
        with open_lake(home.settings()) as lake:
            kept = _items(lake)
        with living(home, writing=False) as source:
            seen = _live_on(home, source, printed, kept)
            _break_stream(home)
    (home.folder / SEEN).write_text(json.dumps(asdict(seen)))
    settings = home.dagster / "dagster.yaml"
    settings.write_text(yaml.safe_dump(yaml.safe_load(settings.read_text()) | WITHOUT_A_QUEUE))


def _live_on(home: DemoHome, source: DemoSource, printed: str, kept: list[str]) -> Seen:
    alive = sorted(canonical_text(item) for item in source.items())
    failed = [check for check in evaluate_checks().checks if not check.passed]
    with open_lake(home.settings()) as lake:
        discarded = sum(group.count for group in list_discarded(lake, TABLE))
    source.traffic.insert(3)
    assert source.sandbox.flush()
    with open_lake(home.settings()) as lake:
        lake.now = lambda: datetime.now(UTC) + timedelta(hours=1)  # then a whole hour has passed at any minute
        found = compare_counts(lake, lake.table(TABLE))
    return Seen(
        printed=printed,
        kept=kept,
        alive=alive,
        failed=[[check.check_name, check.severity.name] for check in failed],
        discarded=discarded,
        accepted=found.accepted.found.counted if found.accepted else None,
        counts=[[count.found.missing, count.has_duplicates] for count in found.counts],
    )


def _items(lake: Lake) -> list[str]:
    return sorted(canonical_text(json.loads(line)["Item"]) for line in dump_items(lake, TABLE))


def _break_stream(home: DemoHome) -> None:
    """Record that the stream was off for ten minutes, apply a damaged object, and evaluate the hourly checks."""
    now = datetime.now(UTC)
    begin_us, end_us = (int((now - timedelta(minutes=m)).timestamp() * 1e6) for m in (40, 30))
    gap = Gap("stream_off", begin_us, end_us, "the Kinesis destination was disabled", int(now.timestamp() * 1e6))
    with open_lake(home.settings()) as lake:
        record_gap(lake, TABLE, gap)
        damaged = home.folder / "damaged"
        damaged.write_bytes(b"damaged")
        apply_objects(lake, TABLE, [str(damaged)])
    assert evaluate_checks().success
