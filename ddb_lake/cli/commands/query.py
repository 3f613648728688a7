"""`ddb-lake query`: DuckDB SQL over the lake's tables, once or at a prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ddb_lake.cli.command import command, options_object
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import csv_lines, json_array, new_file, write_lines, write_lines_to
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.system import limited_memory, memory_bytes
from ddb_lake.core.values.time_text import TIME_RULE
from ddb_lake.errors import MemoryLimitError, TerminalError, UsageError

if TYPE_CHECKING:
    from ddb_lake.config.lake import LakeSettings
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.read.query import QueryResult

OUTPUT_SUFFIXES = (".parquet", ".csv", ".json")
"""The ends of the names of files that `--output` writes. Each decides the format."""

BESIDE_BYTES = 500_000_000
"""The memory of a query beside DuckDB's: what Python and libraries take, and values that DuckDB does not count."""


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """The options of the command."""

    as_json: bool
    as_csv: bool
    output: Path | None
    force: bool
    as_of_us: int | None


@command(
    "query",
    "Run SQL over the lake.",
    'ddb-lake query "SELECT status, count(*) FROM orders GROUP BY 1"',
    "ddb-lake query --json \"FROM orders_changes WHERE event_name = 'REMOVE'\"",
    'ddb-lake query --as-of 2024-05-14T11:14:20Z "SELECT sum(total) FROM orders"',
    'ddb-lake query --output orders.parquet "FROM orders"',
    "ddb-lake query",
)
@click.argument("sql", required=False, metavar="[SQL]")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects; numbers have all their digits.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header; NULL is an empty field.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the rows to a new file; its name ends with .parquet, .csv or .json. Numbers have all their digits.",
)
@click.option("--force", is_flag=True, help="With --output: replace an existing file.")
@click.option("--as-of", "as_of_us", type=Time(), help=f"The tables as they were then. {TIME_RULE}.")
@options_object(QueryOptions)
@pass_invocation
def query(invocation: Invocation, sql: str | None, options: QueryOptions) -> None:
    """Run SQL over the lake with DuckDB. Without SQL, a terminal shows a prompt for it.

    A query only reads: one SELECT, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN. It opens no files and no addresses but those of the
    lake's tables. The setting `memory` limits its memory; on Linux the kernel enforces it, with 500 MB for Python and libraries.

    The tables are <table>, its changelog <table>_changes, and its quarantined records <table>_quarantine. Write a name
    with characters other than letters, digits and _ in double quotes. Timestamps are UTC.
    """
    if sum((options.as_json, options.as_csv, options.output is not None)) > 1:
        raise click.UsageError("--json, --csv and --output exclude each other")
    if options.output is not None and options.output.suffix.lower() not in OUTPUT_SUFFIXES:
        raise click.UsageError(f"the name of --output FILE ends with {', '.join(OUTPUT_SUFFIXES)}")
    if options.force and options.output is None:
        raise click.UsageError("--force is for --output")
    if sql is None:
        if options.output is not None or not sys.stdin.isatty():
            raise click.UsageError(
                "SQL is missing: give it as an argument, or run this on a terminal, which shows a prompt"
            )
        _run_prompt(invocation, options)
        return
    if not sql.strip(" \t\r\n;"):
        raise click.UsageError("the SQL is empty")
    with invocation.lake(bars=False) as lake, _bounded(lake.settings):
        if options.output is not None:
            _check_is_outside(lake.settings, options.output)
            _write(lake, sql, options.output, options)
        else:
            _run(lake, sql, options)


@contextmanager
def _bounded(settings: LakeSettings) -> Iterator[None]:
    """Limit the memory of the process: DuckDB's own limit does not count the values that a function makes.

    Raises UsageError if it does not suffice.
    """
    with limited_memory(memory_bytes(settings.memory) + BESIDE_BYTES):
        try:
            yield
        except (MemoryLimitError, MemoryError) as error:
            raise UsageError(
                f"the query needs more memory than `memory` ({settings.memory}) and {BESIDE_BYTES // 10**6} MB beside it",
                hint="set `memory` to more, or make smaller values",
            ) from error


def _run(lake: Lake, sql: str, options: QueryOptions) -> None:
    with _sql_errors(lake), _result(lake, sql, options.as_of_us) as result:
        rows = chain.from_iterable(result.batches())
        if options.as_json:
            write_lines(json_array(result.columns, rows))
        elif options.as_csv:
            write_lines(csv_lines(result.columns, rows))
        else:
            echo(f"({count_text(print_table(result.columns, rows), 'row')})")


