"""What a reader of DynamoDB Streams remembers between runs, and what a look at the streams makes of it. Pure.

A checkpoint claims one thing: every record at or before the places in it has landed, or is in a gap that was recorded.
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
    Place,
    Stream,
    first_sight,
    observe,
)
from ddb_lake.errors import TerminalError

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """How far one stream was read. Times are UTC microseconds.

    `began_us`: what is older was in the stream no more when reading it began. `running_us`: when it was last seen
    capturing changes.
    """

    arn: str
    created_us: int
    began_us: int
    running_us: int
    lineage: Lineage = field(default_factory=dict)

    @property
    def unread_since_us(self) -> int | None:
        """No record of it that was not read is older; None if all its shards were read to their ends."""
        return min((place.since_us for place in self.lineage.values() if not place.finished), default=None)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a table's streams were read.

    `streams`: oldest first; those that ended stay while they are listed. `table_id`: the table's own; another one is
    another table of the same name. `began_us`: since when changes were read without a break but for recorded gaps.
    `read_us`: when this was written.
    """

    table_id: str | None = None
    streams: tuple[StreamPlace, ...] = ()
    began_us: int = 0
    read_us: int = 0

    def place(self, arn: str) -> StreamPlace:
        """The place in one stream. Raises KeyError if it is not read."""
        for stream in self.streams:
            if stream.arn == arn:
                return stream
        raise KeyError(arn)

    def with_lineage(self, arn: str, lineage: Lineage) -> Checkpoint:
        """The checkpoint with the shards of one stream replaced."""
        streams = (replace(one, lineage=lineage) if one.arn == arn else one for one in self.streams)
        return replace(self, streams=tuple(streams))


def look(
    before: Checkpoint | None, listed: Sequence[Stream], table_id: str | None, now_us: int
) -> tuple[Checkpoint, list[Gap]]:
    """Update the checkpoint by the table's present streams; return it with the gaps that this reveals.

    At the first look (`before` None) the newest stream is taken, from what it still has on. Later: every stream that
    is taken is read to its end, the newer ones beside it. `listed` is not empty at the first look.
    """
    streams = sorted(listed, key=lambda stream: stream.created_us)
    if before is None:
        newest = streams[-1]
        place = _begun(newest, now_us)
        gaps = [] if newest.running else [_gap("stream_off", place.began_us, now_us, now_us, "the stream is off")]
        return Checkpoint(table_id, (place,), place.began_us), gaps
    gaps = []
    known = {one.arn: one for one in streams}
    places = []
    for place in before.streams:
        if place.arn in known:
            seen, lost = _seen(place, known[place.arn], before.read_us, now_us)
            places.append(seen)
        else:
            lost = _vanished(place, now_us)
        gaps += lost
    newest_us = max(place.created_us for place in before.streams)
    running_us = max(place.running_us for place in before.streams)
    for stream in streams:
        if stream.created_us > newest_us:
            places.append(_begun(stream, now_us))
            gaps += _between(before.table_id, table_id, running_us, places[-1], now_us)
            running_us = stream.created_us
    if not (streams and streams[-1].running):
        gaps.append(_gap("stream_off", running_us, now_us, now_us, "the stream is off, or its table is gone"))
    if not places:  # keep the last one: a later listing is compared with it to recognize a new stream
        places = [replace(before.streams[-1], running_us=running_us, lineage={})]
    return replace(before, table_id=table_id or before.table_id, streams=tuple(places)), gaps


def _begun(stream: Stream, now_us: int) -> StreamPlace:
    began_us = max(stream.created_us, now_us - RETENTION_US)
    lineage = first_sight(stream.shards, began_us)
    return StreamPlace(stream.arn, stream.created_us, began_us, now_us, lineage)


def _seen(place: StreamPlace, stream: Stream, read_us: int, now_us: int) -> tuple[StreamPlace, list[Gap]]:
    found = observe(place.lineage, stream.shards, now_us - read_us, place.began_us)
    running_us = now_us if stream.running else place.running_us
    gaps = []
    if found.lost_since_us is not None:
        said = f"records of {len(found.lost)} shards were trimmed after 24 hours, before they were read"
        gaps += trimmed(found.lost_since_us, now_us, said)
    return replace(place, lineage=found.lineage, running_us=running_us), gaps


def _vanished(place: StreamPlace, now_us: int) -> list[Gap]:
    since_us = place.unread_since_us
    if since_us is None:
        return []
    return trimmed(since_us, now_us, "a stream that was switched off went before it was read to its end")


def _between(old_id: str | None, new_id: str | None, running_us: int, place: StreamPlace, now_us: int) -> Iterator[Gap]:
    """What may be missing between the streams before and a new one."""
    if old_id is not None and new_id is not None and old_id != new_id:
        said = "the table was deleted and made again: its old items go only with a full export of the new table"
        yield _gap("lost", 0, place.created_us, now_us, said)
    said = "the stream was switched off and on again; changes in between were not captured"
    yield _gap("stream_changed", running_us, place.created_us, now_us, said)
    if place.began_us > place.created_us:
        yield from trimmed(place.created_us, now_us, "the new stream was not read for more than 24 hours")


def trimmed(since_us: int, now_us: int, said: str) -> list[Gap]:
    """The gap left by records not older than `since_us` that were trimmed: only what is older than 24 hours is.

    None if nothing can have been lost, as with an idle shard that was read again and again, whose last record went.
    """
    to_us = now_us - RETENTION_US + SLACK_US
    return [_gap("trimmed", since_us, to_us, now_us, said)] if since_us < to_us else []


def _gap(kind: Any, from_us: int, to_us: int, now_us: int, said: str) -> Gap:
    return Gap(kind, from_us, max(to_us, from_us + 1), said, now_us)


def dump(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as JSON, UTF-8."""
    streams = [
        {
            "arn": one.arn,
            "created_us": one.created_us,
            "began_us": one.began_us,
            "running_us": one.running_us,
            "shards": {shard_id: place.to_json() for shard_id, place in one.lineage.items()},
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
    """The inverse of `dump`. Raises TerminalError naming `where` for what is no checkpoint of this format."""
    try:
        document: dict[str, Any] = json.loads(data)
        if document["format"] != FORMAT:
            raise TerminalError(
                f"{where}: a checkpoint of format {document['format']}, this version reads {FORMAT}",
                hint="upgrade ddb-lake",
            )
        streams = tuple(
            StreamPlace(
                one["arn"],
                one["created_us"],
                one["began_us"],
                one["running_us"],
                {shard_id: Place(**place) for shard_id, place in one["shards"].items()},
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
