"""Results on stdout for programs: lines of bytes, JSON documents, and JSON arrays and CSV of any length."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ddb_lake.cli.output.exact_json import encode_json, value_text

BUFFER_BYTES = 1 << 18


def write_lines(lines: Iterable[bytes]) -> int:
    """Write lines, each with a newline, in large pieces. Returns their number. Raises BrokenPipeError."""
    sys.stdout.flush()  # text that was written before comes first
    out = sys.stdout.buffer
    pending, size, count = [], 0, 0
    for line in lines:
        pending.append(line)
        size += len(line) + 1
        count += 1
        if size >= BUFFER_BYTES:
            out.write(b"\n".join(pending) + b"\n")
            pending, size = [], 0
    if pending:
        out.write(b"\n".join(pending) + b"\n")
    out.flush()
    return count


def write_document(value: Any) -> None:
    """Write one JSON document."""
    write_lines([encode_json(value, indent=True)])


def json_array(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """The lines of a JSON array with one object for each row, in bounded memory."""
    names = _unique_names(columns)
    opening = b"["
    for row in rows:
        yield opening + encode_json(dict(zip(names, row, strict=True)))
        opening = b","
    yield b"]" if opening == b"," else b"[]"


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """The lines of a CSV text with a header. NULL is an empty field, the empty string is `""`."""
    yield _csv_line(columns)
    for row in rows:
        yield _csv_line(row)


def _csv_line(values: Sequence[Any]) -> bytes:
    line = ",".join(_csv_field(value_text(value)) for value in values)
    return (line or '""').encode("utf-8", "backslashreplace")  # one NULL alone would be an empty line


def _csv_field(value: str | None) -> str:
    if value is None:
        return ""
    if value and not any(mark in value for mark in ',"\r\n'):
        return value
    return '"' + value.replace('"', '""') + '"'


def _unique_names(columns: Sequence[str]) -> list[str]:
    """Column names; repeated ones have `_1`, `_2` added, because the members of an object need different names."""
    taken, names = set(columns), []
    seen: set[str] = set()
    for column in columns:
        name, number = column, 0
        while name in seen or (number and name in taken):
            number += 1
            name = f"{column}_{number}"
        seen.add(name)
        names.append(name)
    return names
