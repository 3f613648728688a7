"""Streams read directly, of DynamoDB or Kinesis: their records land as objects, as if Firehose had delivered them.

`read_streams` reads until all that the stream has is read (or, with `Budget.follow`, until the time is up). `ddb-lake follow`
(`pipeline.follow`) keeps a `StreamReader` and reads without an end. What was read
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

Memory holds one page (1 MB; of Kinesis up to 10 MB) and one object, compressed (`LAND_BYTES` of lines make about a tenth of that).
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Final, TypeVar

import orjson

from ddb_lake.aws.kinesis_source import KinesisStream
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
from ddb_lake.core.capture.stream_lines import LineBatch
from ddb_lake.core.layout.firehose_paths import firehose_key
from ddb_lake.core.operations.retry_policy import STREAMS
from ddb_lake.core.protection.rules import Protection
from ddb_lake.errors import CommitConflict, ConfigError
from ddb_lake.pipeline.capture.gap_log import open_gaps, record_gap
from ddb_lake.pipeline.capture.stream_gaps import before_the_stream, check_view, forgotten
from ddb_lake.pipeline.open_lake import Lake

CHECKPOINT: Final = ".streams/checkpoint.json"
KINESIS_CHECKPOINT: Final = ".kinesis/checkpoint.json"
"""The checkpoints below the landing folder; listings leave out names that begin with a dot."""

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

    `clock` does not go back, and counts seconds. Raises ConfigError if the table is not to be read from its stream, has none,
    or has one without images; ThrottledError if AWS still throttles after pauses.
    """
    budget = budget or Budget()
    reader = StreamReader.of(lake, table, source, pause, clock)
    started = clock()
    deadline = started + budget.seconds
    reader.start()
    while True:
        moved = reader.read_pages(deadline)
        reader.settle()
        if reader.batch_bytes >= LAND_BYTES or reader.batch_age_s >= LAND_EVERY_S:
            reader.land()
        caught_up = reader.is_caught_up
        used_up = clock() >= deadline or reader.line_bytes >= budget.most_bytes
        if used_up or (caught_up and not budget.follow):
            break
        if clock() - reader.looked_at >= LOOK_EVERY_S:
            reader.land()  # also without records: that it was read is known then
            reader.look()
        if not moved:
            pause(POLL_S if caught_up else POLL_S / 4)
    reader.land()
    return replace(reader.result, caught_up=caught_up, gaps=open_gaps(lake, table), seconds=clock() - started)


def stream_checkpoint(lake: Lake, table: TableSettings) -> Checkpoint | None:
    """How far the table's streams were read; None if they never were, or are not to be."""
    uri = lake.settings.stream_landing(table)
    if uri is None:
        return None
    name = _checkpoint_name(table)
    data, _ = Landing(lake.objects, uri).load(name)
    return None if data is None else checkpoints.load(data, uri + name)


def _checkpoint_name(table: TableSettings) -> str:
    return KINESIS_CHECKPOINT if table.changes is not None and table.changes.kinesis is not None else CHECKPOINT


