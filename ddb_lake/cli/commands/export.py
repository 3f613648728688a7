"""`ddb-lake export`: a new export from DynamoDB into the lake, full or incremental."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.commands.load import load_text, print_load_remarks
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.values.time_text import TIME_RULE
from ddb_lake.errors import ConfigError

if TYPE_CHECKING:
    from ddb_lake.aws.exports import ExportState
    from ddb_lake.config import TableSettings
    from ddb_lake.pipeline.load.load import LoadResult


@command(
    "export",
    "Start an export, wait for it, load it.",
    "ddb-lake export orders",
    "ddb-lake export orders --no-wait",
    "ddb-lake export orders --incremental",
    "ddb-lake export orders --incremental --from 2026-03-01T09:00 --to 2026-03-01T12:00",
)
@table_argument
@click.option("--no-wait", is_flag=True, help="Start it and leave; `ddb-lake sync` loads it once it has ended.")
@click.option("--incremental", is_flag=True, help="What changed, instead of all: the windows that are due.")
@click.option("--from", "from_us", type=Time(), help=f"Start of a window of your own, inclusive. {TIME_RULE}.")
@click.option("--to", "to_us", type=Time(), help="End of that window, exclusive; default: a minute ago.")
@json_option
@pass_invocation
def export(
    invocation: Invocation,
    table: str,
    no_wait: bool,
    incremental: bool,
    from_us: int | None,
    to_us: int | None,
    as_json: bool,
) -> None:
    """Start a point-in-time export of TABLE, wait until DynamoDB has written it, load it.

    Needs `export: {bucket: ...}` in the configuration and point-in-time recovery on the table. The table's read
    capacity is not used. With --incremental, what changed since the last incremental export (or since the full one)
    is exported, in windows of `changes.incremental_exports.every`; or what changed in a window that you name.
    """
    settings = invocation.settings().table(table)
    if settings.export is None:
        raise ConfigError(
            f"table {table}: there is nowhere to export to; add `export: {{bucket: ...}}` to its configuration"
        )
    if not incremental and (from_us is not None or to_us is not None):
        raise click.UsageError("--from and --to name the window of an incremental export: add --incremental")
    if to_us is not None and from_us is None:
        raise click.UsageError("--to needs --from")
    if incremental:
        _export_increments(invocation, table, no_wait, (from_us, to_us), as_json)
    else:
        _export_full(invocation, settings, no_wait, as_json)


def _export_full(invocation: Invocation, settings: TableSettings, no_wait: bool, as_json: bool) -> None:
    from ddb_lake.aws.exports import start_export, wait_for_export
    from ddb_lake.pipeline.capture.incremental_exports import full_export_time
    from ddb_lake.pipeline.load.load import load_export

    table = settings.name
    with invocation.lake(table) as lake:
        state = start_export(settings, at=full_export_time(lake, settings))
        if no_wait:
            _report_started(state, as_json)
            return
        click.echo(f"Export {state.arn} runs; Ctrl-C leaves it to `ddb-lake sync`.", err=True)
        waited = f"{table}: seconds waited for DynamoDB"
        state = wait_for_export(settings, state, lambda waited_s: lake.progress(waited, waited_s))
        result = load_export(lake, table, state.manifest_uri)
    if as_json:
        write_document({"export_arn": state.arn, "status": state.status, "load": asdict(result)})
    else:
        click.echo(load_text(result))
    print_load_remarks(result)


def _report_started(state: ExportState, as_json: bool) -> None:
    if as_json:
        write_document({"export_arn": state.arn, "status": state.status, "load": None})
    else:
        click.echo(state.arn)


def _export_increments(
    invocation: Invocation, table: str, no_wait: bool, window: tuple[int | None, int | None], as_json: bool
) -> None:
    from ddb_lake.pipeline.capture.incremental_exports import latest_end_us, start_due
    from ddb_lake.pipeline.load.run_export import export_increments, export_window, start_window

    from_us, to_us = window
    with invocation.lake(table) as lake:
        until_us = to_us if to_us is not None else latest_end_us(lake)
        if no_wait:
            found = (
                start_due(lake, table).under_way if from_us is None else start_window(lake, table, from_us, until_us)
            )
            _report_windows(found, as_json)
            return
        loads = export_increments(lake, table) if from_us is None else export_window(lake, table, from_us, until_us)
    _report_loads(table, loads, as_json)


def _report_windows(exports: Sequence[ExportState], as_json: bool) -> None:
    if as_json:
        write_document({"exports": [{"export_arn": one.arn, "status": one.status} for one in exports]})
    else:
        for one in exports:
            click.echo(one.arn)


def _report_loads(table: str, loads: Sequence[LoadResult], as_json: bool) -> None:
    if as_json:
        write_document({"loads": [asdict(one) for one in loads]})
    elif not loads:
        click.echo(f"{table}: no window is due.")
    else:
        for one in loads:
            click.echo(load_text(one))
    for one in loads:
        print_load_remarks(one)
