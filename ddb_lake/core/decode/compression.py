"""Containers: take a landed object's bytes out of compression and text encodings.

The content decides which container it is, never the object's name. Firehose compresses with GZIP, ZIP, Snappy (the stream of
snappy-java) or HADOOP_SNAPPY. Snappy's own framing, zstd, UTF-16 or UTF-32 with a byte order mark, and base64 are read too, and
containers within containers, up to MAX_CONTAINERS.

https://docs.aws.amazon.com/firehose/latest/APIReference/API_S3DestinationConfiguration.html

Promises: the output is bounded, and checksums are verified if the format has them. A damaged container is always an error,
and nothing of it is read, with one exception. Of gzip, the complete members before the damage are read, and of a truncated
member what comes before the cut (decision 0055).
"""

from __future__ import annotations

import binascii
import codecs
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Final

import cramjam
from isal import isal_zlib

from ddb_lake.core.decode.kpl import MAGIC as KPL_MAGIC
from ddb_lake.core.decode.splitter import ION_PROBLEM
from ddb_lake.errors import UndecodableError

DEFAULT_LIMIT_BYTES: Final = 1 << 29
"""What one compressed object may grow to: four times the largest buffer of Firehose. It is held in memory."""

MAX_CONTAINERS: Final = 5
"""A file in UTF-16 that is compressed three times and sent as base64 needs five."""

