"""`ddb-lake completion`: click's script that completes commands, options and tables in a shell."""

from __future__ import annotations

import click

from ddb_lake.cli.command import command
from ddb_lake.cli.output.terminal import echo_lines

PROGRAM = "ddb-lake"
VARIABLE = "_DDB_LAKE_COMPLETE"
"""The variable by which the script calls the program, as click derives it from the program's name."""


@command(
    "completion",
    "Print the script of shell completion.",
    'eval "$(ddb-lake completion bash)"',
    "ddb-lake completion fish > ~/.config/fish/completions/ddb-lake.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and the names of configured tables in SHELL.

    Add the first example to ~/.bashrc (bash 4.4 or later), or with `zsh` in it to ~/.zshrc.
    """
    from click.shell_completion import get_completion_class

    from ddb_lake.cli.app import cli

    completion_class = get_completion_class(shell)
    assert completion_class is not None, "click has a class for each shell of the choice"
    script = completion_class(cli, {}, PROGRAM, VARIABLE)
    echo_lines(script.source_template % script.source_vars())
