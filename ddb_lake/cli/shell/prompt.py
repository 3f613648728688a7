"""The prompt of `ddb-lake query`: SQL over several lines until `;`, and commands that begin with a dot."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from ddb_lake.cli.failures import print_error
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.terminal import echo, echo_lines
from ddb_lake.cli.shell.statements import split_statements
from ddb_lake.errors import UsageError

HISTORY_LINES = 2_000
FIRST, FURTHER = "lake> ", "  ... "
HELP = """\
SQL ends with `;` and may have several lines; Ctrl-C discards the input.
.tables          list the tables
.schema TABLE    list its columns, with their types and attributes
.help            print this help
.quit            end (or Ctrl-D)"""


class Queries(Protocol):
    """The queries that the prompt runs. They may raise any error: the prompt prints it and continues."""

    def tables(self) -> Sequence[str]:
        """The names of the tables."""

    def columns(self, table: str) -> Sequence[tuple[str, str, str]]:
        """Name, type and attribute of each column. Raises UsageError for an unknown table."""

    def run(self, sql: str) -> None:
        """Run a statement and print its rows."""


class Prompt:
    """An interactive session. `read` returns a line after a prompt, and raises EOFError at the end of input."""

    def __init__(self, queries: Queries, debug: bool = False, read: Callable[[str], str] = input) -> None:
        self._queries, self._debug, self._read = queries, debug, read

    def run(self) -> None:
        """Read and run statements until `.quit` or the end of input."""
        pending = ""
        while True:
            try:
                line = self._read(FURTHER if pending.strip() else FIRST)
            except EOFError:
                echo()
                return
            except KeyboardInterrupt:
                echo()
                pending = ""
                continue
            if not pending.strip() and line.strip().startswith("."):
                if line.strip() in (".quit", ".exit"):
                    return
                self._run_and_report(self._run_command, line.strip())
                continue
            statements, pending = split_statements(pending + line + "\n")
            for statement in statements:
                self._run_and_report(self._queries.run, statement)

    def _run_and_report(self, run: Callable[[str], None], text: str) -> None:
        """Run a statement or command. Its errors are printed; Ctrl-C ends it and returns to the prompt."""
        try:
            run(text)
        except KeyboardInterrupt:
            echo(err=True)
            echo("Interrupted.", err=True)
        except Exception as error:
            print_error(error, self._debug)

    def _run_command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name == ".tables":
            for table in self._queries.tables():
                echo(table)
        elif name == ".schema" and rest.strip():
            print_table(("column", "type", "attribute"), self._queries.columns(rest.strip().strip('"').rstrip(";")))
        elif name == ".help":
            echo_lines(HELP)
        else:
            raise UsageError(f"unknown command {line!r}", hint=".help lists the commands")


def enable_line_editing(words: Callable[[], Sequence[str]]) -> None:
    """Enable line editing, if Python has readline: a history in a file, and completion of `words` with Tab."""
    try:
        import readline
    except ImportError:  # some platforms lack it; the prompt works without it
        return
    file = history_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            readline.read_history_file(file)
        readline.set_history_length(HISTORY_LINES)
        atexit.register(_save_history, file)
    except OSError as error:
        echo(f"Note: the history is not saved: {error}", err=True)
    matches: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            candidates = [*words(), ".tables", ".schema", ".help", ".quit"]
            matches[:] = [word for word in candidates if word.lower().startswith(text.lower())]
        return matches[state] if state < len(matches) else None

    readline.set_completer_delims(" \t\n,;()=<>")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


def history_file() -> Path:
    """The file of the history: $DDB_LAKE_HISTORY, else below the user's state folder."""
    named = os.environ.get("DDB_LAKE_HISTORY")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(named) if named else Path(state) / "ddb-lake" / "query_history"


def _save_history(file: Path) -> None:
    import readline

    try:
        readline.write_history_file(file)
    except OSError as error:
        echo(f"Note: the history is not saved: {error}", err=True)
