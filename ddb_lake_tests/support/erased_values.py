"""Searches every file below some folders for a value, by decoding each kind of file. It shares no code with `ddb-lake erase`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BOUND_CHARACTERS = 16
"""Bounds of text columns in manifests have this number of characters."""


def files_with(value: str, *folders: Path) -> list[str]:
    """The files that contain a text, or its first 16 characters, in their bytes, decompressed content or decoded columns."""
    needle = value[:BOUND_CHARACTERS].encode()
    return sorted(
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and any(needle in content for content in _contents(path))
    )


def _contents(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif data[:4] == b"PAR1":
        yield from _columns(path)
    elif data[:4] == b"Obj\x01":
        yield from _avro_blocks(data)


def _columns(path: Path) -> Iterator[bytes]:
    file = pq.ParquetFile(path)
    yield repr(file.schema_arrow.metadata).encode()
    for group in range(file.num_row_groups):
        described = file.metadata.row_group(group)
        for column in range(described.num_columns):
            yield repr(described.column(column).statistics).encode()
    for batch in file.iter_batches():
        for column in batch.columns:
            if pa.types.is_binary(column.type):
                yield from (value for value in column.to_pylist() if value is not None)
            else:
                yield repr(column.to_pylist()).encode()


def _avro_blocks(data: bytes) -> Iterator[bytes]:
    """https://avro.apache.org/docs/1.12.0/specification/#object-container-files"""
    metadata: dict[str, bytes] = {}
    at = 4
    while True:
        count, at = _long(data, at)
        if count == 0:
            break
        if count < 0:
            _, at = _long(data, at)
        for _ in range(abs(count)):
            name, at = _bytes(data, at)
            metadata[name.decode()], at = _bytes(data, at)
    yield from metadata.values()
    at += 16
    codec = metadata.get("avro.codec", b"null")
    while at < len(data):
        _, at = _long(data, at)
        block, at = _bytes(data, at)
        at += 16
        if codec == b"null":
            yield block
        else:
            assert codec == b"deflate", codec
            yield zlib.decompress(block, -15)


def _long(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), at


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(data, at)
    return data[at : at + size], at + size
