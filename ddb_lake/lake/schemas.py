"""The Iceberg schemas of the lake's tables, and the same schemas for DuckDB: types, field ids and column names.

Docs of columns are part of the tables: catalogs and query engines show them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, HourTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DecimalType,
    DoubleType,
    IcebergType,
    ListType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
)

from ddb_lake.core.schema.table_schema import CURRENT_METADATA, EXPIRED_AT, Column, TableSchema, dotted
from ddb_lake.engine.sql import CARRIED, identifiers, quoted

COLUMN_TYPES: dict[str, IcebergType] = {
    "string": StringType(),
    "json": StringType(),
    "long": LongType(),
    "double": DoubleType(),
    "binary": BinaryType(),
    "boolean": BooleanType(),
    "timestamp": TimestampType(),
}
"""The Iceberg types of column types. The others are decimals of 38 digits, and lists of strings, binary values and numbers."""

CHANGES_COLUMNS = {
    "record_id": ("string", "What makes the record distinct: a hash of its eventID and content"),
    "kind": ("string", "The envelope: kds, streams, flattened, incremental or repair"),
    "event_id": ("string", "The service's eventID"),
    "event_name": (
        "string",
        "INSERT, MODIFY or REMOVE; UPSERT or DELETE for an incremental export's or a repair's line",
    ),
    "changed_at": ("timestamp", "When the item changed (UTC, microseconds, by the record's declared precision)"),
    "keys": ("string", "Primary key, DynamoDB JSON"),
    "new_image": ("string", "Item after the change, DynamoDB JSON; null when removed"),
    "old_image": ("string", "Item before the change, DynamoDB JSON, where the record has it"),
    "ttl": ("boolean", "Removed by DynamoDB's Time to Live"),
    "sequence_number": ("string", "DynamoDB Streams sequence number"),
    "stream": ("string", "DynamoDB Streams ARN"),
    "kinesis_sequence": ("string", "Kinesis sequence number, where the transform stamped it"),
    "shard": ("string", "Kinesis shard, where the transform stamped it"),
    "arrived_at": ("timestamp", "Arrival in Kinesis or Firehose, where known (UTC)"),
    "asserted_at": ("timestamp", "End of the incremental export's window, or of what a repair saw (exclusive, UTC)"),
    "object": ("string", "The landed object the record was first found in"),
    "offset": ("long", "Where in the decompressed object it begins, in bytes"),
    "arrival_hour": ("timestamp", "Hour in which the object landed (UTC); its day is the partition"),
    "_key": ("string", "Text of the primary key"),
    "_key_hash": ("long", "Hash of the primary key: 63 bits of the MD5 of its text"),
    "_batch": ("long", "Number of the commit that added the record"),
}

OBJECTS_COLUMNS = {
    "object": (
        "string",
        "The landed object; export/<id> for a loaded incremental export; <object>#quarantine/<id> for an entry of the"
        " quarantine that was ingested",
    ),
    "version": ("string", "The object's version; another version is another object. NULL: any version"),
    "size_bytes": ("long", "Size of the object as it landed, in bytes"),
    "arrival_hour": ("timestamp", "Hour in which the object landed (UTC)"),
    "records": ("long", "All records of the object, those that could not be read included"),
    "new": ("long", "Records that were new in this table's changelog when the object was ingested"),
    "rejected": ("long", "Records that went to this table's quarantine"),
    "other_tables": ("long", "Records of other tables. The remaining records are duplicates"),
    "landed_at": ("timestamp", "When the object was written (UTC); NULL if that is not known"),
    "ingested_at": ("timestamp", "When the object was ingested (UTC); NULL if that is not known"),
}

QUARANTINE_COLUMNS = {
    "quarantine_id": ("string", "Hash of object, offset and bytes"),
    "reason": ("string", "Why the bytes could not be ingested"),
    "raw": ("binary", "The bytes"),
    "object": ("string", "The landed object that contains them"),
    "offset": ("long", "Where in the decompressed object they begin, in bytes"),
    "arrival_hour": ("timestamp", "Hour in which the object landed (UTC)"),
    "quarantined_at": ("timestamp", "When they were put here (UTC)"),
    "asserted_at": ("timestamp", "End of the window of the incremental export they are a line of (exclusive, UTC)"),
    "discarded_at": ("timestamp", "When the entry was discarded (UTC); NULL while it is open"),
    "discarded_by": ("string", "Who discarded it"),
    "discarded_why": ("string", "Why it was discarded"),
}


ERASURES_COLUMNS = {
    "erasure_id": ("string", "Id of the run of `ddb-lake erase`"),
    "key_digest": ("string", "SHA-256 of the salt in the table's properties and the text of the primary key"),
    "erased_at": ("timestamp", "When the erasure began (UTC)"),
    "allows_recreation": ("boolean", "Whether changes after `erased_at` make the item again"),
    "completed_at": (
        "timestamp",
        "When everything was erased and checked, also in MySQL (UTC); NULL in the rows before",
    ),
    "command": ("string", "How it was requested"),
    "removed": (
        "string",
        "JSON: for each place that was done, the number of rows, records or files that were removed with the run's keys",
    ),
    "not_reached": ("string", "JSON: the places that the command could not change, and what to do there"),
}


def fixed_schema(columns: dict[str, tuple[str, str]]) -> Schema:
    """The Iceberg schema of a changelog, ledger or quarantine, whose columns are the same in every lake."""
    return Schema(
        *(
            NestedField(i, name, COLUMN_TYPES[kind], required=False, doc=doc)
            for i, (name, (kind, doc)) in enumerate(columns.items(), start=1)
        )
    )


def missing_columns(schema: Schema, columns: dict[str, tuple[str, str]]) -> list[tuple[str, IcebergType, str]]:
    """Name, type and doc of the fixed columns that a table of an earlier release does not have."""
    known = {field.name for field in schema.fields}
    return [(name, COLUMN_TYPES[kind], doc) for name, (kind, doc) in columns.items() if name not in known]


CHANGES_RANGES = ("event_name", "changed_at", "asserted_at", "arrival_hour", "_batch")
"""The columns of the changelog by which steps leave out files (`lake.column_ranges`)."""


def changes_partitioning(schema: Schema) -> PartitionSpec:
    """Partitions of the changelog: days of arrival, so that files of several hours can be merged."""
    source = schema.find_field("arrival_hour").field_id
    return PartitionSpec(PartitionField(source, 1000, DayTransform(), "arrival_hour_day"))


def is_hourly(spec: PartitionSpec, schema: Schema) -> bool:
    """Whether a changelog has the partitions of earlier releases: hours of arrival."""
    source = schema.find_field("arrival_hour").field_id
    return [(field.source_id, field.transform) for field in spec.fields] == [(source, HourTransform())]


def metadata_columns(keep_expired: bool) -> dict[str, tuple[str, str]]:
    """The metadata columns of `current`."""
    return {**CURRENT_METADATA, **(EXPIRED_AT if keep_expired else {})}


def current_schema(schema: TableSchema, keep_expired: bool = False) -> Schema:
    """The Iceberg schema of `current`: the typed columns, then the metadata columns."""
    fields = [*item_fields(schema.columns), *metadata_fields(keep_expired)]
    return Schema(*(NestedField(i, n, t, required=False, doc=d) for i, (n, t, d) in enumerate(fields, start=1)))


def item_fields(columns: Iterable[Column]) -> list[tuple[str, IcebergType, str]]:
    """Name, type and doc of columns of items."""
    return [(column.name, iceberg_type(column.type), column_doc(column)) for column in columns]


def metadata_fields(keep_expired: bool) -> list[tuple[str, IcebergType, str]]:
    """Name, type and doc of the metadata columns of `current`."""
    return [(name, COLUMN_TYPES[kind], doc) for name, (kind, doc) in metadata_columns(keep_expired).items()]


def column_doc(column: Column) -> str:
    """A column's doc: the original path, and the DynamoDB type or what a declared column takes."""
    if column.role == "declared":
        return f"{dotted(column.path)} ({'any value as JSON' if column.type == 'json' else 'any scalar as text'})"
    return f"{dotted(column.path)} ({column.tag})"


