"""DynamoDB Streams read directly: their records land as objects, as if Firehose had delivered them.

Reading goes on until all that the stream has is read (or, with `Budget.follow`, until the time is up). What was read
is landed as gzip objects of one record a line below `LakeSettings.stream_landing`, in folders by hour, under names
like Firehose's: from there on there is one path for all changes. It does not depend on the lake: while a backfill
loads an export, for days if need be, changes go on landing, and the order of records settles who wins.

Nothing is lost, whatever crashes when. The steps are, always in this order:

1. a gap that was noticed is recorded in the changelog's state;
2. records are read into memory, and the places in the shards move, in memory;
3. the records land: one object, written whole, under a new name;
4. the checkpoint with those places replaces the one it was derived from, by a conditional put.

The checkpoint therefore only claims what has landed or is recorded as a gap. A crash before 4 leaves the checkpoint as
it was: what was read after it is read again and lands again, under another name, with the same event ids and sequence
numbers, and the changelog takes each record once. A crash after 4 leaves nothing to do. Of two readers at once, one
loses the race in 4, forgets its places, and goes on from those of the other; what it landed is duplicates.

Memory holds one page (1 MB) and one object, compressed (`LAND_BYTES` of lines make about a tenth of that).
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.streams import (
    ExpiredIteratorError,
    Page,
    StreamGoneError,
    StreamSource,
    TableStreams,
    ThrottledError,
    TrimmedError,
)
from ddb_lake.config import TableSettings
from ddb_lake.core.capture import checkpoints, shards
from ddb_lake.core.capture.checkpoints import Checkpoint, StreamPosition
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.capture.shards import RETENTION_US, Stream
from ddb_lake.core.capture.stream_lines import LineBatch, changed_us, sequence_of, stream_line
from ddb_lake.core.layout.firehose_paths import firehose_key
from ddb_lake.core.operations.retry_policy import STREAMS
from ddb_lake.errors import CommitConflict, ConfigError
from ddb_lake.pipeline.capture.gap_log import open_gaps, record_gap
from ddb_lake.pipeline.capture.stream_gaps import before_the_stream, check_view, forgotten
from ddb_lake.pipeline.open_lake import Lake

CHECKPOINT: Final = ".streams/checkpoint.json"
"""The checkpoint below the landing folder; listings leave out names that begin with a dot."""

LAND_BYTES: Final = 16 * 1024 * 1024
LAND_EVERY_S: Final = 10.0
LOOK_EVERY_S: Final = 30.0
POLL_S: Final = 1.0
EMPTY_PAGES: Final = 5
"""An open shard that gave nothing so often in a row has nothing now. A single empty page says nothing: DynamoDB may
give some before the next record."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Budget:
    """How long and how much to read. `follow`: go on until the time is up, instead of until nothing is left.

    `most_bytes`: of lines, before compression.
    """

    seconds: float = 60.0
    most_bytes: int = 2 * 1024 * 1024 * 1024
    follow: bool = False


@dataclass(frozen=True, slots=True)
class StreamsResult:
    """What reading a table's streams did.

    `uris`: the objects that landed. `line_bytes`: of their lines. `caught_up`: nothing was left to read at the end.
    `gaps`: those of the table that are open now, whatever found them. `throttled`: calls that were put off;
    `conflicts`: how often another reader was first.
    """

    table: str
    records: int = 0
    line_bytes: int = 0
    uris: tuple[str, ...] = ()
    caught_up: bool = False
    gaps: tuple[Gap, ...] = ()
    throttled: int = 0
    conflicts: int = 0
    seconds: float = 0.0


