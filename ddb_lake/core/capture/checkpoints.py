"""Checkpoints: what a reader of streams stores between runs, and how a new listing of streams changes it. Pure.

A checkpoint promises one thing: every record at or before its positions has landed, or is in a gap that was recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.capture.shards import (
    RETENTION_US,
    SLACK_US,
    Lineage,
    ShardPosition,
    Stream,
    initial_lineage,
    observe,
)
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import TerminalError

FORMAT: Final = 1
HOUR_US: Final = 3600 * 1_000_000

_REPLACED: Final = "the table was deleted and created again: only a full export of the new table removes its old items"


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """How far one stream was read. Times are UTC microseconds.

    `began_us`: older records were no longer in the stream when reading began. `running_us`: when the stream was last observed
    to capture changes. `running`: whether it did in the last observation.
    """

    arn: str
    created_us: int
    began_us: int
    running_us: int
    lineage: Lineage = field(default_factory=dict)
    running: bool = True

    @property
    def unread_since_us(self) -> int | None:
        """No unread record is older; None if all shards were read to their ends."""
        return min((position.since_us for position in self.lineage.values() if not position.finished), default=None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a table's streams were read.

    `streams`: oldest first. A stream that ended stays as long as DynamoDB lists it. `table_id`: the table's own; if it
    changes, the table was replaced. `began_us`: changes were read from then on, except in recorded gaps. `read_us`: when the
    checkpoint was written.
    """

    table_id: str | None = None
    streams: tuple[StreamPosition, ...] = ()
    began_us: int = 0
    read_us: int = 0

    def position(self, arn: str) -> StreamPosition:
        """The position in one stream. Raises KeyError if the stream is not read."""
        for stream in self.streams:
            if stream.arn == arn:
                return stream
        raise KeyError(arn)

    def with_lineage(self, arn: str, lineage: Lineage) -> Checkpoint:
        """The checkpoint with the shards of one stream replaced."""
        streams = (replace(one, lineage=lineage) if one.arn == arn else one for one in self.streams)
        return replace(self, streams=tuple(streams))


def observe_streams(
    before: Checkpoint | None, listed: Sequence[Stream], table_id: str | None, now_us: int
) -> tuple[Checkpoint, list[Gap]]:
    """Update a checkpoint from a new listing of a table's streams; returns it with the gaps that the listing reveals.

    Without a checkpoint (`before` is None) the newest stream is read, from the oldest record that it still has; `listed` must
    not be empty then. Later, each known stream is read to its end, and newer streams are read too.
    """
    streams = sorted(listed, key=lambda stream: stream.created_us)
    if before is None:
        newest = streams[-1]
        position = _begun(newest, now_us)
        gaps = [] if newest.running else [_gap("stream_off", position.began_us, now_us, now_us, "the stream is off")]
        return Checkpoint(table_id, (position,), position.began_us), gaps
    gaps = []
    known = {one.arn: one for one in streams}
    positions = []
    for position in before.streams:
        if position.arn in known:
            continued, lost = _continued(position, known[position.arn], before.read_us, now_us)
            positions.append(continued)
        else:
            lost = _vanished(position, now_us)
        gaps += lost
    newest_us = max(position.created_us for position in before.streams)
    running_us = max(position.running_us for position in before.streams)
    for stream in streams:
        if stream.created_us > newest_us:
            positions.append(_begun(stream, now_us))
            gaps += _between(before.table_id, table_id, running_us, positions[-1], now_us)
            running_us = stream.created_us
    gaps += _replaced_table(before, streams, table_id, now_us)
    if not (streams and streams[-1].running):
        gaps.append(_gap("stream_off", running_us, now_us, now_us, "the stream is off, or its table is gone"))
    if not positions:  # keep the last one: a stream is new only if it was created after it
        positions = [replace(before.streams[-1], running_us=running_us, lineage={})]
    return replace(before, table_id=table_id or before.table_id, streams=tuple(positions)), gaps


def _begun(stream: Stream, now_us: int) -> StreamPosition:
    began_us = max(stream.created_us, now_us - stream.retention_us)
    lineage = initial_lineage(stream.shards, began_us)
    return StreamPosition(stream.arn, stream.created_us, began_us, now_us, lineage, stream.running)


