"""Errors of a run: their text in one line with the next step, and the exit status.

Exit status 0: done; 1: a check failed or data is in doubt; 2: wrong use; 130: interrupted; 141: stdout was closed by
its reader.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import PurePath

import click

from ddb_lake.cli.output.terminal import Styled, echo, echo_traceback
from ddb_lake.core.operations.library_errors import GET_CREDENTIALS, translate_uncaught
from ddb_lake.core.operations.system import DISK_FULL, is_disk_full
from ddb_lake.errors import CommitStateUnknown, DdbLakeError, TransientError, UsageError

WRONG_USE_STATUS = 2
INTERRUPT_STATUS = 130
BROKEN_PIPE_STATUS = 141

ADD_A_TABLE = "add one below `tables:`; if an entry has `match`, `ddb-lake discover` finds its tables"
"""The next step for a lake without a table."""

_DOCTOR = "`ddb-lake doctor` may show why, --debug shows where"

_QUOTED_LIBRARIES = ("botocore", "sqlalchemy", "boto3", "requests", "urllib3")
"""Libraries whose messages are printed: they name services, tables and files, never an item's values."""


class UnexpectedEndOfFile(Exception):
    """Replaces an EOFError, which click handles as if the user had ended a prompt."""


class OutputClosed(Exception):
    """The reader closed stdout, as `head` does."""


def exit_status(error: BaseException) -> int:
    """The exit status of an error."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    return WRONG_USE_STATUS if isinstance(translate_uncaught(error) or error, UsageError) else 1


def error_text(error: BaseException) -> str:
    """The text of an error in one line, without `Error:`.

    It never has an item's values: messages of unknown origin are left out.
    """
    message = error.format_message() if isinstance(error, click.ClickException) else _message(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message += f"{'' if message.endswith(('.', '?')) else '.'} Try `{error.ctx.command_path} --help`."
    return " ".join(message.split())


def print_doubts(doubts: Sequence[str], quarantined: int, strict: bool) -> int:
    """Print each doubt about a result as an error.

    Args:
        doubts: reasons to doubt the result, each a sentence without its full stop.
        quarantined: how many records went to quarantine.
        strict: whether a quarantined record is an error.

    Returns:
        The exit status: 1 with a doubt, or if `strict` and a record went to quarantine.
    """
    for doubt in doubts:
        echo(Styled("Error:", fg="red"), f" {doubt}.", err=True)
    return int(bool(doubts) or (strict and quarantined > 0))


def print_error(error: BaseException, debug: bool, where: str = "") -> None:
    """Print an error on stderr, after `where` in its line; with `debug`, its traceback first.

    A group of commands without a command prints its help, with its lines as they are.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    if debug:
        echo_traceback(error)
    echo(Styled("Error:", fg="red"), f" {where}{error_text(error)}", err=True)


def _message(error: BaseException) -> str:
    error = translate_uncaught(error) or error
    if isinstance(error, CommitStateUnknown):
        return f"{_sentence(error)} Look at `ddb-lake status` before running it again."
    if is_disk_full(error) and not isinstance(error, DdbLakeError):
        return f"{_first_line(error)}; {DISK_FULL}." if isinstance(error, OSError) else f"{DISK_FULL}."
    if isinstance(error, TransientError):
        return f"{_sentence(error)} Run the command again: nothing is applied twice."
    if isinstance(error, DdbLakeError):
        return str(error)
    if isinstance(error, ImportError):
        return f"{error}; the installation is incomplete: see `ddb-lake doctor`."
    if isinstance(error, UnexpectedEndOfFile):
        return f"a file ended where more was expected ({_location(error.__cause__ or error)}); {_DOCTOR}."
    origin = type(error).__module__.partition(".")[0]
    if type(error).__name__ in ("NoCredentialsError", "ProfileNotFound"):  # botocore's: it is imported late
        return f"AWS: {_first_line(error)}; {GET_CREDENTIALS}."
    if origin == "botocore":
        return f"AWS: {_first_line(error)}; `ddb-lake doctor` shows what is missing."
    if isinstance(error, OSError) or origin in _QUOTED_LIBRARIES:
        return f"{_first_line(error)}; {_DOCTOR}."
    return (
        f"unexpected {type(error).__name__} in {_location(error)}; run it again with --debug and report the traceback."
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".;") if lines else type(error).__name__


def _location(error: BaseException) -> str:
    """Module and function of this project that the error passed last."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "ddb_lake" in PurePath(frame.filename).parts] or list(frames)
    return f"{PurePath(own[-1].filename).stem}.{own[-1].name}" if own else "an unknown place"


def _sentence(error: BaseException) -> str:
    """An error's message, ended by a full stop."""
    text = str(error)
    return text if text.endswith((".", "!", "?")) else f"{text}."
