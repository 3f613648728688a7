"""Conservation of records: what a service counted on the way to the lake, against what the lake has ingested. Pure.

Two services count: Kinesis the records that it accepted, Firehose the records that it delivered to S3. The lake has, for each
landed object, its arrival hour, its number of records and the time it was written. Both are compared cumulatively, hour by
hour, *from below*. The records of the objects of the hours up to the end of an hour are at least the records that were
counted up to then, because the name of an object has the arrival of its oldest record.

What the lake has beyond the count at the end of an hour is the surplus. A surplus is records of the next hour in objects of
this one, so it is at most what those objects have that were written after the end of the hour (`HourInLake.open_records`). What
is above that is duplicates, such as those of a failover of Firehose, and is not carried on: it would hide the loss of as many
records later. A negative surplus is a shortage.

Times are UTC microseconds. An hour is named by its first instant, and ends (exclusive) `HOUR_US` later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

HOUR_US: Final = 3_600_000_000

LONGEST_BUFFER_US: Final = 900_000_000
"""Firehose buffers for at most 15 minutes: https://docs.aws.amazon.com/firehose/latest/dev/buffering-hints.html"""

LONGEST_OFFSET_US: Final = 15 * HOUR_US
"""More than the greatest distance of local time from UTC."""

_DELIVERY_SLACK_US: Final = 300_000_000
"""Firehose may write an object some minutes after it stopped buffering."""

LEAST_SHORTAGE: Final = 10
SHORTAGE_SHARE: Final = 0.0001
"""A shortage of at most so many records, or of this share of the records counted, is left to the counting of CloudWatch."""

MINUTE_SHARE: Final = 1 / 60
"""Services count by the minute. So much of an hour's records may be counted before the end of an hour, and land after it."""

EXCESS_SHARE: Final = 0.01
"""Duplicates above this share are reported."""


