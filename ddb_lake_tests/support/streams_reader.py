"""The real reader on the simulated service, in a lake in a folder; it may be killed at any step that leaves something."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.lake.commit import Commit
from ddb_lake.pipeline.capture import streams
from ddb_lake.pipeline.capture.gap_log import all_gaps
from ddb_lake.pipeline.capture.streams import Budget, StreamsResult, read_streams
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.streams_service import Change, SimulatedKinesis, SimulatedStreams

STEPS = ("gap recorded", "before landing", "landed", "document replaced")
"""Where a reader can be killed, in the order of the steps."""


class Killed(BaseException):
    """The reader's process ended here."""


@dataclass
class Reading:
    """A lake with one table, `things`, read from `service`."""

    service: SimulatedStreams
    lake: Lake
    folder: Path

    def read(self, budget: Budget | None = None, kill_at: str | None = None, after: int = 0) -> StreamsResult | None:
        """Read once; killed at the step `kill_at` after passing it `after` times (then None)."""
        with killed(kill_at, after):
            try:
                return read_streams(
                    self.lake,
                    "things",
                    budget or Budget(seconds=600),
                    source=self.service,
                    pause=self.service.advance,
                    clock=self.service.clock,
                )
            except Killed:
                return None

    def landed(self) -> list[dict[str, Any]]:
        """Every landed record, in the order of landing."""
        folder = self.folder / "landing" / "things"
        paths = (
            [path for path in folder.rglob("*.gz") if not {".streams", ".kinesis"} & set(path.parts)]
            if folder.exists()
            else []
        )
        ordered = sorted(paths, key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(line) for path in ordered for line in gzip.decompress(path.read_bytes()).splitlines()]

    def gaps(self) -> Sequence[Gap]:
        """Every gap that was recorded."""
        return all_gaps(self.lake, "things")

    def missing(self) -> list[Change]:
        """True changes that neither landed nor lie in a recorded gap."""
        landed = {_number(record) for record in self.landed()}
        gaps = self.gaps()
        return [
            change
            for change in self.service.changes
            if (change.arn is None or change.sequence not in landed)
            and not any(gap.from_us <= change.time_us < gap.to_us for gap in gaps)
        ]

    def out_of_order(self) -> list[tuple[int, int]]:
        """Pairs of sequence numbers of one key whose first landings were the wrong way round."""
        seen: dict[str, int] = {}
        known: set[int] = set()
        found = []
        for record in self.landed():
            number, key = _number(record), record["dynamodb"]["Keys"]["id"]["N"]
            if number not in known and number < seen.get(key, 0):
                found.append((seen[key], number))
            known.add(number)
            seen[key] = max(seen.get(key, 0), number)
        return found


def _number(record: dict[str, Any]) -> int:
    return int(record["eventID"], 16)


@contextmanager
def reading(folder: Path, service: SimulatedStreams, **table: Any) -> Iterator[Reading]:
    """A reading in `folder`, with the service's clock."""
    changes = {"kinesis": "things"} if isinstance(service, SimulatedKinesis) else {"streams": True}
    with lake(folder, "things", ["id"], changes=changes, **table) as opened:
        opened.now = service.now
        yield Reading(service, opened, folder)


@contextmanager
def killed(kill_at: str | None, after: int = 0) -> Iterator[None]:
    """Raise Killed at the step `kill_at` after it was passed `after` times. Documents are checkpoints and leases."""
    passed = 0

    def pass_by(step: str) -> None:
        nonlocal passed
        if step == kill_at:
            passed += 1
            if passed > after:
                raise Killed(step)

    real_put, real_replace, real_record, real_run = Landing.put, Landing.replace, streams.record_gap, Commit.run

    def put(self: Landing, name: str, data: bytes) -> str:
        pass_by("before landing")
        uri = real_put(self, name, data)
        pass_by("landed")
        return uri

    def replace(self: Landing, name: str, data: bytes, version: str | None) -> str:
        found = real_replace(self, name, data, version)
        pass_by("document replaced")
        return found

    def record(lake: Lake, table: str, gap: Gap) -> tuple[Gap, ...]:
        found = real_record(lake, table, gap)
        pass_by("gap recorded")
        return found

    def run(self: Commit) -> Any:
        found = real_run(self)
        pass_by("committed")
        return found

    with (
        mock.patch.object(Landing, "put", put),
        mock.patch.object(Landing, "replace", replace),
        mock.patch.object(streams, "record_gap", record),
        mock.patch.object(Commit, "run", run),
    ):
        yield
