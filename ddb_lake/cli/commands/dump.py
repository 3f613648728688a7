"""`ddb-lake dump`: print the items exactly as DynamoDB has them."""

from __future__ import annotations

import sys

import click

from ddb_lake.cli.command import command, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import warn
from ddb_lake.cli.output.writers import write_lines
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.values.time_text import TIME_RULE


@command(
    "dump",
    "Print the items exactly, now or as of a time.",
    "ddb-lake dump orders > orders.jsonl",
    "ddb-lake dump orders --as-of 2024-05-14T11:14:20Z",
)
@table_argument
@click.option("--as-of", "as_of_us", type=Time(), help=f"The items as they were then. {TIME_RULE}.")
@pass_invocation
def dump(invocation: Invocation, table: str, as_of_us: int | None) -> None:
    """Print the items of TABLE, one DynamoDB JSON object {"Item":{...}} in each line, in no particular order.

    Every attribute, type and digit is that of the source.
    """
    from ddb_lake.pipeline.read.dump import dump_items

    with invocation.lake(table, bars=not sys.stdout.isatty()) as lake:
        if not write_lines(dump_items(lake, table, as_of_us)) and lake.current(table) is None:
            warn(f"{table}: the lake has no items of it yet; run `ddb-lake load` or `ddb-lake apply` first")