@dataclass(frozen=True, slots=True)
class HourInLake:
    """The ingested objects of one arrival hour.

    `records`: their records. `open_records`: the records of all objects up to this hour that were written after its end.
    """

    records: int = 0
    open_records: int = 0


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of an hour up to which every count balanced.

    `surplus`: what the lake had beyond each count then, by the name of the count.
    """

    until_us: int
    surplus: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal anchor."""
        return {"until_us": self.until_us, "surplus": dict(self.surplus)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Anchor:
        """The inverse of `to_json`."""
        return cls(document["until_us"], document["surplus"])


@dataclass(frozen=True, slots=True)
class Shortage:
    """Records that were counted from `from_us` (inclusive) to `to_us` (exclusive) and that the lake has not: `missing`."""

    from_us: int
    to_us: int
    missing: int


@dataclass(frozen=True, slots=True)
class Balance:
    """One count against the lake, from the anchor to the end of the last hour.

    Attributes:
        counted: the records that the service counted.
        held: the records of the lake's objects of these hours.
        shortages: where the lake has fewer, and no repair covers it.
        repaired: the number of missing records that repaired gaps cover.
        excess: the records of the lake that are certainly duplicates.
        surplus: by the end of each hour, what the lake had beyond the count.
    """

    counted: int
    held: int
    shortages: tuple[Shortage, ...] = ()
    repaired: int = 0
    excess: int = 0
    surplus: Mapping[int, int] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """The records of all shortages."""
        return sum(shortage.missing for shortage in self.shortages)

    def has_duplicates(self, uncounted: int = 0) -> bool:
        """Whether the lake has notably more records than were counted, apart from `uncounted` ones."""
        return self.excess - uncounted > max(LEAST_SHORTAGE, EXCESS_SHARE * self.counted)


def balance(
    hours: Sequence[int],
    counted: Mapping[int, int],
    lake: Mapping[int, HourInLake],
    surplus: int | None,
    repaired: Iterable[tuple[int, int]] = (),
) -> Balance:
    """Compare a count with the lake, hour by hour.

    Args:
        hours: the hours to compare, without a hole, in order. The first follows the anchor.
        counted: by hour, the records that a service counted; an hour that is absent has none.
        lake: by hour, what the lake has ingested; an hour that is absent has nothing. If `surplus` is not known, it has the
            hour before the first one too.
        surplus: what the lake had beyond the count at the anchor. None if that is not known: then it may be as much as the
            `open_records` there.
        repaired: the ranges of gaps that exports repaired. A shortage within one is explained.
    """
    ranges = tuple(repaired)
    shortages: list[Shortage] = []
    found: dict[int, int] = {}
    missing_repaired = excess = since_counted = short_hours = 0
    balanced_us = hours[0] if hours else 0
    assumed = lake.get(balanced_us - HOUR_US, HourInLake()).open_records if surplus is None else 0
    surplus = assumed if surplus is None else surplus
    for hour in hours:
        end, here, count = hour + HOUR_US, lake.get(hour, HourInLake()), counted.get(hour, 0)
        surplus += here.records - count
        since_counted += count
        allowed = max(LEAST_SHORTAGE, SHORTAGE_SHARE * since_counted)
        short_hours = short_hours + 1 if surplus < -allowed else 0
        if short_hours > 1 or surplus < -(allowed + MINUTE_SHARE * count):
            shortage = Shortage(balanced_us, end, -surplus)
            if _is_covered(shortage, ranges):
                missing_repaired += shortage.missing
                surplus = here.open_records
            else:
                shortages.append(shortage)
                surplus = 0
            short_hours = 0
        elif surplus > here.open_records:
            cut = surplus - here.open_records
            excess += max(0, cut - assumed)  # what was only assumed may be none
            assumed = max(0, assumed - cut)
            surplus = here.open_records
        if surplus >= 0:
            balanced_us, since_counted = end, 0
        found[end] = surplus
    held = sum(lake.get(hour, HourInLake()).records for hour in hours)
    total = sum(counted.get(hour, 0) for hour in hours)
    return Balance(total, held, tuple(shortages), missing_repaired, excess, found)


@dataclass(frozen=True, slots=True)
class LandedObject:
    """An ingested object as the ledger has it. `landed_us`: when it was written; None if that is not known."""

    uri: str
    records: int
    hour_us: int
    landed_us: int | None


def hours_in_lake(objects: Iterable[LandedObject], hours: Sequence[int]) -> dict[int, HourInLake]:
    """What the lake has of each of some hours. An object that landed again under its name counts once, with its most records.

    The hour in an object's name may be local time. One that is later than the object was written, or that is always hours
    earlier, is not used: an object that was written in the first `LONGEST_BUFFER_US` of an hour counts as one of the hour before.
    """
    by_uri: dict[str, LandedObject] = {}
    for found in objects:
        known = by_uri.get(found.uri)
        if known is None or found.records > known.records:
            by_uri[found.uri] = found
    behind = _is_behind_utc(by_uri.values())
    records, opened = dict.fromkeys(hours, 0), dict.fromkeys(hours, 0)
    for one in by_uri.values():
        landed_us = one.hour_us + 2 * HOUR_US if one.landed_us is None else one.landed_us
        local = behind or 0 < one.hour_us - landed_us < LONGEST_OFFSET_US
        hour = (landed_us - LONGEST_BUFFER_US) // HOUR_US * HOUR_US if local else one.hour_us
        if hour in records:
            records[hour] += one.records
        for end in range(hour + HOUR_US, min(landed_us, max(hours, default=hour) + HOUR_US + 1), HOUR_US):
            if end - HOUR_US in opened:
                opened[end - HOUR_US] += one.records
    return {hour: HourInLake(records[hour], opened[hour]) for hour in hours}


def _is_behind_utc(objects: Iterable[LandedObject]) -> bool:
    """Whether the hours in the names of all objects are behind the time at which they were written, by a time zone."""
    delays_us = [o.landed_us - o.hour_us for o in objects if o.landed_us is not None and o.landed_us >= o.hour_us]
    return bool(delays_us) and HOUR_US + LONGEST_BUFFER_US + _DELIVERY_SLACK_US < min(delays_us) < LONGEST_OFFSET_US


def next_anchor(balances: Mapping[str, Balance], before_us: int, anchor: Anchor) -> Anchor:
    """The newest end of an hour at or before `before_us` up to which every count balances; `anchor` without any."""
    limit = min(
        (shortage.from_us for found in balances.values() for shortage in found.shortages[:1]), default=before_us
    )
    ends = [
        {end for end, surplus in found.surplus.items() if surplus >= 0 and end <= min(limit, before_us)}
        for found in balances.values()
    ]
    common = set.intersection(*ends) if ends else set()
    if not common or max(common) <= anchor.until_us:
        return anchor
    until_us = max(common)
    return Anchor(until_us, {name: found.surplus[until_us] for name, found in balances.items()})


def hours_between(from_us: int, to_us: int) -> list[int]:
    """The whole hours from `from_us`, which is the end of one, to `to_us` (exclusive)."""
    return list(range(from_us, to_us - HOUR_US + 1, HOUR_US))


def _is_covered(shortage: Shortage, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether repaired ranges together cover the time of a shortage."""
    reached = shortage.from_us
    for low, high in sorted(ranges):
        if low <= reached:
            reached = max(reached, high)
    return reached >= shortage.to_us
