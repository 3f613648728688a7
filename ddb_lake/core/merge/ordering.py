"""Decides which assertion about a key wins, by a total order that depends on the set of assertions and not on arrival.

`docs/explanation/ordering.md` has the rules. `engine.merge_plan` applies them in SQL to many keys at once, and calls `winner`
only for ties. In short:

- The newest snapshot is the base. A change record at or before its snapshot cutoff never wins over it.
- A line of an incremental export or of a repair counts as a change at the time `assertion_us`.
- Among these the greatest time wins. Within one stream of DynamoDB Streams the sequence number is compared before the time.
- Equal times are decided by the trail of images, then by the Kinesis sequence number, then by the record id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ABSENT = b""
"""The state of a key without an item, in place of an image."""

DEFAULT_CLOCK_SKEW_US = 5 * 60 * 1_000_000
"""The default clock skew allowance: how far an export's times may differ from those of change records.

DynamoDB documents that an export's times can be off by up to one minute.
"""


_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Version:
    """One assertion about one key, reduced to what the order needs.

    `before` and `after` are canonical images, or `ABSENT` if there is no item. `before` is None if it is not known.
    `time_us` is the change time; for a line of an incremental export or of a repair it is `assertion_us`. `asserted_us` is
    the time at which such a line states the item; None for change records.
    """

    record_id: str
    time_us: int
    after: bytes
    before: bytes | None = None
    stream: str | None = None
    sequence: int | None = None
    kinesis_sequence: int | None = None
    asserted_us: int | None = None


def snapshot_cutoff_us(
    export_us: int,
    first_change_us: int | None,
    clock_skew_us: int = DEFAULT_CLOCK_SKEW_US,
    *,
    whole_seconds: bool = False,
) -> int:
    """The time at or before which no change record wins over a snapshot taken at `export_us`.

    `export_us - clock_skew_us` if the first change is at or before that time; otherwise `export_us`. In the second case, a
    change later in the second of `export_us` has a time before it if times are whole seconds. So all records of that
    second count.

    Args:
        export_us: the time of the snapshot.
        first_change_us: the least time of the table's change records; None without any.
        clock_skew_us: the clock skew allowance.
        whole_seconds: whether some records are of DynamoDB Streams, whose times are whole seconds.
    """
    if first_change_us is not None and first_change_us <= export_us - clock_skew_us:
        return export_us - clock_skew_us
    return export_us // _SECOND_US * _SECOND_US - 1 if whole_seconds else export_us


def assertion_us(written_us: int, asserted_us: int, clock_skew_us: int = DEFAULT_CLOCK_SKEW_US) -> int:
    """The time by which a line of an incremental export or of a repair is ordered: only later changes win over the line.

    The line wins over a snapshot's row if `asserted_us` is later than the time of the snapshot.

    The line states that the last write before `asserted_us` (exclusive) was at `written_us`. A change record between the two
    contradicts the line, unless the clocks differ. So such a record wins if it is within the clock skew allowance before
    `asserted_us`, and loses if it is earlier.
    """
    return max(written_us, asserted_us - clock_skew_us)


def winner(versions: Sequence[Version], base: Callable[[], bytes]) -> Version:
    """The version that determines what the item is now.

    `versions` are those of one key that can win over the base, at least one. `base` returns the snapshot's canonical image
    of the key, or `ABSENT`. It is called only if the records of one instant form a closed trail: the records alone do not
    show where such a trail began.
    """
    groups: dict[int, list[Version]] = defaultdict(list)
    for version, time_us in _effective_times(_distinct(versions)):
        groups[time_us].append(version)
    latest = max(groups)
    return _last(groups[latest], lambda: _state_before(latest, groups, base))


def _distinct(versions: Sequence[Version]) -> list[Version]:
    """One version for each record. Of several deliveries, it is the one with the least Kinesis sequence number."""
    found: dict[str, Version] = {}
    for version in versions:
        other = found.get(version.record_id)
        if other is None or _delivery(version) < _delivery(other):
            found[version.record_id] = version
    return list(found.values())


def _delivery(version: Version) -> tuple[bool, int]:
    return version.kinesis_sequence is None, version.kinesis_sequence or 0


def _effective_times(versions: Sequence[Version]) -> list[tuple[Version, int]]:
    """Each version and its effective time: its time, but in a stream no less than that of any lower sequence number."""
    timed = [(version, version.time_us) for version in versions if version.sequence is None]
    streams: dict[str | None, list[Version]] = defaultdict(list)
    for version in versions:
        if version.sequence is not None:
            streams[version.stream].append(version)
    for members in streams.values():
        latest = min(version.time_us for version in members)
        for version in sorted(members, key=lambda v: (v.sequence, v.time_us, v.record_id)):
            latest = max(latest, version.time_us)
            timed.append((version, latest))
    return timed


def _state_before(time_us: int, groups: dict[int, list[Version]], base: Callable[[], bytes]) -> bytes:
    """The image of the key before the group at `time_us`: that after the previous group, or the snapshot's.

    To decide a group, the image before that group may be needed in turn. So the loops first go back to a group that is
    decided without it, or to the snapshot, and then forward to `time_us`.
    """
    open_groups: list[int] = []
    state: bytes | None = None
    for earlier in sorted((t for t in groups if t < time_us), reverse=True):
        ends = _ends(groups[earlier])
        if len(ends) == 1 or _decides_alone(groups[earlier]):
            state = _last(groups[earlier], lambda: ABSENT).after
            break
        open_groups.append(earlier)
    if state is None:
        state = base()
    for earlier in reversed(open_groups):
        known = state
        state = _last(groups[earlier], lambda known=known: known).after  # type: ignore[misc]
    return state


def _decides_alone(group: Sequence[Version]) -> bool:
    return len(group) == 1 or any(v.asserted_us is not None for v in group) or len({v.after for v in group}) == 1


def _last(group: Sequence[Version], state_before: Callable[[], bytes]) -> Version:
    """The last of the versions of one instant."""
    assertions = [v for v in group if v.asserted_us is not None]
    if assertions:
        return max(assertions, key=lambda v: (v.asserted_us, v.record_id))
    if len(group) == 1:
        return group[0]
    candidates = _without_superseded(group)
    if len(candidates) > 1:
        ends = _ends(group)
        if not ends:
            before = state_before()
            ends = {before} if any(v.after == before for v in candidates) else set()
        candidates = [v for v in candidates if v.after in ends] or candidates
    return max(candidates, key=lambda v: (v.kinesis_sequence if v.kinesis_sequence is not None else -1, v.record_id))


def _without_superseded(group: Sequence[Version]) -> list[Version]:
    """The versions that have no successor in their stream. Only the last of a stream can be the last of all."""
    last: dict[str | None, Version] = {}
    for version in group:
        if version.sequence is not None:
            best = last.get(version.stream)
            if best is None or (version.sequence, version.time_us, version.record_id) > (
                best.sequence or 0,
                best.time_us,
                best.record_id,
            ):
                last[version.stream] = version
    return [v for v in group if v.sequence is None or last[v.stream] is v]


def _ends(group: Sequence[Version]) -> set[bytes]:
    """The images at which the trail of these changes can end. Empty if the trail is closed.

    Each change leaves the image before it and enters the image after it. So the changes of one key are the edges of a trail
    through its images, and the image at the end of the trail is entered once more than it is left.
    """
    balance: Counter[bytes] = Counter()
    for version in group:
        balance[version.after] += 1
        if version.before is not None:
            balance[version.before] -= 1
    return {image for image, entered in balance.items() if entered > 0}
