"""Firehose's compression formats, each with its file extension and Content-Encoding.

https://docs.aws.amazon.com/firehose/latest/APIReference/API_ExtendedS3DestinationConfiguration.html

The two Snappy formats share the extension: `Snappy` is snappy-java's stream (magic 0x82 SNAPPY 0x00), and
`HADOOP_SNAPPY` is Hadoop's block framing. The service delivers both as `.snappy`, though its
documentation says `.hsnappy` for the second.
"""

from __future__ import annotations

import gzip
import io
import struct
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import cramjam

from ddb_lake.errors import ConfigError

_XERIAL_HEADER = b"\x82SNAPPY\x00" + struct.pack(">II", 1, 1)
_XERIAL_BLOCK_BYTES = 32 * 1024
_HADOOP_BLOCK_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Compression:
    """One format. `encoding` is the object's Content-Encoding, None for none."""

    extension: str
    encoding: str | None
    compress: Callable[[bytes], bytes]


def compression(name: str) -> Compression:
    """The format of that name, as the API spells it; NONE is UNCOMPRESSED.

    Raises:
        ConfigError: there is no such format.
    """
    found = _FORMATS.get(name)
    if found is None:
        raise ConfigError(f"compression {name!r} is not one of {', '.join(_FORMATS)}")
    return found


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(str(uuid.uuid4()), data)
    return out.getvalue()


def _xerial(data: bytes) -> bytes:
    blocks = [_raw_snappy(block) for block in _blocks(data, _XERIAL_BLOCK_BYTES)]
    return _XERIAL_HEADER + b"".join(struct.pack(">I", len(block)) + block for block in blocks)


def _hadoop(data: bytes) -> bytes:
    return b"".join(
        struct.pack(">II", len(block), len(packed := _raw_snappy(block))) + packed
        for block in _blocks(data, _HADOOP_BLOCK_BYTES)
    )


def _blocks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def _raw_snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


_FORMATS = {
    "UNCOMPRESSED": Compression("", None, bytes),
    "NONE": Compression("", None, bytes),
    "GZIP": Compression(".gz", "gzip", gzip.compress),
    "ZIP": Compression(".zip", "zip", _zip),
    "Snappy": Compression(".snappy", "snappy-java", _xerial),
    "HADOOP_SNAPPY": Compression(".snappy", "hadoop-snappy", _hadoop),
}
