"""Results on stdout for programs: lines of bytes, JSON documents, and JSON arrays and CSV of any length."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ddb_lake.cli.output.exact_json import encode_json, value_text
from ddb_lake.cli.output.terminal import escape_json
from ddb_lake.engine.sql import unique_names
from ddb_lake.errors import UsageError

BUFFER_BYTES = 1 << 18


def write_lines(lines: Iterable[bytes]) -> int:
    """Write lines, each with a newline, in large pieces. Returns their number. Raises BrokenPipeError.

    On a terminal, characters that control it are escapes of JSON, also in CSV. Elsewhere the bytes are exact.
    """
    sys.stdout.flush()  # text that was written before comes first
    if sys.stdout.isatty():
        lines = map(escape_json, lines)
    return _write(sys.stdout.buffer, lines)


def write_lines_to(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines, each with a newline, to a new file. Returns their number."""
    with path.open("xb") as out:
        return _write(out, lines)


@contextmanager
def new_file(target: Path, overwrite: bool) -> Iterator[Path]:
    """A file that readers see complete or not at all.

    Yields a path beside the target, for the block to write. It becomes the target when the block ends, and is removed if the
    block raises.

    Args:
        target: the file. Its folder exists.
        overwrite: whether it may replace a file.

    Raises:
        UsageError: the target exists and may not be replaced, is a folder, or its folder does not exist.
    """
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"{target} is a folder" if target.is_dir() else f"{target.parent} is no folder")
    exists = UsageError(f"{target} exists already", hint="--force replaces it")
    if not overwrite and os.path.lexists(target):
        raise exists
    partial = target.with_name(f".{target.name[:200]}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        if overwrite:
            partial.replace(target)
        else:
            _publish(partial, target)
    except FileExistsError as error:
        raise exists from error
    finally:
        partial.unlink(missing_ok=True)


def _publish(partial: Path, target: Path) -> None:
    """Give a file its name. Raises FileExistsError if another program made a file of that name meanwhile."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(target) from None
        partial.rename(target)


def _write(out: BinaryIO, lines: Iterable[bytes]) -> int:
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
    names = unique_names(columns)
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
