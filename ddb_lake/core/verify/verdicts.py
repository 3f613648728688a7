"""Reconciliation, key by key: is a difference between lake and source a fault, or a change under way?

Pure: the evidence about one key comes in, a verdict comes out. Images are canonical (`core.values.identity.canonical_json`);
`ABSENT` where there is no item. Nothing here holds an item's values but in `Evidence`; a `Difference` names the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ddb_lake.core.merge.ordering import ABSENT

DifferenceKind: TypeAlias = Literal["missing", "extra", "stale", "wrong", "doubled"]
"""missing: the source has the item, the lake has not. extra: the lake has an item that the source has not (any more).
stale: the lake has an older image. wrong: the lake has an image that no record or export has. doubled: several rows."""

Cause: TypeAlias = Literal["current", "records"]
"""current: the rows are not what the lake's own records give. records: the records do not give what the source has."""


@dataclass(frozen=True, slots=True)
class Known:
    """One landed record of a key: the item became `after` at `time_us`; `before` is None where it is not known."""

    time_us: int
    after: bytes
    before: bytes | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one key.

    `held`: the images of the lake's living rows, normally at most one. `source`: what the source has. `replayed`: what
    exports and records give now. `base`: what the newest export says. `records`: those later than its snapshot cutoff.
    [`from_us`, `to_us`]: the source was read at some instant in it, with all that clocks may be off. `base_us`: the
    time of the newest export. `watermark_us`: the greatest change time that the lake has of any key.
    """

    held: tuple[bytes, ...]
    source: bytes
    replayed: bytes
    base: bytes
    records: tuple[Known, ...]
    from_us: int
    to_us: int
    base_us: int | None = None
    watermark_us: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`certain`: no change under way can explain it."""

    kind: DifferenceKind
    cause: Cause
    certain: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A key at fault. `key`: its DynamoDB JSON. `key_hash`: `_key_hash` of its rows."""

    key: dict[str, Any]
    key_hash: int
    kind: DifferenceKind
    cause: Cause
    certain: bool

    def to_json(self) -> dict[str, Any]:
        """As reports have it, and `repair --keys-from` reads it."""
        return {
            "key": self.key,
            "key_hash": self.key_hash,
            "kind": self.kind,
            "cause": self.cause,
            "certain": self.certain,
        }


def judge(known: Evidence) -> Verdict | None:
    """What is wrong with a key; None if nothing is, or if a change around the read or after it explains the difference."""
    if len(known.held) > 1:
        return Verdict("doubled", "current", certain=True)
    held = known.held[0] if known.held else ABSENT
    if held == known.source:
        return None
    moved_on = any(record.time_us > known.to_us for record in known.records)
    if held != known.replayed:
        truth = known.replayed if moved_on else known.source
        return Verdict(_kind(known, held, truth), "current", certain=True)
    if moved_on:
        return None
    near = [record for record in known.records if record.time_us >= known.from_us]
    if near and known.source in _states_around(known, near):
        return None
    arrived = known.watermark_us is not None and known.watermark_us >= known.to_us
    return Verdict(_kind(known, held, known.source), "records", certain=arrived)


def _states_around(known: Evidence, near: Sequence[Known]) -> set[bytes]:
    """The images that the item had while the source may have been read."""
    earlier = [record for record in known.records if record.time_us < known.from_us]
    before = max(earlier, key=lambda r: r.time_us).after if earlier else known.base
    stated = {record.before for record in near if record.before is not None}
    return {before, *stated, *(record.after for record in near)}


def _kind(known: Evidence, held: bytes, truth: bytes) -> DifferenceKind:
    if held == ABSENT:
        return "missing"
    if truth == ABSENT:
        return "extra"
    older = {image for record in known.records for image in (record.before, record.after)}
    if known.records or (known.base_us is not None and known.base_us < known.from_us):
        older.add(known.base)
    return "stale" if held in older else "wrong"
