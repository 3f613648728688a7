"""A landed object's bytes into located records: decompress, split, read. The one way in for change objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ddb_lake.core.decode.compression import DEFAULT_LIMIT_BYTES, DamagedObjectError, decompress
from ddb_lake.core.decode.envelopes import (
    KEPT_OF_DAMAGED_BYTES,
    Outcome,
    Reading,
    read_hidden,
    read_within,
)
from ddb_lake.core.decode.fast_path import read_unchecked
from ddb_lake.core.decode.payloads import hidden_in
from ddb_lake.core.decode.splitter import LARGEST_RECORD_BYTES, Piece, split_objects
from ddb_lake.core.values import json_text
from ddb_lake.core.values.change_record import Rejected

__all__ = [
    "DEFAULT_LIMIT_BYTES",
    "KEPT_OF_DAMAGED_BYTES",
    "DamagedObjectError",
    "Located",
    "Piece",
    "decompress",
    "read_object",
    "split_objects",
]


class Located(NamedTuple):
    """One outcome and where it comes from: the byte offset of its JSON object in the decompressed data.

    The records of one wrapper share its offset and its bytes (`raw`). The offset of a damaged object's Rejected is the
    end of its content. `unchecked`: the record comes from the fast path, and `read_envelope` has to read `raw` again
    unless `core.decode.fast_path` finds that its keys and images are items.
    """

    offset: int
    outcome: Outcome
    raw: bytes = b""
    unchecked: bool = False


def read_object(
    data: bytes,
    *,
    key_names: Sequence[str] | None = None,
    asserted_us: int | None = None,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    fast: bool = False,
    time_unit: str | None = None,
) -> Iterator[Located]:
    """Every record of a landed object and everything in it that is none, in order; raises MemoryError alone.

    Nothing is yielded for an empty object. A damaged or too large one yields what could be read of it, then one
    Rejected that says so, whose `raw` is the (compressed) object's first MiB: the object itself stays in landing. An
    object in which there is no JSON object at all yields one Rejected with its bytes as they landed, the first 16 MiB.

    Args:
        key_names: the table's key attributes, partition key first; only flattened records need them.
        asserted_us: the exclusive end of the incremental export that the object belongs to.
        limit_bytes: what the object may grow to when decompressed.
        fast: do not check keys and images where `Located.unchecked` is set: the caller checks them.
        time_unit: the unit for times that are impossible in their declared unit (`times.change_time_us`).
    """
    damage: Rejected | None = None
    try:
        content = decompress(data, limit_bytes)
    except DamagedObjectError as error:
        content = error.salvaged
        damage = Rejected(str(error), data[:KEPT_OF_DAMAGED_BYTES])
    except MemoryError:
        raise
    except Exception as error:
        content = b""
        damage = Rejected.unexpected(error, data[:KEPT_OF_DAMAGED_BYTES])
    reading = Reading(key_names, asserted_us, time_unit)
    first = True
    for piece in split_objects(content):
        try:
            is_first, first = first, False
            if piece.value is None:
                problem = _problem_of_all(content) if is_first and piece.error is None else None
                if problem is not None:
                    if damage is None:
                        yield Located(0, _unreadable(problem, data), data)
                    break
                hidden = read_hidden(piece, reading) if piece.error is None else None
                if hidden is None:
                    yield Located(piece.offset, _garbage(piece), piece.raw)
                else:
                    for outcome in hidden:
                        yield Located(piece.offset, outcome, piece.raw)
                continue
            unchecked = read_unchecked(piece.value) if fast else None
            if unchecked is not None:
                yield Located(piece.offset, unchecked, piece.raw, True)
                continue
            for outcome in read_within(piece.value, piece.raw, reading):
                yield Located(piece.offset, outcome, piece.raw)
        except MemoryError:
            raise
        except Exception as error:
            yield Located(piece.offset, Rejected.unexpected(error, piece.raw), piece.raw)
    if damage is not None:
        yield Located(len(content), damage)


_PARSED_BYTES = 1024 * 1024
"""Garbage of more bytes is not parsed as a JSON value: the parser takes twelve times as much memory."""


def _problem_of_all(content: bytes) -> str | None:
    """The reason why an object that begins with garbage has nothing else; None if it has a JSON value or is a single line.

    The object is split a second time for this, so that garbage of any size is never held in memory.
    """
    problem, lines = "", 0
    for piece in split_objects(content):
        if piece.value is not None or hidden_in(piece.raw) is not None:
            return None
        if len(piece.raw) <= _PARSED_BYTES and json_text.loads(piece.raw) is not None:
            return None
        problem = problem or piece.problem
        lines += 1
    return problem if lines > 1 else None


def _unreadable(problem: str, data: bytes) -> Rejected:
    """The one entry of an object in which nothing can be read: its bytes as they landed, up to the largest record."""
    reason = f"nothing in this object can be read; it begins with: {problem}"
    if len(data) <= LARGEST_RECORD_BYTES:
        return Rejected(reason, data)
    kept = data[:LARGEST_RECORD_BYTES]
    return Rejected(f"{reason}; of its {len(data)} bytes the first {len(kept)} are kept here", kept)


def _garbage(piece: Piece) -> Rejected:
    """Of what is larger than any record, as of a bomb of zeros, the beginning is kept."""
    kept = piece.raw if len(piece.raw) <= LARGEST_RECORD_BYTES else piece.raw[:KEPT_OF_DAMAGED_BYTES]
    found = Rejected(piece.problem, kept) if piece.error is None else Rejected.unexpected(piece.error, kept)
    if len(kept) == len(piece.raw):
        return found
    note = f"of its {len(piece.raw)} bytes the first {len(kept)} are kept here"
    return replace(found, reason=f"{found.reason}; {note}")
