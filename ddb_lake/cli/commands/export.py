"""`ddb-lake export`: a new export from DynamoDB into the lake, full or incremental."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, options_object, table_argument
from ddb_lake.cli.commands.load import load_text, print_load_remarks
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.values.time_text import TIME_RULE
from ddb_lake.errors import ConfigError

if TYPE_CHECKING:
    from ddb_lake.aws.export_requests import ExportState
    from ddb_lake.config import TableSettings
    from ddb_lake.pipeline.load.load import LoadResult


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `export`. The window from `from_us` (inclusive) to `to_us` (exclusive) is in microseconds."""

    no_wait: bool
    incremental: bool
    from_us: int | None
    to_us: int | None
    as_json: bool


@command(
    "export",
    "Start an export, wait for it, load it.",
    "ddb-lake export orders",
    "ddb-lake export orders --no-wait",
    "ddb-lake export orders --incremental",
    "ddb-lake export orders --incremental --from 2026-03-01T09:00 --to 2026-03-01T12:00",
)
@table_argument
@click.option("--no-wait", is_flag=True, help="Start the export and end; `ddb-lake sync` loads it once it is complete.")
@click.option(
    "--incremental", is_flag=True, help="Export the changes of the windows that are due, instead of all items."
)
@click.option("--from", "from_us", type=Time(), help=f"Start of a chosen window, inclusive. {TIME_RULE}.")
@click.option("--to", "to_us", type=Time(), help="End of that window, exclusive; default: a minute ago.")
@json_option
@options_object(ExportOptions)
@pass_invocation
def export(invocation: Invocation, table: str, options: ExportOptions) -> None:
    """Start a point-in-time export of TABLE, wait until DynamoDB has written it, load it.

    Needs `export: {bucket: ...}` in the configuration and point-in-time recovery on the table. The table's read
    capacity is not used. With --incremental, the changes since the last incremental export (or since the full one)
    are exported in windows of `changes.incremental_exports.every`; with --from, the changes of one chosen window.
    """
    settings = invocation.settings().table(table)
    if settings.export is None:
        raise ConfigError(
            "no export bucket is configured",
            table=table,
            hint="add `export: {bucket: ...}` to the table's configuration",
        )
    if not options.incremental and (options.from_us is not None or options.to_us is not None):
        raise click.UsageError("--from and --to name the window of an incremental export: add --incremental")
    if options.to_us is not None and options.from_us is None:
        raise click.UsageError("--to needs --from")
    if options.incremental:
        _export_increments(invocation, table, options)
    else:
        _export_full(invocation, settings, options)


def _export_full(invocation: Invocation, settings: TableSettings, options: ExportOptions) -> None:
    from ddb_lake.aws.export_requests import start_export, wait_for_export
    from ddb_lake.pipeline.capture.incremental_exports import full_export_time
    from ddb_lake.pipeline.load.load import load_export

    table = settings.name
    with invocation.lake(table) as lake:
        state = start_export(settings, at=full_export_time(lake, settings))
        if options.no_wait:
            _print_started(state, options.as_json)
            return
        echo(f"Export {state.arn} runs; Ctrl-C leaves it to `ddb-lake sync`.", err=True)
        waited = f"{table}: seconds waited for DynamoDB"
        state = wait_for_export(settings, state, lambda waited_s: lake.progress(waited, waited_s))
        result = load_export(lake, table, state.manifest_uri)
    if options.as_json:
        write_document({"export_arn": state.arn, "status": state.status, "load": asdict(result)})
    else:
        echo(load_text(result))
    print_load_remarks(result)


def _print_started(state: ExportState, as_json: bool) -> None:
    if as_json:
        write_document({"export_arn": state.arn, "status": state.status, "load": None})
    else:
        echo(state.arn)


def _export_increments(invocation: Invocation, table: str, options: ExportOptions) -> None:
    from ddb_lake.pipeline.capture.incremental_exports import latest_end_us, start_due
    from ddb_lake.pipeline.load.request_export import export_increments, export_window, start_window

    from_us = options.from_us
    with invocation.lake(table) as lake:
        to_us = options.to_us if options.to_us is not None else latest_end_us(lake)
        if options.no_wait:
            started = start_due(lake, table).under_way if from_us is None else start_window(lake, table, from_us, to_us)
            _print_windows(started, options.as_json)
            return
        loads = export_increments(lake, table) if from_us is None else export_window(lake, table, from_us, to_us)
    _print_loads(table, loads, options.as_json)


def _print_windows(exports: Sequence[ExportState], as_json: bool) -> None:
    if as_json:
        write_document({"exports": [{"export_arn": state.arn, "status": state.status} for state in exports]})
    else:
        for state in exports:
            echo(state.arn)


def _print_loads(table: str, loads: Sequence[LoadResult], as_json: bool) -> None:
    if as_json:
        write_document({"loads": [asdict(load) for load in loads]})
    elif not loads:
        echo(f"{table}: no window is due.")
    else:
        for load in loads:
            echo(load_text(load))
    for load in loads:
        print_load_remarks(load)
