"""`ddb-lake sync`: whatever is due, once, in this process."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.failures import explain, status
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output import write_document
from ddb_lake.errors import DdbLakeError

if TYPE_CHECKING:
    from ddb_lake.stages.lake import Lake
    from ddb_lake.stages.sync import Due


@command("sync", "Do whatever is due, once.", "ddb-lake sync", "ddb-lake sync orders customers --dry-run")
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--dry-run", is_flag=True, help="Say what is due, and do nothing.")
@json_option
@pass_invocation
def sync(invocation: Invocation, tables: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Do whatever is due for the TABLEs (default: all), once: new exports, landed objects, compactions.

    It is what the Dagster sensor would ask for. A table that fails does not keep the others from being brought up
    to date; the exit status tells.
    """
    from ddb_lake.stages.sync import plan_due

    with invocation.lake(*tables) as lake:
        due = plan_due(lake, list(tables) or None)
        outcomes = [] if dry_run else _run_all(lake, due, say=not as_json)
    if as_json:
        write_document({"due": [asdict(one) for one in due], "results": outcomes})
    elif dry_run:
        for one in due:
            click.echo(f"{one.table}: {one.kind} is due: {one.reason}")
    if not due and not as_json:
        click.echo("Nothing is due.")
    worst = max((outcome.get("exit_status", 0) for outcome in outcomes), default=0)
    if worst:
        click.get_current_context().exit(worst)


def _run_all(lake: Lake, due: list[Due], say: bool) -> list[dict[str, Any]]:
    """Run what is due in order; after a failure, nothing more of that table."""
    from ddb_lake.stages.sync import run_due

    outcomes: list[dict[str, Any]] = []
    failed: set[str] = set()
    for one in due:
        if one.table in failed:
            continue
        outcome: dict[str, Any] = {"table": one.table, "kind": one.kind}
        try:
            result = run_due(lake, one)
        except DdbLakeError as error:
            failed.add(one.table)
            outcome |= {"error": str(error), "exit_status": status(error)}
            click.echo(f"{one.table}: {one.kind} failed. {explain(error)}", err=True)
        else:
            outcome["result"] = asdict(result)
            _say(result, say)
        outcomes.append(outcome)
    return outcomes


def _say(result: Any, say: bool) -> None:
    from ddb_lake.cli.apply import applied_lines, remark_apply
    from ddb_lake.cli.compact import compacted_text
    from ddb_lake.cli.load import loaded_text, remark_load
    from ddb_lake.stages.apply import ApplyResult
    from ddb_lake.stages.load import LoadResult

    if isinstance(result, LoadResult):
        lines = [loaded_text(result)]
        remark_load(result)
    elif isinstance(result, ApplyResult):
        lines = applied_lines(result)
        remark_apply(result)
    else:
        lines = [compacted_text(result)]
    for line in lines if say else ():
        click.echo(line)
