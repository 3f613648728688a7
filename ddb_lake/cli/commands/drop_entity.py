"""`ddb-lake drop-entity`: drop the table of an entity that is not in the configuration any more."""

from __future__ import annotations

from dataclasses import asdict

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text


@command(
    "drop-entity",
    "Drop the table of a former entity.",
    "ddb-lake drop-entity app invoice",
)
@table_argument
@click.argument("entity")
@json_option
@pass_invocation
def drop_entity(invocation: Invocation, table: str, entity: str, as_json: bool) -> None:
    """Drop the Iceberg table of ENTITY, which TABLE had and whose configuration was removed, and delete its files.

    The items stay in TABLE. It refuses an entity that is in the configuration.
    """
    from ddb_lake.pipeline import former_entities

    with invocation.lake(table) as lake:
        dropped = former_entities.drop_entity(lake, table, entity)
    if as_json:
        write_document(asdict(dropped))
        return
    rows, files = count_text(dropped.rows, "row"), count_text(dropped.files, "file")
    echo(f"{dropped.table}: dropped, with {rows}; {files} deleted.")