@dataclass(slots=True)
class StreamReader:
    """Reads a table's streams. `_places` is ahead of the checkpoint by what `_batch` holds.

    One thread may call `read_pages`, which makes requests to the stream only, while another calls the other methods, which use
    the lake. `admit`: returns a line as it may land, with protected images, or empty if the item is left out. `result`: what was
    landed since the reader was made.
    """

    lake: Lake
    table: TableSettings
    landing: Landing
    source: StreamSource
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    admit: Callable[[bytes], bytes] = bytes
    result: StreamsResult = field(default_factory=lambda: StreamsResult(""))
    looked_at: float = 0.0
    _places: Checkpoint | None = None
    _version: str | None = None
    _batch: LineBatch = field(default_factory=LineBatch)
    _iterators: dict[tuple[str, str], str] = field(default_factory=dict)
    _closed: set[tuple[str, str]] = field(default_factory=set)
    _empty: Counter[tuple[str, str]] = field(default_factory=Counter)
    _behind_ms: dict[tuple[str, str], int] = field(default_factory=dict)
    _trims: set[tuple[str, str]] = field(default_factory=set)
    _look_again: bool = False
    _strain: int = 0
    _resume_at: float = 0.0
    _lock: RLock = field(default_factory=RLock)

    @classmethod
    def of(
        cls,
        lake: Lake,
        table: str,
        source: StreamSource | None = None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> StreamReader:
        """A reader of a configured table. Raises ConfigError if the table is not to be read from a stream."""
        settings = lake.table(table)
        uri = lake.settings.stream_landing(settings)
        if uri is None:
            raise ConfigError(
                "the table is not read from its stream",
                table=table,
                hint="add `changes: {streams: true}` or `changes: {kinesis: <stream>}` to the table's configuration",
            )
        return cls(
            lake,
            settings,
            Landing(lake.objects, uri),
            source or _source(settings),
            pause,
            clock,
            line_admission(lake, table),
            StreamsResult(settings.name),
        )

    # --- progress

    def take_result(self) -> StreamsResult:
        """What was landed since the last call of this method."""
        with self._lock:
            result, self.result = self.result, StreamsResult(self.table.name)
            return result

    @property
    def batch_bytes(self) -> int:
        """The bytes of the lines that were read and have not landed, before compression."""
        return self._batch.line_bytes

    @property
    def batch_age_s(self) -> float:
        """How long ago the first record that has not landed was read; 0 if there is none."""
        batch = self._batch
        return self.clock() - batch.since if batch.records else 0.0

    @property
    def line_bytes(self) -> int:
        """The bytes of all lines that were read, landed or not."""
        return self.result.line_bytes + self._batch.line_bytes

    @property
    def is_caught_up(self) -> bool:
        """Whether nothing was left to read when each shard was read last."""
        if self._look_again or self._trims:
            return False
        left = [
            (stream.arn, shard_id) for stream in self._state.streams for shard_id in shards.readable(stream.lineage)
        ]
        return all(key not in self._closed and self._empty[key] >= EMPTY_PAGES for key in left)

    def behind_s(self) -> float:
        """How far the reading is behind the source, in seconds: as Kinesis states it, or the age of the last record of a page."""
        with self._lock:
            return max(self._behind_ms.values(), default=0) / 1000

    @property
    def _state(self) -> Checkpoint:
        assert self._places is not None, "streams were looked at"
        return self._places

    # --- what there is to read

    def start(self) -> None:
        """Begin at the checkpoint, also after an error. What was read and has not landed is read again."""
        with self._lock:
            self._batch = LineBatch()
            self._forget_requests()
            self._load()
            self.look()

    def _forget_requests(self) -> None:
        self._iterators.clear()
        self._empty.clear()
        self._behind_ms.clear()
        self._trims.clear()

    def _load(self) -> None:
        name = _checkpoint_name(self.table)
        data, self._version = self.landing.load(name)
        self._places = None if data is None else checkpoints.load(data, self.landing.uri + name)

    def look(self) -> None:
        """Add the streams and shards that are listed now, and record the gaps that this shows."""
        with self._lock:
            listed = [self._described(arn) for arn in self._patiently(self.source.streams)]
            streams = [stream for stream in listed if stream is not None]
            table_id = self._patiently(self.source.table_id)
            now_us = self._now_us()
            check_view(self.table, streams, begun=self._places is not None)
            if self._places is None:
                kept_us = max((stream.retention_us for stream in streams), default=RETENTION_US)
                self._record(forgotten(self.lake, self.landing.uri, now_us, kept_us))
            self._places, gaps = checkpoints.observe_streams(self._places, streams, table_id, now_us)
            self._record([*gaps, *before_the_stream(self.lake, self.table, self._places.began_us, now_us)])
            self._closed = {
                (stream.arn, shard.shard_id) for stream in streams for shard in stream.shards if shard.last is not None
            }
            self.looked_at, self._look_again = self.clock(), False

    def settle(self) -> None:
        """Do what a call of `read_pages` left for the thread that uses the lake: record gaps, and look for shards."""
        with self._lock:
            for arn, shard_id in sorted(self._trims):
                self._trimmed(arn, shard_id)
                self._trims.discard((arn, shard_id))
            if self._look_again:
                self.look()

    def _described(self, arn: str) -> Stream | None:
        try:
            return self._patiently(lambda: self.source.describe(arn))
        except StreamGoneError:
            return None  # it went between the two calls

    # --- reading

    def read_pages(self, until: float = float("inf"), limit_bytes: int = LAND_BYTES) -> bool:
        """Read one page of each shard that may be read now; whether any got further.

        Args:
            until: the clock's time at which to stop.
            limit_bytes: no page is read while this many bytes have not landed.
        """
        with self._lock:
            moved = False
            for stream in self._state.streams:
                for shard_id in shards.readable(stream.lineage):
                    if self._batch.line_bytes >= limit_bytes or self.clock() < self._resume_at:
                        return moved
                    moved = self._turn(stream.arn, shard_id) or moved
                    if self.clock() >= until:
                        return True
            return moved

    def _turn(self, arn: str, shard_id: str) -> bool:
        """Read one page of a shard; whether that got further."""
        key = arn, shard_id
        if key in self._trims:
            return False
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
            self._trims.add(key)
            return True
        except StreamGoneError:
            self._iterators.pop(key, None)
            self._look_again = True
            return False
        self._strain = 0
        self._take(arn, shard_id, page)
        self._note_end(key, page)
        return bool(page.records) or page.next_iterator is None

    def _take(self, arn: str, shard_id: str, page: Page) -> None:
        lineage = self._state.position(arn).lineage
        for record in page.records:
            line = self.source.line(record, arn, shard_id)
            if admitted := self.admit(line.line):
                self._batch.add(admitted, self.clock())
            if line.sequence is not None:
                lineage = shards.advanced(lineage, shard_id, line.sequence, line.time_us or 0)
        if page.next_iterator is None:
            lineage = shards.finished(lineage, shard_id)
            self._look_again = True  # it may have children
            self._iterators.pop((arn, shard_id))
        else:
            self._iterators[arn, shard_id] = page.next_iterator
        self._places = self._state.with_lineage(arn, lineage)

    def _note_end(self, key: tuple[str, str], page: Page) -> None:
        """Note whether an open shard has nothing more now."""
        arn, shard_id = key
        if page.behind_ms is None:
            self._empty[key] = 0 if page.records else self._empty[key] + 1
            if page.records and (time_us := self.source.line(page.records[-1], arn, shard_id).time_us) is not None:
                self._behind_ms[key] = max(0, (self._now_us() - time_us) // 1000)
            elif self._empty[key] >= EMPTY_PAGES:
                self._behind_ms[key] = 0
        else:
            self._empty[key] = EMPTY_PAGES if page.behind_ms == 0 else 0
            self._behind_ms[key] = page.behind_ms
        if page.next_iterator is None:
            self._behind_ms.pop(key, None)
        elif self._empty[key] >= EMPTY_PAGES and key not in self._closed:
            lineage = shards.idle(self._state.position(arn).lineage, shard_id, self._now_us())
            self._places = self._state.with_lineage(arn, lineage)

    def _trimmed(self, arn: str, shard_id: str) -> None:
        """Records of the shard went before they were read: that is recorded first, then reading goes on."""
        now_us = self._now_us()
        stream: StreamPosition = self._state.position(arn)
        reason = "records of a shard were trimmed after 24 hours, before they were read"
        self._record(checkpoints.trimmed(stream.lineage[shard_id].since_us, now_us, reason))
        lineage = shards.restarted(stream.lineage, shard_id, now_us - RETENTION_US)
        self._places = self._state.with_lineage(arn, lineage)

    # --- landing

    def land(self) -> str | None:
        """Land what was read, then move the checkpoint. Another reader's checkpoint is taken over instead.

        Returns:
            The URI of the new object; None if nothing was read.
        """
        with self._lock:
            uri = self._land() if self._batch.records else None
            written = replace(self._state, read_us=self._now_us())
            try:
                self._version = self.landing.replace(
                    _checkpoint_name(self.table), checkpoints.dump(written), self._version
                )
                self._places = written
            except CommitConflict:
                self.result = replace(self.result, conflicts=self.result.conflicts + 1)
                self._forget_requests()
                self._load()
                self.look()
                self._look_again = True
            return uri

    def _land(self) -> str:
        now, batch = self.lake.now(), self._batch
        folder = now.strftime("%Y/%m/%d/%H/")
        name = firehose_key(folder, f"{self.table.name}-streams", 1, now, str(uuid.uuid4()), ".gz")
        packed = batch.packed()
        uri = self.landing.put(name, packed)
        self._batch = LineBatch()
        self.result = replace(
            self.result,
            records=self.result.records + batch.records,
            line_bytes=self.result.line_bytes + batch.line_bytes,
            uris=(*self.result.uris, uri),
        )
        self.lake.progress(f"{self.table.name}: stream records landed", self.result.records)
        return uri

    # --- what goes wrong

    def _record(self, gaps: Sequence[Gap]) -> None:
        for gap in gaps:
            record_gap(self.lake, self.table.name, gap)

    def _back_off(self) -> None:
        """Read nothing for some time after a throttled read, longer each time in succession."""
        self._strain += 1
        self.result = replace(self.result, throttled=self.result.throttled + 1)
        self._resume_at = self.clock() + STREAMS.wait_s(self._strain)

    def _wait_throttled(self, seconds: float) -> None:
        self.result = replace(self.result, throttled=self.result.throttled + 1)
        self.pause(seconds)

    def _patiently(self, call: Callable[[], T]) -> T:
        return STREAMS.call(call, lambda error: isinstance(error, ThrottledError), self._wait_throttled)

    def _now_us(self) -> int:
        return int(self.lake.now().timestamp() * 1_000_000)


def line_admission(lake: Lake, table: str) -> Callable[[bytes], bytes]:
    """What makes the lines of a table's stream such that they may land. A Kinesis stream may have records of other tables, which they name.

    Raises ConfigError as `Lake.protection`.
    """
    own = lake.protection(table)
    protections = {other.source_name: lake.protection(other.name) for other in lake.settings.tables}
    named = {source: protection for source, protection in protections.items() if protection}
    if not named:
        return bytes

    def admit(line: bytes) -> bytes:
        value = orjson.loads(line)
        source = value.get("tableName") if isinstance(value, dict) else None
        return (own if source is None else named.get(source, Protection())).protect_line(line)

    return admit


def _source(table: TableSettings) -> StreamSource:
    """The streams of a table that is read directly."""
    changes = table.changes
    return KinesisStream(table) if changes is not None and changes.kinesis is not None else TableStreams(table)
