"""Continuity: the old image of each change record equals the state that the records before it leave. Pure.

DynamoDB writes both images of a change, so the records of one key are the steps of a trail: each leaves the state before it
and enters the state after it. A step that leaves a state which no step has entered proves that a change record is missing.
The proof reads nothing of the source. An image may be any value that is equal for equal items, such as a digest.

Records of one source (`KeyChange.source`) are judged among themselves. A table that is captured twice has each change twice,
so a break in one source is none if another source leaves and enters the states on both sides of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal, NamedTuple, TypeAlias

Image: TypeAlias = Hashable

NO_ITEM: Image = 0
"""The state of a key without an item, in place of an image."""

SOURCE_SKEW_US = 1_000_000
"""How far the times of one change may differ between two sources: DynamoDB Streams states whole seconds.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_StreamRecord.html
"""

NEAREST_US = 2 * SOURCE_SKEW_US
"""How far the times of records may contradict their sequence numbers."""


class KeyChange(NamedTuple):
    """One change record of a key.

    Attributes:
        source: the ARN of the stream whose sequence numbers order the records; empty if time orders them.
        time_us: the time of the change, UTC microseconds.
        sequence: the sequence number; None if time orders the records.
        before: the image before the change; `NO_ITEM` for an insert, None if it is not known.
        after: the image after the change; `NO_ITEM` for a removal.
        identified: the record has an event id, so another record with the same images is another change.
    """

    source: str
    time_us: int
    sequence: int | None
    before: Image | None
    after: Image
    identified: bool = True


@dataclass(frozen=True, slots=True)
class Break:
    """A place at which at least one change record of a key is missing.

    Attributes:
        from_us: the time of the last record before it (inclusive), UTC microseconds.
        to_us: the time of the first record after it (inclusive).
        left: the possible states after the last record before it.
        entered: the possible states before the first record after it.
        restated: a full export states the key after the break, so that the row of the key is right.
    """

    from_us: int
    to_us: int
    left: frozenset[Image] = frozenset()
    entered: frozenset[Image] = frozenset()
    restated: bool = False


@dataclass(frozen=True, slots=True)
class ExportedItem:
    """What a full export states about a key: `image` at `export_us`, give or take `clock_skew_us`.

    `until_us`: for a scan, which reads an item at any time from `export_us` until then; None for an export.
    """

    image: Image
    export_us: int
    clock_skew_us: int
    until_us: int | None = None


def key_breaks(changes: Iterable[KeyChange], several_sources: bool = False) -> list[Break]:
    """The breaks in the records of one key.

    Args:
        changes: sorted by source, then by sequence number, or by time without one.
        several_sources: whether the records may come from several sources. If not, `changes` is read once and not kept.
    """
    if not several_sources:
        return list(_trail_breaks(changes))
    sources = {name: list(members) for name, members in groupby(changes, key=lambda change: change.source)}
    return [
        found
        for name, members in sources.items()
        for found in _trail_breaks(members)
        if not _continued(found, [c for other, others in sources.items() if other != name for c in others])
    ]


def export_breaks(exported: ExportedItem, changes: Sequence[KeyChange]) -> list[Break]:
    """The breaks between a full export and the records of one key before and after it; none if they cannot be judged.

    The export may have read the item up to the clock skew allowance before or after its time. So its image must be the state
    after the last record before that time span, or a state on either side of a record within it. If there is no record
    within, it must also be the state before the first record after it.

    Args:
        exported: the image in the export.
        changes: the records of the key, in any order: at least the last ones before the time span, all within, and the
            first ones after it, including those that are up to `NEAREST_US` from the last or the first one.
    """
    until_us = exported.export_us if exported.until_us is None else exported.until_us
    low, high = exported.export_us - exported.clock_skew_us, until_us + exported.clock_skew_us
    earlier = [c for c in changes if c.time_us < low]
    within = [c for c in changes if low <= c.time_us <= high]
    later = [c for c in changes if c.time_us > high]
    if any(c.before is None for c in within):
        return []
    found: list[Break] = []
    image = frozenset((exported.image,))
    last_us = max((c.time_us for c in earlier), default=low)
    states = {c.after for c in _nearest(earlier, last_us, max)}
    states |= {c.after for c in within} | {c.before for c in within if c.before is not None}
    if states and exported.image not in states:
        to_us = high if within else exported.export_us
        found.append(Break(last_us, to_us, frozenset(states), image, restated=not within))
    if later and not within:
        first_us = min(c.time_us for c in later)
        first = {c.before for c in _nearest(later, first_us, min)}
        if None not in first and exported.image not in first:
            found.append(Break(low, first_us, image, frozenset(b for b in first if b is not None)))
    return found


def _nearest(changes: Sequence[KeyChange], edge_us: int, edge: Callable[[Iterable[int]], int]) -> Iterator[KeyChange]:
    """The changes that may be the last of all (`edge`: max) or the first (min). `edge_us`: that of their times."""
    near: dict[str, list[tuple[int, KeyChange]]] = defaultdict(list)
    for change in changes:
        if change.sequence is not None and abs(change.time_us - edge_us) <= NEAREST_US:
            near[change.source].append((change.sequence, change))
        elif change.sequence is None and change.time_us == edge_us:
            yield change
    for members in near.values():
        place = edge(sequence for sequence, _ in members)
        yield from (change for sequence, change in members if sequence == place)


# --- the trail of one source


class _Trail:
    """The state of a key while its records are read in order.

    `states`: the possible states; None if nothing is known. `since_us`: the time of the last record that alone shows these
    states. If earlier records narrow the states after an instant, a change may be missing since those records.
    """

    def __init__(self) -> None:
        self.states: frozenset[Image] | None = None
        self.since_us = 0

    def step(self, change: KeyChange) -> Break | None:
        """Follow one record that alone has its place in the order."""
        states, since_us = self.states, self.since_us
        self.states, self.since_us = frozenset((change.after,)), change.time_us
        if states is None or change.before is None or change.before in states:
            return None
        return _break(since_us, change.time_us, states, frozenset((change.before,)))

    def steps(self, changes: Sequence[KeyChange]) -> Break | None:
        """Follow records of one instant, whose order is not known."""
        walks, distinct = [_Walk.of(changes)], _without_repeated(changes)
        if len(distinct) < len(changes):
            walks.append(_Walk.of(distinct))
        trails = [walk for walk in walks if walk.is_trail]
        states, since_us, time_us = self.states, self.since_us, max(c.time_us for c in changes)
        any_end: frozenset[Image] = frozenset().union(*(trail.end(None) for trail in trails))
        self.states, self.since_us = any_end or None, time_us
        if not trails:
            return Break(time_us, time_us, frozenset(walks[0].ends), frozenset(walks[0].starts))
        followed = [trail.end(states) for trail in trails if trail.follows(states)]
        if not followed:
            assert states is not None, "any trail follows a state that is not known"
            return _break(since_us, time_us, states, trails[0].begins)
        self.states = frozenset().union(*followed)
        if self.states != any_end:
            self.since_us = since_us
        return None


def _break(from_us: int, to_us: int, left: frozenset[Image], entered: frozenset[Image]) -> Break:
    """A break between two times, which sequence numbers may have put in the reverse order."""
    return Break(min(from_us, to_us), max(from_us, to_us), left, entered)


@dataclass(frozen=True, slots=True)
class _Walk:
    """The records of one instant as edges between images: which ends are entered more often than left, and the reverse.

    `unknown`: the number of records without an old image. `befores`, `afters`: all images on either side. `connected`: each
    image can be reached from each other one, in either direction; true if old images are unknown.
    """

    starts: tuple[Image, ...]
    ends: tuple[Image, ...]
    unknown: int
    befores: frozenset[Image]
    afters: frozenset[Image]
    connected: bool

    @classmethod
    def of(cls, changes: Sequence[KeyChange]) -> _Walk:
        balance: Counter[Image] = Counter()
        for change in changes:
            balance[change.after] += 1
            if change.before is not None:
                balance[change.before] -= 1
        return cls(
            starts=tuple(image for image, entered in balance.items() for _ in range(-entered)),
            ends=tuple(image for image, entered in balance.items() for _ in range(entered)),
            unknown=sum(c.before is None for c in changes),
            befores=frozenset(c.before for c in changes if c.before is not None),
            afters=frozenset(c.after for c in changes),
            connected=_is_connected(changes),
        )

    @property
    def is_trail(self) -> bool:
        """Whether one trail can have all these edges: Euler's condition. Each unknown old image may add an end."""
        return self.connected and len(self.starts) <= 1 and len(self.ends) <= 1 + self.unknown

    @property
    def begins(self) -> frozenset[Image]:
        """The images at which the trail can begin, if all old images are known: any of a closed trail."""
        return frozenset(self.starts) or self.befores

    def follows(self, states: frozenset[Image] | None) -> bool:
        """Whether the trail can begin in one of the states."""
        return states is None or self.unknown > 0 or not states.isdisjoint(self.begins)

    def end(self, states: frozenset[Image] | None) -> frozenset[Image]:
        """The possible states after the trail. A closed trail ends where it began."""
        if self.unknown:
            return self.afters
        if self.ends:
            return frozenset(self.ends)
        return self.befores if states is None else states & self.befores


