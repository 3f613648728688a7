"""The shards of a stream: which may be read now, how far each was read, and what was lost. Pure.

The stream is one of DynamoDB or of Kinesis. A shard takes records for some time and is closed; its children take the records
from then on. Records and closed shards are removed after the stream's retention. A shard must be read before its children. A
reader stores a `Lineage`: the position in each shard that is not read and gone. A position does not contain an iterator,
because iterators expire after minutes.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html
https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeAlias

RETENTION_US: Final = 24 * 3600 * 1_000_000
"""How long DynamoDB Streams keeps records: no younger one is removed (trimmed). A Kinesis stream has its own setting."""

SLACK_US: Final = 3600 * 1_000_000
"""The allowance for clocks and for the moment of trimming: a record older than the retention less this may be gone."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as it is listed. `first`, `last`: sequence numbers of its records; `last` is None while it is open.

    `adjacent_id`: the other parent, if the shard was made by merging two shards of a Kinesis stream.
    """

    shard_id: str
    parent_id: str | None = None
    first: str | None = None
    last: str | None = None
    adjacent_id: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of its parents."""
        return _ids(self.parent_id, self.adjacent_id)


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a table with its shards. `created_us`: UTC microseconds.

    `running`: it captures changes. A stream of DynamoDB that was switched off can be read for another 24 hours.
    `view`: its StreamViewType; empty for a Kinesis stream. `retention_us`: how long it keeps records.
    `reports_trimmed`: reading from a position (`ShardPosition.is_anchored`) fails if records after it were trimmed. Kinesis
    continues with the oldest record that is left instead.
    """

    arn: str
    created_us: int
    running: bool
    view: str
    shards: tuple[Shard, ...] = ()
    retention_us: int = RETENTION_US
    reports_trimmed: bool = True


@dataclass(frozen=True, slots=True)
class ShardPosition:
    """How far one shard was read.

    `after`: the sequence number up to which (inclusive) it was read. `start`: the sequence number of its first record, if
    nothing was read. With neither, reading begins at the oldest record that is left. `since_us`: no unread record is older
    (UTC microseconds). `finished`: the shard is closed and was read to its end.
    """

    parent_id: str | None = None
    start: str | None = None
    after: str | None = None
    since_us: int = 0
    finished: bool = False
    adjacent_id: str | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of the shard's parents."""
        return _ids(self.parent_id, self.adjacent_id)

    @property
    def is_anchored(self) -> bool:
        """Whether DynamoDB reports an error if records between this position and the next read were trimmed."""
        return self.after is not None or self.start is not None

    def to_json(self) -> dict[str, Any]:
        """A JSON document; `ShardPosition(**document)` is equal. Earlier releases can read it unless two shards were merged."""
        document = asdict(self)
        if self.adjacent_id is None:
            del document["adjacent_id"]
        return document


def _ids(*found: str | None) -> tuple[str, ...]:
    return tuple(one for one in found if one is not None)


Lineage: TypeAlias = Mapping[str, ShardPosition]
"""The position in each shard, by its id."""


@dataclass(frozen=True, slots=True)
class ObservedLineage:
    """The result of `observe`. `lost`: shards with records that were trimmed before they were read. `lost_since_us`: no lost record
    is older; None if nothing was lost."""

    lineage: Lineage
    lost: tuple[str, ...] = ()
    lost_since_us: int | None = None


def initial_lineage(listed: Iterable[Shard], began_us: int) -> Lineage:
    """The lineage of a stream from which nothing was read. `began_us`: no record of it is older.

    A shard whose parent is listed has all its records, so it is read from its first one. The others are read from the oldest
    record that is left.
    """
    shards = {shard.shard_id: shard for shard in listed}
    return {
        one.shard_id: ShardPosition(
            one.parent_id,
            one.first if one.parents and all(parent in shards for parent in one.parents) else None,
            None,
            began_us,
            adjacent_id=one.adjacent_id,
        )
        for one in shards.values()
    }


