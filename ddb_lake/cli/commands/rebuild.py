"""`ddb-lake rebuild`: build a table again from landing and exports alone, or derive its ledger again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.maintain.rebuild import RebuildResult


@command(
    "rebuild",
    "Build a table again from landing and exports alone.",
    "ddb-lake rebuild orders",
    "ddb-lake rebuild orders --state",
    "ddb-lake rebuild orders --register",
    "ddb-lake rebuild orders --export s3://backup/AWSDynamoDB/01693685827463-2d8752fd/",
)
@table_argument
@click.option("--state", is_flag=True, help="Derive only the ledger of landed objects, from the changelog.")
@click.option("--register", is_flag=True, help="Only register tables that the catalog lost, by their newest metadata.")
@click.option(
    "--export",
    "exports",
    multiple=True,
    metavar="URI",
    help="A further export: its `manifest-summary.json`, or a folder that contains exactly one.",
)
@click.option("--drop-unlanded", is_flag=True, help="Leave out change records that no landed object has any more.")
@click.option("--without-exports", is_flag=True, help="If it is not known which exports were loaded: none was.")
@json_option
@pass_invocation
def rebuild(
    invocation: Invocation,
    table: str,
    state: bool,
    register: bool,
    exports: tuple[str, ...],
    drop_unlanded: bool,
    without_exports: bool,
    as_json: bool,
) -> None:
    """Rebuild the changelog, the ledger and the current items of TABLE from its exports and landed objects.

    Readers see the former tables until each is replaced in one commit. Use it if files of the lake are lost, if another tool
    rolled a table back, or if the catalog is lost. After an interruption, run it again: it continues.

    It stops before it replaces anything if the former changelog has records that no landed object has.
    """
    from ddb_lake.pipeline.maintain.rebuild import RebuildResult, rebuild_state, rebuild_table, register_lost

    if state + register + bool(exports or drop_unlanded or without_exports) > 1:
        raise click.UsageError("--state and --register exclude each other and all other options")
    with invocation.lake(table) as lake:
        if register:
            result = RebuildResult(table, register_lost(lake, table))
        elif state:
            result = rebuild_state(lake, table)
        else:
            result = rebuild_table(lake, table, exports, drop_unlanded, without_exports)
    if as_json:
        write_document(asdict(result))
        return
    for remark in result.notes:
        note(remark)
    echo(_line(result, state, register))


def _line(result: RebuildResult, state: bool, register: bool) -> str:
    registered = f"registered: {', '.join(result.registered) or 'nothing was missing'}"
    if register:
        return f"{result.table}: {registered}."
    objects = count_text(result.objects, "landed object")
    if state:
        return f"{result.table}: the ledger names {objects}, from {count_text(result.records, 'change record')}."
    dropped = f", {count_text(result.dropped, 'record')} without an object left out" if result.dropped else ""
    return (
        f"{result.table}: {count_text(result.rows, 'item')} rebuilt from {count_text(result.exports, 'export')} and {objects}:"
        f" {count_text(result.records, 'change record')}{dropped}."
    )