def _check_is_outside(settings: LakeSettings, output: Path) -> None:
    """Check that a file is in no folder of the lake, where it would replace a file of a table or be read as its changes.

    Raises UsageError.
    """
    from ddb_lake.core.layout.locations import is_within

    places = [settings.warehouse, *(uri for table in settings.tables for uri in settings.landed_uris(table))]
    place = next((place for place in places if is_within(str(output.parent), place)), None)
    if place is not None:
        raise UsageError(f"{output} is within {place}, a folder of the lake", hint="name a file outside of it")


def _write(lake: Lake, sql: str, output: Path, options: QueryOptions) -> None:
    """Write the rows to a file. Nothing else is on stdout, which stays free for another program."""
    with _sql_errors(lake), new_file(output, overwrite=options.force) as path:
        if output.suffix.lower() == ".parquet":
            from ddb_lake.pipeline.read.time_travel import write_query

            count = write_query(lake, sql, path, options.as_of_us)
        else:
            with _result(lake, sql, options.as_of_us) as result:
                count = _write_text(result, path, as_csv=output.suffix.lower() == ".csv")
    echo(f"Wrote {count_text(count, 'row')} to {output}.", err=True)


def _write_text(result: QueryResult, path: Path, as_csv: bool) -> int:
    """Write the rows as CSV or as a JSON array. Returns their number."""
    counted = 0

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal counted
        for batch in result.batches():
            counted += len(batch)
            yield from batch

    lines = csv_lines if as_csv else json_array
    write_lines_to(path, lines(result.columns, rows()))
    return counted


def _result(lake: Lake, sql: str, as_of_us: int | None) -> AbstractContextManager[QueryResult]:
    if as_of_us is not None:
        from ddb_lake.pipeline.read.time_travel import run_query_as_of

        return run_query_as_of(lake, sql, as_of_us)
    from ddb_lake.pipeline.read.query import run_query

    return run_query(lake, sql)


def _run_prompt(invocation: Invocation, options: QueryOptions) -> None:
    from ddb_lake.cli.shell.prompt import Prompt, enable_line_editing

    with invocation.lake(bars=False) as lake:
        queries = _PromptQueries(lake, options)
        enable_line_editing(queries.tables)
        echo(f"{lake.catalog.warehouse}: SQL ends with `;`; .help lists the commands, .quit ends.", err=True)
        Prompt(queries, invocation.debug).run()


@dataclass(frozen=True, slots=True)
class _PromptQueries:
    """The queries of the prompt over an open lake. Each statement reads its newest state."""

    lake: Lake
    options: QueryOptions

    def tables(self) -> list[str]:
        from ddb_lake.pipeline.read.query import table_names

        return table_names(self.lake)

    def columns(self, table: str) -> list[tuple[str, str, str]]:
        from ddb_lake.pipeline.read.query import table_columns

        return table_columns(self.lake, table)

    def run(self, sql: str) -> None:
        with _bounded(self.lake.settings):
            _run(self.lake, sql, self.options)


@contextmanager
def _sql_errors(lake: Lake) -> Iterator[None]:
    """Translate DuckDB's errors: a fault of the statement to UsageError, any other to TerminalError."""
    import duckdb

    from ddb_lake.pipeline.read.query import table_fault

    try:
        yield
    except UsageError as error:
        # our messages about memory and about unknown tables say more than DuckDB's
        cause = error.__cause__
        if (
            not isinstance(cause, duckdb.Error)
            or isinstance(cause, duckdb.OutOfMemoryException)
            or table_fault(lake, cause) is not None
        ):
            raise
        _reclassify(cause)
    except duckdb.Error as error:
        if (missing := table_fault(lake, error)) is not None:
            raise missing from error
        _reclassify(error)


def _reclassify(error: Exception) -> NoReturn:
    import duckdb

    from ddb_lake.engine.read_only import foreign_file

    message = str(error).partition("\n\nLINE ")[0].strip()
    if isinstance(error, duckdb.PermissionException):
        raise foreign_file(error) from error
    if isinstance(error, duckdb.ProgrammingError | duckdb.DataError | duckdb.NotSupportedError):
        raise UsageError(message) from error
    raise TerminalError(message) from error
