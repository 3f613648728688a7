"""Followers of one table on a simulated stream, in a lake in a folder: stepped by hand, killed at any step, compared at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.capture.streams import StreamReader
from ddb_lake.pipeline.follow.follower import Follower
from ddb_lake.pipeline.follow.leases import LeaseKeeper
from ddb_lake.pipeline.follow.table import FollowedTable, FollowOptions, Turn
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.work import Work
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.streams_service import SimulatedKinesis, SimulatedStreams, source_items

NAME = "things"
STEPS = ("before landing", "landed", "document replaced", "committed")
"""Where a follower can be killed: documents are checkpoints and leases, commits those of the Iceberg tables."""


@dataclass
class Heard:
    """A listener that keeps what it receives."""

    turns: list[Turn] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    held: list[tuple[str, ...]] = field(default_factory=list)
    lags: list[dict[str, float]] = field(default_factory=list)
    when_cleaned: Callable[[], None] = lambda: None

    def turn(self, turn: Turn) -> None:
        self.turns.append(turn)

    def work(self, work: Work, result: Any) -> None:
        self.works.append(work)
        if work.kind == "clean":
            self.when_cleaned()

    def failed(self, table: str, error: Exception) -> None:
        self.errors.append(error)

    def ticked(self, lags_s: Mapping[str, float]) -> None:
        self.lags.append(dict(lags_s))

    def holds(self, tables: Sequence[str], waiting: Sequence[str]) -> None:
        self.held.append(tuple(tables))


@dataclass
class Following:
    """A lake with one table, `things`, and its simulated service. `follower` makes one more follower of it."""

    service: SimulatedStreams
    lake: Lake
    options: FollowOptions = field(default_factory=lambda: FollowOptions(interval_s=0))
    heard: Heard = field(default_factory=Heard)

    def follower(self) -> Follower:
        """A follower in a process of its own, so to say: it shares the lake and the service."""
        clock = self.service.clock
        reader = StreamReader.of(self.lake, NAME, self.service, self.service.advance, clock)
        table = FollowedTable(self.lake, NAME, reader, clock)
        keeper = LeaseKeeper(self.lake, [NAME], clock=clock)
        return Follower(
            self.lake, {NAME: table}, self.heard, self.options, keeper, clock=clock, pause=self.service.advance
        )

    def run(self, follower: Follower, rounds: int = 3) -> None:
        """Let a follower read, and do what is due, some times."""
        for _ in range(rounds):
            follower.tables[NAME].read(self.options.waiting_bytes)
            follower.step()
            self.service.advance(1)

    def items(self) -> list[str]:
        """The lake's items, canonical."""
        return sorted(json.dumps(json.loads(line)["Item"], sort_keys=True) for line in dump_items(self.lake, NAME))

    def expected(self) -> list[str]:
        """The service's items, canonical."""
        return source_items(self.service.items)

    @property
    def records(self) -> int:
        """The records of the changelog."""
        return changes_state(self.lake.changes(NAME)).records


@contextmanager
def following(folder: Path, service: SimulatedStreams, **table: Any) -> Iterator[Following]:
    """A lake in `folder` with the service's clock."""
    changes = {"kinesis": NAME} if isinstance(service, SimulatedKinesis) else {"streams": True}
    with lake(folder, NAME, ["id"], changes=changes, **table) as opened:
        opened.now = service.now
        yield Following(service, opened)
