"""What all commands have in common: examples in `--help`, `--config` and `--debug`, arguments that recur."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ddb_lake.cli.invocation import Invocation
from ddb_lake.cli.shell.completion import table_names


def _set_config(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).config = value


def _set_debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).debug = True


SHARED_OPTIONS = (
    click.Option(
        ["--config"],
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=_set_config,
        help="The lake's YAML file; default: $DDB_LAKE_CONFIG, else the project's own.",
    ),
    click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        callback=_set_debug,
        is_eager=True,
        help="Show the traceback of an error.",
    ),
)
"""Options that stand before or after the name of a command; the one nearer to it wins."""


class _Explained(click.Command):
    """A command with the shared options, and examples below its help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.params = [*self.params, *SHARED_OPTIONS]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, unwrapped, so that they can be copied."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class LakeCommand(_Explained):
    """One command."""


class LakeGroup(_Explained, click.Group):
    """A family of commands."""

    command_class = LakeCommand


def command(name: str, about: str, *examples: str) -> Callable[[Callable[..., Any]], LakeCommand]:
    """Make a function a command: `about` stands in the list of commands, the examples in its own help."""
    return click.command(name, cls=LakeCommand, short_help=about, examples=examples)


table_argument = click.argument("table", metavar="TABLE", shell_complete=table_names)
optional_table_argument = click.argument("table", required=False, metavar="[TABLE]", shell_complete=table_names)
tables_argument = click.argument("tables", nargs=-1, metavar="[TABLE]...", shell_complete=table_names)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
strict_option = click.option("--strict", is_flag=True, help="Exit status 1 if any record went to quarantine.")
engine_option = click.option(
    "--engine", type=click.Choice(["duckdb", "spark"]), help="What does the work of this run; default: as configured."
)