_STEP_BYTES: Final = 1 << 16
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_PLAIN_GZIP: Final = (b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08")  # a header without a part, or with a file's name
_STEP_GROWTH: Final = 4
_ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_SNAPPY_STREAM: Final = b"\xff\x06\x00\x00sNaPpY"
_SNAPPY_JAVA_MAGIC: Final = b"\x82SNAPPY\x00"
_SNAPPY_JAVA_HEADER_BYTES: Final = 16  # the magic, the version, and the lowest version that can read it
_SNAPPY_MOST_RATIO: Final = 24  # a copy of 64 bytes takes 3
_JSON_START: Final = re.compile(rb'(?:[ \t\r\n]|\xef\xbb\xbf)*+(?:\{[ \t\r\n]*+["}]|\[[ \t\r\n]*+["\[\]{0-9-])').match
_RAW_SNAPPY_LITERAL: Final = re.compile(
    rb"[\x80-\xff]{0,4}[\x00-\x7f]"  # the size decompressed, a varint
    rb"(?:[\x00\x04\x08\x0c\x10-\xec]|\xf0.|\xf4..|\xf8...|\xfc....)",  # a literal's tag and its size
    re.DOTALL,
).match
_OBJECT_START: Final = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*+[{\[]").match

_ZSTD_START: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18").match  # a frame, or one that is skipped
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BASE64_START: Final = re.compile(rb"[ \t\r\n]*+(?:[A-Za-z0-9+/][\r\n]*+){15}").match
_BASE64_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_BASE64_SEGMENT: Final = re.compile(rb"[^=]++=*+").findall
_CONVERTED: Final = (
    "{} file: Firehose's record format conversion is on. Switch it off (DataFormatConversionConfiguration, Enabled: false),"
    " so that JSON is delivered. DynamoDB's types are lost in this object, so the changes in it cannot be read: load an"
    " export that covers its time"
)

_FOREIGN: Final = (
    (re.compile(rb"PAR[1E]").match, _CONVERTED.format("a Parquet")),
    (re.compile(rb"ORC(?=.{0,63}[\x00-\x08\x0e-\x1f]|.*ORC.\Z)", re.DOTALL).match, _CONVERTED.format("an ORC")),
    (re.compile(rb"\xe0\x01\x00\xea").match, ION_PROBLEM),
    (re.compile(rb"BZh[1-9]1AY&SY").match, "bzip2-compressed, which Firehose does not write"),
    (re.compile(rb"\xfd7zXZ\x00").match, "xz-compressed, which Firehose does not write"),
)

_ZIP_FAULTS: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, ValueError, OverflowError, LookupError,
)  # fmt: skip
TOO_LARGE: Final = "larger than the limit when decompressed"


class DamagedObjectError(UndecodableError):
    """A container that is damaged, truncated, too large, or of a format that holds no JSON.

    `readable`: the content before the damage, if it may be used.
    """

    def __init__(self, message: str, readable: bytes = b"") -> None:
        super().__init__(message)
        self.readable = readable


class _Output:
    """Decompressed bytes, up to a limit. Raises DamagedObjectError beyond it."""

    def __init__(self, limit_bytes: int) -> None:
        self.parts: list[bytes] = []
        self.room_bytes = limit_bytes

    def add(self, part: bytes) -> None:
        if len(part) > self.room_bytes:
            raise DamagedObjectError(TOO_LARGE)
        self.parts.append(part)
        self.room_bytes -= len(part)

    def end_line(self) -> None:
        """Separate two files or pieces; a newline is never part of a record."""
        self.parts.append(b"\n")

    def joined(self) -> bytes:
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


def decompress(data: bytes, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> bytes:
    """The content of a landed object: the bytes themselves if they are no container.

    Containers: gzip (all members), zip (all files), Snappy (any of its four forms), zstd, UTF-16 or UTF-32 with a byte order
    mark, base64 (of the whole or of each line), and any of these within each other.

    Hadoop and raw Snappy have no magic, and base64 has none. They are tried if the bytes do not begin like JSON, and
    accepted if they decode to bytes that do (base64 also to another container).

    Args:
        limit_bytes: the greatest size of the content of one container.

    Raises:
        DamagedObjectError: damaged, truncated, larger than `limit_bytes` when decompressed, or of a format
            that holds no JSON.
    """
    damage = ""
    for _ in range(MAX_CONTAINERS + 1):
        if _JSON_START(data):
            break
        try:
            content = _open(data, limit_bytes)
        except DamagedObjectError as error:
            damage, content = damage or str(error), error.readable
        if content is None:
            break
        data = content
    else:
        raise DamagedObjectError(damage or f"containers within each other, more than {MAX_CONTAINERS} deep")
    if damage:
        raise DamagedObjectError(damage, data)
    return data


def is_known_start(data: bytes) -> bool:
    """Whether bytes begin like JSON or like a container that has a magic."""
    magics = (_GZIP_MAGIC, *_ZIP_MAGICS, _SNAPPY_STREAM, _SNAPPY_JAVA_MAGIC, *(mark for mark, _ in _BYTE_ORDER_MARKS))
    return bool(_JSON_START(data) or data.startswith((*magics, KPL_MAGIC)) or _ZSTD_START(data))


def container_name(data: bytes) -> str:
    """The outermost container of a landed object, in words; `not compressed` for bytes that begin like JSON."""
    if _JSON_START(data):
        return "not compressed"
    known = (
        (data.startswith(_GZIP_MAGIC), "gzip"),
        (data.startswith(_ZIP_MAGICS), "zip"),
        (data.startswith((_SNAPPY_STREAM, _SNAPPY_JAVA_MAGIC)), "Snappy"),
        (_ZSTD_START(data) is not None, "zstd"),
    )
    name = next((name for matches, name in known if matches), None)
    if name is not None:
        return name
    try:
        return "another container" if _open(data, DEFAULT_LIMIT_BYTES) is not None else "unknown"
    except DamagedObjectError as error:
        return str(error)


def is_base64_start(data: bytes) -> bool:
    """Whether bytes begin with so many characters of base64 that other content is improbable."""
    return _BASE64_START(data) is not None


def _open(data: bytes, limit_bytes: int) -> bytes | None:
    """The content of one container; None if the bytes are none. Raises DamagedObjectError."""
    output = _Output(limit_bytes)
    if data.startswith(_GZIP_MAGIC):
        _read_gzip(data, output)
        return output.joined()
    for matches, reason in _FOREIGN:
        if matches(data):
            raise DamagedObjectError(reason)
    if data.startswith(_ZIP_MAGICS):
        _read_zip(data, output)
    elif data.startswith(_SNAPPY_STREAM):
        _read_frames(cramjam.snappy.decompress_into, data, output, "Snappy")
    elif data.startswith(_SNAPPY_JAVA_MAGIC):
        _read_java_snappy(data, output)
    elif _ZSTD_START(data):
        _read_frames(cramjam.zstd.decompress_into, data, output, "zstd")
    elif not (
        _read_text(data, output)
        or _read_hadoop_snappy(data, output)
        or _read_raw_snappy(data, output)
        or _read_base64(data, output)
    ):
        return None
    return output.joined()


def _read_gzip(data: bytes, output: _Output) -> None:
    position = 0
    while position < len(data):
        if data.startswith(_GZIP_MAGIC, position):
            position = _read_gzip_member(data, position, output)
        elif data[position:].strip(b"\0"):
            raise DamagedObjectError(f"gzip damaged near byte {position}: bytes that are no gzip", output.joined())
        else:  # gzip allows a padding of zeros
            return


def _read_gzip_member(data: bytes, start: int, output: _Output) -> int:
    """Add one member to the output; returns the position after it."""
    position = _read_sound_gzip_member(data, start, output)
    return _read_any_gzip_member(data, start, output) if position is None else position


def _read_sound_gzip_member(data: bytes, start: int, output: _Output) -> int | None:
    """`_read_gzip_member` by ISA-L, in half of zlib's time or less; None, and no output, for a member that zlib must judge.

    What ISA-L reads to the end has the checksum and the size that the trailer states. It reports some damage as truncation, and it
    accepts headers that zlib refuses, so it gets those in `_PLAIN_GZIP` only. The trailer of no content is zeros, which proves nothing.
    """
    if not data.startswith(_PLAIN_GZIP, start):
        return None
    engine = isal_zlib.decompressobj(31)
    parts: list[bytes] = []
    position, step, room_bytes = start, _STEP_BYTES, output.room_bytes
    while not engine.eof:
        block = data[position : position + step]
        try:
            part = engine.decompress(block, room_bytes + 1) if block else None
        except isal_zlib.error:  # type: ignore[misc]  # the stub has an exception in place of its class
            return None
        if part is None or len(part) > room_bytes:
            return None
        parts.append(part)
        room_bytes -= len(part)
        position += len(block) - len(engine.unused_data)
        step = _STEP_GROWTH * (position - start)  # what a block has behind its member is copied
    if not any(parts):
        return None
    for part in parts:
        output.add(part)
    return position


def _read_any_gzip_member(data: bytes, start: int, output: _Output) -> int:
    """`_read_gzip_member` by zlib, which distinguishes truncation from damage."""
    engine = zlib.decompressobj(31)
    complete = len(output.parts)
    position = start
    while not engine.eof:
        block = data[position : position + _STEP_BYTES]
        if not block:  # nothing contradicts what was read
            raise DamagedObjectError(f"gzip damaged near byte {position}: it is truncated", output.joined())
        try:
            part = engine.decompress(block, output.room_bytes + 1)
        except zlib.error:
            del output.parts[complete:]  # any byte of this member may be wrong, although it could be decompressed
            reason = f"gzip damaged near byte {position}: its content or its checksum is wrong"
            raise DamagedObjectError(reason, output.joined()) from None
        output.add(part)
        position += len(block) - len(engine.unused_data)
    return position


def _read_zip(data: bytes, output: _Output) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for index, member in enumerate(archive.infolist()):
                if index:
                    output.end_line()
                with archive.open(member) as file:
                    while part := file.read(_STEP_BYTES):
                        output.add(part)
    except DamagedObjectError:
        raise
    except RuntimeError as error:  # zipfile's for an encrypted member, and for a compression that it does not have
        raise DamagedObjectError(f"zip that is not read: {error}") from error
    except _ZIP_FAULTS as error:
        raise DamagedObjectError("zip damaged or truncated") from error


def _read_frames(decompress_into: Callable[[bytes, bytearray], int], data: bytes, output: _Output, name: str) -> None:
    """Decompress all frames of a format. The size is not known, so the buffer grows until it holds them, up to the limit."""
    size = min(max(_STEP_BYTES, 8 * len(data)), output.room_bytes)
    while True:
        buffer = bytearray(size)
        try:
            written = decompress_into(data, buffer)
        except cramjam.DecompressionError as error:
            if "write whole buffer" not in str(error):
                raise DamagedObjectError(f"{name} damaged or truncated") from None
            if size == output.room_bytes:
                raise DamagedObjectError(TOO_LARGE) from None
            size = min(8 * size, output.room_bytes)
        else:
            output.add(bytes(memoryview(buffer)[:written]))
            return


def _read_java_snappy(data: bytes, output: _Output) -> None:
    """Streams of snappy-java: a header, then blocks of a big-endian u32 (compressed size) and raw Snappy.

    The magic is no possible size, so a header in the place of a block begins another stream. There is no checksum.
    """
    position = 0
    while position < len(data):
        if data.startswith(_SNAPPY_JAVA_MAGIC, position):
            start = end = position + _SNAPPY_JAVA_HEADER_BYTES
        else:
            start = position + 4
            end = start + int.from_bytes(data[position:start], "big")
        if end > len(data):
            raise DamagedObjectError(f"Snappy damaged or truncated at byte {position}")
        if end > start:
            part = _raw_snappy(data[start:end], output.room_bytes, certain=True)
            if part is None:
                raise DamagedObjectError(f"Snappy damaged: the block at byte {position} is wrong")
            output.add(part)
        position = end


def _read_hadoop_snappy(data: bytes, output: _Output) -> bool:
    """Blocks of a big-endian u32 (decompressed size) and then, until that is reached, u32 and raw Snappy.

    Returns False if the first chunk does not decompress to JSON; after it, the format is certain.
    """
    position, certain = 0, False
    while position < len(data):
        missing = int.from_bytes(data[position : position + 4], "big") if position + 4 <= len(data) else -1
        if missing < 0 and certain:
            raise DamagedObjectError(f"Hadoop Snappy truncated at byte {position}")
        position += 4
        while missing > 0:
            size = int.from_bytes(data[position : position + 4], "big")
            chunk = data[position + 4 : position + 4 + size]
            part = _raw_snappy(chunk, output.room_bytes, certain) if len(chunk) == size else None
            if part is None or len(part) > missing or not (certain or _OBJECT_START(part)):
                if certain:
                    raise DamagedObjectError(f"Hadoop Snappy damaged or truncated at byte {position}")
                return False
            output.add(part)
            certain = True
            missing -= len(part)
            position += 4 + size
    return certain


def _read_raw_snappy(data: bytes, output: _Output) -> bool:
    """Whether the bytes are raw Snappy of JSON; if so the JSON is in the output."""
    part = _raw_snappy(data, output.room_bytes, certain=False)
    if part is None or not _OBJECT_START(part):
        return False
    output.add(part)
    return True


def _raw_snappy(chunk: bytes, room_bytes: int, certain: bool) -> bytes | None:
    """The content of raw Snappy; None for other bytes.

    Raises DamagedObjectError if it is larger than `room_bytes`, and either the format is `certain` or it begins like JSON.
    """
    try:
        size = cramjam.snappy.decompress_raw_len(chunk) if chunk else 0
        if not 0 < size <= _SNAPPY_MOST_RATIO * len(chunk):
            return None
        if size > room_bytes:
            if certain or _raw_snappy_starts_like_json(chunk):
                raise DamagedObjectError(TOO_LARGE)
            return None
        return bytes(cramjam.snappy.decompress_raw(chunk))
    except cramjam.DecompressionError:
        return None


def _raw_snappy_starts_like_json(chunk: bytes) -> bool:
    """Whether the first element, behind the size, is a literal that begins like an object or array."""
    header = _RAW_SNAPPY_LITERAL(chunk)
    return header is not None and _OBJECT_START(chunk, header.end()) is not None


def _read_text(data: bytes, output: _Output) -> bool:
    """Whether the bytes begin with a byte order mark of UTF-16 or UTF-32; if so they are in the output as UTF-8."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            decoder = codecs.getincrementaldecoder(encoding)()
            for start in range(len(mark), len(data), _STEP_BYTES):
                step = data[start : start + _STEP_BYTES]
                try:
                    output.add(decoder.decode(step, start + len(step) == len(data)).encode())
                except UnicodeError:
                    raise DamagedObjectError(f"{encoding} text damaged or truncated near byte {start}") from None
            return True
    return False


def _read_base64(data: bytes, output: _Output) -> bool:
    """Whether the bytes are base64, in one or several pieces, of JSON or of a container; if so the content is in the output."""
    if not _BASE64_START(data):
        return False
    compact = data.translate(None, b" \t\r\n")
    if compact.translate(None, _BASE64_ALPHABET):
        return False
    try:
        parts = [binascii.a2b_base64(segment, strict_mode=True) for segment in _BASE64_SEGMENT(compact)]
    except ValueError:
        return False
    if not is_known_start(parts[0]) and not is_base64_start(parts[0]):
        return False
    for part in parts:
        output.add(part)
        if _OBJECT_START(part):
            output.end_line()
    return True
