"""Completion of table names by click's `shell_complete`: the configured tables, read without validation."""

from __future__ import annotations

from pathlib import Path

import click

from ddb_lake.cli.invocation import Invocation
from ddb_lake.core.operations.config_document import candidate_files, configured_tables


def table_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The configured tables that begin with `incomplete` and are not on the line yet; none without a readable file."""
    value = ctx.params.get(param.name or "", ())
    present = set(value) if isinstance(value, tuple) else set()
    return [name for name in _configured(ctx) if name.startswith(incomplete) and name not in present]


def _configured(ctx: click.Context) -> list[str]:
    import yaml  # not ddb_lake.config: importing pydantic takes longer than a key press may

    invocation = ctx.find_object(Invocation)
    named = invocation and invocation.config
    candidates = [named] if named else candidate_files(Path.cwd())
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    try:
        return configured_tables(yaml.safe_load(file.read_text(encoding="utf-8"))) if file is not None else []
    except (OSError, ValueError, yaml.YAMLError):  # the command itself reports the fault
        return []
