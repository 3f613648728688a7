"""Gaps: time ranges from which change records may be missing, and how they are repaired. Pure.

A gap is half-open: `from_us` inclusive, `to_us` exclusive, UTC microseconds. Loading an export that states every key that changed in
the range repairs it: an incremental export of the range, or a full export taken after it. A repaired range stays
repaired: a detector that reports it again opens no new gap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, TypeAlias

GapKind: TypeAlias = Literal[
    "stream_off", "stream_changed", "precision_changed", "too_large", "trimmed", "discontinuous", "lost"
]
"""Why records may be missing.

stream_off: the table's stream was disabled or not active. stream_changed: its ARN changed. precision_changed: the unit of its
times changed. too_large: records over the Kinesis limit were skipped. trimmed: DynamoDB Streams dropped records older than 24
hours before they were read. discontinuous: the old image of a record differs from the state before it
(`core.verify.continuity`). lost: any other reason.
"""

ALWAYS_US: Final = -(1 << 62)
"""Earlier than any instant: the beginning of the range that a full export repairs."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One time range. `reason`: a sentence without item values. `repaired_by`: the id of an export, None if the gap is open."""

    kind: GapKind
    from_us: int
    to_us: int
    reason: str
    detected_us: int
    repaired_by: str | None = None

    def __post_init__(self) -> None:
        if self.from_us >= self.to_us:
            raise ValueError("a gap ends after it begins")

    @property
    def is_open(self) -> bool:
        """Whether it is not repaired."""
        return self.repaired_by is None

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal gap."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Gap:
        """The inverse of `to_json`."""
        return cls(**document)


@dataclass(frozen=True, slots=True)
class Observation:
    """The state of the source's stream at `seen_us`. `stream`: its ARN, None without one. `status`: ACTIVE if it runs.

    `failures_us`: the end (exclusive) of the time for which the counts of records that could not be replicated were read.
    """

    stream: str | None
    status: str
    precision: str | None
    seen_us: int
    failures_us: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether changes are being captured."""
        return self.stream is not None and self.status in ("ACTIVE", "UPDATING")

    def to_json(self) -> dict[str, Any]:
        """A JSON document from which `from_json` gives an equal observation."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Observation:
        """The inverse of `to_json`."""
        return cls(**document)


def gap_between(before: Observation, after: Observation) -> Gap | None:
    """The gap between two observations of one table's stream; None if it ran all the time.

    If the stream is off now, `before` is the last time at which it is known to have run. A stream with another ARN began at
    some instant between the two.
    """
    if before.stream is None and after.stream is None:
        return None  # there was no stream
    time_range = before.seen_us, after.seen_us + 1
    if not after.is_running:
        return Gap("stream_off", *time_range, f"the stream of changes is {after.status}", after.seen_us)
    if not before.is_running:
        return Gap("stream_off", *time_range, f"the stream of changes was {before.status}", after.seen_us)
    if before.stream != after.stream:
        return Gap("stream_changed", *time_range, "the stream of changes is another one than before", after.seen_us)
    if before.precision != after.precision:
        reason = f"the precision of times went from {before.precision} to {after.precision}"
        return Gap("precision_changed", *time_range, reason, after.seen_us)
    return None


def add_gap(gaps: Iterable[Gap], added: Gap) -> tuple[Gap, ...]:
    """`gaps` with a new gap, without the parts of it that are repaired.

    Open gaps of one kind that overlap or touch become one, with the earliest detection and the newest reason: a detector
    may report a growing range any number of times. Adding the same gap twice changes nothing.
    """
    merged = tuple(gaps)
    repaired = [(g.from_us, g.to_us) for g in merged if not g.is_open]
    for low, high in _without((added.from_us, added.to_us), repaired):
        merged = _merged(merged, replace(added, from_us=low, to_us=high))
    return _sorted(merged)


def new_gaps(before: Iterable[Gap], gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """The gaps that were detected since `before`. A gap that grew or was repaired in part is not new."""
    known = {(gap.kind, gap.detected_us) for gap in before}
    return tuple(gap for gap in gaps if (gap.kind, gap.detected_us) not in known)


def repaired_gaps(gaps: Iterable[Gap], from_us: int, to_us: int, repaired_by: str) -> tuple[Gap, ...]:
    """`gaps` after [from_us, to_us) was repaired: open gaps inside are closed, and those that reach beyond are cut."""
    kept: list[Gap] = []
    for gap in gaps:
        low, high = max(gap.from_us, from_us), min(gap.to_us, to_us)
        if not gap.is_open or low >= high:
            kept.append(gap)
            continue
        kept.append(replace(gap, from_us=low, to_us=high, repaired_by=repaired_by))
        kept += [
            replace(gap, from_us=left, to_us=right) for left, right in _without((gap.from_us, gap.to_us), [(low, high)])
        ]
    return _sorted(kept)


def open_ranges(gaps: Iterable[Gap], clock_skew_us: int = 0) -> list[tuple[int, int]]:
    """The open time ranges of all kinds, each extended by `clock_skew_us` at its end, united if they overlap or touch.

    They are not extended at the beginning: an incremental export does not list an item that was inserted and removed within
    its window. An export that began earlier would not list an item whose insert was received and whose remove was lost.
    """
    return united_ranges((g.from_us, g.to_us + clock_skew_us) for g in gaps if g.is_open)


def united_ranges(ranges: Iterable[tuple[int, int]], distance_us: int = 0) -> list[tuple[int, int]]:
    """Time ranges in order, united if they overlap, touch, or are at most `distance_us` apart."""
    united: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if united and low <= united[-1][1] + distance_us:
            united[-1] = (united[-1][0], max(high, united[-1][1]))
        else:
            united.append((low, high))
    return united


def _merged(gaps: tuple[Gap, ...], found: Gap) -> tuple[Gap, ...]:
    near = [
        g for g in gaps if g.is_open and g.kind == found.kind and g.from_us <= found.to_us and found.from_us <= g.to_us
    ]
    if any(g.from_us <= found.from_us and found.to_us <= g.to_us for g in near):
        return gaps
    whole = replace(
        found,
        from_us=min(g.from_us for g in [found, *near]),
        to_us=max(g.to_us for g in [found, *near]),
        detected_us=min(g.detected_us for g in [found, *near]),
    )
    return (*(g for g in gaps if g not in near), whole)


def _without(time_range: tuple[int, int], taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of a time range that no range of `taken` covers."""
    left, low = [], time_range[0]
    for begin, end in sorted(taken):
        if end <= low or begin >= time_range[1]:
            continue
        if begin > low:
            left.append((low, begin))
        low = max(low, end)
    if low < time_range[1]:
        left.append((low, time_range[1]))
    return left


def _sorted(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    return tuple(sorted(gaps, key=lambda g: (g.from_us, g.to_us, g.kind, g.repaired_by or "", g.detected_us, g.reason)))
