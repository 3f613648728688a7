"""The frame of an Avro file: header and blocks lie within its bytes.

pyiceberg's decoder reads memory behind the bytes of a file that is cut short or damaged, which may end the process. This check
reads no further than the bytes. https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

MAGIC = b"Obj\x01"
SYNC_BYTES = 16
_LONGEST_VARINT = 10


def frame_fault(data: bytes) -> str | None:
    """Why the bytes are not a complete Avro file, in words; None if they are one. What is inside of blocks is not looked at."""
    if not data.startswith(MAGIC):
        return "it is no Avro file"
    reader = _Frame(data, len(MAGIC))
    try:
        while entries := reader.number():
            if entries < 0:  # then the size of the entries in bytes follows
                reader.number()
            for _ in range(2 * abs(entries)):  # names and values
                reader.skip(reader.number())
        sync = reader.take(SYNC_BYTES)
        while reader.at < len(data):
            reader.number()  # of records
            reader.skip(reader.number())
            if reader.take(SYNC_BYTES) != sync:
                return "it is damaged: a block does not end with the sync marker"
    except EOFError:
        return "it is cut short"
    return None


class _Frame:
    """A position within bytes. Each method raises EOFError if what it reads is not completely there."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self.at = data, at

    def number(self) -> int:
        """A zigzag varint."""
        value = shift = 0
        for byte in self._data[self.at : self.at + _LONGEST_VARINT]:
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise EOFError

    def skip(self, size_bytes: int) -> None:
        if not 0 <= size_bytes <= len(self._data) - self.at:
            raise EOFError
        self.at += size_bytes

    def take(self, size_bytes: int) -> bytes:
        start = self.at
        self.skip(size_bytes)
        return self._data[start : self.at]
