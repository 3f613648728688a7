"""`ddb-lake restore`: the items of a time back into a DynamoDB table."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import count_text, duration_text
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.values.time_text import TIME_RULE, time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.maintain.restore import Plan


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
@click.option("--read-rate", type=click.FloatRange(min=1), metavar="RCU", help="Read units a second, reading back.")
@click.option("--create", is_flag=True, help="Make the table, on demand, if there is none.")
@click.option("--into-existing", is_flag=True, help="Write although the table has items; other items of it stay.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_invocation
def restore(
    invocation: Invocation,
    table: str,
    as_of_us: int,
    target: str,
    write_rate: float | None,
    read_rate: float | None,
    create: bool,
    into_existing: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Write the items of TABLE as of a time into the DynamoDB table NEW_TABLE, at a chosen rate.

    Says what it will cost and asks first. Broken off, the same command goes on where it was. In the end the table is
    read back and compared, item by item. Nothing is deleted from it.
    """
    from ddb_lake.pipeline.maintain.restore import DEFAULT_WRITE_RATE, open_restore

    with invocation.lake(table) as lake, lake.session() as session:
        prepared = open_restore(lake, session, table, target, as_of_us, write_rate or DEFAULT_WRITE_RATE)
        _announce(prepared.plan)
        if not yes and sys.stdin.isatty():
            click.confirm("Write them?", abort=True, err=True)
        elif not yes:
            raise click.UsageError("nobody can be asked here: say --yes to write")
        result = prepared.run(create=create, into_existing=into_existing, read_rate=read_rate)
    if as_json:
        write_document(asdict(result))
        return
    went_on = f", {result.resumed:,} earlier" if result.resumed else ""
    click.echo(
        f"{table}: restored {count_text(result.items, 'item')} of {time_text(as_of_us)} into {target}"
        f" ({result.written:,} written{went_on}, {result.verified:,} read back and equal), {duration_text(result.seconds)}."
    )


def _announce(plan: Plan) -> None:
    goes_on = f"; {plan.resumes:,} items are written already" if plan.resumes else ""
    note(
        f"{plan.table}: {count_text(plan.items, 'item')} as of {time_text(plan.as_of_us)} into {plan.target}: about"
        f" {plan.write_units:,} write units, {duration_text(plan.seconds)} at {plan.write_rate:g} a second, and about"
        f" {-(-plan.write_units // 4):,} read units to read them back{goes_on}"
    )
