"""`ddb-lake aurora`: replicate the current items into a MySQL-compatible database, and compare the two."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.failures import print_doubts
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text

if TYPE_CHECKING:
    from ddb_lake.mysql.comparison import ComparisonResult
    from ddb_lake.mysql.replication import ReplicateResult


@command(
    "aurora",
    "Replicate a table into Aurora or MySQL.",
    "ddb-lake aurora orders",
    "ddb-lake aurora orders --check all --json",
)
@table_argument
@click.option("--full", is_flag=True, help="Replicate all rows, even if only some have changed.")
@click.option("--replay", is_flag=True, help="Write the rows again that the database rejected.")
@click.option(
    "--check",
    type=click.Choice(["sample", "all"]),
    help="Compare rows and values afterwards: about 10,000 rows, or all.",
)
@json_option
@pass_invocation
def aurora(invocation: Invocation, table: str, full: bool, replay: bool, check: str | None, as_json: bool) -> None:
    """Replicate the current items of TABLE into the database table of its `aurora` settings.

    Rows that changed since the last replication are written, in one transaction. Rows that the database rejects go to
    the table with `_rejected` after its name; the others are written. The exit status is 1 while rows are rejected, and
    if --check finds a difference.
    """
    from ddb_lake.mysql.comparison import SAMPLE_ROWS, compare
    from ddb_lake.mysql.replication import rejected_text, replicate

    with invocation.lake(table) as lake:
        result = replicate(lake, table, full=full, replay=replay)
        comparison = compare(lake, table, None if check == "all" else SAMPLE_ROWS) if check else None
    if as_json:
        compared = {**asdict(comparison), "equal": comparison.equal} if comparison else None
        write_document({**asdict(result), "comparison": compared})
    else:
        echo(replication_text(result))
        if comparison:
            for line in comparison_lines(comparison):
                echo(line)
    if rejected := rejected_text(result):
        print_doubts([rejected], 0, False)
    if result.rejected or (comparison and not comparison.equal):
        click.get_current_context().exit(1)


def replication_text(result: ReplicateResult) -> str:
    """The result of a replication in one line."""
    target = result.target.replace("`", "")
    if result.scope == "nothing":
        return f"{result.table}: {target} has all {count_text(result.rows, 'row')}; nothing has changed."
    added = f", columns added: {', '.join(result.columns_added)}" if result.columns_added else ""
    return (
        f"{result.table}: {count_text(result.upserted, 'row')} written to {target} and {result.removed:,} removed, it has"
        f" {count_text(result.rows, 'row')} now ({result.scope}: {result.reason}{added}; {duration_text(result.seconds)})."
    )


def comparison_lines(result: ComparisonResult) -> list[str]:
    """The result of a comparison in a few lines; rows that differ are named by the hash of their key."""
    target = result.target.replace("`", "")
    lines = [
        f"{result.table}: {count_text(result.lake_rows, 'row')} in the lake, {result.target_rows:,} in {target};"
        f" {count_text(result.compared, 'key')} compared: {result.missing:,} missing, {result.extra:,} extra,"
        f" {result.different:,} different, {result.rejected:,} rejected."
    ]
    return [*lines, *(f"  {key}: {fault}" for key, fault in result.examples)]