def observe(
    lineage: Lineage,
    listed: Iterable[Shard],
    unread_us: int = 0,
    began_us: int = 0,
    kept_since_us: int | None = None,
) -> ObservedLineage:
    """Update a lineage from a new listing of the stream's shards.

    New shards are added, and finished shards that are no longer listed are removed. Records were lost if a shard disappeared
    before it was finished, if the parent of a new shard was never listed, or if a shard without an anchor
    (`ShardPosition.is_anchored`) was not read for so long that its records may have been trimmed.

    Args:
        unread_us: the time since the lineage was last updated.
        began_us: the time from which the stream is read, if no position has a later one.
        kept_since_us: for a stream that does not report trimmed records: all records since then are certainly kept.
            Records of a shard may be lost if older ones were not read, also if it has an anchor.
    """
    shards = {shard.shard_id: shard for shard in listed}
    known = {shard_id: _ended(position, shards.get(shard_id)) for shard_id, position in lineage.items()}
    floor_us = min((position.since_us for position in known.values()), default=began_us)
    lost: dict[str, int] = {}
    kept: dict[str, ShardPosition] = {}
    for shard_id, position in known.items():
        if kept_since_us is None:
            stale = not position.is_anchored and unread_us > RETENTION_US - SLACK_US
        else:
            stale = position.since_us < kept_since_us
        if not position.finished and (shard_id not in shards or stale):
            lost[shard_id] = position.since_us
        if shard_id in shards:
            kept[shard_id] = replace(position, since_us=max(position.since_us, kept_since_us or 0))
    for shard in shards.values():
        if shard.shard_id in known:
            continue
        lost |= {parent: floor_us for parent in shard.parents if parent not in shards and parent not in known}
        since_us = min((known[parent].since_us for parent in shard.parents if parent in known), default=floor_us)
        since_us = max(since_us, kept_since_us or 0)
        kept[shard.shard_id] = ShardPosition(
            shard.parent_id, shard.first, None, since_us, adjacent_id=shard.adjacent_id
        )
    return ObservedLineage(kept, tuple(sorted(lost)), min(lost.values(), default=None))


def _ended(position: ShardPosition, shard: Shard | None) -> ShardPosition:
    """The position, finished if the shard's last record was read."""
    if (
        shard is not None
        and shard.last is not None
        and position.after is not None
        and int(position.after) >= int(shard.last)
    ):
        return replace(position, finished=True)
    return position


def readable(lineage: Lineage) -> list[str]:
    """The shards to read now: unfinished, without an unfinished ancestor. The one that is furthest behind is first."""

    def progress(shard_id: str) -> tuple[int, str]:
        position = lineage[shard_id]
        return int(position.after or position.start or 0), shard_id

    waiting = {shard_id for shard_id, position in lineage.items() if not position.finished}
    free = (shard_id for shard_id in waiting if waiting.isdisjoint(lineage[shard_id].parents))
    return sorted(free, key=progress)


def advanced(lineage: Lineage, shard_id: str, after: str, changed_us: int) -> Lineage:
    """The lineage after a shard was read up to the record `after` (inclusive), a change of `changed_us`."""
    position = lineage[shard_id]
    return {**lineage, shard_id: replace(position, after=after, since_us=max(position.since_us, changed_us))}


def finished(lineage: Lineage, shard_id: str) -> Lineage:
    """The lineage after a closed shard was read to its end."""
    return {**lineage, shard_id: replace(lineage[shard_id], finished=True)}


def idle(lineage: Lineage, shard_id: str, at_us: int) -> Lineage:
    """The lineage after an open shard had no further record at `at_us`: its future records are younger."""
    position = lineage[shard_id]
    return {**lineage, shard_id: replace(position, since_us=max(position.since_us, at_us - SLACK_US))}


def restarted(lineage: Lineage, shard_id: str, since_us: int) -> Lineage:
    """The lineage after records of a shard were trimmed unread: it is read from the oldest record that is left."""
    return {**lineage, shard_id: replace(lineage[shard_id], start=None, after=None, since_us=since_us)}
