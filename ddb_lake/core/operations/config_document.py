"""A configuration file as plain data, without validation: the default files, and the names of the tables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMPONENT_TYPE = "ddb_lake.DynamoDBLakeComponent"
"""The `type` of a Dagster component's file."""

DEFAULT_FILES = ("ddb_lake/defs/lake/defs.yaml", "ddb_lake.yaml", "defs.yaml")
"""The files that are looked for in the working folder, in this order."""


def candidate_files(folder: Path) -> list[Path]:
    """The files that may be the configuration, in order: that of DDB_LAKE_CONFIG, else the default files of a folder."""
    named = os.environ.get("DDB_LAKE_CONFIG")
    return [Path(named)] if named else [folder / name for name in DEFAULT_FILES]


def component_files(project: Path) -> list[Path]:
    """The files of lakes in a Dagster project in the layout of `create-dagster`, sorted."""
    found = sorted(project.glob("src/*/defs/**/defs.yaml"))
    return [path for path in found if COMPONENT_TYPE in path.read_text(encoding="utf-8", errors="replace")]


def configured_tables(document: Any) -> list[str]:
    """The names of the tables in a parsed file, in its order; none if the document has another shape."""
    attributes = document.get("attributes", document) if isinstance(document, Mapping) else None
    tables = attributes.get("tables") if isinstance(attributes, Mapping) else None
    if not isinstance(tables, list):
        return []
    named = [table.get("name") for table in tables if isinstance(table, Mapping)]
    return [name for name in named if isinstance(name, str)]
