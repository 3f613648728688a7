"""A landed object's bytes into located records: decompress, split, read. The one way in for change objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from ddb_lake.core.compression import DEFAULT_LIMIT_BYTES, DamagedObjectError, decompress
from ddb_lake.core.envelopes import Outcome, Reading, read_within
from ddb_lake.core.records import Rejected
from ddb_lake.core.splitting import LARGEST_RECORD_BYTES, Piece, split_objects
from ddb_lake.core.usual import read_on_trust

__all__ = [
    "DEFAULT_LIMIT_BYTES",
    "DamagedObjectError",
    "Located",
    "Piece",
    "decompress",
    "read_object",
    "split_objects",
]

_KEPT_OF_DAMAGED_BYTES: Final = 1 << 20


class Located(NamedTuple):
    """One outcome and where it comes from: the byte offset of its JSON object in the decompressed data.

    The records of one wrapper share its offset. That of a damaged object's Rejected is where its content ends.
    `trusted_bytes`: of a record that was read on trust, how many of the decompressed bytes are to be read again, by
    `read_envelope`, where trust was not due; else 0.
    """

    offset: int
    outcome: Outcome
    trusted_bytes: int = 0


def read_object(
    data: bytes,
    *,
    key_names: Sequence[str] | None = None,
    asserted_us: int | None = None,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    on_trust: bool = False,
) -> Iterator[Located]:
    """Every record of a landed object and everything in it that is none, in order; never raises.

    Nothing is yielded for an empty object. A damaged or too large one yields what could be read of it, then one
    Rejected that says so, whose `raw` is the (compressed) object's first MiB: the object itself stays in landing.

    Args:
        key_names: the table's key attributes, partition key first; only flattened records need them.
        asserted_us: the exclusive end of the incremental export that the object belongs to.
        limit_bytes: what the object may grow to when decompressed.
        on_trust: leave it to the caller to look at keys and images, where `ChangeRecord.texts` says so.
    """
    damage: Rejected | None = None
    try:
        content = decompress(data, limit_bytes)
    except DamagedObjectError as error:
        content = error.salvaged
        damage = Rejected(str(error), data[:_KEPT_OF_DAMAGED_BYTES])
    reading = Reading(key_names, asserted_us)
    for piece in split_objects(content):
        if piece.value is None:
            yield Located(piece.offset, _garbage(piece))
            continue
        trusted = read_on_trust(piece.value) if on_trust else None
        if trusted is not None:
            yield Located(piece.offset, trusted, len(piece.raw))
            continue
        for outcome in read_within(piece.value, piece.raw, reading):
            yield Located(piece.offset, outcome)
    if damage is not None:
        yield Located(len(content), damage)


def _garbage(piece: Piece) -> Rejected:
    """Of what is larger than any record, as of a bomb of zeros, the beginning is kept."""
    if len(piece.raw) <= LARGEST_RECORD_BYTES:
        return Rejected(piece.problem, piece.raw)
    kept = piece.raw[:_KEPT_OF_DAMAGED_BYTES]
    return Rejected(f"{piece.problem}; of its {len(piece.raw)} bytes the first {len(kept)} are kept here", kept)
