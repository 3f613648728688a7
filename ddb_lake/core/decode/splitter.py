"""Split the bytes of a landed object into segments: each JSON object, and each run of bytes between two that is none.

Firehose writes records without a delimiter by default, transforms add newlines, people add white space and byte order
marks, and deliveries break off. Every byte that is not white space is in exactly one segment, except separators: commas,
the brackets of arrays of records, byte order marks.

Two guesses make it fast, and orjson confirms or refutes each: a line is one object, and `}{"name":` is where one object ends
and the next begins. Where both fail, `scan` reads token by token. After damage, an object is a segment only if it is
certainly an envelope (`shapes.is_envelope`). The bytes spent on failed guesses are limited, so that the time is linear in
the number of bytes, whatever they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from ddb_lake.core.decode.kpl import MAGIC as KPL_MAGIC
from ddb_lake.core.decode.kpl import Aggregate, find_aggregates
from ddb_lake.core.decode.shapes import is_envelope, is_flattened, shape_of
from ddb_lake.core.values import json_text
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import UndecodableError

_SPACE: Final = re.compile(rb"[ \t\r\n]*+(?:(?:\xef\xbb\xbf|\\++[nrt])[ \t\r\n]*+)*+")
_JOINT: Final = re.compile(rb'\}(?=(?:[ \t\r]|\\++[nrt])*+\{[ \t\r]*+"[^"\\\n]*+"[ \t\r]*+:)')
_BOUNDARY: Final = re.compile(
    rb'(?<=\})(?=(?:[ \t\r]|\\++[nrt])*+\{[ \t\r]*+"[^"\\\n]*+"[ \t\r]*+:)|\n(?=(?:\xef\xbb\xbf)?[ ,\[]?\{)'
)
_CANDIDATE: Final = re.compile(rb'\n|\{(?=[ \t\r\n]*+")')
_LINE_START: Final = re.compile(rb"\n[ \t\r]*+(?=\{)")
_IS_SEPARATOR: Final = re.compile(rb"(?:[ \t\r\n,\[\]]|\xef\xbb\xbf|\\++[nrt])*+").fullmatch

ION_MARKER: Final = b"$ion_1_0"
"""The beginning of each line of an export in Amazon Ion."""

ION_PROBLEM: Final = "Amazon Ion, which is read in exports only; load the export with `ddb-lake load`"

_BLANK: Final = b" \t\r\n"
_BLANK_OF_A_LINE: Final = b" \t\r"
_NEWLINE: Final = 0x0A
_OPENING: Final = b"{["
LARGEST_RECORD_BYTES: Final = 16 << 20
"""No record is larger, because Kinesis takes records of up to 10 MiB. Decoding takes ten times the memory of its input.

https://docs.aws.amazon.com/streams/latest/dev/large-records.html
"""

_LONG_LINE_BYTES: Final = 1 << 16
_FREE_GUESSES_BYTES: Final = 1 << 20
_SMALLEST_ENVELOPE_BYTES: Final = 10  # {"Item":{}} is 11 bytes: what is shorter is not worth decoding


class RecordRun(NamedTuple):
    """Records that the caller's `ReadRun` read and kept, one after another.

    `start`, `end`: their position in the decompressed bytes (end exclusive). `rows`: their number. `earliest_us`: the least
    arrival of them; of a record without an arrival stamp, its time. A run of no rows asks the caller for room; the records are
    read after that.
    """

    start: int
    end: int
    rows: int
    earliest_us: int


class Segment(NamedTuple):
    """One JSON object in the bytes of a landed object, or a run of bytes that is none (garbage).

    `offset`: the position of `raw` in the decompressed bytes. `value`: the decoded object, or None for garbage; `problem` or
    `error` (an unexpected exception) is the reason then. Numbers in `value` are those of orjson, but `NumberText` in
    flattened records. `record`: what the caller's `ReadRecord` returned; then the object is not decoded here. `run`: what the
    caller's `ReadRun` returned; then the segment is several objects, and has no `raw`.
    """

    offset: int
    raw: bytes
    value: dict[str, Any] | None
    problem: str = ""
    error: Exception | None = None
    record: ChangeRecord | None = None
    run: RecordRun | None = None

    @property
    def end(self) -> int:
        """The position after its last byte."""
        return self.offset + len(self.raw) if self.run is None else self.run.end


Segments: TypeAlias = Generator[Segment, None, int]
"""Yields segments and returns the position after the last one."""

ReadRecord: TypeAlias = Callable[[bytes], ChangeRecord | None]
"""Reads the bytes of one JSON object. None: they are none, or the caller needs the decoded object. It raises only MemoryError."""


ReadRun: TypeAlias = Callable[[bytes, int], RecordRun | None]
"""Reads records from a position on, and keeps them. None: what is there must be read here. It raises only MemoryError.

