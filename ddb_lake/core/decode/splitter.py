"""The JSON objects in the bytes of a landed object, whatever separates them, and what lies between them.

Firehose writes records without a delimiter by default, transforms add newlines, people add white space and
byte order marks, and deliveries break off. Every byte that is not white space ends up in exactly one piece,
except separators that hold nothing (commas and brackets of arrays of records, byte order marks).

Speed comes from two guesses that orjson confirms or refutes: a line is one object, and `}{"name":` is where one
object ends and the next begins. Where both fail, `scanning` reads token by token, and after damage only
what is an envelope beyond doubt (`shapes.is_envelope`) is taken for a record again. Failed guesses are budgeted,
so that the time is linear in the bytes whatever they are.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from ddb_lake.core.decode.envelope_shapes import is_envelope, is_flattened, shape_of
from ddb_lake.core.decode.kpl import MAGIC as KPL_MAGIC
from ddb_lake.core.decode.kpl import Aggregate, find_aggregates
from ddb_lake.core.decode.scanner import Scan, scan
from ddb_lake.core.values import json_text
from ddb_lake.errors import UndecodableError

_SPACE: Final = re.compile(rb"[ \t\r\n]*+(?:(?:\xef\xbb\xbf|\\++[nrt])[ \t\r\n]*+)*+")
_JOINT: Final = re.compile(rb'\}(?=(?:[ \t\r]|\\++[nrt])*+\{[ \t\r]*+"[^"\\\n]*+"[ \t\r]*+:)')
_BOUNDARY: Final = re.compile(
    rb'(?<=\})(?=(?:[ \t\r]|\\++[nrt])*+\{[ \t\r]*+"[^"\\\n]*+"[ \t\r]*+:)|\n(?=(?:\xef\xbb\xbf)?[ ,\[]?\{)'
)
_CANDIDATE: Final = re.compile(rb'\n|\{(?=[ \t\r\n]*+")')
_LINE_START: Final = re.compile(rb"\n[ \t\r]*+(?=\{)")
_HOLDS_NOTHING: Final = re.compile(rb"(?:[ \t\r\n,\[\]]|\xef\xbb\xbf|\\++[nrt])*+").fullmatch

ION_PROBLEM: Final = "an export in Amazon Ion; export again with ExportFormat=DYNAMODB_JSON"

_BLANK: Final = b" \t\r\n"
_BLANK_OF_A_LINE: Final = b" \t\r"
_NEWLINE: Final = 0x0A
_OPENING: Final = b"{["
LARGEST_RECORD_BYTES: Final = 16 << 20
"""No record is larger: Kinesis takes 10 MiB. Decoding takes ten times the memory of what is decoded."""

_LONG_LINE_BYTES: Final = 1 << 16
_FREE_GUESSES_BYTES: Final = 1 << 20
_SMALLEST_ENVELOPE_BYTES: Final = 10  # {"Item":{}} is 11 bytes: what is shorter is not worth decoding


class Piece(NamedTuple):
    """One JSON object of a landed object, or a run of bytes that is none.

    `offset` counts bytes in the decompressed data. `value` is the decoded object, or None for garbage: then
    `problem` is the fault, or `error` is an unexpected exception. Numbers in it are orjson's, except in
    flattened records: `NumberText`.
    """

    offset: int
    raw: bytes
    value: dict[str, Any] | None
    problem: str = ""
    error: Exception | None = None


Pieces: TypeAlias = Generator[Piece, None, int]
"""Pieces, and in the end the position after them."""


def split_objects(data: bytes) -> Iterator[Piece]:
    """Every JSON object in `data` in order, and every run of bytes that is none, one piece per line of it.

    A top-level array is unwrapped element by element. An object with two members of one name is garbage: which of
    the two is meant cannot be known. Only MemoryError is raised: if reading some bytes raises another exception, they are
    a piece of their own, and reading continues after them.
    """
    if KPL_MAGIC not in data:
        yield from _split(data)
        return
    position = 0
    for found in _aggregates(data):
        yield from _shifted(data[position : found.start], position)
        yield Piece(found.start, data[found.start : found.end], None, "an aggregate of the Kinesis Producer Library")
        position = found.end
    yield from _shifted(data[position:], position)


def _aggregates(data: bytes) -> Iterator[Aggregate]:
    """The KPL aggregates, up to the first exception of the search; the other bytes are read as usual."""
    try:
        yield from find_aggregates(data)
    except MemoryError:
        raise
    except Exception:
        return


def _shifted(data: bytes, offset: int) -> Iterator[Piece]:
    for piece in _split(data):
        yield piece._replace(offset=piece.offset + offset)


def _split(data: bytes) -> Iterator[Piece]:
    """`split_objects` for bytes without an aggregate."""
    position = 0
    while True:
        try:
            for piece in _Splitter(data, position).pieces():
                yield piece
                position = piece.offset + len(piece.raw)
            return
        except MemoryError:
            raise
        except Exception as error:
            piece = _unreadable(data, position, error)
        if not piece.raw:  # every byte is in a piece already
            return
        yield piece
        position = piece.offset + len(piece.raw)


def _unreadable(data: bytes, position: int, error: Exception) -> Piece:
    """The bytes from `position` to the probable start of the next object, found without the code that may have failed."""
    start = len(data) - len(data[position:].lstrip(_BLANK))
    boundary = _BOUNDARY.search(data, start + 1)
    raw = data[start : boundary.start() if boundary else len(data)].rstrip(_BLANK)
    return Piece(start, raw, None, "", error)


class _Splitter:
    """The state of one pass: what failed guesses have cost, and the last boundary that was looked up."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self._start = position
        self._wasted_bytes = 0
        self._cut = 0
        self._cut_line_end = -1

    def pieces(self) -> Iterator[Piece]:
        data, size = self._data, len(self._data)
        position = self._start
        while True:
            start = _skip_space(data, position)
            if start >= size:
                return
            end = data.find(b"\n", start)
            if end < 0:
                end = size
            raw = data[start:end].rstrip(_BLANK) if self._may_be_one_object(start, end) else b""
            value = json_text.loads(raw)
            if type(value) is dict:
                yield _piece(start, raw, value)
                position = end
            else:
                position = yield from self._line_of_many(start, end)

    def _may_be_one_object(self, start: int, end: int) -> bool:
        """False for a long line with a joint in it, or a huge one: decoding it would be in vain, and dear."""
        if end - start > LARGEST_RECORD_BYTES:
            return False
        return end - start <= _LONG_LINE_BYTES or self._next_cut(start, end) == end

    def _next_cut(self, position: int, end: int) -> int:
        """The (exclusive) end of the object at `position` if nothing is odd: at the next joint, or `end`."""
        if self._cut_line_end != end or self._cut <= position:
            joint = _JOINT.search(self._data, position, end)
            self._cut = joint.end() if joint else end
            self._cut_line_end = end
        return self._cut

    def _line_of_many(self, start: int, end: int) -> Pieces:
        """Pieces of a line that is not one object; the position after them is at or behind `end`."""
        data, position = self._data, start
        while position < end:
            cut = self._next_cut(position, end)
            piece = None if position == start and cut == end else self._guess(position, cut)
            if piece is not None:
                yield piece
                position = _skip_space(data, cut)
            else:
                after = yield from self._recover(position)
                position = _skip_space(data, after)
        return position

    def _guess(self, start: int, end: int) -> Piece | None:
        """The object that these bytes are, if they are one and the budget allows to look."""
        if self._wasted_bytes + end - start > _FREE_GUESSES_BYTES + 2 * start:
            return None
        raw = self._data[start:end].rstrip(_BLANK)
        value = json_text.loads(raw)
        if type(value) is dict:
            return _piece(start, raw, value)
        self._wasted_bytes += end - start
        return None

    def _recover(self, start: int) -> Pieces:
        """Pieces up to the next object or the end of the line, read by token; returns the position after them."""
        data, size = self._data, len(self._data)
        found = scan(data, start) if data[start] in _OPENING else Scan(resume=start)
        trusted = found.complete  # nothing is broken before it
        garbage = start
        while True:
            for piece in self._objects(found, trusted):
                yield from self._garbage(garbage, piece.offset)
                yield piece
                garbage = piece.offset + len(piece.raw)
            if trusted or (found.complete and garbage == found.resume):
                yield from self._garbage(garbage, found.resume)
                return found.resume
            candidate = _CANDIDATE.search(data, max(found.resume, garbage))
            position = candidate.start() if candidate else size
            if position == size or data[position] == _NEWLINE:
                yield from self._garbage(garbage, position)
                return position
            found = scan(data, position)

    def _objects(self, found: Scan, trusted: bool) -> Iterator[Piece]:
        """The complete objects of a scan; only envelopes where the surroundings cannot be trusted.

        A record that has a line to itself inside another object (but an event, which holds records) is taken
        instead of that object: a broken line before the record and one after it only happen to match.
        """
        for start, end in found.objects:
            raw = self._data[start:end]
            value = json_text.loads(raw) if trusted or len(raw) > _SMALLEST_ENVELOPE_BYTES else None
            known = shape_of(value) if type(value) is dict and is_envelope(value) else None
            inside = [] if known == "wrapper" else list(self._records_inside(start, end))
            yield from inside
            if not inside and type(value) is dict and (known or trusted):
                yield _piece(start, raw, value)

    def _records_inside(self, start: int, end: int) -> Iterator[Piece]:
        """The lines within an object that are an envelope each."""
        for opening in _LINE_START.finditer(self._data, start, end):
            line_end = self._data.find(b"\n", opening.end(), end)
            raw = self._data[opening.end() : line_end].rstrip(_BLANK) if line_end > 0 else b""
            value = json_text.loads(raw)
            if type(value) is dict and is_envelope(value):
                yield _piece(opening.end(), raw, value)

    def _garbage(self, start: int, end: int) -> Iterator[Piece]:
        """One piece for each line between two objects that is not blank; its bytes are not stripped."""
        while 0 < start < end and self._data[start - 1] in _BLANK_OF_A_LINE:
            start -= 1
        while start < end:
            line_end = self._data.find(b"\n", start, end)
            if line_end < 0:
                line_end = end
            raw = self._data[start:line_end]
            if not _HOLDS_NOTHING(raw):
                yield Piece(start, raw, None, _problem(raw[_skip_space(raw, 0) :].rstrip(_BLANK)))
            start = line_end + 1


def _skip_space(data: bytes, position: int) -> int:
    match = _SPACE.match(data, position)
    return match.end() if match else position


def _piece(offset: int, raw: bytes, value: dict[str, Any]) -> Piece:
    try:
        return Piece(offset, raw, json_text.exact(raw, value, is_flattened(value)))
    except UndecodableError as error:
        return Piece(offset, raw, None, str(error))


def _problem(raw: bytes) -> str:
    if raw.startswith(b"$ion_1_0"):
        return ION_PROBLEM
    if len(raw) > LARGEST_RECORD_BYTES:
        return "a damaged or truncated JSON object" if raw.startswith(b"{") else "no JSON object"
    if raw.startswith(b"{"):
        return json_text.fault_of(raw)
    if json_text.loads(raw) is not None or raw == b"null":
        return "a JSON value that is no object"
    return "no JSON object"
