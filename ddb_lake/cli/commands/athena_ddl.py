"""`ddb-lake athena-ddl`: the statement that makes landed change objects a table of Athena."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import click

from ddb_lake.cli.command import command, json_option, options_object, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.terminal import echo_lines
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.layout.landing_table import DEFAULT_SINCE, LandingForm, LandingTable, column_name
from ddb_lake.core.values.time_text import TIME_RULE
from ddb_lake.errors import ConfigError

if TYPE_CHECKING:
    from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class AthenaOptions:
    """The options of `athena-ddl`."""

    form: LandingForm
    since_us: int | None
    name: str | None
    as_json: bool


@command(
    "athena-ddl",
    "Print the Athena table of landed change objects.",
    "ddb-lake athena-ddl orders",
    "ddb-lake athena-ddl orders --form flatten --since 2026-03-01",
    "ddb-lake athena-ddl orders --json > table-input.json",
)
@table_argument
@click.option(
    "--form",
    type=click.Choice(get_args(LandingForm)),
    default="envelope",
    help="What Firehose delivers: records as they are, or items in plain JSON. [envelope]",
)
@click.option("--since", "since_us", type=Time(), help=f"First hour of the table. [2024-01-01] {TIME_RULE}.")
@click.option("--name", metavar="NAME", help="Name of the table in Glue; default: TABLE_landing.")
@json_option
@options_object(AthenaOptions)
@pass_invocation
def athena_ddl(invocation: Invocation, table: str, options: AthenaOptions) -> None:
    """Print the statement that creates a table of Athena over what Firehose delivered to `changes.uri`.

    Its partitions are the hours of arrival, computed at each query (partition projection), so nothing has to be added as
    data arrives. With --json, prints the TableInput of Glue's CreateTable. Creates nothing.
    """
    with invocation.lake(table) as lake:
        landing = _landing_table(lake, table, options)
        database = lake.settings.catalog.namespace
    if landing.left_out:
        note(
            f"{table}: without a column, because another attribute has the same name in lower case: {landing.left_out}"
        )
    if options.as_json:
        write_document(landing.table_input())
    else:
        echo_lines(f"{landing.sql(database)};")


def _landing_table(lake: Lake, table: str, options: AthenaOptions) -> LandingTable:
    from ddb_lake.core.decode.flattened import SEPARATOR
    from ddb_lake.lake.state import changes_state, current_state

    changes = lake.table(table).changes
    if changes is None or changes.uri is None or not changes.uri.startswith("s3://"):
        raise ConfigError(
            "no `changes.uri` on S3, so Athena has nothing to read", table=table, hint="add `changes: {uri: s3://…}`"
        )
    state, log = current_state(lake.current(table)), changes_state(lake.changes(table))
    paths = list(dict.fromkeys(column.path for column in state.schema.columns)) if state else []
    members = [SEPARATOR.join(path) for path in paths] or [*lake.table(table).key]
    since = DEFAULT_SINCE
    if options.since_us is not None:
        since = _hour(options.since_us)
    elif log.first_change_us is not None:
        since = min(since, _hour(log.first_change_us))
    return LandingTable(
        options.name or f"{column_name(table)}_landing", changes.uri, options.form, tuple(members), since
    )


def _hour(time_us: int) -> datetime:
    at = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return at.replace(minute=0, second=0, microsecond=0, tzinfo=None)
