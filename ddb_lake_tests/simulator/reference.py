"""The winner rule of the design (section 3), as simply as possible: quadratic, in memory, over the landed set.

It knows nothing of the true history: only exports and change records as read back from their bytes. Where the landed
set does not determine (see `promises`), it still decides, by the same total order for any order of its input.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ddb_lake.core.values.change_record import ChangeRecord, Item
from ddb_lake_tests.simulator.model import Items, item_text, key_of, key_text


@dataclass(frozen=True)
class ReadExport:
    """An export as read back. `items` of a full one; of an incremental one, `lines`: (key, new image or None).

    `instant_us` is the last microsecond it contains: exportTime, or exportToTime less one. `written_us`: of each line,
    when the key was last written.
    """

    instant_us: int
    full: bool
    items: tuple[Item, ...] = ()
    lines: tuple[tuple[Item, Item | None], ...] = ()
    written_us: tuple[int, ...] = ()


@dataclass(frozen=True)
class Assertion:
    """What an export says of one key."""

    instant_us: int
    image: Item | None


Expired: TypeAlias = dict[str, set[tuple[str, int] | None]]
"""Key text to what may be kept of an expired item: its image (`item_text`) and when it expired; None is nothing.

More than one only if several removals of one instant were the last, and no record states which of them was.
"""


def reference_current(
    exports: Iterable[ReadExport],
    records: Iterable[ChangeRecord],
    clock_skew_us: int,
    key_names: Sequence[str],
    as_of_us: int | None = None,
) -> Items:
    """Key text to existing item, for now or as of `as_of_us` (inclusive), from one table's landed set.

    The order and the repetitions of `exports` and `records` mean nothing.
    """
    items: Items = {}
    for text, (newer, base, _) in _known(exports, records, clock_skew_us, key_names, as_of_us).items():
        image = _last_image(newer, base.image if base else None)
        if image is not None:
            items[text] = image
    return items


def reference_expired(
    exports: Iterable[ReadExport],
    records: Iterable[ChangeRecord],
    clock_skew_us: int,
    key_names: Sequence[str],
    as_of_us: int | None = None,
) -> Expired:
    """What `ttl_deletes: keep` keeps in addition to `reference_current`: absent items whose last change is an expiry.

    Where no record is later than the exports, they say only that the item is absent; then the last of all its records
    counts, unless an export shows the item later.
    """
    exports = list(exports)
    found: Expired = {}
    for text, (newer, base, told) in _known(exports, records, clock_skew_us, key_names, as_of_us).items():
        if _last_image(newer, base.image if base else None) is not None:
            continue
        last = _last_removals(newer or told)
        kept: set[tuple[str, int] | None] = set()
        for record, effective_us in last:
            image = item_text(record.old_image)
            shown = not newer and _is_shown_later(
                exports, text, record.changed_us, effective_us, clock_skew_us, key_names, as_of_us
            )
            kept.add((image, record.changed_us) if record.ttl and image is not None and not shown else None)
        if kept - {None}:
            found[text] = kept
    return found


def _known(
    exports: Iterable[ReadExport],
    records: Iterable[ChangeRecord],
    clock_skew_us: int,
    key_names: Sequence[str],
    as_of_us: int | None,
) -> dict[str, tuple[list[ChangeRecord], Assertion | None, list[ChangeRecord]]]:
    """Of each key: the records that count against the last assertion, that assertion, and all records."""
    distinct = _distinct(records)
    earliest_us = min((record.changed_us for record in distinct), default=None)
    known = [export for export in exports if as_of_us is None or export.instant_us <= as_of_us]
    told = [record for record in distinct if as_of_us is None or record.changed_us <= as_of_us]
    by_key: dict[str, list[ChangeRecord]] = {}
    for record in told:
        by_key.setdefault(key_text(record.keys), []).append(record)
    assertions = _assertions(known, key_names)
    snapshot_us = max((export.instant_us for export in known if export.full), default=None)
    found = {}
    for text in by_key.keys() | assertions.keys():
        base = assertions.get(text)
        if base is None and snapshot_us is not None:
            base = Assertion(snapshot_us, None)
        newer = by_key.get(text, [])
        if base is not None:
            covered = earliest_us is not None and earliest_us <= base.instant_us - clock_skew_us
            snapshot_cutoff_us = base.instant_us - clock_skew_us if covered else base.instant_us
            if not covered and any(record.sequence_number for record in distinct):  # times are whole seconds
                snapshot_cutoff_us -= snapshot_cutoff_us % 1_000_000 + 1
            newer = [record for record in newer if record.changed_us > snapshot_cutoff_us]
        found[text] = (newer, base, by_key.get(text, []))
    return found


def _last_removals(records: Sequence[ChangeRecord]) -> list[tuple[ChangeRecord, int]]:
    """The records that may be the last one of a key, if the item is gone after it, and the time each counts with."""
    ranked = _ranked(records)
    if not ranked or _last_image(records, None) is not None:
        return []
    last_us = ranked[-1].changed_us
    group = [record for record in ranked if record.changed_us == last_us]
    by_id = {record.event_id: record for record in records}
    streams = {record.stream for record in group}
    if len(streams) == 1 and all(record.sequence_number for record in group):
        group = [max(group, key=lambda record: int(record.sequence_number or 0))]
    return [(by_id[record.event_id], last_us) for record in group if record.new_image is None]


def _is_shown_later(
    exports: Sequence[ReadExport],
    text: str,
    expired_us: int,
    effective_us: int,
    clock_skew_us: int,
    key_names: Sequence[str],
    as_of_us: int | None,
) -> bool:
    """Whether an export has the item, and so late that it was written again after it expired."""
    for export in exports:
        if as_of_us is not None and export.instant_us > as_of_us:
            continue
        if any(key_text(key_of(item, key_names)) == text for item in export.items) and (
            expired_us <= export.instant_us - clock_skew_us
        ):
            return True
        for (key, image), written_us in zip(export.lines, export.written_us, strict=True):
            stands_us = max(written_us, export.instant_us + 1 - clock_skew_us)
            if image is not None and key_text(key) == text and stands_us >= effective_us:
                return True
    return False


def _distinct(records: Iterable[ChangeRecord]) -> list[ChangeRecord]:
    """One record per eventID (per content without one), with the least Kinesis sequence of its deliveries."""
    by_id: dict[str, ChangeRecord] = {}
    for record in records:
        identity = record.event_id or _content(record) + str(record.sequence_number)
        other = by_id.get(identity)
        if other is None or _kinesis(record) < _kinesis(other):
            by_id[identity] = record
    return list(by_id.values())


def _assertions(exports: Sequence[ReadExport], key_names: Sequence[str]) -> dict[str, Assertion]:
    """The latest assertion for each key that the last snapshot or a later incremental export names."""
    last = max((export for export in exports if export.full), key=lambda export: export.instant_us, default=None)
    found: dict[str, Assertion] = {}
    if last is not None:
        for item in last.items:
            found[key_text(key_of(item, key_names))] = Assertion(last.instant_us, item)
    for export in sorted((export for export in exports if not export.full), key=lambda export: export.instant_us):
        if last is None or export.instant_us > last.instant_us:
            for key, image in export.lines:
                found[key_text(key)] = Assertion(export.instant_us, image)
    return found


def _kinesis(record: ChangeRecord) -> int:
    return int(record.kinesis_sequence) if record.kinesis_sequence else 0


def _content(record: ChangeRecord) -> str:
    parts = (record.event_name, record.changed_us, *map(item_text, (record.keys, record.new_image, record.old_image)))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _last_image(records: Sequence[ChangeRecord], base: Item | None) -> Item | None:
    """The image after `records` of one key, which start from `base`; None is absent."""
    ranked = _ranked(records)
    image = base
    while ranked:
        first_us = ranked[0].changed_us
        group = [record for record in ranked if record.changed_us == first_us]
        ranked = [record for record in ranked if record.changed_us != first_us]
        image = _end_of_group(group, image)
    return image


def _ranked(records: Sequence[ChangeRecord]) -> list[ChangeRecord]:
    """By time, except that no record of a stream comes before one with a lower SequenceNumber of the same stream.

    To that end a record's time is raised to the greatest among those before it in its stream.
    """

    def effective(record: ChangeRecord) -> ChangeRecord:
        if record.sequence_number is None:
            return record
        number = int(record.sequence_number)
        before = [
            other.changed_us
            for other in records
            if other.stream == record.stream and other.sequence_number and int(other.sequence_number) <= number
        ]
        return replace(record, changed_us=max(before))

    return sorted((effective(record) for record in records), key=lambda record: record.changed_us)


def _end_of_group(group: Sequence[ChangeRecord], before: Item | None) -> Item | None:
    """The image after `group`, all of one key and time, when `before` was the image before it.

    Within a stream the SequenceNumber decides. Else each record is an edge from its old image to its new one, and a
    trail that uses every edge once ends where one more edge enters than leaves. When all balance, the trail is closed
    and ends where it began: at `before`, if that is on it. What is left is decided by the greatest Kinesis sequence,
    then the greatest content hash.
    """
    if len({record.stream for record in group}) == 1 and all(record.sequence_number for record in group):
        return max(group, key=lambda record: int(record.sequence_number or 0)).new_image
    surplus: Counter[str | None] = Counter()
    for record in group:
        surplus[item_text(record.new_image)] += 1
        surplus[item_text(record.old_image)] -= 1
    ends = {text for text, count in surplus.items() if count > 0}
    if not ends and item_text(before) in surplus:
        return before
    eligible = [record for record in group if not ends or item_text(record.new_image) in ends]
    return max(eligible, key=lambda record: (_kinesis(record), _content(record))).new_image
