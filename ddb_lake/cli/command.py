"""What commands share: examples in `--help`, `--config` and `--debug`, recurring arguments, and objects of options."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import wraps
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
"""Options that are valid before and after the name of a command; the one after it wins."""


class _CommandWithExamples(click.Command):
    """A command with the shared options, and examples below its help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.params = [*self.params, *SHARED_OPTIONS]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples unwrapped, for copying."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


class LakeCommand(_CommandWithExamples):
    """One command."""


class LakeGroup(_CommandWithExamples, click.Group):
    """A command with subcommands."""

    command_class = LakeCommand


def command(name: str, about: str, *examples: str) -> Callable[[Callable[..., Any]], LakeCommand]:
    """Make a function a command.

    Args:
        name: of the command.
        about: its line in the list of commands.
        examples: command lines that its own `--help` shows.
    """
    return click.command(name, cls=LakeCommand, short_help=about, examples=examples)


def options_object(options: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Pass the parameters that the dataclass `options` has as fields as one object, the argument `options`.

    A command with more than six parameters has such a dataclass:

        @dataclass(frozen=True, slots=True)
        class LoadOptions:
            recreated: bool
            strict: bool

        @command("load", ...)
        @click.option("--recreated", is_flag=True)
        @click.option("--strict", is_flag=True)
        @options_object(LoadOptions)
        def load(options: LoadOptions) -> None: ...
    """
    names = [field.name for field in dataclasses.fields(options)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **parameters: Any) -> Any:
            values = {name: parameters.pop(name) for name in names}
            return function(*args, options=options(**values), **parameters)

        return call

    return decorate


table_argument = click.argument("table", metavar="TABLE", shell_complete=table_names)
optional_table_argument = click.argument("table", required=False, metavar="[TABLE]", shell_complete=table_names)
tables_argument = click.argument("tables", nargs=-1, metavar="[TABLE]...", shell_complete=table_names)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
strict_option = click.option("--strict", is_flag=True, help="Exit status 1 if any record went to quarantine.")
engine_option = click.option(
    "--engine", type=click.Choice(["duckdb", "spark"]), help="The engine of this run; default: the configured one."
)
metrics_file_option = click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write metrics in Prometheus' text format to this file, which is replaced at once.",
)
emf_option = click.option(
    "--emf", "as_emf", is_flag=True, help="Print metrics on stderr in CloudWatch's embedded metric format."
)
read_rate_option = click.option(
    "--read-rate", type=click.FloatRange(min=1), metavar="RCU", help="Read units a second at most; default: 100."
)
