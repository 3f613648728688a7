"""`ddb-lake load`: a finished export into the lake."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import (
    command,
    engine_option,
    json_option,
    options_object,
    read_rate_option,
    strict_option,
    table_argument,
)
from ddb_lake.cli.commands.apply import warn_misfits, warn_name_collisions, warn_quarantined
from ddb_lake.cli.failures import print_doubts
from ddb_lake.cli.invocation import Engine, Invocation, pass_invocation
from ddb_lake.cli.output.progress import note, warn
from ddb_lake.cli.output.quantities import duration_text, size_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.load.load import LoadResult
    from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """The options of `load`."""

    export_uri: str | None
    scan: bool
    place: str | None
    segments: int | None
    read_rate: float | None
    consistent: bool
    restart: bool
    recreated: bool
    reject: bool
    engine: Engine | None
    strict: bool
    as_json: bool


@command(
    "load",
    "Load a finished export, or scan the table.",
    "ddb-lake load orders --export s3://exports/orders/AWSDynamoDB/01715685260608-c488b4e1/manifest-summary.json",
    "ddb-lake load orders ./export-folder",
    "ddb-lake load orders --scan --read-rate 50",
)
@table_argument
@click.argument("uri", required=False, metavar="[URI]")
@click.option("--export", "export_uri", metavar="URI", help="The export; the same as URI without the option.")
@click.option("--scan", is_flag=True, help="Read the table itself, which uses its read capacity, and load the result.")
@click.option("--to", "place", metavar="URI", help="Where --scan writes; default: the table's `export` setting.")
@click.option("--segments", type=click.IntRange(1, 1000), metavar="N", help="Parallel readers of --scan. [4]")
@read_rate_option
@click.option("--consistent", is_flag=True, help="Strongly consistent reads, for twice the units.")
@click.option("--restart", is_flag=True, help="Begin a new scan instead of continuing an unfinished one.")
@click.option(
    "--recreated",
    is_flag=True,
    help="The source table was deleted and created again: replace the items of the old table.",
)
@click.option(
    "--reject-to-quarantine",
    "reject",
    is_flag=True,
    help="Put lines without a valid item, or without the key, into quarantine and load the rest; default: refuse the export.",
)
@engine_option
@strict_option
@json_option
@options_object(LoadOptions)
@pass_invocation
def load(invocation: Invocation, table: str, uri: str | None, options: LoadOptions) -> None:
    """Load a finished export of TABLE, full or incremental, or scan the table.

    URI is the export's manifest-summary.json, or a folder with exactly one below it. Loading an export again changes
    nothing. The exit status is 1 if there is no export, or if all of its lines went to quarantine.

    With --scan, the table's items are read through its API, for tables without point-in-time recovery, and written in the
    form of an export below `export`, or --to. An interrupted scan continues when the command is repeated. Items are read
    at different times; the result is exact once the changes up to the end of the scan are applied.
    """
    if sum((uri is not None, options.export_uri is not None, options.scan)) != 1:
        raise click.UsageError("name one export: `--export URI`, or read the table: `--scan`")
    given = (options.place, options.segments, options.read_rate, options.consistent or None, options.restart or None)
    if not options.scan and any(option is not None for option in given):
        raise click.UsageError("--to, --segments, --read-rate, --consistent and --restart need --scan")
    from ddb_lake.pipeline.load.load import load_export
    from ddb_lake.pipeline.read.unused_columns import find_unused_columns

    with invocation.lake(table, engine=options.engine) as lake:
        manifest = _scan(lake, table, options) if options.scan else uri or options.export_uri or ""
        result = load_export(lake, table, manifest, options.recreated, options.reject)
        unused = find_unused_columns(lake, table)
    print_load_result(result, options.as_json)
    for column in unused:
        warn(str(column))
    if status := print_doubts(result.doubts, result.quarantined, options.strict):
        click.get_current_context().exit(status)


def _scan(lake: Lake, table: str, options: LoadOptions) -> str:
    """Scan the table, with its cost before and after on stderr. Returns the manifest to load."""
    from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE
    from ddb_lake.pipeline.load.scan import DEFAULT_SEGMENTS, ScanOptions, estimate_scan, scan_table

    rate = options.read_rate or DEFAULT_READ_RATE
    estimate = estimate_scan(lake.table(table), options.consistent)
    note(
        f"{table}: the scan reads about {estimate.read_units:,.1f} read units ({count_text(estimate.items, 'item')},"
        f" {size_text(estimate.size_bytes)}, as DynamoDB counts about every six hours), at {rate:,g} a second:"
        f" about {duration_text(estimate.read_units / rate)}"
    )
    if estimate.restorable:
        note(f"{table}: point-in-time recovery is on: `ddb-lake export {table}` uses no read capacity")
    scanned = scan_table(
        lake,
        table,
        ScanOptions(
            segments=options.segments or DEFAULT_SEGMENTS,
            read_rate=rate,
            consistent=options.consistent,
            restart=options.restart,
            place=options.place,
        ),
    )
    read = count_text(scanned.items - scanned.resumed_items, "item")
    earlier = f" ({count_text(scanned.resumed_items, 'item')} by an earlier call)" if scanned.resumed_items else ""
    note(f"{table}: read {read}{earlier} with {scanned.read_units:,.1f} read units into {scanned.manifest_uri}")
    return scanned.manifest_uri


def print_load_result(result: LoadResult, as_json: bool) -> None:
    """Print the result of a load, and its remarks on stderr."""
    if as_json:
        write_document(asdict(result))
    else:
        echo(load_text(result))
    print_load_remarks(result)
    for table, several in {result.table: result.misfits, **result.entity_misfits}.items():
        warn_misfits(table, several)


def print_load_remarks(result: LoadResult) -> None:
    """Print notes and warnings about a load on stderr."""
    for remark in result.notes:
        note(remark)
    warn_quarantined(result.table, result.quarantined)
    warn_name_collisions(result.table, result.name_collisions)


def load_text(result: LoadResult) -> str:
    """The result of a load in one line."""
    kind = f"{result.export_type.lower()} export" if result.scan_until_us is None else "scan"
    instant = "of" if result.scan_until_us is None else "until"
    export = f"{kind} {result.export_id} {instant} {time_text(result.scan_until_us or result.export_us)}"
    if result.already_loaded:
        return f"{result.table}: {export} is loaded already; {count_text(result.rows, 'row')}."
    items = f"{count_text(result.items - result.quarantined, 'item')} in {count_text(result.files, 'file')}"
    if result.refused:
        items += f", {result.refused:,} of erased keys left out"
    if result.left_out:
        items += f", {result.left_out:,} left out by `filter`"
    if result.quarantined:
        items += f" ({count_text(result.items, 'line')}, {result.quarantined:,} in quarantine)"
    return (
        f"{result.table}: loaded {export}: {items}, {duration_text(result.seconds)};"
        f" now {count_text(result.rows, 'row')}."
    )
