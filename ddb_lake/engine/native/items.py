"""Read the texts of known attributes from many documents at once by the record kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from ddb_lake.engine.native.library import TAGS, Attribute, Items

_I32: Final = ctypes.c_int32

ROW_TYPE: Final = "STRUCT(is_read BOOLEAN, texts VARCHAR[])"
"""DuckDB's type of a row of `ItemReader.read`."""


@dataclass(slots=True)
class KnownAttribute:
    """An attribute of an item whose texts are read.

    Attributes:
        name: the name.
        places: the places of its texts in a row, by type tag.
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
        texts: the number of texts of a row.
    """

    def __init__(self, library: Any, member: str | None, item: KnownAttribute, texts: int) -> None:
        self._read_items = library.ddb_lake_read_items
        self._member = None if member is None else member.encode()
        self._texts = texts
        known = item.with_members()
        self._attributes = (Attribute * len(known))()
        self._names = [one.name.encode(errors="surrogatepass") for one in known]  # no document has a surrogate
        first = 1
        for place, (one, name) in enumerate(zip(known, self._names, strict=True)):
            texts_of = (_I32 * len(TAGS))(*(one.places.get(tag, -1) for tag in TAGS))
            self._attributes[place] = Attribute(name, len(name), texts_of, first, len(one.members))
            first += len(one.members)

    def read(self, documents: Any) -> pa.Array:
        """For each document, whether it was read, and its texts in their places; NULL for an attribute that it does not have.

        Strings have their escapes resolved, lists, maps and sets are JSON texts. A document that was not read has no texts,
        and may still be a valid item. NULL is not read.

        Args:
            documents: an Arrow array of strings, or a chunked one; their UTF-8 has at most 2,147,483,647 bytes together.

        Raises:
            MemoryError: as in Python.
            pyarrow.ArrowInvalid: there are more bytes.
        """
        if isinstance(documents, pa.ChunkedArray):
            documents = documents.combine_chunks()
        if documents.type != pa.string():  # the kernel reads offsets of 32 bits
            documents = documents.cast(pa.string())
        if documents.null_count:  # behind NULL, Arrow allows any bytes
            documents = documents.fill_null("")
        rows, (_, offsets, data) = len(documents), documents.buffers()
        places = rows * self._texts
        starts = pa.allocate_buffer(4 * (places + 1))
        read, valid = (_zeros(count) for count in (rows, places))
        items = Items(rows=rows, texts=self._texts, attribute_count=len(self._attributes))
        items.attributes = ctypes.addressof(self._attributes)
        items.member, items.member_length = self._member, -1 if self._member is None else len(self._member)
        items.offsets = offsets.address + 4 * documents.offset
        first, last = (_I32.from_address(items.offsets + 4 * row).value for row in (0, rows))
        texts = pa.allocate_buffer(last - first)
        items.data = data.address if data is not None else None
        items.read, items.bytes, items.starts, items.valid = (b.address for b in (read, texts, starts, valid))
        if self._read_items(ctypes.byref(items)) < 0:
            raise MemoryError
        strings = pa.Array.from_buffers(pa.string(), places, [valid, starts, texts])
        ends = (
            pa.array(range(0, places + 1, self._texts), pa.int32())
            if self._texts
            else pa.array([0] * (rows + 1), pa.int32())
        )
        flags = pa.Array.from_buffers(pa.bool_(), rows, [None, read])
        return pa.StructArray.from_arrays([flags, pa.ListArray.from_arrays(ends, strings)], ["is_read", "texts"])


def _zeros(bits: int) -> Any:
    buffer = pa.allocate_buffer(bits // 8 + 1)
    ctypes.memset(buffer.address, 0, buffer.size)
    return buffer
