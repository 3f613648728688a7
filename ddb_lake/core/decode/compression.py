"""The bytes of a landed object without the containers around them, recognised by content, never by name.

Firehose compresses with GZIP, ZIP, Snappy (the stream of snappy-java) or HADOOP_SNAPPY. Snappy's own framing, zstd, UTF-16
with a byte order mark and base64 are read too, and containers within containers up to MAX_CONTAINERS. Output is bounded,
checksums are verified if the format has them, and a damaged object is always an error: the error has the content that
could be read before (and, if its end is known, after) the damage.
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
from typing import Final

import cramjam

from ddb_lake.core.decode.kpl import MAGIC as KPL_MAGIC
from ddb_lake.core.decode.splitter import ION_PROBLEM
from ddb_lake.errors import UndecodableError

DEFAULT_LIMIT_BYTES: Final = 1 << 29
"""What one compressed object may grow to: four times the largest buffer of Firehose. It is held in memory."""

MAX_CONTAINERS: Final = 5
"""A file in UTF-16 that is compressed three times and sent as base64 needs five."""

_STEP_BYTES: Final = 1 << 16
_MOST_SEARCHES: Final = 64  # for a further gzip member behind damage: each may cost the whole object
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_LOCAL_HEADER: Final = struct.Struct("<4sHHHHHIIIHH")
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
    (re.compile(rb"PAR[1E]"), _CONVERTED.format("a Parquet")),
    (re.compile(rb"ORC(?=.{0,63}[\x00-\x08\x0e-\x1f]|.*ORC.\Z)", re.DOTALL), _CONVERTED.format("an ORC")),
    (re.compile(rb"\xe0\x01\x00\xea"), ION_PROBLEM),
    (re.compile(rb"BZh[1-9]1AY&SY"), "bzip2-compressed, which Firehose does not write"),
    (re.compile(rb"\xfd7zXZ\x00"), "xz-compressed, which Firehose does not write"),
)

_ZIP_FAULTS: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, OSError, RuntimeError, ValueError, OverflowError, LookupError,
)  # fmt: skip


class DamagedObjectError(UndecodableError):
    """A compressed object that is damaged, truncated or too large; `salvaged` is what could be read of it."""

    def __init__(self, message: str, salvaged: bytes = b"") -> None:
        super().__init__(message)
        self.salvaged = salvaged


class _Output:
    """Decompressed bytes, up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._parts: list[bytes] = []
        self.room_bytes = limit_bytes

    def add(self, part: bytes) -> None:
        if len(part) > self.room_bytes:
            self._parts.append(part[: self.room_bytes])
            self.room_bytes = 0
            raise _Fault("larger than the limit when decompressed")
        self._parts.append(part)
        self.room_bytes -= len(part)

    def end_line(self) -> None:
        """Keep what follows apart from a record that broke off; a newline is never part of a record."""
        self._parts.append(b"\n")

    def joined(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class _Fault(Exception):
    """Why decompression cannot go on; becomes a DamagedObjectError with the output so far."""


def decompress(data: bytes, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> bytes:
    """The content of a landed object: gzip (all members), zip (all files), Snappy (any of its four forms), zstd, UTF-16 or
    UTF-32 with a byte order mark, base64 (of the whole or of each line), any of these within each other, or none.

    Hadoop and raw Snappy have no magic, and base64 has none. They are tried if the bytes do not begin like JSON, and
    accepted if they decode to bytes that do (base64 also to another container).

    Raises:
        DamagedObjectError: damaged, truncated, larger than `limit_bytes` when decompressed, or of a format
            that holds no JSON. Its `salvaged` is what could be read, at most `limit_bytes` and a newline per gap.
    """
    damage = ""
    for level in range(MAX_CONTAINERS + 1):
        if _JSON_START(data):
            break
        output = _Output(limit_bytes)
        try:
            if not _open(data, output):
                break
        except _Fault as fault:
            damage = damage or str(fault)
        if level == MAX_CONTAINERS:
            raise DamagedObjectError(damage or f"containers within each other, more than {MAX_CONTAINERS} deep")
        data = output.joined()
    if damage:
        raise DamagedObjectError(damage, data)
    return data


def is_known_start(data: bytes) -> bool:
    """Whether bytes begin like JSON or like a container that has a magic."""
    magics = (_GZIP_MAGIC, *_ZIP_MAGICS, _SNAPPY_STREAM, _SNAPPY_JAVA_MAGIC, *(mark for mark, _ in _BYTE_ORDER_MARKS))
    return bool(_JSON_START(data) or data.startswith((*magics, KPL_MAGIC)) or _ZSTD_START(data))


def is_base64_start(data: bytes) -> bool:
    """Whether bytes begin with so many characters of base64 that other content is improbable."""
    return _BASE64_START(data) is not None


def _open(data: bytes, output: _Output) -> bool:
    """Whether the bytes are a container; if so its content is in the output. Raises _Fault, DamagedObjectError."""
    for begins, reason in _FOREIGN:
        if begins.match(data):
            raise DamagedObjectError(reason)
    if data.startswith(_GZIP_MAGIC):
        _read_gzip(data, output)
    elif data.startswith(_ZIP_MAGICS):
        _read_zip(data, output)
    elif data.startswith(_SNAPPY_STREAM):
        _read_framed_snappy(data, output)
    elif data.startswith(_SNAPPY_JAVA_MAGIC):
        _read_java_snappy(data, output)
    elif _ZSTD_START(data):
        _read_zstd(data, output)
    else:
        return _read_text(data, output) or _read_unmarked_snappy(data, output) or _read_base64(data, output)
    return True


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
                    raise _Fault(f"{encoding} text damaged or truncated near byte {start}") from None
            return True
    return False


def _read_base64(data: bytes, output: _Output) -> bool:
    """Whether the bytes are base64, in one or several pieces, of JSON or of a container; if so they are in the output."""
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


def _read_zstd(data: bytes, output: _Output) -> None:
    """Decompress all frames. A frame may not state its size, so the buffer grows until it holds them, up to the limit."""
    size = min(max(_STEP_BYTES, 8 * len(data)), output.room_bytes)
    while True:
        buffer = bytearray(size)
        try:
            written = cramjam.zstd.decompress_into(data, buffer)
        except cramjam.DecompressionError as error:
            too_small = "whole buffer" in str(error)
            if too_small and size < output.room_bytes:
                size = min(8 * size, output.room_bytes)
                continue
            output.add(bytes(buffer.rstrip(b"\0")))  # what was written: JSON has no zero bytes
            raise _Fault(
                "larger than the limit when decompressed" if too_small else "zstd damaged or truncated"
            ) from None
        output.add(bytes(memoryview(buffer)[:written]))
        return


def _read_gzip(data: bytes, output: _Output) -> None:
    damage, searches, position = "", 0, 0
    while 0 <= position < len(data):
        start = position
        if data.startswith(_GZIP_MAGIC, start):
            position, fault = _inflate(data, start, 31, output)
        elif data[start:].strip(b"\0"):
            fault = "bytes that are no gzip"
        else:  # gzip allows a padding of zeros
            break
        if fault:
            damage = damage or f"gzip damaged near byte {position}: {fault}"
            searches += 1
            position = data.find(_GZIP_MAGIC, start + 1) if searches < _MOST_SEARCHES else -1
            output.end_line()
    if damage:
        raise _Fault(damage)


def _inflate(data: bytes, start: int, wbits: int, output: _Output) -> tuple[int, str]:
    """Add one deflate stream to the output; its (exclusive) end and what is wrong with it, if anything."""
    engine = zlib.decompressobj(wbits)
    position = start
    while not engine.eof:
        block = data[position : position + _STEP_BYTES]
        if not block:
            return position, "it is truncated"
        try:
            part = engine.decompress(block, output.room_bytes + 1)
        except zlib.error:
            _inflate_bytewise(_inflated_to(data[start:position], wbits), block, output)
            return position, "its content or its checksum is wrong"
        output.add(part)
        position += len(block) - len(engine.unused_data)
    return position, ""


def _inflated_to(data: bytes, wbits: int) -> zlib._Decompress:
    """An engine that has taken these bytes, which are sound."""
    engine = zlib.decompressobj(wbits)
    for position in range(0, len(data), _STEP_BYTES):
        engine.decompress(data[position : position + _STEP_BYTES])
    return engine


def _inflate_bytewise(engine: zlib._Decompress, block: bytes, output: _Output) -> None:
    """Everything up to the faulty byte: zlib gives nothing of a block that has a fault anywhere."""
    for index in range(len(block)):
        try:
            part = engine.decompress(block[index : index + 1])
        except zlib.error:
            return
        output.add(part)


def _read_zip(data: bytes, output: _Output) -> None:
    damage = ""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except _ZIP_FAULTS:
        _read_zip_without_directory(data, output)
        raise _Fault("zip damaged: it is truncated or has no directory") from None
    with archive:
        for index, member in enumerate(archive.infolist()):
            if index:
                output.end_line()
            try:
                with archive.open(member) as file:
                    while part := file.read(_STEP_BYTES):
                        output.add(part)
            except _ZIP_FAULTS:
                damage = f"zip damaged: file {index + 1} cannot be read to its end"
    if damage:
        raise _Fault(damage)


def _read_zip_without_directory(data: bytes, output: _Output) -> None:
    position = 0
    while position >= 0 and len(data) - position >= _ZIP_LOCAL_HEADER.size:
        _, _, _, method, _, _, _, size, _, name_size, extra_size = _ZIP_LOCAL_HEADER.unpack_from(data, position)
        start = position + _ZIP_LOCAL_HEADER.size + name_size + extra_size
        if method == zipfile.ZIP_DEFLATED:
            end, _ = _inflate(data, start, -15, output)
        else:
            end = start + size if method == zipfile.ZIP_STORED else start
            output.add(data[start:end])
        output.end_line()
        position = data.find(_ZIP_MAGICS[0], end)


def _read_framed_snappy(data: bytes, output: _Output) -> None:
    position, damage = 0, ""
    while position < len(data):
        kind, size = data[position], int.from_bytes(data[position + 1 : position + 4], "little")
        chunk = data[position : position + 4 + size]
        if len(chunk) < 4 + size:
            raise _Fault(damage or "Snappy damaged: it is truncated")
        if kind <= 0x01:
            try:
                output.add(bytes(cramjam.snappy.decompress(_SNAPPY_STREAM + chunk)))
            except cramjam.DecompressionError:
                damage = damage or f"Snappy damaged: the chunk at byte {position} or its checksum is wrong"
                output.end_line()
        elif kind < 0x80 or (kind == 0xFF and chunk != _SNAPPY_STREAM):
            raise _Fault(damage or f"Snappy damaged: no chunk at byte {position}")
        position += len(chunk)
    if damage:
        raise _Fault(damage)


def _read_java_snappy(data: bytes, output: _Output) -> None:
    """Streams of snappy-java: a header, then blocks of a big-endian u32 (size compressed) and raw Snappy.

    No magic can be a size, so a header in the place of a block begins a further stream. There is no checksum.
    """
    position, damage = 0, ""
    while position < len(data):
        if data.startswith(_SNAPPY_JAVA_MAGIC, position):
            start = end = position + _SNAPPY_JAVA_HEADER_BYTES
        else:
            start = position + 4
            end = start + int.from_bytes(data[position:start], "big")
        if end > len(data):
            raise _Fault(damage or f"Snappy damaged or truncated at byte {position}")
        if end > start:
            part = _raw_snappy(data[start:end], output, True)
            if part is None:
                damage = damage or f"Snappy damaged: the block at byte {position} is wrong"
                output.end_line()
            else:
                output.add(part)
        position = end
    if damage:
        raise _Fault(damage)


def _read_unmarked_snappy(data: bytes, output: _Output) -> bool:
    """Whether the bytes were Hadoop or raw Snappy of JSON; if so they are in the output."""
    if _read_hadoop_snappy(data, output):
        return True
    part = _raw_snappy(data, output, False)
    if part is None or not _OBJECT_START(part):
        return False
    output.add(part)
    return True


def _read_hadoop_snappy(data: bytes, output: _Output) -> bool:
    """Blocks of a big-endian u32 (size decompressed) and then, until that is reached, u32 and raw Snappy."""
    position, believed = 0, False
    while position < len(data):
        missing = int.from_bytes(data[position : position + 4], "big") if position + 4 <= len(data) else -1
        if missing < 0 and believed:
            raise _Fault(f"Hadoop Snappy truncated at byte {position}")
        position += 4
        while missing > 0:
            size = int.from_bytes(data[position : position + 4], "big")
            chunk = data[position + 4 : position + 4 + size]
            part = _raw_snappy(chunk, output, believed) if len(chunk) == size else None
            if part is None or len(part) > missing or not (believed or _OBJECT_START(part)):
                if believed:
                    raise _Fault(f"Hadoop Snappy damaged or truncated at byte {position}")
                return False
            output.add(part)
            believed = True
            missing -= len(part)
            position += 4 + size
    return believed


def _raw_snappy(chunk: bytes, output: _Output, believed: bool) -> bytes | None:
    """The content of raw Snappy; None for what is none. It is too large only if believed or evidently of JSON."""
    try:
        size = cramjam.snappy.decompress_raw_len(chunk) if chunk else 0
        if not 0 < size <= _SNAPPY_MOST_RATIO * len(chunk):
            return None
        if size > output.room_bytes:
            if believed or _raw_snappy_starts_like_json(chunk):
                raise _Fault("larger than the limit when decompressed")
            return None
        return bytes(cramjam.snappy.decompress_raw(chunk))
    except cramjam.DecompressionError:
        return None


def _raw_snappy_starts_like_json(chunk: bytes) -> bool:
    """Whether the first element, behind the size, is a literal that begins like an object or array."""
    header = _RAW_SNAPPY_LITERAL(chunk)
    return header is not None and _OBJECT_START(chunk, header.end()) is not None