def read_streams(
    lake: Lake,
    table: str,
    budget: Budget | None = None,
    source: StreamSource | None = None,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> StreamsResult:
    """Land what the table's streams have that has not landed. See this module's docstring.

    `clock` counts seconds from anywhere. Raises ConfigError if the table is not to be read from its stream, has none,
    or has one without images; ThrottledError if AWS still throttles after pauses.
    """
    settings = lake.table(table)
    uri = lake.settings.stream_landing(settings)
    if uri is None:
        raise ConfigError(
            "the table is not read from its stream",
            table=table,
            hint="add `changes: {streams: true}` to the table's configuration",
        )
    reader = _Reader(
        lake,
        settings,
        Landing(lake.objects, uri),
        budget or Budget(),
        source or TableStreams(settings),
        pause,
        clock,
    )
    return reader.run()


def stream_checkpoint(lake: Lake, table: TableSettings) -> Checkpoint | None:
    """How far the table's streams were read; None if they never were, or are not to be."""
    uri = lake.settings.stream_landing(table)
    if uri is None:
        return None
    data, _ = Landing(lake.objects, uri).load(CHECKPOINT)
    return None if data is None else checkpoints.load(data, uri + CHECKPOINT)


@dataclass(slots=True)
class _Reader:
    """One run. `_places` is ahead of the checkpoint by what `_batch` holds."""

    lake: Lake
    table: TableSettings
    landing: Landing
    budget: Budget
    source: StreamSource
    pause: Callable[[float], None]
    clock: Callable[[], float]
    _places: Checkpoint | None = None
    _version: str | None = None
    _batch: LineBatch = field(default_factory=LineBatch)
    _iterators: dict[tuple[str, str], str] = field(default_factory=dict)
    _closed: set[tuple[str, str]] = field(default_factory=set)
    _empty: Counter[tuple[str, str]] = field(default_factory=Counter)
    _deadline: float = 0.0
    _looked: float = 0.0
    _look_again: bool = False
    _strain: int = 0
    _done: StreamsResult = field(default_factory=lambda: StreamsResult(""))

    def run(self) -> StreamsResult:
        """Read until there is nothing more, or the budget is used up."""
        started = self.clock()
        self._deadline = started + self.budget.seconds
        self._load()
        self._look()
        while True:
            moved = self._pass()
            if self._is_due():
                self._commit()
            caught_up = not self._look_again and self._is_caught_up()
            if self._is_used_up() or (caught_up and not self.budget.follow):
                break
            if self.clock() - self._looked >= LOOK_EVERY_S:
                self._commit()  # also without records: that it was read is known then
                self._look()
            elif self._look_again:
                self._look()
            if not moved:
                self.pause(POLL_S if caught_up else POLL_S / 4)
        self._commit()
        return replace(
            self._done,
            table=self.table.name,
            caught_up=caught_up,
            gaps=open_gaps(self.lake, self.table.name),
            seconds=self.clock() - started,
        )

    @property
    def _state(self) -> Checkpoint:
        assert self._places is not None, "streams were looked at"
        return self._places

    # --- what there is to read

    def _load(self) -> None:
        data, self._version = self.landing.load(CHECKPOINT)
        self._places = None if data is None else checkpoints.load(data, self.landing.uri + CHECKPOINT)

    def _look(self) -> None:
        """Add the streams and shards that are listed now, and record the gaps that this shows."""
        listed = [self._patiently(lambda arn=arn: self._described(arn)) for arn in self._patiently(self.source.streams)]  # type: ignore[misc]
        streams = [stream for stream in listed if stream is not None]
        table_id = self._patiently(self.source.table_id)
        now_us = self._now_us()
        check_view(self.table, streams, begun=self._places is not None)
        if self._places is None:
            self._record(forgotten(self.lake, self.landing.uri, now_us))
        self._places, gaps = checkpoints.observe_streams(self._places, streams, table_id, now_us)
        self._record([*gaps, *before_the_stream(self.lake, self.table, self._places.began_us, now_us)])
        self._closed = {
            (stream.arn, shard.shard_id) for stream in streams for shard in stream.shards if shard.last is not None
        }
        self._looked, self._look_again = self.clock(), False

    def _described(self, arn: str) -> Stream | None:
        try:
            return self.source.describe(arn)
        except StreamGoneError:
            return None  # it went between the two calls

    # --- reading

    def _pass(self) -> bool:
        """One page of each shard that may be read now; whether any got further."""
        moved = False
        for stream in self._state.streams:
            for shard_id in shards.readable(stream.lineage):
                moved = self._turn(stream.arn, shard_id) or moved
                if self.clock() >= self._deadline:
                    return True
                if self._batch.line_bytes >= LAND_BYTES:
                    self._commit()
                    if self._look_again:  # the places are another reader's now
                        return True
        return moved

    def _turn(self, arn: str, shard_id: str) -> bool:
        """Read one page of a shard; whether that got further."""
        key = arn, shard_id
        place = self._state.position(arn).lineage[shard_id]
        try:
            if key not in self._iterators:
                self._iterators[key] = self.source.iterator(arn, shard_id, place)
            page = self.source.records(self._iterators[key])
        except ExpiredIteratorError:
            del self._iterators[key]  # the next turn makes another, from the same place
            return True
        except ThrottledError:
            self._back_off()
            return False
        except TrimmedError:
            self._iterators.pop(key, None)
            self._trimmed(arn, shard_id)
            return True
        except StreamGoneError:
            self._iterators.pop(key, None)
            self._look_again = True
            return False
        self._strain = 0
        self._take(arn, shard_id, page)
        self._empty[key] = 0 if page.records else self._empty[key] + 1
        if self._empty[key] >= EMPTY_PAGES and key not in self._closed:
            lineage = shards.idle(self._state.position(arn).lineage, shard_id, self._now_us())
            self._places = self._state.with_lineage(arn, lineage)
        return bool(page.records) or page.next_iterator is None

    def _take(self, arn: str, shard_id: str, page: Page) -> None:
        lineage = self._state.position(arn).lineage
        for record in page.records:
            self._batch.add(stream_line(record, arn), self.clock())
            sequence = sequence_of(record)
            if sequence is not None:
                lineage = shards.advanced(lineage, shard_id, sequence, changed_us(record) or 0)
        if page.next_iterator is None:
            lineage = shards.finished(lineage, shard_id)
            self._look_again = True  # it may have children
            self._iterators.pop((arn, shard_id))
        else:
            self._iterators[arn, shard_id] = page.next_iterator
        self._places = self._state.with_lineage(arn, lineage)

    def _trimmed(self, arn: str, shard_id: str) -> None:
        """Records of the shard went before they were read: that is recorded first, then reading goes on."""
        now_us = self._now_us()
        stream: StreamPosition = self._state.position(arn)
        said = "records of a shard were trimmed after 24 hours, before they were read"
        self._record(checkpoints.trimmed(stream.lineage[shard_id].since_us, now_us, said))
        lineage = shards.restarted(stream.lineage, shard_id, now_us - RETENTION_US)
        self._places = self._state.with_lineage(arn, lineage)

    def _is_used_up(self) -> bool:
        return (
            self.clock() >= self._deadline or self._done.line_bytes + self._batch.line_bytes >= self.budget.most_bytes
        )

    def _is_caught_up(self) -> bool:
        left = [
            (stream.arn, shard_id) for stream in self._state.streams for shard_id in shards.readable(stream.lineage)
        ]
        return all(key not in self._closed and self._empty[key] >= EMPTY_PAGES for key in left)

    # --- landing

    def _is_due(self) -> bool:
        if not self._batch.records:
            return False
        return self._batch.line_bytes >= LAND_BYTES or self.clock() - self._batch.since >= LAND_EVERY_S

    def _commit(self) -> None:
        """Land what was read, then move the checkpoint. Another reader's checkpoint is taken over instead."""
        if self._batch.records:
            self._land()
        written = replace(self._state, read_us=self._now_us())
        try:
            self._version = self.landing.replace(CHECKPOINT, checkpoints.dump(written), self._version)
            self._places = written
        except CommitConflict:
            self._done = replace(self._done, conflicts=self._done.conflicts + 1)
            self._iterators.clear()
            self._empty.clear()
            self._load()
            self._look()
            self._look_again = True

    def _land(self) -> None:
        now, batch = self.lake.now(), self._batch
        folder = now.strftime("%Y/%m/%d/%H/")
        name = firehose_key(folder, f"{self.table.name}-streams", 1, now, str(uuid.uuid4()), ".gz")
        uri = self.landing.put(name, batch.packed())
        self._batch = LineBatch()
        self._done = replace(
            self._done,
            records=self._done.records + batch.records,
            line_bytes=self._done.line_bytes + batch.line_bytes,
            uris=(*self._done.uris, uri),
        )
        self.lake.progress(f"{self.table.name}: stream records landed", self._done.records)

    # --- what goes wrong

    def _record(self, gaps: Sequence[Gap]) -> None:
        for gap in gaps:
            record_gap(self.lake, self.table.name, gap)

    def _back_off(self) -> None:
        """Wait after a throttled read, longer each time in succession."""
        self._strain += 1
        self._wait_throttled(STREAMS.wait_s(self._strain))

    def _wait_throttled(self, seconds: float) -> None:
        self._done = replace(self._done, throttled=self._done.throttled + 1)
        self.pause(seconds)

    def _patiently(self, call: Callable[[], T]) -> T:
        return STREAMS.call(call, lambda error: isinstance(error, ThrottledError), self._wait_throttled)
        raise AssertionError("unreachable")

    def _now_us(self) -> int:
        return int(self.lake.now().timestamp() * 1_000_000)
