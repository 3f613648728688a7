"""`ddb-lake completion`: the script that teaches a shell our commands, options and tables."""

from __future__ import annotations

import click

from ddb_lake.cli.command import command

PROGRAM = "ddb-lake"
VARIABLE = "_DDB_LAKE_COMPLETE"
"""By which the script asks us, as click derives it from the program's name."""


@command(
    "completion",
    "Print the script of shell completion.",
    'eval "$(ddb-lake completion bash)"',
    "ddb-lake completion fish > ~/.config/fish/completions/ddb-lake.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and the names of configured tables in SHELL.

    Put the first example into ~/.bashrc or, with zsh in it, into ~/.zshrc; bash must be 4.4 or later.
    """
    from click.shell_completion import get_completion_class

    from ddb_lake.cli.app import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells of the choice"
    script = kind(cli, {}, PROGRAM, VARIABLE)
    click.echo(script.source_template % script.source_vars())
