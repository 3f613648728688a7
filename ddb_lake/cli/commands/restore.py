"""`ddb-lake restore`: the items of a time back into a DynamoDB table."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, options_object, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import TIME_RULE, time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.maintain.restore import RestorePlan


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """The options of `restore`. Rates are in capacity units a second; None: the default."""

    as_of_us: int
    target: str
    write_rate: float | None
    read_rate: float | None
    create: bool
    into_existing: bool
    yes: bool


@command(
    "restore",
    "Write the items of a time into a DynamoDB table.",
    "ddb-lake restore orders --as-of 2024-05-14T11:14:20Z --to orders-restored --create",
    "ddb-lake restore orders --as-of 2024-05-14 --to orders-restored --write-rate 200 --yes",
)
@table_argument
@click.option("--as-of", "as_of_us", type=Time(), required=True, help=f"The items as they were then. {TIME_RULE}.")
@click.option("--to", "target", required=True, metavar="NEW_TABLE", help="The table to write into.")
@click.option(
    "--write-rate", type=click.FloatRange(min=1), metavar="WCU", help="Write units a second at most; default: 500."
)
@click.option(
    "--read-rate", type=click.FloatRange(min=1), metavar="RCU", help="Read units a second at most, for reading back."
)
@click.option("--create", is_flag=True, help="Create the table, with on-demand capacity, if it does not exist.")
@click.option("--into-existing", is_flag=True, help="Write into a table that has items; its other items stay.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@options_object(RestoreOptions)
@json_option
@pass_invocation
def restore(invocation: Invocation, table: str, options: RestoreOptions, as_json: bool) -> None:
    """Write the items of TABLE as of a time into the DynamoDB table NEW_TABLE, at a chosen rate.

    The command prints the expected cost and asks for confirmation. After an interruption, the same command continues.
    At the end, the table is read back and compared, item by item. Nothing is deleted from it.
    """
    from ddb_lake.pipeline.maintain.restore import DEFAULT_WRITE_RATE, open_restore

    target, as_of_us = options.target, options.as_of_us
    with invocation.lake(table) as lake, lake.session() as session:
        prepared = open_restore(lake, session, table, target, as_of_us, options.write_rate or DEFAULT_WRITE_RATE)
        _print_plan(prepared.plan)
        if not options.yes and sys.stdin.isatty():
            click.confirm("Write them?", abort=True, err=True)
        elif not options.yes:
            raise click.UsageError("stdin is no terminal to confirm on: add --yes to write")
        result = prepared.run(create=options.create, into_existing=options.into_existing, read_rate=options.read_rate)
    if as_json:
        write_document(asdict(result))
        return
    resumed = f", {result.resumed:,} earlier" if result.resumed else ""
    echo(
        f"{table}: restored {count_text(result.items, 'item')} of {time_text(as_of_us)} into {target}"
        f" ({result.written:,} written{resumed}, {result.verified:,} read back and equal), {duration_text(result.seconds)}."
    )


def _print_plan(plan: RestorePlan) -> None:
    continues = f"; {count_text(plan.resumes, 'item is', 'items are')} written already" if plan.resumes else ""
    note(
        f"{plan.table}: {count_text(plan.items, 'item')} as of {time_text(plan.as_of_us)} into {plan.target}: about"
        f" {count_text(plan.write_units, 'write unit')}, {duration_text(plan.seconds)} at {plan.write_rate:g} a second, and about"
        f" {count_text(-(-plan.write_units // 4), 'read unit')} to read them back{continues}"
    )
