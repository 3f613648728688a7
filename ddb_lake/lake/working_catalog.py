"""The catalog of a rebuild. It has the working tables, whose contents later replace those of the lake's tables.

The working tables are registered in a SQLite file in a local folder, so no reader of the lake's catalog sees them. Their files
are below the locations of the lake's tables, because a catalog that decides locations accepts no others. `lake.replacement`
then commits these files to the lake's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from ddb_lake.config import LakeSettings
from ddb_lake.core.layout.locations import is_local_uri
from ddb_lake.lake.catalog import WORKING, LakeCatalog
from ddb_lake.lake.sql_catalog import sqlite_uri

Place = Callable[[str, Schema, PartitionSpec], str]

_OF_FILES = ("s3.", "client.", "gcs.", "adls.", "py-io-impl")
"""Prefixes of the properties of a catalog that say how its files are accessed."""


class WorkingCatalog(LakeCatalog):
    """A SQLite catalog in a local folder.

    Args:
        settings: the settings of the lake. Its catalog is not used.
        folder: the folder of the catalog. An interrupted rebuild leaves it, and the next one continues with it.
        locations: the locations of the lake's tables, by their names. Tables of other names are built in the folder.
        place: gives the location of one of the lake's tables that `locations` lacks, when its working table is created; the
            arguments are its name, columns and partitions. None: there are no such tables.
    """

    def __init__(
        self, settings: LakeSettings, folder: Path, locations: Mapping[str, str], place: Place | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        namespace = settings.catalog.namespace
        files = {name: value for name, value in settings.catalog.properties.items() if name.startswith(_OF_FILES)}
        catalog = type(settings.catalog)(
            type="sql", uri=sqlite_uri(folder / "catalog.db"), namespace=namespace, properties=files
        )
        super().__init__(settings.model_copy(update={"catalog": catalog}))
        self._folder, self._own_locations, self._place = folder, dict(locations), place
        self.is_local = place is None and all(map(is_local_uri, locations.values()))

    def requested_location(self, name: str) -> str:
        """The location of the lake's table of this name; for other tables, one in the folder."""
        return self._own_locations.get(name, f"{self._folder}/{name}")

    def create(
        self,
        name: str,
        schema: Schema,
        spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
        properties: Mapping[str, str] | None = None,
    ) -> Table:
        """Create a table, as `LakeCatalog.create` does, with the property `WORKING`."""
        if self._place is not None and name not in self._own_locations:
            self._own_locations[name] = self._place(name, schema, spec)
        return super().create(name, schema, spec, {**(properties or {}), WORKING: "true"})

    def _check_unknown(self, name: str) -> None:
        """Raise nothing: the files at the location of a table that is not built yet are those of the lake's table."""
