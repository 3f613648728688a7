"""`ddb-lake export`: a new full export from DynamoDB into the lake."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.load import loaded_text, remark_load
from ddb_lake.cli.output import write_document
from ddb_lake.cli.reporting import Reporter
from ddb_lake.errors import ConfigError, ExportError

if TYPE_CHECKING:
    from ddb_lake.aws.exports import ExportState
    from ddb_lake.config import TableSettings

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0
"""An export takes minutes at least; the first looks are frequent for the sake of small tables and stand-ins."""


@command(
    "export", "Start a full export, wait for it, load it.", "ddb-lake export orders", "ddb-lake export orders --no-wait"
)
@table_argument
@click.option("--no-wait", is_flag=True, help="Start it and leave; `ddb-lake sync` loads it once it has ended.")
@json_option
@pass_invocation
def export(invocation: Invocation, table: str, no_wait: bool, as_json: bool) -> None:
    """Start a full point-in-time export of TABLE, wait until DynamoDB has written it, load it.

    Needs `export: {bucket: ...}` in the configuration and point-in-time recovery on the table. The table's read
    capacity is not used.
    """
    settings = invocation.settings().table(table)
    if settings.export is None:
        raise ConfigError(
            f"table {table}: there is nowhere to export to; add `export: {{bucket: ...}}` to its configuration"
        )
    from ddb_lake.aws.exports import start_export
    from ddb_lake.stages.load import load_export

    state = start_export(settings)
    if no_wait:
        _report_started(state, as_json)
        return
    state = _wait(settings, state)
    with invocation.lake(table) as lake:
        result = load_export(lake, table, state.manifest_uri)
    if as_json:
        write_document({"export_arn": state.arn, "status": state.status, "load": asdict(result)})
    else:
        click.echo(loaded_text(result))
    remark_load(result)


def _report_started(state: ExportState, as_json: bool) -> None:
    if as_json:
        write_document({"export_arn": state.arn, "status": state.status, "load": None})
    else:
        click.echo(state.arn)


def _wait(settings: TableSettings, state: ExportState) -> ExportState:
    """The export once it is completed. Raises ExportError if it failed."""
    from ddb_lake.aws.exports import describe_export

    started, pause = time.monotonic(), FIRST_WAIT_S
    click.echo(f"Export {state.arn} runs; Ctrl-C leaves it to `ddb-lake sync`.", err=True)
    with Reporter() as reporter:
        while state.status == "IN_PROGRESS":
            reporter.progress(f"{settings.name}: seconds waited for DynamoDB", int(time.monotonic() - started))
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_WAIT_S)
            state = describe_export(settings, state.arn)
    if state.status != "COMPLETED":
        reason = state.failure or "without a reason"
        raise ExportError(
            f"table {settings.name}: export {state.arn} ended as {state.status}: {reason}; then export again"
        )
    return state
