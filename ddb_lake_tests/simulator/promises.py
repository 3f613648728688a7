"""Which combinations of exports and landed records must give the exact truth, and why.

Section 3 of the design promises an exact result only for what the landed set determines. Below, the *instant* of an
assertion is the last microsecond it contains: T for a full export at T, T2 - 1 µs for an incremental one of [T1, T2).
The *snapshot cutoff* is instant - margin if any record of the table at or before that has landed ("covered"), else the instant,
or just before its second if some landed record is of DynamoDB Streams.
*Declared* time is what the record says, cut down to its precision; *true* time is what it was.

Exact, for a requested instant t (or "after everything"):

1. No export at all, and every change up to t has landed: the table was born empty.
2. A full export at T <= t, not covered: every change after T has landed. Records before T may have landed or not, in
   any selection: none is newer than the snapshot cutoff. T must be *clean*: no change truly after T may declare a time at or
   before it, since it would be in neither the snapshot nor the records that count.
3. A full export at T <= t, covered: of each key, those landed changes that are newer than the snapshot cutoff are the last of
   its history without a gap, and include all that came after the key was read. Repeating those between the snapshot cutoff
   and the snapshot is harmless because the last of them decides; if they all run in closed circuits, nothing changed
   since the snapshot cutoff and the snapshot's own image is right. For the same reason the snapshot may be skewed: each key
   read at another instant, up to a minute from T, if that is clean and not after t.
4. An incremental export of [T1, T2), T2 <= t, takes the place of the snapshot, with T2, for the keys it lists. So the
   stream may have a gap anywhere in [T1, T2) that closes at T2 or before, or may have ended, or never existed. A key it
   does not list though it was written in the window was absent at both ends; what has landed of its changes in the
   window must be the last of them, else an insert whose removal is lost would stay.
5. Several exports in any order of loading: the last one whose instant is not after t decides which of 2 to 4 holds.

Not promised, and never generated: instants inside a declared unit in which something happened after them; one key
written in one second through two kinds of stream, or in one millisecond with two precisions; instants before the first
export, when there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ddb_lake_tests.simulator.exports import Export
from ddb_lake_tests.simulator.model import History


@dataclass(frozen=True)
class Evidence:
    """What has landed of a history. `declared_us` and `landed` follow `history.changes`."""

    history: History
    declared_us: Sequence[int]
    landed: Sequence[bool]
    exports: Sequence[Export]
    clock_skew_us: int
    whole_seconds: bool = False
    """Some landed record is of DynamoDB Streams."""

    @cached_property
    def earliest_us(self) -> int | None:
        """The least declared time of a landed record of the table; None when there is none."""
        return min((us for us, there in zip(self.declared_us, self.landed, strict=True) if there), default=None)

    def snapshot_cutoff_us(self, instant_us: int) -> int:
        """The time after which changes count against an assertion of `instant_us`."""
        covered = self.earliest_us is not None and self.earliest_us <= instant_us - self.clock_skew_us
        if covered:
            return instant_us - self.clock_skew_us
        return instant_us - instant_us % 1_000_000 - 1 if self.whole_seconds else instant_us


def is_clean(history: History, declared_us: Sequence[int], at_us: int) -> bool:
    """Whether declared times put each change on the same side of `at_us` (inclusive) as the true ones."""
    return all(
        (change.time_us <= at_us) == (us <= at_us) for change, us in zip(history.changes, declared_us, strict=True)
    )


def is_exact(evidence: Evidence, at_us: int | None) -> bool:
    """Whether the rules above promise the true items at `at_us`; None: after everything."""
    history = evidence.history
    if at_us is not None and not is_clean(history, evidence.declared_us, at_us):
        return False
    usable = [export for export in evidence.exports if at_us is None or export.instant_us <= at_us]
    fulls = [export for export in usable if export.kind == "full"]
    if evidence.exports and not fulls:
        return False
    snapshot = max(fulls, key=lambda export: export.instant_us, default=None)
    increments = [
        export
        for export in usable
        if export.kind == "incremental" and (snapshot is None or export.instant_us > snapshot.instant_us)
    ]
    return all(_is_key_exact(evidence, text, snapshot, increments, at_us) for text in history.by_key)


def _is_key_exact(
    evidence: Evidence, text: str, snapshot: Export | None, increments: Sequence[Export], at_us: int | None
) -> bool:
    changes, declared_us = evidence.history.changes, evidence.declared_us
    positions = [at for at in evidence.history.by_key[text] if at_us is None or changes[at].time_us <= at_us]
    listing = [export for export in increments if text in export.listed]
    base = max(listing, key=lambda export: export.instant_us, default=snapshot)
    if base is None:
        return all(evidence.landed[at] for at in positions)
    read_us = base.taken_us.get(text, base.instant_us)
    snapshot_cutoff_us = evidence.snapshot_cutoff_us(base.instant_us)
    if at_us is not None and read_us > at_us:
        return False
    if any((changes[at].time_us <= read_us) != (declared_us[at] <= read_us) for at in positions):
        return False
    excused = _excused(evidence, text, increments, read_us)
    counting = [at for at in positions if at not in excused]
    newer = [at for at in counting if declared_us[at] > snapshot_cutoff_us and evidence.landed[at]]
    needed = sum(changes[at].time_us > read_us for at in counting)
    return newer == counting[len(counting) - len(newer) :] and len(newer) >= needed


def _excused(evidence: Evidence, text: str, increments: Sequence[Export], read_us: int) -> set[int]:
    """Changes that may be missing because an incremental export shows, by not listing the key, that it was absent."""
    excused: set[int] = set()
    changes = evidence.history.changes
    for export in increments:
        assert export.from_us is not None
        window = [at for at in evidence.history.by_key[text] if export.from_us <= changes[at].time_us < export.time_us]
        if text in export.listed or not window or changes[window[0]].time_us <= read_us:
            continue
        there = [at for at in window if evidence.landed[at]]
        if there == window[len(window) - len(there) :]:
            excused.update(at for at in window if not evidence.landed[at])
    return excused


def candidate_instants(history: History, position: int, unit_us: int) -> Mapping[str, int]:
    """Instants around the change at `position`, in multiples of `unit_us`: what tends to be hard, by name."""
    changes = history.changes
    if not changes:
        return {"later": 1_772_323_200_000_000}
    time_us = changes[min(position, len(changes) - 1)].time_us
    following_us = changes[position + 1].time_us if position + 1 < len(changes) else time_us + 7_200_000_000
    return {
        "at": -(-time_us // unit_us) * unit_us,
        "just before": (time_us - 1) // unit_us * unit_us,
        "between": (time_us + following_us) // 2 // unit_us * unit_us,
        "second": (time_us // 1_000_000 + 1) * 1_000_000,
        "later": time_us // 1_000_000 * 1_000_000 + 200_000_000,
    }
