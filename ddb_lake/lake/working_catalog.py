"""The catalog of a rebuild. It has the working tables, whose contents later replace those of the lake's tables.

The working tables are registered in a SQLite file in a local folder, so no reader of the lake's catalog sees them. Their files
are below the locations of the lake's tables, because a catalog that decides locations accepts no others. `lake.replacement`
then commits these files to the lake's tables.
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
from ddb_lake.lake.catalog import SQLITE_WAIT_S, WORKING, LakeCatalog


class WorkingCatalog(LakeCatalog):
    """A SQLite catalog in a local folder.

    Args:
        settings: the settings of the lake. Its catalog is not used.
        folder: the folder of the catalog. An interrupted rebuild leaves it, and the next one continues with it.
        locations: the locations of the lake's tables, by their names. Tables of other names are built in the folder.
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
        """Create a table, as `LakeCatalog.create` does, with the property `WORKING`."""
        return super().create(name, schema, spec, {**(properties or {}), WORKING: "true"})

    def _check_unknown(self, name: str) -> None:
        """Raise nothing: the files at the location of a table that is not built yet are those of the lake's table."""
