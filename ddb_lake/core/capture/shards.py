"""The shards of a DynamoDB stream: which may be read now, how far each was read, and what was lost. Pure.

A shard takes records for some hours and is closed; its children take the records from then on. Records and closed shards are
removed after 24 hours. A shard must be read before its children. A reader stores a `Lineage`: the position in each shard that
is not read and gone. A position does not contain an iterator, because iterators expire after 15 minutes.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetShardIterator.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeAlias

RETENTION_US: Final = 24 * 3600 * 1_000_000
"""How long DynamoDB keeps records: no younger one is removed (trimmed)."""

SLACK_US: Final = 3600 * 1_000_000
"""The allowance for clocks and for the moment of trimming: a record older than `RETENTION_US - SLACK_US` may be gone."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as DescribeStream lists it. `first`, `last`: sequence numbers of its records; `last` is None while it is open."""

    shard_id: str
    parent_id: str | None = None
    first: str | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a table with its shards. `created_us`: UTC microseconds. `view`: its StreamViewType.

    `running`: it captures changes. A stream that was switched off can be read for another 24 hours.
    """

    arn: str
    created_us: int
    running: bool
    view: str
    shards: tuple[Shard, ...] = ()


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

    @property
    def is_anchored(self) -> bool:
        """Whether the service reports an error if records between this position and the next read were trimmed."""
        return self.after is not None or self.start is not None

    def to_json(self) -> dict[str, Any]:
        """A JSON document; `ShardPosition(**document)` is equal."""
        return asdict(self)


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
        one.shard_id: ShardPosition(one.parent_id, one.first if one.parent_id in shards else None, None, began_us)
        for one in shards.values()
    }


def observe(lineage: Lineage, listed: Iterable[Shard], unread_us: int = 0, began_us: int = 0) -> ObservedLineage:
    """Update a lineage from a new listing of the stream's shards.

    New shards are added, and finished shards that are no longer listed are removed. Records were lost if a shard disappeared
    before it was finished, if the parent of a new shard was never listed, or if a shard without an anchor
    (`ShardPosition.is_anchored`) was not read for so long that its records may have been trimmed.

    Args:
        unread_us: the time since the lineage was last updated.
        began_us: the time from which the stream is read, if no position has a later one.
    """
    shards = {shard.shard_id: shard for shard in listed}
    known = {shard_id: _ended(position, shards.get(shard_id)) for shard_id, position in lineage.items()}
    floor_us = min((position.since_us for position in known.values()), default=began_us)
    lost: dict[str, int] = {}
    kept: dict[str, ShardPosition] = {}
    for shard_id, position in known.items():
        stale = not position.is_anchored and unread_us > RETENTION_US - SLACK_US
        if not position.finished and (shard_id not in shards or stale):
            lost[shard_id] = position.since_us
        if shard_id in shards:
            kept[shard_id] = position
    for shard in shards.values():
        parent = shard.parent_id
        if shard.shard_id in known:
            continue
        if parent is not None and parent not in shards and parent not in known:
            lost[parent] = floor_us
        since_us = known[parent].since_us if parent is not None and parent in known else floor_us
        kept[shard.shard_id] = ShardPosition(parent, shard.first, None, since_us)
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
    free = (shard_id for shard_id in waiting if lineage[shard_id].parent_id not in waiting)
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
