"""How runs end: one line, a status, no traceback and no item values."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import click
import pytest

from ddb_lake import errors
from ddb_lake.cli import app
from ddb_lake.cli.command import command
from ddb_lake_tests.support.command_line import Run

_SECRET = "4111-1111"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, run: Run) -> Callable[..., Any]:
    """Runs a command that raises the error."""

    def fail(error: BaseException, *options: str) -> Any:
        @command("fail", "Fails.", "ddb-lake fail")
        def body() -> None:
            click.echo("begun")
            raise error

        module = ModuleType("failing_command")
        module.body = body  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "failing_command", module)
        monkeypatch.setitem(app.COMMANDS, "fail", "failing_command:body")
        return run(*options, "fail")

    return fail


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (errors.UsageError("no such thing"), 2, "Error: no such thing"),
        (errors.ConfigError("lake.yaml: tables.0.key: wrong"), 2, "Error: lake.yaml: tables.0.key: wrong"),
        (errors.ExportError("damaged; export again"), 1, "Error: damaged; export again"),
        (errors.CheckFailed("keys twice"), 1, "Error: keys twice"),
        (errors.TransientError("throttled"), 1, "Error: throttled. Run the command again: nothing is applied twice."),
        (
            errors.CommitStateUnknown("no answer"),
            1,
            "Error: no answer. Look at `ddb-lake status` before running it again.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "lake"),
            1,
            "Error: [Errno 13] Permission denied: 'lake'; ",
        ),
        (click.BadParameter("too small"), 2, "Error: Invalid value: too small. Try `ddb-lake fail --help`."),
    ],
)
def test_error_is_one_line_with_its_status(
    failing: Callable[..., Any], error: BaseException, status: int, said: str
) -> None:
    result = failing(error)
    assert result.exit_code == status
    assert result.stdout == "begun\n"
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1


def test_unexpected_error_says_where_and_no_values(failing: Callable[..., Any]) -> None:
    result = failing(ValueError(f"invalid literal: {_SECRET}"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: unexpected ValueError in app.invoke; ")
    assert _SECRET not in result.stderr


@pytest.mark.parametrize("error", [ValueError("x"), errors.UsageError("x")])
def test_debug_shows_the_traceback(failing: Callable[..., Any], error: Exception) -> None:
    assert "Traceback" in failing(error, "--debug").stderr
    assert "Traceback" not in failing(error).stderr


def test_interrupt_ends_with_status_130(failing: Callable[..., Any]) -> None:
    result = failing(KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr.strip() == "Interrupted."


def test_missing_credentials_are_reported_with_the_variables(failing: Callable[..., Any]) -> None:
    from botocore.exceptions import NoCredentialsError

    result = failing(NoCredentialsError())
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: AWS: Unable to locate credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and"
    )


def test_aws_error_names_the_doctor(failing: Callable[..., Any]) -> None:
    from botocore.exceptions import NoRegionError

    result = failing(NoRegionError())
    assert result.stderr == "Error: AWS: You must specify a region; `ddb-lake doctor` shows what is missing.\n"


_ENDLESS = """
import sys
from types import ModuleType
from ddb_lake.cli import app
from ddb_lake.cli.command import command
from ddb_lake.cli.output.writers import write_lines
@command("endless", "Endless.", "ddb-lake endless")
def endless():
    write_lines(b"x" * 100 for _ in iter(int, 1))
module = ModuleType("endless_command")
module.endless = endless
sys.modules["endless_command"] = module
app.COMMANDS["endless"] = "endless_command:endless"
sys.argv = ["ddb-lake", "endless"]
app.main()
"""


def test_reader_that_leaves_ends_it_quietly() -> None:
    with subprocess.Popen([sys.executable, "-c", _ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"x" * 100 + b"\n"
        process.stdout.close()
        assert process.wait(120) == 141
        assert process.stderr.read() == b""


def test_sigint_ends_it_without_a_traceback() -> None:
    with subprocess.Popen([sys.executable, "-c", _ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.05)
        process.stdout.close()
        assert process.wait(120) in (130, 141)
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("arguments", [(), ("quarantine",)])
def test_group_without_a_command_prints_its_help(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Usage: ")
    assert "\nCommands:\n" in done.stderr
