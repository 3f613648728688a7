"""The root command: the list of commands, loaded on demand, and the exit status of a run.

A new command is one module and one line in `COMMANDS`.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from ddb_lake.cli.command import SHARED_OPTIONS
from ddb_lake.cli.failures import (
    BROKEN_PIPE_STATUS,
    INTERRUPT_STATUS,
    OutputClosed,
    UnexpectedEndOfFile,
    exit_status,
    print_error,
)
from ddb_lake.cli.invocation import Invocation
from ddb_lake.cli.output.terminal import echo
from ddb_lake.engine.import_hook import hide_pandas

COMMANDS = {
    "demo": "ddb_lake.cli.commands.demo:demo",
    "init": "ddb_lake.cli.commands.init:init",
    "discover": "ddb_lake.cli.commands.discover:discover",
    "doctor": "ddb_lake.cli.commands.doctor:doctor",
    "sandbox": "ddb_lake.cli.commands.sandbox:sandbox",
    "export": "ddb_lake.cli.commands.export:export",
    "load": "ddb_lake.cli.commands.load:load",
    "apply": "ddb_lake.cli.commands.apply:apply",
    "streams": "ddb_lake.cli.commands.streams:streams",
    "sync": "ddb_lake.cli.commands.sync:sync",
    "follow": "ddb_lake.cli.commands.follow:follow",
    "dump": "ddb_lake.cli.commands.dump:dump",
    "query": "ddb_lake.cli.commands.query:query",
    "status": "ddb_lake.cli.commands.status:status",
    "check": "ddb_lake.cli.commands.check:check",
    "verify": "ddb_lake.cli.commands.verify:verify",
    "repair": "ddb_lake.cli.commands.repair:repair",
    "quarantine": "ddb_lake.cli.commands.quarantine:quarantine",
    "erase": "ddb_lake.cli.commands.erase:erase",
    "compact": "ddb_lake.cli.commands.compact:compact",
    "rebuild": "ddb_lake.cli.commands.rebuild:rebuild",
    "drop-entity": "ddb_lake.cli.commands.drop_entity:drop_entity",
    "athena-ddl": "ddb_lake.cli.commands.athena_ddl:athena_ddl",
    "cost": "ddb_lake.cli.commands.cost:cost",
    "restore": "ddb_lake.cli.commands.restore:restore",
    "aurora": "ddb_lake.cli.commands.aurora:aurora",
    "init-dbt": "ddb_lake.cli.commands.init_dbt:init_dbt",
    "report": "ddb_lake.cli.commands.report:report",
    "iam": "ddb_lake.cli.commands.iam:iam",
    "open": "ddb_lake.cli.commands.open:open_",
    "completion": "ddb_lake.cli.commands.completion:completion",
}
"""Each command by its name, in the order of `--help`, and where it is defined."""


class RootGroup(click.Group):
    """Imports a command's module when the command is run, and turns every error into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The commands in the order of the registry."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """Import and return the command of that name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown command is an error that names the most similar one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command as click does, except for a closed output pipe and a file that ends early.

        click ends the former with status 1, and handles the latter as if the user had ended a prompt.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error
        except EOFError as error:
            raise UnexpectedEndOfFile from error
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its status; with `standalone_mode=False`, raise its errors."""
        extra.setdefault("color", _color())
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        invocation = extra.setdefault("obj", Invocation())
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except (Exception, KeyboardInterrupt) as error:
            with click.Context(self, color=extra["color"]).scope():
                _exit(error, invocation.debug)
        sys.exit(result if isinstance(result, int) else 0)


def _color() -> bool | None:
    """click's setting of colours: none with NO_COLOR (https://no-color.org) or on a dumb terminal, else as click decides."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def _exit(error: BaseException, debug: bool) -> NoReturn:
    if isinstance(error, OutputClosed):
        _discard_stdout()
        sys.exit(BROKEN_PIPE_STATUS)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        echo("Interrupted.", err=True)
        sys.exit(INTERRUPT_STATUS)
    print_error(error, debug)
    sys.exit(exit_status(error))


def _discard_stdout() -> None:
    """Redirect stdout to the null device: the interpreter's last flush would report the closed pipe."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):  # a stdout without a descriptor has nothing to flush to
        sys.stdout = None


@click.group(
    cls=RootGroup,
    params=list(SHARED_OPTIONS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `ddb-lake demo`, or with `ddb-lake init` and `ddb-lake doctor`. Exit status: 0 done, 1 a check"
    " failed or data is in doubt, 2 wrong use. NO_COLOR switches colours off.",
)
@click.version_option(package_name="ddb-lake", prog_name="ddb-lake")
def cli() -> None:
    """Exact, fresh, queryable copies of Amazon DynamoDB tables in an Apache Iceberg lake."""


def main() -> None:
    """Entry point of `ddb-lake`."""
    hide_pandas()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a user cannot act on warnings of one library about another
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character that the terminal lacks is printed as an escape
    cli.main(prog_name="ddb-lake")
