"""The prompt of `ddb-lake query`: SQL over several lines until `;`, and a few commands that begin with a dot."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import click

from ddb_lake.cli.failures import print_error
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.shell.statements import split_statements
from ddb_lake.errors import UsageError

HISTORY_LINES = 2_000
FIRST, FURTHER = "lake> ", "  ... "
HELP = """\
SQL ends with `;` and may take several lines; Ctrl-C drops what is typed.
.tables          the tables that can be queried
.schema TABLE    its columns, their types, and the attributes they come from
.help            this
.quit            end (or Ctrl-D)"""


class Answers(Protocol):
    """What the prompt asks of the lake. Errors may be any; they are told, and the prompt goes on."""

    def tables(self) -> Sequence[str]:
        """The names that can be queried."""

    def columns(self, table: str) -> Sequence[tuple[str, str, str]]:
        """Name, type and attribute of each column. Raises UsageError for a table that is not there."""

    def run(self, sql: str) -> None:
        """Run one statement and print its rows."""


class Prompt:
    """One conversation. `read` gives a line for a prompt, and raises EOFError at the end."""

    def __init__(self, answers: Answers, debug: bool = False, read: Callable[[str], str] = input) -> None:
        self._answers, self._debug, self._read = answers, debug, read

    def run(self) -> None:
        """Talk until `.quit` or the end of input."""
        pending = ""
        while True:
            try:
                line = self._read(FURTHER if pending.strip() else FIRST)
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo()
                pending = ""
                continue
            if not pending.strip() and line.strip().startswith("."):
                if line.strip() in (".quit", ".exit"):
                    return
                self._safely(self._dotted, line.strip())
                continue
            statements, pending = split_statements(pending + line + "\n")
            for statement in statements:
                self._safely(self._answers.run, statement)

    def _safely(self, do: Callable[[str], None], what: str) -> None:
        """No error ends the conversation, and Ctrl-C ends what runs, not us."""
        try:
            do(what)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
        except Exception as error:
            print_error(error, self._debug)

    def _dotted(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name == ".tables":
            for table in self._answers.tables():
                click.echo(table)
        elif name == ".schema" and rest.strip():
            print_table(("column", "type", "attribute"), self._answers.columns(rest.strip().strip('"').rstrip(";")))
        elif name == ".help":
            click.echo(HELP)
        else:
            raise UsageError(f"{line!r} is no command here", hint=".help lists them")


def remember_lines(words: Callable[[], Sequence[str]]) -> None:
    """Line editing where Python has it: a history that outlives the session, and Tab for `words`."""
    try:
        import readline
    except ImportError:  # not on every platform; the prompt works without
        return
    place = history_file()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            readline.read_history_file(place)
        readline.set_history_length(HISTORY_LINES)
        atexit.register(_keep_history, place)
    except OSError as error:
        click.echo(f"Note: the history is not kept: {error}", err=True)
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            known = [*words(), ".tables", ".schema", ".help", ".quit"]
            found[:] = [word for word in known if word.lower().startswith(text.lower())]
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" \t\n,;()=<>")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


def history_file() -> Path:
    """Where the history is kept: $DDB_LAKE_HISTORY, else below the user's state folder."""
    named = os.environ.get("DDB_LAKE_HISTORY")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(named) if named else Path(state) / "ddb-lake" / "query_history"


def _keep_history(place: Path) -> None:
    import readline

    try:
        readline.write_history_file(place)
    except OSError as error:
        print(f"Note: the history is not kept: {error}", file=sys.stderr)
