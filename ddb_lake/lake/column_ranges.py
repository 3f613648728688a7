"""The values that columns may have in a data file, or in the data files of a manifest.

Manifests state the least and the greatest value of the columns of each file. `lake.commit` writes the same of all files of a
manifest into the header of the manifest list, for the columns `lake.schemas.CHANGES_RANGES` of the changelog. So a step that looks
for some records opens only the manifests, and then only the files, that may have them. Ranges that are not known leave nothing out.
https://iceberg.apache.org/spec/#manifests
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField

Range: TypeAlias = tuple[Any, ...] | None
"""The least and the greatest value, both inclusive; empty if all values are NULL; None if it is not known."""

RANGES_HEADER = "ddb_lake.column-ranges"
"""The key of the ranges in the header of a manifest list. Other readers ignore keys that they do not know.

https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""


class ColumnRanges:
    """The ranges of columns in one or several files.

    Args:
        schema: the schema of the table, which gives the field ids of column names.
        of_field: the range of a field.
    """

    def __init__(self, schema: Schema, of_field: Callable[[NestedField], Range]) -> None:
        self._schema, self._of_field = schema, of_field

    def of(self, column: str) -> tuple[Any, Any] | None:
        """The least and the greatest value of a column, both inclusive; None if there is none, or it is not known."""
        found = self._of_field(self._schema.find_field(column))
        return (found[0], found[1]) if found else None

    def overlaps(self, column: str, low: Any = None, high: Any = None) -> bool:
        """Whether a column may have a value between `low` and `high` (both inclusive; None: no limit)."""
        found = self._of_field(self._schema.find_field(column))
        if found is None:
            return True
        return bool(found) and (high is None or found[0] <= high) and (low is None or found[1] >= low)


def file_ranges(file: DataFile, schema: Schema) -> ColumnRanges:
    """The ranges that a manifest states of a data file."""
    return ColumnRanges(schema, lambda field: _in_file(file, field))


def _in_file(file: DataFile, field: NestedField) -> Range:
    low = (file.lower_bounds or {}).get(field.field_id)
    high = (file.upper_bounds or {}).get(field.field_id)
    if low is not None and high is not None:
        return from_bytes(field.field_type, low), from_bytes(field.field_type, high)
    nulls = (file.null_value_counts or {}).get(field.field_id)
    return () if nulls is not None and nulls == file.record_count else None


StoredRanges: TypeAlias = Mapping[int, Range]
"""The ranges of the fields of a manifest, by field id. Of a field that is missing, nothing is known."""


def stored_ranges(schema: Schema, ranges: StoredRanges) -> ColumnRanges:
    """The ranges that a manifest list states of a manifest."""
    return ColumnRanges(schema, lambda field: ranges.get(field.field_id))


def ranges_of_files(files: Iterable[DataFile], fields: Sequence[NestedField]) -> StoredRanges:
    """The ranges of some fields in all of some data files."""
    listed = list(files)
    return {field.field_id: _union([_in_file(file, field) for file in listed]) for field in fields}


def _union(ranges: Sequence[Range]) -> Range:
    if None in ranges:
        return None
    known = [found for found in ranges if found]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else ()


def to_header(fields: Sequence[NestedField], ranges: Sequence[StoredRanges]) -> str:
    """The ranges of the manifests of a list, in the order of the list, as text for its header."""
    ids = [field.field_id for field in fields]
    return json.dumps({"fields": ids, "ranges": [[of.get(one) for one in ids] for of in ranges]}, separators=(",", ":"))


def from_header(text: str | None, manifests: int) -> list[StoredRanges]:
    """The ranges of each manifest of a list; nothing is known if the header has none. The inverse of `to_header`.

    Raises ValueError if the header has ranges of another number of manifests than the list.
    """
    if text is None:
        return [{}] * manifests
    stored = json.loads(text)
    if len(stored["ranges"]) != manifests:
        raise ValueError(
            f"its header has the column ranges of {len(stored['ranges'])} manifests, and it has {manifests}"
        )
    return [
        {one: None if found is None else tuple(found) for one, found in zip(stored["fields"], of, strict=True)}
        for of in stored["ranges"]
    ]
