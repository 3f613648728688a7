"""Aligned tables on stdout: whole reports, and query results of any length in bounded memory."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import click

from ddb_lake.cli.output.colour import styled
from ddb_lake.cli.output.exact_json import value_text

GAP = "  "
MIN_WIDTH = 10
"""A column is not made narrower than this to fit the terminal; columns beyond are left out."""
SAMPLE_ROWS = 500
"""Rows that decide the widths of a table; they are all of it that is held in memory."""


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Print a table and give its number of rows.

    On a terminal it is made to fit: long cells are cut, columns that find no room are named below it. Elsewhere
    nothing is cut. Widths follow the first rows, so that the rest can be streamed.
    """
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    remaining = iter(rows)
    sample = list(islice(remaining, SAMPLE_ROWS))
    layout = _Layout(headers, sample, limit)
    heading = layout.line(headers)
    write = sys.stdout.write  # not click.echo, which flushes every line
    write((heading if limit is None else styled(heading, bold=True)) + "\n")
    write(GAP.join("-" * room for room in layout.widths) + "\n")
    count = 0
    for line in layout.lines(chain(sample, remaining)):
        write(line + "\n")
        count += 1
    if layout.hidden:
        write(f"(no room for: {', '.join(printable(name) for name in layout.hidden)})\n")
    return count


def print_facts(facts: Sequence[tuple[str, Any]]) -> None:
    """Print `name  value` lines with the values aligned."""
    room = max((display_width(name) for name, _ in facts), default=0)
    for name, value in facts:
        click.echo(f"{name}{' ' * (room - display_width(name))}{GAP}{printable(value)}")


def printable(value: Any) -> str:
    """A value as one line: NULL for None, control characters as escapes, so that no data can steer a terminal."""
    spelled = value_text(value)
    if spelled is None:
        return "NULL"
    return spelled if spelled.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in spelled)


def display_width(line: str) -> int:
    """How many columns of a terminal a line takes."""
    if line.isascii():
        return len(line)
    return sum(_char_width(c) for c in line)


def fit_widths(widths: Sequence[int], limit: int | None) -> list[int]:
    """The widths cut to fit `limit` columns of a terminal, the widest first; trailing columns may find no room."""
    fitted = list(widths)
    if limit is None:
        return fitted
    while len(fitted) > 1 and sum(min(w, MIN_WIDTH) + len(GAP) for w in fitted) - len(GAP) > limit:
        fitted.pop()
    room = limit - len(GAP) * (len(fitted) - 1)
    while fitted and sum(fitted) > room:
        most = max(fitted)
        lower = max((w for w in fitted if w < most), default=0)
        at_most = [i for i, w in enumerate(fitted) if w == most]
        cut = min(most - lower, -(-(sum(fitted) - room) // len(at_most)))
        if most - cut < 1:
            break
        for i in at_most:
            fitted[i] -= cut
    return fitted


class _Layout:
    """Widths and alignment of a table's columns."""

    def __init__(self, headers: Sequence[str], sample: Sequence[Sequence[Any]], limit: int | None) -> None:
        cells = [[printable(value) for value in row] for row in [headers, *sample]]
        natural = [max(display_width(row[i]) for row in cells) for i in range(len(headers))]
        self.cut = limit is not None
        self.widths = fit_widths(natural, limit)
        self.hidden = list(headers[len(self.widths) :])
        self.right = [_numeric(row[i] for row in sample) for i in range(len(self.widths))]

    def lines(self, rows: Iterable[Sequence[Any]]) -> Iterator[str]:
        """One line a row."""
        return (self.line(row) for row in rows)

    def line(self, row: Sequence[Any]) -> str:
        """The cells of a row, padded."""
        return GAP.join(self._cell(row[i], i) for i in range(len(self.widths))).rstrip()

    def _cell(self, value: Any, column: int) -> str:
        room, cell = self.widths[column], printable(value)
        taken = display_width(cell)
        if taken > room and self.cut:
            cell, taken = _cut(cell, room)
        pad = " " * (room - taken)
        return pad + cell if self.right[column] else cell + pad


def _cut(cell: str, room: int) -> tuple[str, int]:
    """As much of a cell as `room` holds with an ellipsis, and its width."""
    kept, taken = [], 1
    for character in cell:
        taken += _char_width(character)
        if taken > room:
            taken -= _char_width(character)
            break
        kept.append(character)
    return "".join(kept) + "…", taken


def _numeric(values: Iterable[Any]) -> bool:
    known = [v for v in values if v is not None]
    return bool(known) and all(isinstance(v, int | float | Decimal) and not isinstance(v, bool) for v in known)


def _char_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
