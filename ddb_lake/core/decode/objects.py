"""Reads a landed object: takes its bytes out of containers, splits them into segments, and reads each segment's records.

`read_object` is the entry point for change objects, and `read_object_by_runs` for a caller that reads most records itself. The
docstring of `core.decode` defines the terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple, cast

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
from ddb_lake.core.decode.splitter import (
    ReadRecord,
    ReadRun,
    RecordRun,
    Segment,
    first_run,
    is_blank_from,
    next_run,
    split_json,
)
from ddb_lake.core.values import json_text
from ddb_lake.core.values.change_record import Rejected


class LocatedOutcome(NamedTuple):
    """One outcome, and its segment: the offset in the decompressed object, and the bytes (`raw`).

    All outcomes of a wrapper have the same segment. The outcome of a damaged container has no segment: its offset is the end
    of the readable part. `unvalidated`: the record comes from the fast path. The caller must check the record with the
    patterns of `core.decode.fast_path`, and read `raw` with `read_envelope` if they do not match.
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
    """Read a landed object, and yield its outcomes in the order of its bytes. Raises only MemoryError.

    - An empty object has no outcome.
    - An object of several lines that contains no JSON value has one Rejected with the bytes of the object.
    - A damaged container has one such Rejected too, after the outcomes of the readable part
      (`compression.DamagedObjectError.readable`).

    These Rejected have at most the first 16 MiB of the object.

    Args:
        data: the bytes of the object as they landed.
        key_names: the table's key attributes, partition key first; only flattened records need them.
        asserted_us: the end (exclusive) of the window, if the object belongs to an incremental export.
        limit_bytes: the greatest size of the decompressed object.
        fast: use the fast path where possible; the caller checks unvalidated outcomes.
        time_unit: the unit for times that are impossible in their declared unit (`times.change_time_us`).
    """
    context = ReadContext(key_names, asserted_us, time_unit)
    outcomes = _read(_open(data, limit_bytes), context, read_unvalidated if fast else None)
    return cast(Iterator[LocatedOutcome], outcomes)  # there are no runs without `read_run`


def read_object_by_runs(
    data: bytes,
    read_run: ReadRun,
    *,
    key_names: Sequence[str] | None = None,
    asserted_us: int | None = None,
    time_unit: str | None = None,
) -> Iterator[LocatedOutcome | RecordRun]:
    """`read_object` on the fast path, with runs of records that `read_run` reads and keeps. The other arguments are the same.

    Each record of a run is one outcome, and was valid. The first run is read when this function is called.
    """
    opened, context = _open(data), ReadContext(key_names, asserted_us, time_unit)
    first = first_run(opened.content, read_run)
    if first is None:
        return _read(opened, context, read_unvalidated, read_run)
    if first.rows and opened.damage is None and is_blank_from(opened.content, first.end):  # most objects are one run
        return iter((first,))
    return chain((first,), _read_behind(first, opened, context, read_run))


class _Content(NamedTuple):
    """An object's bytes as they landed, its decompressed content, and the outcome of damage to its container."""

    data: bytes
    content: bytes
    damage: Rejected | None = None


def _open(data: bytes, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> _Content:
    try:
        return _Content(data, decompress(data, limit_bytes))
    except DamagedObjectError as error:
        return _Content(data, error.readable, limited(Rejected(str(error), data)))
    except MemoryError:
        raise
    except Exception as error:
        return _Content(data, b"", limited(Rejected.unexpected(error, data)))


def _read_behind(
    run: RecordRun, opened: _Content, context: ReadContext, read_run: ReadRun
) -> Iterator[LocatedOutcome | RecordRun]:
    """The runs that follow the first one, and then the outcomes behind them."""
    while (following := next_run(opened.content, run.end, read_run)) is not None:
        run = following
        yield run
    yield from _read(opened, context, read_unvalidated, read_run, run.end)


def _read(
    opened: _Content,
    context: ReadContext,
    read_record: ReadRecord | None,
    read_run: ReadRun | None = None,
    start: int = 0,
) -> Iterator[LocatedOutcome | RecordRun]:
    """The outcomes from `start` on, which is 0 or the end of the runs at the beginning."""
    data, content, damage = opened
    is_first = not start
    for segment in split_json(content, read_record, read_run, start):
        offset, raw = segment.offset, segment.raw
        if segment.run is not None:
            is_first = is_first and not segment.run.rows
            yield segment.run
            continue
        is_first, was_first = False, is_first
        if segment.record is not None:
            yield LocatedOutcome(offset, segment.record, raw, True)
            continue
        try:
            if was_first and segment.value is None and segment.error is None:
                problem = _problem_of_object(content)
                if problem is not None:
                    if damage is None:
                        reason = f"nothing in this object can be read; it begins with: {problem}"
                        yield LocatedOutcome(0, limited(Rejected(reason, data)), data)
                    break
            for outcome in _read_segment(segment, context):
                yield LocatedOutcome(offset, outcome, raw)
        except MemoryError:
            raise
        except Exception as error:
            yield LocatedOutcome(offset, Rejected.unexpected(error, raw), raw)
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
"""Longer garbage is not parsed as a JSON value, because the parser needs twelve times its size in memory."""


def _problem_of_object(content: bytes) -> str | None:
    """The first problem of an object of several lines in which nothing can be read; None for any other object.

    Called if the first segment is garbage. The object is split a second time, so only one segment at a time is in memory.
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