def iceberg_type(column_type: str) -> IcebergType:
    """The Iceberg type of a column type."""
    if column_type.startswith("list<"):
        return ListType(element_id=1, element=iceberg_type(column_type[5:-1]), element_required=False)
    if column_type.startswith("decimal"):
        precision, scale = column_type[8:-1].split(",")
        return DecimalType(int(precision), int(scale))
    return COLUMN_TYPES[column_type]


def duckdb_type(kind: IcebergType) -> str:
    """The DuckDB type of an Iceberg type."""
    if isinstance(kind, ListType):
        return duckdb_type(kind.element_type) + "[]"
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _DUCKDB_TYPES[type(kind)]


_DUCKDB_TYPES = {
    StringType: "VARCHAR",
    LongType: "BIGINT",
    DoubleType: "DOUBLE",
    BinaryType: "BLOB",
    BooleanType: "BOOLEAN",
    TimestampType: "TIMESTAMP",
}


def sql_columns(schema: Schema) -> tuple[SqlColumn, ...]:
    """The columns of a schema in our SQL. Steps read and write tables of the same few schemas, so the last ones are kept."""
    return _sql_columns(schema.fields)


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """A column of an Iceberg schema in our SQL.

    Attributes:
        name: its name in our SQL, quoted (`carried_names`).
        own_name: its name in the table, quoted.
        type: its DuckDB type.
        field_id: its field id, as DuckDB's COPY takes it.
        read: how DuckDB's `read_parquet` finds it in a file: by its field id. In a file that lacks it, it is NULL, as
            https://iceberg.apache.org/spec/#column-projection demands.
        is_list: whether it is a list.
    """

    name: str
    own_name: str
    type: str
    field_id: str
    read: str
    is_list: bool


@lru_cache(maxsize=64)
def _sql_columns(fields: tuple[NestedField, ...]) -> tuple[SqlColumn, ...]:
    own = [field.name for field in fields]
    carried = _carried(own)
    columns = []
    for field, name, own_name, text in zip(
        fields, identifiers(carried), identifiers(own), quoted(carried), strict=True
    ):
        kind, field_id = duckdb_type(field.field_type), str(field.field_id)
        read = f"{field_id}: {{name: {text}, type: '{kind}', default_value: NULL}}"
        is_list = isinstance(field.field_type, ListType)
        if is_list:
            field_id = f"{{__duckdb_field_id: {field_id}, element: {field.field_type.element_id}}}"
        columns.append(SqlColumn(name, own_name, kind, field_id, read, is_list))
    return tuple(columns)


def carried_names(schema: Schema) -> list[str]:
    """The names that the columns of a table have in our SQL: for columns of items, those of `engine.sql.carried`.

    Only `current` has columns of items. It also has `_rescued`, a name that no attribute's column can have.
    """
    return _carried([field.name for field in schema.fields])


def _carried(names: list[str]) -> list[str]:
    if "_rescued" not in names:
        return names
    metadata = metadata_columns(keep_expired=True)
    return [name if name in metadata else CARRIED + name for name in names]
