"""`ddb-lake query`: DuckDB SQL over the lake's tables, once or at a prompt."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

import click

from ddb_lake.cli.command import command
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.quantities import count_text
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.writers import csv_lines, json_array, write_lines
from ddb_lake.cli.parameter_types import Time
from ddb_lake.core.values.time_text import TIME_RULE
from ddb_lake.errors import TerminalError, UsageError

if TYPE_CHECKING:
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.read.query import QueryResult

Form: TypeAlias = Literal["table", "json", "csv"]

_MISSING = re.compile(r"Table with name (\S+) does not exist")


@command(
    "query",
    "Run SQL over the lake.",
    'ddb-lake query "SELECT status, count(*) FROM orders GROUP BY 1"',
    "ddb-lake query --json \"FROM orders_changes WHERE event_name = 'REMOVE'\"",
    'ddb-lake query --as-of 2024-05-14T11:14:20Z "SELECT sum(total) FROM orders"',
    "ddb-lake query",
)
@click.argument("sql", required=False, metavar="[SQL]")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects; numbers have all their digits.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header; NULL is an empty field.")
@click.option("--as-of", "as_of_us", type=Time(), help=f"The tables as they were then. {TIME_RULE}.")
@pass_invocation
def query(invocation: Invocation, sql: str | None, as_json: bool, as_csv: bool, as_of_us: int | None) -> None:
    """Run SQL over the lake with DuckDB. Without SQL, a terminal shows a prompt for it.

    The tables are <table>, its changelog <table>_changes, and its quarantined records <table>_quarantine. Write a name
    with characters other than letters, digits and _ in double quotes. Timestamps are UTC.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    form: Form = "json" if as_json else "csv" if as_csv else "table"
    if sql is None:
        if not sys.stdin.isatty():
            raise click.UsageError(
                "SQL is missing: give it as an argument, or run this on a terminal, which shows a prompt"
            )
        _run_prompt(invocation, form, as_of_us)
        return
    if not sql.strip(" \t\r\n;"):
        raise click.UsageError("the SQL is empty")
    with invocation.lake(bars=False) as lake:
        _run(lake, sql, form, as_of_us)


def _run(lake: Lake, sql: str, form: Form, as_of_us: int | None) -> None:
    with _sql_errors(lake), _result(lake, sql, as_of_us) as result:
        rows = chain.from_iterable(result.batches())
        if form == "json":
            write_lines(json_array(result.columns, rows))
        elif form == "csv":
            write_lines(csv_lines(result.columns, rows))
        else:
            click.echo(f"({count_text(print_table(result.columns, rows), 'row')})")


def _result(lake: Lake, sql: str, as_of_us: int | None) -> AbstractContextManager[QueryResult]:
    if as_of_us is not None:
        from ddb_lake.pipeline.read.time_travel import run_query_as_of

        return run_query_as_of(lake, sql, as_of_us)
    from ddb_lake.pipeline.read.query import run_query

    return run_query(lake, sql)


def _run_prompt(invocation: Invocation, form: Form, as_of_us: int | None) -> None:
    from ddb_lake.cli.shell.prompt import Prompt, enable_line_editing

    with invocation.lake(bars=False) as lake:
        queries = _PromptQueries(lake, form, as_of_us)
        enable_line_editing(queries.tables)
        click.echo(f"{lake.catalog.warehouse}: SQL ends with `;`; .help lists the commands, .quit ends.", err=True)
        Prompt(queries, invocation.debug).run()


@dataclass(frozen=True, slots=True)
class _PromptQueries:
    """The queries of the prompt over an open lake. Each statement reads its newest state."""

    lake: Lake
    form: Form
    as_of_us: int | None

    def tables(self) -> list[str]:
        from ddb_lake.pipeline.read.query import table_names

        return table_names(self.lake)

    def columns(self, table: str) -> list[tuple[str, str, str]]:
        from ddb_lake.pipeline.read.query import table_columns

        return table_columns(self.lake, table)

    def run(self, sql: str) -> None:
        _run(self.lake, sql, self.form, self.as_of_us)


@contextmanager
def _sql_errors(lake: Lake) -> Iterator[None]:
    """Translate DuckDB's errors: a fault of the statement to UsageError, any other to TerminalError."""
    import duckdb

    try:
        yield
    except UsageError as error:
        if not isinstance(error.__cause__, duckdb.Error):
            raise
        _reclassify(error.__cause__, lake)
    except duckdb.Error as error:
        _reclassify(error, lake)


def _reclassify(error: Exception, lake: Lake) -> NoReturn:
    import duckdb

    message = str(error).partition("\n\nLINE ")[0].strip()
    if isinstance(error, duckdb.CatalogException) and (missing := _MISSING.search(message)):
        raise UsageError(_missing_table(lake, missing[1])) from error
    if isinstance(error, duckdb.CatalogException) and " is of type View" in message:
        raise UsageError(f"{message}; `ddb-lake query` only reads the lake") from error
    if isinstance(error, duckdb.ProgrammingError | duckdb.DataError | duckdb.NotSupportedError):
        raise UsageError(message) from error
    raise TerminalError(message) from error


def _missing_table(lake: Lake, name: str) -> str:
    """The message about a name that is no table: its table is empty yet, or similar names."""
    from ddb_lake.pipeline.read.query import near_names

    configured = next((table.name for table in lake.settings.tables if table.name.lower() == name.lower()), None)
    if configured is not None:
        steps = f"`ddb-lake load {configured} --export URI`, `ddb-lake apply {configured} URI` or `ddb-lake sync`"
        return f"the lake has no rows of {configured} yet; {steps} adds them"
    near = " or ".join(near_names(lake, name))
    return f'there is no table {name!r}.{f" Did you mean {near}?" if near else ""} `ddb-lake query "SHOW TABLES"` lists them'
