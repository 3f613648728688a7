"""`ddb-lake load`: a finished export into the lake."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, engine_option, json_option, options_object, strict_option, table_argument
from ddb_lake.cli.commands.apply import warn_name_collisions, warn_quarantined
from ddb_lake.cli.failures import print_doubts
from ddb_lake.cli.invocation import Engine, Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import count_text, duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.values.time_text import time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.load.load import LoadResult


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options of `load`."""

    recreated: bool
    reject: bool
    engine: Engine | None
    strict: bool
    as_json: bool


@command(
    "load",
    "Load a finished export, full or incremental.",
    "ddb-lake load orders --export s3://exports/orders/AWSDynamoDB/01715685260608-c488b4e1/manifest-summary.json",
    "ddb-lake load orders ./export-folder",
)
@table_argument
@click.argument("uri", required=False, metavar="[URI]")
@click.option("--export", "export_uri", metavar="URI", help="The export; the same as URI without the option.")
@click.option(
    "--recreated",
    is_flag=True,
    help="The source table was deleted and created again: replace the items of the old table.",
)
@click.option(
    "--reject-to-quarantine",
    "reject",
    is_flag=True,
    help="Put lines without a valid item into quarantine and load the rest; default: refuse the export.",
)
@engine_option
@strict_option
@json_option
@options_object(LoadOptions)
@pass_invocation
def load(invocation: Invocation, table: str, uri: str | None, export_uri: str | None, options: LoadOptions) -> None:
    """Load a finished export of TABLE, full or incremental.

    URI is the export's manifest-summary.json, or a folder with exactly one below it. Loading an export again changes
    nothing. The exit status is 1 if there is no export, or if all of its lines went to quarantine.
    """
    if (uri is None) == (export_uri is None):
        raise click.UsageError("name one export: `--export URI`")
    from ddb_lake.pipeline.load.load import load_export

    with invocation.lake(table, engine=options.engine) as lake:
        result = load_export(lake, table, uri or export_uri or "", options.recreated, options.reject)
    print_load_result(result, options.as_json)
    if status := print_doubts(result.doubts, result.quarantined, options.strict):
        click.get_current_context().exit(status)


def print_load_result(result: LoadResult, as_json: bool) -> None:
    """Print the result of a load, and its remarks on stderr."""
    if as_json:
        write_document(asdict(result))
    else:
        echo(load_text(result))
    print_load_remarks(result)


def print_load_remarks(result: LoadResult) -> None:
    """Print notes and warnings about a load on stderr."""
    for remark in result.notes:
        note(remark)
    warn_quarantined(result.table, result.quarantined)
    warn_name_collisions(result.table, result.name_collisions)


def load_text(result: LoadResult) -> str:
    """The result of a load in one line."""
    export = f"{result.export_type.lower()} export {result.export_id} of {time_text(result.export_us)}"
    if result.already_loaded:
        return f"{result.table}: {export} is loaded already; {count_text(result.rows, 'row')}."
    items = f"{count_text(result.items - result.quarantined, 'item')} in {count_text(result.files, 'file')}"
    if result.quarantined:
        items += f" ({count_text(result.items, 'line')}, {result.quarantined:,} in quarantine)"
    return (
        f"{result.table}: loaded {export}: {items}, {duration_text(result.seconds)};"
        f" now {count_text(result.rows, 'row')}."
    )
