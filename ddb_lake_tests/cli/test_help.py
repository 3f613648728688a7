"""Every command has help with examples, and wrong use has an exit status of its own."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from ddb_lake.cli.app import COMMANDS, cli
from ddb_lake.cli.command import LakeCommand, LakeGroup
from ddb_lake_tests.support.command_line import Run


def _all_commands() -> list[list[str]]:
    context = click.Context(cli)
    found = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, member] for member in command.commands]
    return found


@pytest.mark.parametrize("path", _all_commands(), ids=" ".join)
def test_help_has_an_example_of_the_command(run: Run, path: list[str]) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0
    examples = result.stdout.partition("Example")[2]
    assert f"ddb-lake {' '.join(path)}" in examples
    assert "--config FILE" in result.stdout


WITHOUT_JSON = {
    "demo": "a story, printed while it happens",
    "dump": "its lines are JSON",
    "open": "it serves until it is interrupted",
    "completion": "a script for a shell",
    "quarantine": "its members have it",
}
"""Commands without `--json`, and why."""


@pytest.mark.parametrize("path", _all_commands(), ids=" ".join)
def test_command_that_reports_has_json(run: Run, path: list[str]) -> None:
    assert ("--json" in run(*path, "--help").stdout) is (" ".join(path) not in WITHOUT_JSON)


def test_every_command_shares_the_options() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert isinstance(command, LakeCommand | LakeGroup)
        assert command.short_help and len(command.short_help) < 60


def test_help_lists_the_commands_in_the_order_of_the_registry(run: Run) -> None:
    result = run("--help")
    listed = result.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in listed.splitlines()] == list(COMMANDS)


def test_unknown_command_suggests_the_nearest(run: Run) -> None:
    result = run("laod")
    assert result.exit_code == 2
    assert "no such command 'laod'. Did you mean 'load'?" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["load", "orders"],
        ["load", "orders", "a", "--export", "b"],
        ["apply", "orders"],
        ["query"],
        ["query", " ;"],
        ["query", "SELECT 1", "--json", "--csv"],
        ["quarantine", "show", "orders", "--limit", "0"],
        ["dump", "orders", "--as-of", "yesterday"],
        ["status", "--wrong"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_status_2_and_nothing_on_stdout(run: Run, project: Path, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_version_is_the_package_s(run: Run) -> None:
    assert run("--version").stdout.startswith("ddb-lake, version ")
