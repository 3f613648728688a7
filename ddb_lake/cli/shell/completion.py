"""What a shell offers for the name of a table: the configured ones, read from the file without checking it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ddb_lake.cli.invocation import Invocation
from ddb_lake.core.operations.config_document import DEFAULT_FILES, configured_tables


def table_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The configured tables that begin with `incomplete` and stand on the line not yet. None if there is no file."""
    given = ctx.params.get(param.name or "", ())
    standing = set(given) if isinstance(given, tuple) else set()
    return [name for name in _configured(ctx) if name.startswith(incomplete) and name not in standing]


def _configured(ctx: click.Context) -> list[str]:
    """Not by `ddb_lake.config`, whose imports take longer than a key press may."""
    import yaml

    invocation = ctx.find_object(Invocation)
    named = (invocation and invocation.config) or os.environ.get("DDB_LAKE_CONFIG")
    places = [Path(named)] if named else [Path.cwd() / name for name in DEFAULT_FILES]
    file = next((place for place in places if place.is_file()), None)
    try:
        return configured_tables(yaml.safe_load(file.read_text(encoding="utf-8"))) if file is not None else []
    except (OSError, ValueError, yaml.YAMLError):  # a file that is being written; its faults are the commands' to tell
        return []
