"""Text for people, on stdout and stderr. All of it passes through this module, which lets no data control a terminal.

A terminal executes control sequences in data, a line break adds a line that looks like one of ours, and a bidirectional override
reorders what a person reads. `echo` writes every such character as an escape (`core.operations.display_text`). Colours are
arguments (`Styled`), and never part of a text. The linter refuses `print`, `click.echo` and `click.style` in the other modules.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass

import click

from ddb_lake.core.operations.display_text import escape_controls


@dataclass(frozen=True, slots=True)
class Styled:
    """A text with a colour or in bold."""

    text: str
    fg: str | None = None
    bold: bool | None = None


def echo(*parts: str | Styled, err: bool = False) -> None:
    """Write one line, the parts without spaces between them.

    Args:
        parts: texts of any origin.
        err: write to stderr, else to stdout.
    """
    click.echo("".join(_rendered(part) for part in parts), err=err)


def echo_lines(text: str, err: bool = False) -> None:
    """Write a text of several lines, whose line breaks are meant: help texts, scripts, and lists that the caller joined."""
    for line in text.split("\n"):
        echo(line, err=err)


def write_plain(lines: Iterable[str]) -> int:
    """Write lines to stdout without flushing each. Returns their number."""
    write, count = sys.stdout.write, 0
    for line in lines:
        write(escape_controls(line) + "\n")
        count += 1
    return count


def echo_traceback(error: BaseException) -> None:
    """Write the traceback of an error to stderr."""
    for entry in traceback.format_exception(error):
        echo_lines(entry.removesuffix("\n"), err=True)


def escape_json(line: bytes) -> bytes:
    """A line of JSON with such characters as `\\uXXXX`, which is the same JSON."""
    text = line.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\n" else _unicode_escaped(c) for c in text).encode()


def _rendered(part: str | Styled) -> str:
    if isinstance(part, Styled):
        return click.style(escape_controls(part.text), fg=part.fg, bold=part.bold)
    return escape_controls(part)


def _unicode_escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
