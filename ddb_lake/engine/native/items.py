"""Read the values of known attributes from many documents at once by the record kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from ddb_lake.core.schema.table_schema import DECIMAL
from ddb_lake.engine.native.library import TAGS, Attribute, Column, Items

_I32: Final = ctypes.c_int32

_VIEW_BYTES: Final = 16


@dataclass(slots=True)
class KnownAttribute:
    """An attribute of an item whose values are read.

    Attributes:
        name: the name.
        places: the places of its values in a row, by type tag.
        members: the known members, by name, if it is a map. Then `places` has no M.
    """

    name: str
    places: dict[str, int] = field(default_factory=dict)
    members: dict[str, KnownAttribute] = field(default_factory=dict)

    @classmethod
    def of_pointers(cls, pointers: Sequence[str]) -> KnownAttribute | None:
        """An item whose attributes have the values that JSON Pointers within the item name, in their order.

        Returns None if a pointer names something else, such as a value with its type tag, or a part of another one.
        """
        item = cls("")
        for place, pointer in enumerate(pointers):
            names = [name.replace("~1", "/").replace("~0", "~") for name in pointer.split("/")[1:]]
            if not names or len(names) % 2 or names[-1] not in TAGS or any(tag != "M" for tag in names[1:-1:2]):
                return None
            known = item
            for name in names[::2]:
                if "M" in known.places:
                    return None
                known = known.members.setdefault(name, cls(name))
            if names[-1] in known.places or (names[-1] == "M" and known.members):
                return None
            known.places[names[-1]] = place
        return item

    def with_members(self) -> list[KnownAttribute]:
        """The attribute and all below it, in the kernel's order: level by level, the members of each follow each other."""
        known = [self]
        for one in known:
            known.extend(one.members.values())
        return known


class ItemReader:
    """Reads documents that are valid items of known attributes, each once and of the expected type, and nothing else.

    Threads may read at once.

    Args:
        library: of `library.load`.
        member: the only member of a document, which is the item; None if the document is the item.
        item: the known attributes, as members.
        types: what is read at each place: `string` (the text of a value; lists and maps as JSON), `list<string>` (the texts of a set),
            `boolean` (BOOL and NULL), `long` or `decimal(precision,scale)` (a number).
    """

    def __init__(self, library: Any, member: str | None, item: KnownAttribute, types: Sequence[str]) -> None:
        self._read_items = library.ddb_lake_read_items
        self._member = None if member is None else member.encode()
        self._columns = [_Column.of_type(column_type) for column_type in types]
        self._names = ["is_read", *map(str, range(len(types)))]
        self._texts_in_a_row = [0.0] * len(types)
        known = item.with_members()
        self._attributes = (Attribute * len(known))()
        # a name with a surrogate is in no document
        self._attribute_names = [one.name.encode(errors="surrogatepass") for one in known]
        first = 1
        for place, (one, name) in enumerate(zip(known, self._attribute_names, strict=True)):
            columns = (_I32 * len(TAGS))(*(one.places.get(tag, -1) for tag in TAGS))
            self._attributes[place] = Attribute(name, len(name), columns, first, len(one.members))
            first += len(one.members)

    def read(self, documents: Any) -> pa.StructArray:
        """For each document, `is_read`: whether it was read, and its values, in fields that are named by their places from 0.

        A value is NULL if the document does not have the attribute. Strings have their escapes resolved. A document that was not read
        has no values, and may still be a valid item, such as one with a number that its type does not hold. NULL is not read.

        Args:
            documents: an Arrow array of strings, or a chunked one; their UTF-8 has at most 2,147,483,647 bytes together. The result
                refers to its bytes.

        Raises:
            MemoryError: as in Python.
            pyarrow.ArrowInvalid: there are more bytes.
        """
        if isinstance(documents, pa.ChunkedArray):  # `combine_chunks` copies also a single chunk
            documents = documents.chunk(0) if documents.num_chunks == 1 else documents.combine_chunks()
        if documents.type != pa.string():  # the kernel reads offsets of 32 bits
            documents = documents.cast(pa.string())
        if documents.null_count:  # behind NULL, Arrow allows any bytes
            documents = documents.fill_null("")
        rows, (_, offsets, data) = len(documents), documents.buffers()
        data = pa.allocate_buffer(0) if data is None else data
        items = Items(rows=rows, attribute_count=len(self._attributes), column_count=len(self._columns))
        items.attributes = ctypes.addressof(self._attributes)
        items.member, items.member_length = self._member, -1 if self._member is None else len(self._member)
        items.offsets = offsets.address + 4 * documents.offset
        first, last = (_I32.from_address(items.offsets + 4 * row).value for row in (0, rows))
        read, unescaped = pa.allocate_buffer(_bytes_of_bits(rows)), pa.allocate_buffer(last - first)
        items.data, items.read, items.unescaped = data.address, read.address, unescaped.address
        # a few more texts than before: with more yet, the documents are read again
        results = [
            _Result.of_rows(column, rows, int(1.1 * rows * texts) + 64)
            for column, texts in zip(self._columns, self._texts_in_a_row, strict=True)
        ]
        columns = (Column * len(results))(*(result.column() for result in results))
        items.columns = ctypes.addressof(columns)
        while True:
            if self._read_items(ctypes.byref(items)) < 0:
                raise MemoryError
            short = [place for place, column in enumerate(columns) if column.count > column.capacity]
            if not short:
                break
            for place in short:
                self._texts_in_a_row[place] = columns[place].count / rows
                results[place] = _Result.of_rows(self._columns[place], rows, columns[place].count)
                columns[place] = results[place].column()
        arrays = [
            result.array(rows, column.count, [data, unescaped]) for result, column in zip(results, columns, strict=True)
        ]
        flags = pa.Array.from_buffers(pa.bool_(), rows, [None, read])
        return pa.StructArray.from_arrays([flags, *arrays], self._names)


