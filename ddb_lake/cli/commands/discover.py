"""`ddb-lake discover`: the DynamoDB tables of the entries with `match`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import microseconds

if TYPE_CHECKING:
    from ddb_lake.config.inventory import InventoryTable
    from ddb_lake.pipeline.table_discovery import Discovery


@command(
    "discover",
    "Find the DynamoDB tables that `match` names.",
    "ddb-lake discover",
    "ddb-lake discover --forget prod-old",
)
@click.option(
    "--forget",
    multiple=True,
    metavar="TABLE",
    help="Remove a missing DynamoDB table from the list. Its data stays in the lake.",
)
@json_option
@pass_invocation
def discover(invocation: Invocation, forget: tuple[str, ...], as_json: bool) -> None:
    """List the DynamoDB tables of the entries with `match`, and write them to a file beside the configuration.

    For `ddb_lake.yaml` it is `ddb_lake.tables.json`. Every command and Dagster then have these tables, without a request to AWS. A table
    that appears later is added by the next run. One that is not found any more stays, with its data, until --forget. It reads no item.
    """
    from ddb_lake.config.inventory import forget_step, missing_text, renamed_entry
    from ddb_lake.pipeline.table_discovery import discover_tables

    found = discover_tables(invocation.existing_file(), forget)
    if as_json:
        write_document(_document(found))
        return
    print_table(
        ("DynamoDB table", "lake table", "key", "stream", "point-in-time recovery", "state"),
        [_row(*pair) for pair in zip(found.inventory.tables, found.names, strict=True)],
    )
    present = sum(table.missing_since is None for table in found.inventory.tables)
    echo(f"{count_text(present, 'table')} found; written to {found.file}.")
    for name, change in found.changes.items():
        echo(f"  {name}: {change}")
    for table in found.with_another_key:
        note(
            f"{table.table} was created again with another key, and the rows in the lake have the former one: add the entry"
            f" `{renamed_entry(table)}` below `tables:`, so that its items come into a table of their own"
        )
    for pattern in found.without_tables:
        note(
            f"`match: {pattern}` has no table: its account and Region have none of such a name and tags, or earlier entries have them"
        )
    for table in found.inventory.tables:
        if table.missing_since is not None:
            note(f"{missing_text(table.table, microseconds(table.missing_since))}; {forget_step(table.table)}")


def _row(table: InventoryTable, name: str) -> tuple[str, ...]:
    return (
        table.table,
        name,
        ", ".join(f"{attribute} ({table.key_types[attribute]})" for attribute in table.key),
        table.stream_view or "off",
        "on" if table.point_in_time_recovery else "off",
        "missing" if table.missing_since else "present",
    )


def _document(found: Discovery) -> dict[str, object]:
    tables = zip(found.inventory.tables, found.names, strict=True)
    return {
        "file": str(found.file),
        "tables": [{"name": name} | table.model_dump(mode="json") for table, name in tables],
        "changes": dict(found.changes),
        "without_tables": found.without_tables,
    }