def _trail_breaks(changes: Iterable[KeyChange]) -> Iterator[Break]:
    """The breaks in the records of one key from one source, in order."""
    trail = _Trail()
    for _, members in groupby(changes, key=lambda c: c.time_us if c.sequence is None else c.sequence):
        group = list(members)
        found = trail.step(group[0]) if len(group) == 1 else trail.steps(group)
        if found is not None:
            yield found


def _is_connected(changes: Sequence[KeyChange]) -> bool:
    if any(c.before is None for c in changes):
        return True
    parts: list[set[Image | None]] = []
    for change in changes:
        ends: set[Image | None] = {change.before, change.after}
        joined = [part for part in parts if not part.isdisjoint(ends)]
        parts = [part for part in parts if part.isdisjoint(ends)] + [ends.union(*joined)]
    return len(parts) == 1


def _without_repeated(changes: Sequence[KeyChange]) -> list[KeyChange]:
    """The records, those with the same images as one before them left out unless both have an event id.

    Without event ids, two equal records may be one change that was delivered twice, or two changes.
    """
    kept: dict[tuple[Image | None, Image], list[KeyChange]] = {}
    for change in changes:
        same = kept.setdefault((change.before, change.after), [])
        if not same or (change.identified and all(other.identified for other in same)):
            same.append(change)
    return [change for same in kept.values() for change in same]


