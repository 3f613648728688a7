"""The shards of a DynamoDB stream: which may be read now, how far each was read, and what was lost. Pure.

A shard takes records for some hours, is closed, and has children that take them from then on; records and closed
shards go after 24 hours. A shard is read before its children. `Lineage` is what a reader has to remember: a place in
each shard that is not behind it yet. Facts: Amazon DynamoDB Developer Guide, "Change data capture for DynamoDB
Streams", and the API reference of DescribeStream and GetShardIterator.

Nothing here knows an iterator: those live fifteen minutes, and a place makes another at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, TypeAlias

RETENTION_US: Final = 24 * 3600 * 1_000_000
"""How long records are kept: none younger than this is trimmed."""

SLACK_US: Final = 3600 * 1_000_000
"""What clocks and the moment of trimming may be off: beyond `RETENTION_US - SLACK_US` a record may be gone."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as DescribeStream lists it. `first` and `last`: sequence numbers of its records; no `last` while open."""

    shard_id: str
    parent_id: str | None = None
    first: str | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a table with its shards. `created_us`: UTC microseconds. `view`: its StreamViewType.

    `running`: it captures changes; one that was switched off can still be read for 24 hours.
    """

    arn: str
    created_us: int
    running: bool
    view: str
    shards: tuple[Shard, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """How far one shard was read.

    `after`: the sequence number up to which (inclusive) it was read. Before that, `start`: the one of its first record;
    with neither, reading begins at whatever is left of it. `since_us`: no record of it that was not read is older
    (UTC microseconds). `finished`: it is closed and was read to its end.
    """

    parent_id: str | None = None
    start: str | None = None
    after: str | None = None
    since_us: int = 0
    finished: bool = False

    @property
    def is_anchored(self) -> bool:
        """Whether the service would say so if records were trimmed between here and the next read."""
        return self.after is not None or self.start is not None

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `Place(**document)` is equal."""
        return asdict(self)


Lineage: TypeAlias = Mapping[str, Place]
"""Shard id to place."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The lineage, updated by a listing. `lost`: shards that lost records to trimming before they were read.

    `lost_since_us`: no lost record is older; None if nothing was lost.
    """

    lineage: Lineage
    lost: tuple[str, ...] = ()
    lost_since_us: int | None = None


def first_sight(listed: Iterable[Shard], began_us: int) -> Lineage:
    """Return the lineage of a stream that was never read, whose records reach back to `began_us`.

    A shard whose parent is still listed is complete and is read from its first record. The others are read from their
    oldest remaining record.
    """
    shards = {shard.shard_id: shard for shard in listed}
    return {
        one.shard_id: Place(one.parent_id, one.first if one.parent_id in shards else None, None, began_us)
        for one in shards.values()
    }


def observe(lineage: Lineage, listed: Iterable[Shard], unread_us: int = 0, began_us: int = 0) -> Observed:
    """Update the lineage of a stream that was read before by a listing.

    New shards are added; those that are finished and not listed any more are forgotten, as nothing asks for them.
    Lost are: a shard that went before it was finished; one that came and went unseen, as a new shard's parent; one
    that was to be read from whatever was left of it, if its records may have been trimmed meanwhile.

    Args:
        unread_us: how long ago the lineage was last looked at.
        began_us: since when the stream is read, where no place says better.
    """
    shards = {shard.shard_id: shard for shard in listed}
    known = {shard_id: _ended(place, shards.get(shard_id)) for shard_id, place in lineage.items()}
    floor_us = min((place.since_us for place in known.values()), default=began_us)
    lost: dict[str, int] = {}
    kept: dict[str, Place] = {}
    for shard_id, place in known.items():
        stale = not place.is_anchored and unread_us > RETENTION_US - SLACK_US
        if not place.finished and (shard_id not in shards or stale):
            lost[shard_id] = place.since_us
        if shard_id in shards:
            kept[shard_id] = place
    for shard in shards.values():
        parent = shard.parent_id
        if shard.shard_id in known:
            continue
        if parent is not None and parent not in shards and parent not in known:
            lost[parent] = floor_us
        since_us = known[parent].since_us if parent is not None and parent in known else floor_us
        kept[shard.shard_id] = Place(parent, shard.first, None, since_us)
    return Observed(kept, tuple(sorted(lost)), min(lost.values(), default=None))


def _ended(place: Place, shard: Shard | None) -> Place:
    """The place, finished if the shard's last record was read."""
    if shard is not None and shard.last is not None and place.after is not None and int(place.after) >= int(shard.last):
        return replace(place, finished=True)
    return place


def readable(lineage: Lineage) -> list[str]:
    """The shards to read now: not finished, no ancestor waiting before them; what is furthest behind comes first."""

    def position(shard_id: str) -> tuple[int, str]:
        place = lineage[shard_id]
        return int(place.after or place.start or 0), shard_id

    waiting = {shard_id for shard_id, place in lineage.items() if not place.finished}
    free = (shard_id for shard_id in waiting if lineage[shard_id].parent_id not in waiting)
    return sorted(free, key=position)


def advanced(lineage: Lineage, shard_id: str, after: str, changed_us: int) -> Lineage:
    """The lineage after a shard was read up to and with the record numbered `after`, a change of `changed_us`."""
    place = lineage[shard_id]
    return {**lineage, shard_id: replace(place, after=after, since_us=max(place.since_us, changed_us))}


def finished(lineage: Lineage, shard_id: str) -> Lineage:
    """The lineage after a closed shard was read to its end."""
    return {**lineage, shard_id: replace(lineage[shard_id], finished=True)}


def quiet(lineage: Lineage, shard_id: str, at_us: int) -> Lineage:
    """The lineage after an open shard had nothing more at the time `at_us`: what it will have is younger."""
    place = lineage[shard_id]
    return {**lineage, shard_id: replace(place, since_us=max(place.since_us, at_us - SLACK_US))}


def restarted(lineage: Lineage, shard_id: str, since_us: int) -> Lineage:
    """The lineage after records of a shard turned out to be trimmed: it goes on from whatever is left."""
    return {**lineage, shard_id: replace(lineage[shard_id], start=None, after=None, since_us=since_us)}
