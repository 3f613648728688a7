"""The plugin of dbt-duckdb that shows the lake's Iceberg tables as views in a database `lake`.

dbt-duckdb finds it by its module's name (`plugins: [{module: ddb_lake.dbt.plugin}]` in profiles.yml). The views are in
memory and stand nowhere in the models' database. They are made once for each dbt process, so that all models of a run
see the same snapshots, whatever is committed meanwhile.

The plugin's one setting, below its `config:`: `config`, the lake's configuration. By default it is found as `ddb-lake`
finds it, in the working folder, or in the one above for those who work in the dbt project's own. Relative paths are
relative to that folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from dbt.adapters.duckdb.plugins import BasePlugin

from ddb_lake.aws.session import s3_access
from ddb_lake.config import DEFAULT_FILES, LakeSettings, find_file, load_settings
from ddb_lake.core.layout.table_names import CHANGES, glue_name
from ddb_lake.core.schema.table_schema import to_json_column
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.engine.session import S3Access, use_s3
from ddb_lake.engine.sql import identifier, shown
from ddb_lake.executors import open_lake
from ddb_lake.lake.scan import TableScan
from ddb_lake.lake.schemas import CHANGES_COLUMNS, fixed_schema
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.query import table_scans

DATABASE = "lake"


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt-duckdb has no types
    """The lake's tables for dbt-duckdb; the class has the name that dbt-duckdb looks for."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Read the plugin's settings. Reaches nothing."""
        self._config: str = plugin_config.get("config") or ""
        self._shown: tuple[str, dict[str, str], S3Access | None] | None = None

    def configure_connection(self, conn: Any) -> None:
        """Attach the database of the lake's views, and the functions of our macros."""
        if self._shown is None:
            self._shown = self._look()
        namespace, relations, s3 = self._shown
        if s3 is not None:
            use_s3(conn, s3)
        conn.create_function("ddb_canonical_image", canonical_image, ["VARCHAR"], "VARCHAR", null_handling="special")
        conn.create_function(
            "ddb_canonical_document", canonical_document, ["VARCHAR"], "VARCHAR", null_handling="special"
        )
        conn.create_function("ddb_plain_document", plain_document, ["VARCHAR"], "VARCHAR", null_handling="special")
        # written to explicitly: Dagster opens the models' database for reading only
        conn.execute(f"ATTACH ':memory:' AS {identifier(DATABASE)} (READ_WRITE)")
        schema = f"{identifier(DATABASE)}.{identifier(namespace)}"
        conn.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        for name, rows in relations.items():
            conn.execute(f"CREATE VIEW {schema}.{identifier(glue_name(name))} AS SELECT * FROM {rows}")

    def settings(self) -> LakeSettings:
        """The lake's settings, with a local warehouse as an absolute path. Raises ConfigError."""
        here = Path.cwd()
        root = here if self._config or _has_configuration(here) or not _has_configuration(here.parent) else here.parent
        found = load_settings(Path(self._config) if self._config else find_file(root))
        if "://" in found.warehouse:
            return found
        return found.model_copy(update={"warehouse": str(root / Path(found.warehouse).expanduser())})

    def _look(self) -> tuple[str, dict[str, str], S3Access | None]:
        settings = self.settings()
        with open_lake(settings) as lake:
            return settings.catalog.namespace, _relations(lake), None if lake.catalog.is_local else s3_access()


def _has_configuration(folder: Path) -> bool:
    return any((folder / name).is_file() for name in DEFAULT_FILES)


def _relations(lake: Lake) -> dict[str, str]:
    """The lake's tables as relations; a table without change records has an empty changelog."""
    found = {name: shown(scan.sql()) for name, scan in table_scans(lake)}
    nothing = TableScan(fixed_schema(CHANGES_COLUMNS)).sql()
    return {table.name + CHANGES: nothing for table in lake.settings.tables if table.name in found} | found


def canonical_image(image: str | None) -> str | None:
    """One text for all spellings of an item in DynamoDB JSON."""
    return None if image is None else canonical_json(orjson.loads(image)).decode()


def plain_document(text: str | None) -> str | None:
    """A value in DynamoDB JSON as a column of the lake has it that is declared as `json`: plain JSON."""
    return None if text is None else to_json_column(orjson.loads(text))[0]


def canonical_document(document: str | None) -> str | None:
    """One text for all spellings of a JSON document."""
    return None if document is None else orjson.dumps(orjson.loads(document), option=orjson.OPT_SORT_KEYS).decode()
