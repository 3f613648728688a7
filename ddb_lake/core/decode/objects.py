"""Read a landed object: take its bytes out of containers, split them into segments, and read the records of each segment.

`read_object` is the only entry point for objects with changes. Its terms are defined in `core.decode`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ddb_lake.core.decode.compression import DEFAULT_LIMIT_BYTES, DamagedObjectError, decompress
from ddb_lake.core.decode.envelopes import (
    KEPT_OF_OVERSIZED_BYTES,
    Outcome,
    ReadContext,
    contents_of_garbage,
    limited,
    read_garbage,
    read_within,
)
from ddb_lake.core.decode.fast_path import read_unvalidated
from ddb_lake.core.decode.splitter import Segment, split_json
from ddb_lake.core.values import json_text
from ddb_lake.core.values.change_record import Rejected


class LocatedOutcome(NamedTuple):
    """One outcome, and the segment that it comes from: its offset in the decompressed object, and its bytes (`raw`).

    The outcomes of one wrapper have the same segment. The offset of a damaged container's outcome is the end of what could be
    read. `unvalidated`: the record comes from the fast path. The caller must check it with the patterns of
    `core.decode.fast_path`, and read `raw` with `read_envelope` if they do not match.
    """

    offset: int
    outcome: Outcome
    raw: bytes = b""
    unvalidated: bool = False


def read_object(
    data: bytes,
    *,
    key_names: Sequence[str] | None = None,
    asserted_us: int | None = None,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    fast: bool = False,
    time_unit: str | None = None,
) -> Iterator[LocatedOutcome]:
    """Read a landed object; yields the outcomes in its order. Raises only MemoryError.

    An empty object has no outcome. An object without any JSON value has one Rejected with the object's bytes. A damaged
    container has one too, after the outcomes of what could be read (`compression.DamagedObjectError.readable`). Of more than
    16 MiB the first 16 MiB are kept.

    Args:
        key_names: the table's key attributes, partition key first; only flattened records need them.
        asserted_us: the end (exclusive) of the incremental export that the object belongs to.
        limit_bytes: the greatest size of the decompressed object.
        fast: use the fast path where it is possible; the caller checks unvalidated outcomes.
        time_unit: the unit for times that are impossible in their declared unit (`times.change_time_us`).
    """
    damage: Rejected | None = None
    try:
        content = decompress(data, limit_bytes)
    except DamagedObjectError as error:
        content = error.readable
        damage = limited(Rejected(str(error), data))
    except MemoryError:
        raise
    except Exception as error:
        content = b""
        damage = limited(Rejected.unexpected(error, data))
    context = ReadContext(key_names, asserted_us, time_unit)
    for number, segment in enumerate(split_json(content)):
        try:
            if number == 0 and segment.value is None and segment.error is None:
                problem = _problem_of_object(content)
                if problem is not None:
                    if damage is None:
                        reason = f"nothing in this object can be read; it begins with: {problem}"
                        yield LocatedOutcome(0, limited(Rejected(reason, data)), data)
                    break
            unvalidated = read_unvalidated(segment.value) if fast and segment.value is not None else None
            if unvalidated is not None:
                yield LocatedOutcome(segment.offset, unvalidated, segment.raw, True)
                continue
            for outcome in _read_segment(segment, context):
                yield LocatedOutcome(segment.offset, outcome, segment.raw)
        except MemoryError:
            raise
        except Exception as error:
            yield LocatedOutcome(segment.offset, Rejected.unexpected(error, segment.raw), segment.raw)
    if damage is not None:
        yield LocatedOutcome(len(content), damage)


def _read_segment(segment: Segment, context: ReadContext) -> Iterator[Outcome]:
    if segment.value is not None:
        return read_within(segment.value, segment.raw, context)
    if segment.error is not None:
        return iter((limited(Rejected.unexpected(segment.error, segment.raw), KEPT_OF_OVERSIZED_BYTES),))
    within = read_garbage(segment, context)
    return (
        iter((limited(Rejected(segment.problem, segment.raw), KEPT_OF_OVERSIZED_BYTES),)) if within is None else within
    )


_PARSED_BYTES = 1024 * 1024
"""Garbage of more bytes is not parsed as a JSON value: the parser takes twelve times as much memory."""


def _problem_of_object(content: bytes) -> str | None:
    """The first problem of an object of several lines in which nothing can be read; None for any other object.

    The object begins with garbage. It is split a second time for this, so that its garbage is never in memory together.
    """
    problem, lines = "", 0
    for segment in split_json(content):
        if segment.value is not None or contents_of_garbage(segment.raw) is not None:
            return None
        if len(segment.raw) <= _PARSED_BYTES and json_text.loads(segment.raw) is not None:
            return None
        problem = problem or segment.problem
        lines += 1
    return problem if lines > 1 else None
