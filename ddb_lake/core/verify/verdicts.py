"""Verdicts: is a difference between lake and source a fault, or a change that has not arrived yet? Pure, key by key.

`judge` takes the evidence about one key and returns a verdict. Images are canonical (`core.values.identity.canonical_json`), and
`ABSENT` if there is no item. Only `Evidence` contains an item's values; a `Difference` names the key.
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
"""current: the rows differ from the replay of the lake's own records. records: the replay differs from the source."""


@dataclass(frozen=True, slots=True)
class LandedRecord:
    """One landed record of a key: the item became `after` at `time_us`. `before`: None if it is not known."""

    time_us: int
    after: bytes
    before: bytes | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence about one key.

    `row_images`: the images of the lake's living rows, normally at most one. `source`: the image in the source. `replayed`: the
    image that exports and records give now. `base`: the image in the newest export, and `base_us` its time. `records`: the
    landed records later than its snapshot cutoff. [`from_us`, `to_us`]: the source was read at some instant in it; clock skew
    is included. `watermark_us`: the greatest change time of any key in the lake.
    """

    row_images: tuple[bytes, ...]
    source: bytes
    replayed: bytes
    base: bytes
    records: tuple[LandedRecord, ...]
    from_us: int
    to_us: int
    base_us: int | None = None
    watermark_us: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fault of one key. `certain`: no change that has not arrived yet can explain it."""

    kind: DifferenceKind
    cause: Cause
    certain: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A key with a fault. `key`: its DynamoDB JSON. `key_hash`: `_key_hash` of its rows."""

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


def judge(evidence: Evidence) -> Verdict | None:
    """The fault of a key; None if there is none, or if a change at the time of the read or after it can explain the difference."""
    if len(evidence.row_images) > 1:
        return Verdict("doubled", "current", certain=True)
    current = evidence.row_images[0] if evidence.row_images else ABSENT
    if current == evidence.source:
        return None
    # a record later than the read shows that the source had another image when it was read
    changed_later = any(record.time_us > evidence.to_us for record in evidence.records)
    if current != evidence.replayed:
        correct = evidence.replayed if changed_later else evidence.source
        return Verdict(_kind(evidence, current, correct), "current", certain=True)
    if changed_later:
        return None
    around = [record for record in evidence.records if record.time_us >= evidence.from_us]
    if around and evidence.source in _states_around(evidence, around):
        return None
    arrived = evidence.watermark_us is not None and evidence.watermark_us >= evidence.to_us
    return Verdict(_kind(evidence, current, evidence.source), "records", certain=arrived)


def _states_around(evidence: Evidence, around: Sequence[LandedRecord]) -> set[bytes]:
    """The images that the item had while the source may have been read."""
    earlier = [record for record in evidence.records if record.time_us < evidence.from_us]
    before = max(earlier, key=lambda r: r.time_us).after if earlier else evidence.base
    before_images = {record.before for record in around if record.before is not None}
    return {before, *before_images, *(record.after for record in around)}


def _kind(evidence: Evidence, current: bytes, correct: bytes) -> DifferenceKind:
    if current == ABSENT:
        return "missing"
    if correct == ABSENT:
        return "extra"
    earlier_images = {image for record in evidence.records for image in (record.before, record.after)}
    if evidence.records or (evidence.base_us is not None and evidence.base_us < evidence.from_us):
        earlier_images.add(evidence.base)
    return "stale" if current in earlier_images else "wrong"