def _continued(found: Break, others: Iterable[KeyChange]) -> bool:
    """Whether records of other sources leave the state before a break and enter the state after it, at about its time."""
    low, high = found.from_us - SOURCE_SKEW_US, found.to_us + SOURCE_SKEW_US
    near = [c for c in others if low <= c.time_us <= high]
    return any(c.before in found.left for c in near) and any(c.after in found.entered for c in near)


# --- what explains a break


Explanation: TypeAlias = Literal["missing", "repaired", "restated", "known gap", "quarantined", "asserted", "discarded"]
"""What is known about the change record that a break proves to be missing.

missing: nothing is known; rows may be wrong. repaired: a gap was recorded at that time, and an export has repaired it.
restated: a later full export states the items, so rows are right, and the history of the key lacks the change. known gap: a
gap of another kind is open at that time. quarantined: bytes that landed at that time are in the quarantine. asserted: an
incremental export or a repair states the item after the missing change. discarded: as quarantined, and the entries were discarded.
"""

HOUR_US = 3_600_000_000

DELIVERY_US = 24 * HOUR_US
"""How much later than its changes an object may land: Firehose retries a delivery to S3 for up to 24 hours.

https://docs.aws.amazon.com/firehose/latest/dev/retry.html
"""


@dataclass(frozen=True, slots=True)
class KnownFaults:
    """What is known about the time in which change records may be missing. Times are UTC microseconds.

    Attributes:
        repaired: the repaired gaps: begin (inclusive) and end (exclusive).
        open: the open gaps of other kinds than `discontinuous`, likewise.
        quarantined_hours: the hours in which objects landed that have open entries in the quarantine.
        discarded_hours: the hours in which objects landed that have discarded entries.
        restated_us: breaks that end at or before it (inclusive) are before a full export; None without an export.
    """

    repaired: tuple[tuple[int, int], ...] = ()
    open: tuple[tuple[int, int], ...] = ()
    quarantined_hours: tuple[int, ...] = ()
    discarded_hours: tuple[int, ...] = ()
    restated_us: int | None = None


def explain(found: Break, asserted_us: Iterable[int], faults: KnownFaults) -> Explanation:
    """The explanation of a break.

    A gap explains each break that it meets: the records of a key around a gap are earlier and later than the gap.

    Args:
        found: the break.
        asserted_us: the times at which incremental exports and repairs state the item of the key.
        faults: what is known about the table.
    """
    if _meets(found, faults.repaired):
        return "repaired"
    if found.restated or (faults.restated_us is not None and found.to_us <= faults.restated_us):
        return "restated"
    if _meets(found, faults.open):
        return "known gap"
    if _may_have_landed(found, faults.quarantined_hours):
        return "quarantined"
    if any(found.from_us < us <= found.to_us for us in asserted_us):
        return "asserted"
    return "discarded" if _may_have_landed(found, faults.discarded_hours) else "missing"


def _may_have_landed(found: Break, hours: Iterable[int]) -> bool:
    return any(hour < found.to_us + DELIVERY_US and found.from_us < hour + HOUR_US for hour in hours)


def _meets(found: Break, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(low <= found.to_us and found.from_us < high for low, high in ranges)


@dataclass(frozen=True, slots=True)
class Examined:
    """An examination that found no break, so that the next one judges only keys with later records.

    Attributes:
        batch: the last batch of the changelog that was examined (inclusive).
        since_us: the time of the earliest changes that were examined, UTC microseconds; None for all.
        export: the id of the full export that the changes were compared with; None without one.
    """

    batch: int
    since_us: int | None
    export: str | None

    def covers(self, since_us: int | None, export: str | None) -> bool:
        """Whether an examination of the changes since `since_us` and of this export needs only later batches."""
        reaches = self.since_us is None or (since_us is not None and since_us >= self.since_us)
        return reaches and self.export == export

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Examined:
        """The inverse of `to_json`."""
        return cls(**document)
