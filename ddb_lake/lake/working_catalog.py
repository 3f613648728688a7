"""The catalog of a rebuild: tables that are built beside those of the lake, at their locations, until they replace them.

The tables are registered in a SQLite file in a folder of this machine, so no reader of the lake's catalog sees them. Their
files are below the locations of the lake's tables, because catalogs with locations of their own accept no others.
`lake.replacement` then commits the files to the lake's tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from sqlalchemy.engine import URL

from ddb_lake.config import LakeSettings
from ddb_lake.config.locations import is_local_uri
from ddb_lake.lake.catalog import SQLITE_WAIT_S, LakeCatalog

WORKING = "ddb_lake.working"
"""A property of a table that is being built. Its metadata is never registered in the catalog of a lake."""


class WorkingCatalog(LakeCatalog):
    """A catalog in a folder of this machine.

    Args:
        settings: those of the lake, whose catalog is replaced.
        folder: the folder of the catalog. It keeps what a rebuild has done when it is interrupted.
        locations: the locations of the lake's tables, by their names. Other tables are built in the folder.
    """

    def __init__(self, settings: LakeSettings, folder: Path, locations: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        database = URL.create("sqlite", database=str(folder / "catalog.db"), query={"timeout": str(SQLITE_WAIT_S)})
        namespace = settings.catalog.namespace
        catalog = type(settings.catalog)(type="sql", uri=database.render_as_string(), namespace=namespace)
        super().__init__(settings.model_copy(update={"catalog": catalog}))
        self._folder, self._own_locations = folder, dict(locations)
        self.is_local = all(map(is_local_uri, locations.values()))

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
        """As `LakeCatalog.create`. The table has the property `WORKING`."""
        return super().create(name, schema, spec, {**(properties or {}), WORKING: "true"})

    def _check_unknown(self, name: str) -> None:
        """Raise nothing: a table that is not built yet has the files of the lake's table at its location."""