Each record of a run must be one object on which this module and it agree: the object ends at the end of its line, or where
`{"name":` follows on the same line.
"""


def first_run(data: bytes, read_run: ReadRun) -> RecordRun | None:
    """The run at the beginning of `data`, if there is one; else nothing is read. `split_json` or `next_run` continues at its end."""
    return read_run(data, 0) if data.startswith(b"{") else None


def next_run(data: bytes, position: int, read_run: ReadRun) -> RecordRun | None:
    """The run that follows the one that ends at `position`, if there is one. A run of no rows is followed by the same records."""
    start = _skip_space(data, position)
    return read_run(data, start) if data.startswith(b"{", start) else None


def is_blank_from(data: bytes, position: int) -> bool:
    """Whether no segment begins at `position` or behind it, which is the end of one."""
    return _skip_space(data, position) >= len(data)


def split_json(
    data: bytes, read_record: ReadRecord | None = None, read_run: ReadRun | None = None, position: int = 0
) -> Iterator[Segment]:
    """The segments of `data` in order; garbage has one segment for each of its lines.

    The elements of a top-level array are segments each. An object with two members of one name is garbage, because it does
    not show which of the two is meant. If reading some bytes raises an exception, these bytes are a segment with it, and
    reading continues after them; only MemoryError is raised.

    Args:
        data: the bytes.
        read_record: reads an object instead of decoding it.
        read_run: reads several objects.
        position: where to begin: 0, or the end of runs that `first_run` and `next_run` returned. An aggregate does not begin in them,
            because they are UTF-8.
    """
    if data.find(KPL_MAGIC, position) < 0:
        yield from _split(data, read_record, read_run, position)
        return
    for aggregate in _aggregates(data):
        yield from _shifted(data[position : aggregate.start], position)
        raw = data[aggregate.start : aggregate.end]
        yield Segment(aggregate.start, raw, None, "an aggregate of the Kinesis Producer Library")
        position = aggregate.end
    yield from _shifted(data[position:], position)


def _aggregates(data: bytes) -> Iterator[Aggregate]:
    """The KPL aggregates. An exception ends the search; the remaining bytes are split like any others."""
    try:
        yield from find_aggregates(data)
    except MemoryError:
        raise
    except Exception:
        return


def _shifted(data: bytes, offset: int) -> Iterator[Segment]:
    for segment in _split(data):
        yield segment._replace(offset=segment.offset + offset)


def _split(
    data: bytes, read_record: ReadRecord | None = None, read_run: ReadRun | None = None, position: int = 0
) -> Iterator[Segment]:
    """`split_json` for bytes without an aggregate. After an exception it continues behind the bytes that caused it."""
    while True:
        try:
            for segment in _Splitter(data, position, read_record, read_run).segments():
                yield segment
                position = segment.end
            return
        except MemoryError:
            raise
        except Exception as error:
            segment = _segment_of_error(data, position, error)
        if not segment.raw:  # every byte is in a segment
            return
        yield segment
        position = segment.offset + len(segment.raw)


def _segment_of_error(data: bytes, position: int, error: Exception) -> Segment:
    """The bytes from `position` to the probable start of the next object, found without the code that raised `error`."""
    start = len(data) - len(data[position:].lstrip(_BLANK))
    boundary = _BOUNDARY.search(data, start + 1)
    raw = data[start : boundary.start() if boundary else len(data)].rstrip(_BLANK)
    return Segment(start, raw, None, "", error)


class _Splitter:
    """One pass over the bytes. Its state: the bytes spent on failed guesses, and the last cut that was searched for."""

    def __init__(
        self,
        data: bytes,
        position: int = 0,
        read_record: ReadRecord | None = None,
        read_run: ReadRun | None = None,
    ) -> None:
        self._data = data
        self._start = position
        self._read_record = read_record
        self._read_run = read_run
        self._wasted_bytes = 0
        self._cut = 0
        self._cut_line_end = -1

    def segments(self) -> Iterator[Segment]:
        data, size = self._data, len(self._data)
        position = self._start
        while True:
            start = _skip_space(data, position)
            if start >= size:
                return
            run = self._run(start)
            if run is not None:
                yield run
                position = run.end
                continue
            end = data.find(b"\n", start)
            if end < 0:
                end = size
            raw = data[start:end].rstrip(_BLANK) if self._is_worth_decoding(start, end) else b""
            segment = self._object(start, raw)
            if segment is not None:
                yield segment
                position = end
            else:
                position = yield from self._line_of_many(start, end)

    def _run(self, start: int) -> Segment | None:
        """The segment of the records that `ReadRun` reads from `start` on."""
        run = self._read_run(self._data, start) if self._read_run is not None else None
        return None if run is None else Segment(run.start, b"", None, run=run)

    def _object(self, start: int, raw: bytes) -> Segment | None:
        """The segment of these bytes if they are one object."""
        if self._read_record is not None:
            record = self._read_record(raw)
            if record is not None:
                return Segment(start, raw, None, "", None, record)
        value = json_text.loads(raw)
        return _segment(start, raw, value) if type(value) is dict else None

    def _is_worth_decoding(self, start: int, end: int) -> bool:
        """Whether a line can be one object. A long line with a joint in it, or a huge one, cannot, and decoding it is expensive."""
        if end - start > LARGEST_RECORD_BYTES:
            return False
        return end - start <= _LONG_LINE_BYTES or self._next_cut(start, end) == end

    def _next_cut(self, position: int, end: int) -> int:
        """The probable end (exclusive) of the object at `position`: the next joint, or `end`."""
        if self._cut_line_end != end or self._cut <= position:
            joint = _JOINT.search(self._data, position, end)
            self._cut = joint.end() if joint else end
            self._cut_line_end = end
        return self._cut

    def _line_of_many(self, start: int, end: int) -> Segments:
        """The segments of a line that is not one object; the position after them is at or behind `end`."""
        data, position = self._data, start
        while position < end:
            run = self._run(position) if position > start else None  # at `start` it was tried before
            if run is not None:
                yield run
                position = _skip_space(data, run.end)
                continue
            cut = self._next_cut(position, end)
            segment = None if position == start and cut == end else self._guess(position, cut)
            if segment is not None:
                yield segment
                position = _skip_space(data, cut)
            else:
                after = yield from self._recover(position)
                position = _skip_space(data, after)
        return position

    def _guess(self, start: int, end: int) -> Segment | None:
        """The segment of these bytes if they are one object; None if they are not, or if too much was spent on failed guesses."""
        if self._wasted_bytes + end - start > _FREE_GUESSES_BYTES + 2 * start:
            return None
        segment = self._object(start, self._data[start:end].rstrip(_BLANK))
        if segment is None:
            self._wasted_bytes += end - start
        return segment

    def _recover(self, start: int) -> Segments:
        """The segments up to the next object or the end of the line, found by reading tokens."""
        data, size = self._data, len(self._data)
        scanned = scan(data, start) if data[start] in _OPENING else Scan(resume=start)
        intact = scanned.complete  # no byte before it was damaged
        garbage = start
        while True:
            for segment in self._objects(scanned, intact):
                yield from self._garbage(garbage, segment.offset)
                yield segment
                garbage = segment.offset + len(segment.raw)
            if intact or (scanned.complete and garbage == scanned.resume):
                yield from self._garbage(garbage, scanned.resume)
                return scanned.resume
            candidate = _CANDIDATE.search(data, max(scanned.resume, garbage))
            position = candidate.start() if candidate else size
            if position == size or data[position] == _NEWLINE:
                yield from self._garbage(garbage, position)
                return position
            scanned = scan(data, position)

    def _objects(self, scanned: Scan, intact: bool) -> Iterator[Segment]:
        """The complete objects of a scan; only envelopes if the bytes around them are damaged (not `intact`).

        If an object that is no wrapper contains lines that are envelopes, these are taken instead of it: it was put together
        by chance from a broken line before them and a broken line after them.
        """
        for start, end in scanned.objects:
            raw = self._data[start:end]
            value = json_text.loads(raw) if intact or len(raw) > _SMALLEST_ENVELOPE_BYTES else None
            shape = shape_of(value) if type(value) is dict and is_envelope(value) else None
            inside = [] if shape == "wrapper" else list(self._records_inside(start, end))
            yield from inside
            if not inside and type(value) is dict and (shape or intact):
                yield _segment(start, raw, value)

    def _records_inside(self, start: int, end: int) -> Iterator[Segment]:
        """The lines within an object that are envelopes."""
        for opening in _LINE_START.finditer(self._data, start, end):
            line_end = self._data.find(b"\n", opening.end(), end)
            raw = self._data[opening.end() : line_end].rstrip(_BLANK) if line_end > 0 else b""
            value = json_text.loads(raw)
            if type(value) is dict and is_envelope(value):
                yield _segment(opening.end(), raw, value)

    def _garbage(self, start: int, end: int) -> Iterator[Segment]:
        """One segment for each line between two objects that is not a separator; its bytes are not stripped."""
        while 0 < start < end and self._data[start - 1] in _BLANK_OF_A_LINE:
            start -= 1
        while start < end:
            line_end = self._data.find(b"\n", start, end)
            if line_end < 0:
                line_end = end
            raw = self._data[start:line_end]
            if not _IS_SEPARATOR(raw):
                yield Segment(start, raw, None, _problem(raw[_skip_space(raw, 0) :].rstrip(_BLANK)))
            start = line_end + 1


def _skip_space(data: bytes, position: int) -> int:
    match = _SPACE.match(data, position)
    return match.end() if match else position


def _segment(offset: int, raw: bytes, value: dict[str, Any]) -> Segment:
    try:
        return Segment(offset, raw, json_text.exact(raw, value, is_flattened(value)))
    except UndecodableError as error:
        return Segment(offset, raw, None, str(error))


def _problem(raw: bytes) -> str:
    if raw.startswith(ION_MARKER):
        return ION_PROBLEM
    if len(raw) > LARGEST_RECORD_BYTES:
        return "a damaged or truncated JSON object" if raw.startswith(b"{") else "no JSON object"
    if raw.startswith(b"{"):
        return json_text.fault_of(raw)
    if json_text.loads(raw) is not None or raw == b"null":
        return "a JSON value that is no object"
    return "no JSON object"


# --- tokens: the slow and exact reader of damaged bytes

MAX_LEVELS: Final = 1000  # orjson stops at 1024

_JSON_SPACE: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_VALUE: Final = rb"(?:(?P<scalar>" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)|(?P<open>[{\[]))"

_MEMBER: Final = re.compile(_JSON_SPACE + _STRING + _JSON_SPACE + rb":" + _JSON_SPACE + _VALUE)
_ELEMENT: Final = re.compile(_JSON_SPACE + _VALUE)
_CLOSE: Final = {"{": re.compile(_JSON_SPACE + rb"\}"), "[": re.compile(_JSON_SPACE + rb"\]")}
_AFTER: Final = {
    "{": re.compile(_JSON_SPACE + rb"(?:,|(?P<close>\}))"),
    "[": re.compile(_JSON_SPACE + rb"(?:,|(?P<close>\]))"),
}


@dataclass(slots=True)
class Scan:
    """The result of scanning a value that begins with `{` or `[`.

    `complete`: the value ended. `resume`: its end (exclusive) if it did, else the first position where another value may
    begin; a scan from any position before that fails at the same byte. `objects`: the spans (end exclusive) of the outermost
    complete objects: the value itself, or those in the arrays and open objects around the byte where it breaks.
    """

    complete: bool = False
    resume: int = 0
    objects: list[tuple[int, int]] = field(default_factory=list)


def scan(data: bytes, start: int) -> Scan:
    """Find the end of the object or array that begins at `start`, or the byte where it breaks. Never raises.

    One pass over the tokens with a stack; the time is linear in the bytes passed. It accepts a little more than JSON (any
    bytes within a string), so what it finds must still be decoded.
    """
    scanned = Scan()
    kinds: list[str] = []
    opened: list[tuple[int, int]] = []  # where each open value begins; how many complete objects preceded it
    position, opening = start, True
    resume = start + 1
    while len(kinds) < MAX_LEVELS:
        if opening:
            kinds.append(chr(data[position]))
            opened.append((position, len(scanned.objects)))
            resume = position = position + 1
            after = _CLOSE[kinds[-1]].match(data, position)
            closed = after is not None
        else:
            after = _AFTER[kinds[-1]].match(data, position)
            if after is None:
                break
            closed = after["close"] is not None
        if after is not None:
            position = after.end()
            if closed or not opening:
                resume = position
        if closed:
            _close(scanned, kinds.pop(), opened.pop(), position)
            if not kinds:
                return Scan(True, position, scanned.objects)
            opening = False
            continue
        value = (_MEMBER if kinds[-1] == "{" else _ELEMENT).match(data, position)
        if value is None:
            break
        opening = value["open"] is not None
        position = value.end() - 1 if opening else value.end()
        resume = position if opening else value.start()  # a string without its end may contain the start of a record
    if len(kinds) == MAX_LEVELS:  # too deep, not broken: a value that begins half-way down may be complete
        resume, preceding = opened[MAX_LEVELS // 2]
        del scanned.objects[preceding:]
    scanned.resume = max(resume, start + 1)
    return scanned


def _close(scanned: Scan, kind: str, opened: tuple[int, int], end: int) -> None:
    start, before = opened
    if kind == "{":  # a complete object replaces the objects in it; an array leaves its objects as they are
        del scanned.objects[before:]
        scanned.objects.append((start, end))
