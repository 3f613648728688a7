"""`ddb-lake apply`: apply landed change objects to changelog and current."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, engine_option, json_option, strict_option, table_argument
from ddb_lake.cli.failures import print_doubts
from ddb_lake.cli.invocation import Engine, Invocation, pass_invocation
from ddb_lake.cli.output.progress import note, warn
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text

if TYPE_CHECKING:
    from ddb_lake.core.schema.misfits import Misfit
    from ddb_lake.core.schema.table_schema import NameCollision
    from ddb_lake.pipeline.apply.apply import ApplyResult

_SHOWN_MISFITS = 5


@command(
    "apply",
    "Apply landed change objects.",
    "ddb-lake apply orders s3://landing/orders/2024/05/14/",
    "ddb-lake apply orders changes-1.gz changes-2.gz",
)
@table_argument
@click.argument("uris", nargs=-1, required=True, metavar="URI...")
@engine_option
@strict_option
@json_option
@pass_invocation
def apply(
    invocation: Invocation, table: str, uris: tuple[str, ...], engine: Engine | None, strict: bool, as_json: bool
) -> None:
    """Apply landed change objects to TABLE: files, folders, s3:// prefixes.

    Records that name another configured table are applied to that table; records of tables that are not configured are
    counted. Applying an object again changes nothing. The exit status is 1 if a URI has no object, or if all records
    went to quarantine.
    """
    from ddb_lake.pipeline.apply.apply import apply_objects

    with invocation.lake(table, engine=engine) as lake:
        result = apply_objects(lake, table, uris)
    print_apply_result(result, as_json)
    if status := print_doubts(result.doubts, result.quarantined, strict):
        click.get_current_context().exit(status)


def print_apply_result(result: ApplyResult, as_json: bool) -> None:
    """Print the result of an apply, and its remarks on stderr."""
    if as_json:
        write_document(asdict(result))
    else:
        for line in apply_lines(result):
            echo(line)
    if result.objects == 0 and not result.doubts:
        warn(f"{result.table}: no objects at these URIs")
    print_apply_remarks(result)


def print_apply_remarks(result: ApplyResult) -> None:
    """Print notes and warnings about an apply on stderr."""
    for name, ingested in result.tables.items():
        warn_quarantined(name, ingested.quarantined)
    if result.other_tables:
        counts = ", ".join(f"{name} ({count:,})" for name, count in sorted(result.other_tables.items()))
        step = "add them below `tables:`, or set `source: {table: ...}` of their lake tables"
        warn(f"records of tables that are not configured stay in landing: {counts}; {step}")
    for name, current in result.current.items():
        for remark in current.notes:
            note(remark)
        warn_name_collisions(name, current.name_collisions)
        warn_misfits(name, current.misfits)
        for entity in current.entities:
            warn_name_collisions(entity.table, entity.name_collisions)
            warn_misfits(entity.table, entity.misfits)


def warn_misfits(table: str, misfits: Sequence[Misfit]) -> None:
    """Warn about attributes with values that no column holds."""
    for misfit in misfits[:_SHOWN_MISFITS]:
        warn(f"{table}: {misfit}; {misfit.advice}")
    if len(misfits) > _SHOWN_MISFITS:
        more = count_text(len(misfits) - _SHOWN_MISFITS, "more attribute has", "more attributes have")
        warn(f"{table}: {more} values that no column holds; `ddb-lake doctor` names them")


def warn_name_collisions(table: str, collisions: Sequence[NameCollision]) -> None:
    """Warn about new columns whose names have a suffix."""
    for collision in collisions:
        warn(f"{table}: {collision}")


def warn_quarantined(table: str, count: int) -> None:
    """Warn about records that went to quarantine, if there are any."""
    if count:
        records = count_text(count, "record went", "records went")
        warn(f"{table}: {records} to quarantine; see `ddb-lake quarantine list {table}`")


def apply_lines(result: ApplyResult) -> list[str]:
    """The result of an apply, one line for each table."""
    known = f", {result.already_ingested:,} of them applied before" if result.already_ingested else ""
    lines = [f"{count_text(result.objects, 'object')}{known}, {duration_text(result.seconds)}"]
    for name in sorted({*result.tables, *result.current}):
        parts = []
        if (ingested := result.tables.get(name)) is not None:
            parts.append(f"{ingested.new:,} new of {count_text(ingested.records, 'record')}")
            parts.append(count_text(ingested.duplicates, "duplicate"))
            if ingested.refused:
                parts.append(f"{count_text(ingested.refused, 'record')} of erased keys refused")
            if ingested.left_out:
                parts.append(f"{count_text(ingested.left_out, 'record')} left out by `filter`")
        if (current := result.current.get(name)) is not None:
            compared = f" (all records of {count_text(current.late, 'key')} were compared)" if current.late else ""
            parts.append(f"{current.upserted:,} upserted, {current.removed:,} removed{compared}")
            parts.append(f"now {count_text(current.rows, 'row')}")
        lines.append(f"{name}: {'; '.join(parts)}.")
        if current is not None:
            lines += [
                f"{entity.table}: all rows were written, because {entity.rewritten}; now {count_text(entity.rows, 'row')}."
                for entity in current.entities
                if entity.rewritten is not None
            ]
    return lines
