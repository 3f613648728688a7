"""Follows one table: reads its stream, lands what was read, and applies it. `pipeline.follow.follower` follows several.

The steps of a turn, always in this order: land what was read, as one object; move the checkpoint; apply the object. A kill between
any two of them loses nothing: before the checkpoint moved, the records are read again and are duplicates; after it, the planner
finds the object, which the ledger does not have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ddb_lake.aws.kinesis_fan_out import FanOutStream
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.errors import TransientError
from ddb_lake.pipeline.apply.apply import ApplyResult, apply_objects
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.streams import LOOK_EVERY_S, POLL_S, StreamReader, StreamsResult
from ddb_lake.pipeline.open_lake import Lake

QUIET_CHECKPOINT_S = 60.0
"""The interval at which the checkpoint of a quiet stream is written."""

LONGEST_PAUSE_S = 60.0
"""The longest pause after failures in succession."""


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How tables are followed.

    Attributes:
        interval_s: the least time between two commits of a table, in seconds.
        batch_bytes: so many bytes of lines are landed before the interval is over.
        waiting_bytes: reading stops while so many bytes of lines of all tables have not landed.
        list_every_s: the interval of listing landed objects that another service writes.
    """

    interval_s: float = 5.0
    batch_bytes: int = 8 * 1024 * 1024
    waiting_bytes: int = 64 * 1024 * 1024
    list_every_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Turn:
    """The result of one turn of a table.

    Attributes:
        table: the table's name.
        streams: what was landed; None if the table is not read from a stream.
        applied: what was applied; None if there was nothing to apply.
        gaps: the table's open gaps.
        lag_s: how far the lake is behind the source after the turn, in seconds.
        seconds: the duration.
    """

    table: str
    streams: StreamsResult | None = None
    applied: ApplyResult | None = None
    gaps: tuple[Gap, ...] = ()
    lag_s: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class FollowedTable:
    """One table, with its reader if it is read from a stream.

    `read` may be called by one thread, everything else by another. After an error in either, `turn` begins again at the
    checkpoint. `failures`: turns that failed in succession; `retry_at`: the clock's time of the next attempt; `is_transient`:
    another attempt may succeed.
    """

    lake: Lake
    name: str
    reader: StreamReader | None = None
    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    retry_at: float = 0.0
    is_transient: bool = False
    _unapplied: list[str] = field(default_factory=list)
    _started: bool = False
    _read_error: Exception | None = None
    _turn_at: float = float("-inf")
    _checkpoint_at: float = float("-inf")

    # --- the reading thread

    @property
    def page_pause_s(self) -> float:
        """The pause after a page, in seconds. A shard of Kinesis allows five requests a second.

        https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html
        """
        changes = self.lake.table(self.name).changes
        return 0.2 if changes is not None and changes.kinesis is not None and changes.fan_out is None else 0.0

    @property
    def poll_s(self) -> float:
        """The pause after a page without records, in seconds. Records that are pushed are in memory: asking costs no request."""
        changes = self.lake.table(self.name).changes
        return POLL_S / 10 if changes is not None and changes.fan_out is not None else POLL_S

    @property
    def can_read(self) -> bool:
        """Whether reading has started and did not fail."""
        return self._started and self._read_error is None

    def read(self, limit_bytes: int) -> bool:
        """Read a page of each shard; whether there was anything. An error is kept for the next turn, which raises it."""
        if self.reader is None or not self.can_read:
            return False
        try:
            return self.reader.read_pages(limit_bytes=limit_bytes)
        except Exception as error:  # whatever it is: `turn` raises it
            self._read_error = error
            return False

    # --- the thread that uses the lake

    @property
    def waiting_bytes(self) -> int:
        """The bytes of lines that were read and have not landed."""
        return self.reader.batch_bytes if self.reader is not None else 0

    @property
    def is_caught_up(self) -> bool:
        """Whether all that the stream has was read, landed and applied."""
        if self._unapplied:
            return False
        return self.reader is None or (self.can_read and self.reader.is_caught_up and not self.reader.batch_bytes)

    def lag_s(self) -> float:
        """How far the lake is behind the stream, in seconds."""
        return self.reader.behind_s() + self.reader.batch_age_s if self.reader is not None and self._started else 0.0

    def is_due(self, options: FollowOptions) -> bool:
        """Whether the next turn has something to do."""
        now = self.clock()
        if self.reader is None or now < self.retry_at:
            return False
        if not self.can_read or self._unapplied or self.waiting_bytes >= options.batch_bytes:
            return True
        if self.waiting_bytes:
            return now - self._turn_at >= options.interval_s
        return now - self.reader.looked_at >= LOOK_EVERY_S or now - self._checkpoint_at >= QUIET_CHECKPOINT_S

    def turn(self) -> Turn:
        """Land what was read, and apply it. Raises whatever reading, landing or applying raised; call it again then."""
        began = self._turn_at = self.clock()
        try:
            streams = self._land()
            applied = self._apply()
        except Exception as error:
            self.failures += 1
            self.is_transient = isinstance(error, TransientError)
            self.retry_at = self.clock() + min(LONGEST_PAUSE_S, 2.0 ** min(self.failures, 10))
            raise
        self.failures, self.retry_at = 0, 0.0
        gaps = open_gaps(self.lake, self.name) if streams is not None or applied is not None else ()
        return Turn(self.name, streams, applied, gaps, self.lag_s(), self.clock() - began)

    def stop(self) -> None:
        """Forget what was read and has not landed: another process follows the table now."""
        self._started = False
        self._unapplied.clear()

    def _land(self) -> StreamsResult | None:
        reader = self.reader
        if reader is None:
            return None
        error, self._read_error = self._read_error, None
        if error is not None:
            self._started = False
            raise error
        started, self._started = self._started, False  # until nothing failed
        if not started:
            reader.start()
        reader.settle()
        now = self.clock()
        if now - reader.looked_at >= LOOK_EVERY_S:
            reader.look()
        if reader.batch_bytes or now - self._checkpoint_at >= QUIET_CHECKPOINT_S:
            uri = reader.land()
            self._checkpoint_at = now
            self._unapplied += [uri] if uri is not None else []
        self._started = True
        return reader.take_result()

    def _apply(self) -> ApplyResult | None:
        if not self._unapplied:
            return None
        applied = apply_objects(self.lake, self.name, self._unapplied)
        self._unapplied.clear()
        return applied


def followed_table(lake: Lake, name: str) -> FollowedTable:
    """The table of a name, with a reader if its stream is read directly: by enhanced fan-out if that is configured."""
    table = lake.table(name)
    if lake.settings.stream_landing(table) is None:
        return FollowedTable(lake, name)
    pushed = table.changes is not None and table.changes.fan_out is not None
    return FollowedTable(lake, name, StreamReader.of(lake, name, FanOutStream(table) if pushed else None))