@dataclass(frozen=True, slots=True)
class _Column:
    """What is read at a place. `kind`: its number in the kernel. `row_bits`: the room of a value."""

    kind: int
    arrow: pa.DataType
    row_bits: int
    whole: int = 0
    scale: int = 0

    @classmethod
    def of_type(cls, column_type: str) -> _Column:
        """Of a column type."""
        if column_type in _COLUMNS:
            return _COLUMNS[column_type]
        match = DECIMAL.fullmatch(column_type)
        assert match is not None, column_type
        precision, scale = int(match[1]), int(match[2])
        return cls(2, pa.decimal128(precision, scale), 128, precision - scale, scale)


_COLUMNS: Final = {
    "string": _Column(0, pa.string_view(), 128),
    "long": _Column(1, pa.int64(), 64),
    "boolean": _Column(3, pa.bool_(), 1),
    "list<string>": _Column(4, pa.list_(pa.string_view()), 32),
}


@dataclass(frozen=True, slots=True)
class _Result:
    """The buffers of a column that the kernel writes. `texts` has room for the views of `capacity` texts, if it is a column of sets."""

    of: _Column
    valid: Any
    values: Any
    texts: Any
    capacity: int

    @classmethod
    def of_rows(cls, column: _Column, rows: int, capacity: int) -> _Result:
        """For a number of rows."""
        capacity = capacity if column is _COLUMNS["list<string>"] else 0
        valid, values = (pa.allocate_buffer(_bytes_of_bits(bits)) for bits in (rows, column.row_bits * (rows + 1)))
        return cls(column, valid, values, pa.allocate_buffer(_VIEW_BYTES * capacity), capacity)

    def column(self) -> Column:
        """As the kernel gets it."""
        return Column(
            self.of.kind,
            self.of.whole,
            self.of.scale,
            self.valid.address,
            self.values.address,
            self.texts.address,
            self.capacity,
        )

    def array(self, rows: int, texts: int, data: list[Any]) -> pa.Array:
        """The column that was read. `texts`: the number of texts in its sets. `data`: the buffers that views refer to."""
        kind = self.of.arrow
        if pa.types.is_list(kind):
            members = pa.Array.from_buffers(kind.value_type, texts, [None, self.texts, *data])
            return pa.Array.from_buffers(kind, rows, [self.valid, self.values], children=[members])
        return pa.Array.from_buffers(kind, rows, [self.valid, self.values, *(data if kind == pa.string_view() else ())])


def _bytes_of_bits(bits: int) -> int:
    return (bits + 7) // 8
