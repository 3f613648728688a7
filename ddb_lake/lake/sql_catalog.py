"""pyiceberg's SQL catalog, which parses the metadata file of a table once.

A step loads each of its tables several times, to notice other writers. With 100 snapshots, parsing the file takes most of that
time. The bytes are read each time, so a file that is damaged after it was read is an error.
"""

from __future__ import annotations

from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil

from ddb_lake.lake.manifests import ParsedFiles

_KEPT_ENTRIES = 32
"""Of 16 files, because a file counts as one more than its entries (`ParsedFiles`). One takes about 1 MB of memory."""

_parsed = ParsedFiles(_KEPT_ENTRIES)


class ParsedOnceCatalog(SqlCatalog):  # type: ignore[misc]  # pyiceberg is untyped to mypy here
    """A SQL catalog. Tables of the same metadata file share its parsed form, which pyiceberg never changes."""

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        if location is None or location.endswith(".gz.metadata.json"):
            return super()._convert_orm_to_iceberg(orm_table)
        with self._load_file_io({}, location).new_input(location).open() as stream:
            data = stream.read()

        def parse() -> tuple[TableMetadata]:
            return (TableMetadataUtil.parse_raw(data.decode()),)

        (metadata,) = _parsed.rows(data, "table metadata", parse)
        return Table(
            (*self.identifier_to_tuple(orm_table.table_namespace), orm_table.table_name),
            metadata,
            location,
            self._load_file_io(metadata.properties, location),
            self,
        )
