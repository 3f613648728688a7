"""Adds the logical type LIST to the footers of Parquet files that DuckDB wrote.

DuckDB's COPY annotates a list only with its converted type, which Parquet has deprecated. Iceberg requires the logical type
(https://iceberg.apache.org/spec/#parquet), and Daft cannot read a list without it.

A footer is a Thrift structure in the compact protocol:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. Its fields are those of `FileMetaData` and
`SchemaElement` in https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift. The schema is the second
field, so the rest of the footer is copied without parsing it.
"""

from __future__ import annotations

from pathlib import Path

MAGIC = b"PAR1"
_TAIL_BYTES = 8
"""A file ends with the length of the footer (4 bytes, little-endian) and `MAGIC`."""

_VERSION, _SCHEMA = 1, 2
_CONVERTED_TYPE, _LOGICAL_TYPE = 6, 10
_LIST_CONVERTED = 3
_LIST_LOGICAL = bytes([0x3C, 0x00, 0x00])
"""The union LogicalType with its third field, a structure without fields. The two zeros end the structure and the union."""

_TRUE, _FALSE, _BYTE, _INT16, _INT32, _INT64, _BINARY, _LIST, _STRUCT = 1, 2, 3, 4, 5, 6, 8, 9, 12
"""Types of fields. A boolean has no bytes: its type is its value. All integers except a byte have variable length."""


class UnknownFooterError(ValueError):
    """The bytes do not have the form of a footer that DuckDB writes."""


def annotate_lists(path: Path) -> None:
    """Add the logical type to each list in the footer of a local file. A file whose lists all have it is not changed.

    Raises:
        UnknownFooterError: the file does not end with a footer, or its footer has another form than DuckDB's.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        if size < _TAIL_BYTES:
            raise UnknownFooterError(f"{path} has {size} bytes")
        file.seek(size - _TAIL_BYTES)
        tail = file.read(_TAIL_BYTES)
        start = size - _TAIL_BYTES - int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or start < len(MAGIC):
            raise UnknownFooterError(f"{path} does not end with a Parquet footer")
        file.seek(start)
        footer = file.read(size - _TAIL_BYTES - start)
        annotated = with_list_types(footer)
        if annotated != footer:
            file.seek(start)
            file.write(annotated + len(annotated).to_bytes(4, "little") + MAGIC)


def with_list_types(footer: bytes) -> bytes:
    """The same footer, in which each list also has the logical type. Raises UnknownFooterError."""
    try:
        return _Footer(footer).annotated()
    except IndexError as error:
        raise UnknownFooterError("the footer ends too early") from error


class _Footer:
    """A reader of the start of a footer, up to the end of the schema."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def annotated(self) -> bytes:
        first = self._field(0)
        if first is None:
            raise UnknownFooterError("the footer has no version")
        if first != (_VERSION, _INT32):
            raise UnknownFooterError(f"the footer begins with field {first[0]} of type {first[1]}, and not the version")
        self._integer()
        if self._field(_VERSION) != (_SCHEMA, _LIST):
            raise UnknownFooterError("the second field of the footer is not the schema")
        elements = self._list_size(_STRUCT)
        copied, parts = 0, []
        for _ in range(elements):
            last = self._list_element()
            if last is not None:
                header = bytes([(_LOGICAL_TYPE - last) << 4 | _STRUCT])
                parts += [self._data[copied : self._at - 1], header, _LIST_LOGICAL]
                copied = self._at - 1
        return b"".join([*parts, self._data[copied:]])

    def _list_element(self) -> int | None:
        """Read a schema element. Return the number of its last field if it is a list without the logical type, else None."""
        number, is_list = 0, False
        while (field := self._field(number)) is not None:
            number, kind = field
            if number == _CONVERTED_TYPE:
                is_list = self._integer() == _LIST_CONVERTED
            else:
                self._skip(kind)
        return number if is_list and number < _LOGICAL_TYPE else None

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _integer(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _field(self, previous: int) -> tuple[int, int] | None:
        """Number and type of the next field of a structure; None at its end."""
        header = self._byte()
        if header == 0:
            return None
        step, kind = header >> 4, header & 0x0F
        return (previous + step if step else self._integer()), kind

    def _list_size(self, kind: int) -> int:
        header = self._byte()
        if header & 0x0F != kind:
            raise UnknownFooterError(f"a list has elements of type {header & 0x0F} instead of {kind}")
        return header >> 4 if header >> 4 < 15 else self._unsigned()

    def _skip(self, kind: int) -> None:
        if kind in (_TRUE, _FALSE):
            return
        if kind == _BYTE:
            self._byte()
        elif kind in (_INT16, _INT32, _INT64):
            self._unsigned()
        elif kind == _BINARY:
            size = self._unsigned()
            self._at += size
        elif kind == _STRUCT:
            number = 0
            while (field := self._field(number)) is not None:
                number = field[0]
                self._skip(field[1])
        else:
            raise UnknownFooterError(f"the schema has a field of type {kind}")