def _continued(position: StreamPosition, stream: Stream, read_us: int, now_us: int) -> tuple[StreamPosition, list[Gap]]:
    kept_since_us = None if stream.reports_trimmed else now_us - stream.retention_us + SLACK_US
    observed = observe(position.lineage, stream.shards, now_us - read_us, position.began_us, kept_since_us)
    running_us = now_us if stream.running else position.running_us
    gaps = []
    if observed.lost_since_us is not None:
        reason = (
            f"records of {count_text(len(observed.lost), 'shard')} were trimmed after"
            f" {count_text(stream.retention_us // HOUR_US, 'hour')}, before they were read"
        )
        gaps += trimmed(observed.lost_since_us, now_us, reason, stream.retention_us)
    if stream.running and not position.running:
        reason = "the stream was switched off and on again; changes in between were not captured"
        gaps.append(_gap("stream_off", position.running_us, now_us, now_us, reason))
    return replace(position, lineage=observed.lineage, running_us=running_us, running=stream.running), gaps


def _vanished(position: StreamPosition, now_us: int) -> list[Gap]:
    since_us = position.unread_since_us
    if since_us is None:
        return []
    return trimmed(since_us, now_us, "a stream that was switched off went before it was read to its end")


def _between(
    old_id: str | None, new_id: str | None, running_us: int, position: StreamPosition, now_us: int
) -> Iterator[Gap]:
    """The gaps between the earlier streams and a new one."""
    if old_id is not None and new_id is not None and old_id != new_id:
        yield _gap("lost", 0, position.created_us, now_us, _REPLACED)
    reason = "the stream was switched off and on again; changes in between were not captured"
    yield _gap("stream_changed", running_us, position.created_us, now_us, reason)
    if position.began_us > position.created_us:
        yield from trimmed(position.created_us, now_us, "the new stream was not read for more than 24 hours")


def _replaced_table(before: Checkpoint, streams: Sequence[Stream], table_id: str | None, now_us: int) -> list[Gap]:
    """The gap of a table that was made again while its stream went on, as a Kinesis stream does."""
    known = {position.arn for position in before.streams}
    outlived = any(not stream.reports_trimmed and stream.arn in known for stream in streams)
    if not outlived or before.table_id is None or table_id in (None, before.table_id):
        return []
    return [_gap("lost", 0, now_us, now_us, _REPLACED)]


def trimmed(since_us: int, now_us: int, reason: str, retention_us: int = RETENTION_US) -> list[Gap]:
    """The gap of trimmed records that are not older than `since_us`. Only records older than the retention are trimmed.

    Empty if nothing can be lost, for example if the last record of an idle shard was trimmed after it was read.
    """
    to_us = now_us - retention_us + SLACK_US
    return [_gap("trimmed", since_us, to_us, now_us, reason)] if since_us < to_us else []


def _gap(kind: Any, from_us: int, to_us: int, now_us: int, reason: str) -> Gap:
    return Gap(kind, from_us, max(to_us, from_us + 1), reason, now_us)


def dump(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as JSON, UTF-8."""
    streams = [
        {
            "arn": one.arn,
            "created_us": one.created_us,
            "began_us": one.began_us,
            "running_us": one.running_us,
            "running": one.running,
            "shards": {shard_id: position.to_json() for shard_id, position in one.lineage.items()},
        }
        for one in checkpoint.streams
    ]
    document = {
        "format": FORMAT,
        "table_id": checkpoint.table_id,
        "began_us": checkpoint.began_us,
        "read_us": checkpoint.read_us,
        "streams": streams,
    }
    return json.dumps(document, indent=1).encode()


def load(data: bytes, where: str) -> Checkpoint:
    """The inverse of `dump`. Raises TerminalError, which names `where`, if the data is no checkpoint of this format."""
    try:
        document: dict[str, Any] = json.loads(data)
        if document["format"] != FORMAT:
            raise TerminalError(
                f"{where}: a checkpoint of format {document['format']}, this version reads {FORMAT}",
                hint="upgrade ddb-lake",
            )
        streams = tuple(
            StreamPosition(
                one["arn"],
                one["created_us"],
                one["began_us"],
                one["running_us"],
                {shard_id: ShardPosition(**position) for shard_id, position in one["shards"].items()},
                one.get("running", True),
            )
            for one in document["streams"]
        )
        return Checkpoint(document["table_id"], streams, document["began_us"], document["read_us"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TerminalError(
            f"{where}: no checkpoint of a stream reader ({type(error).__name__})",
            hint=(
                "restore an earlier version of the object, or remove it: reading then starts again with the oldest "
                "records of the stream"
            ),
        ) from error
