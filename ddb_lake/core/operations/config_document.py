"""A configuration file as plain data, for those who need only a glance at it: where it is, which tables it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT_FILES = ("ddb_lake/defs/lake/defs.yaml", "ddb_lake.yaml", "defs.yaml")
"""Where the project's own configuration is looked for, below the working folder."""


def configured_tables(document: Any) -> list[str]:
    """The names of the tables in a parsed file, in its order; of a document of another shape, none."""
    attributes = document.get("attributes", document) if isinstance(document, Mapping) else None
    tables = attributes.get("tables") if isinstance(attributes, Mapping) else None
    if not isinstance(tables, list):
        return []
    named = [table.get("name") for table in tables if isinstance(table, Mapping)]
    return [name for name in named if isinstance(name, str)]
