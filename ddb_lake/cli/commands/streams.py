"""`ddb-lake streams`: land the records of a table's DynamoDB stream."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note, warn
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Duration
from ddb_lake.core.operations.count_text import count_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.capture.streams import StreamsResult


@command(
    "streams",
    "Land the records of a table's DynamoDB stream.",
    "ddb-lake streams orders",
    "ddb-lake streams orders --for 10m",
)
@table_argument
@click.option(
    "--for", "span_s", type=Duration(), help="Read for this long (90s, 10m), instead of to the end of the stream."
)
@json_option
@pass_invocation
def streams(invocation: Invocation, table: str, span_s: float | None, as_json: bool) -> None:
    """Read the DynamoDB stream of TABLE and land its records; `ddb-lake sync` does this too, and applies them.

    Needs `changes: {streams: true}`. The position is stored beside the landed records, and the next reading continues
    from it, in any process. The exit status is 1 if change records may be missing; the message has the next step.
    """
    from ddb_lake.pipeline.capture.streams import Budget, read_streams

    budget = Budget() if span_s is None else Budget(span_s, follow=True)
    with invocation.lake(table) as lake:
        result = read_streams(lake, table, budget)
    if as_json:
        write_document(asdict(result))
    else:
        echo(streams_text(result))
    print_stream_remarks(result)
    if result.gaps:
        click.get_current_context().exit(1)


def streams_text(result: StreamsResult) -> str:
    """The result of a reading in one line."""
    landed = f"{count_text(result.records, 'record')} in {count_text(len(result.uris), 'object')}"
    return f"{result.table}: landed {landed} from its stream, {duration_text(result.seconds)}."


def print_stream_remarks(result: StreamsResult) -> None:
    """Print gaps and notes about a reading on stderr."""
    from ddb_lake.pipeline.capture.stream_gaps import gap_text

    for gap in result.gaps:
        warn(gap_text(result.table, gap))
    if not result.caught_up:
        note(f"{result.table}: the stream has more records; continue with `ddb-lake streams {result.table} --for 10m`")
