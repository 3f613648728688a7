"""Aligned tables on stdout, of any length in bounded memory."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import Any

from ddb_lake.cli.output.exact_json import value_text
from ddb_lake.cli.output.terminal import Styled, echo, write_plain
from ddb_lake.core.operations.display_text import escape_controls

GAP = "  "
MIN_WIDTH = 10
"""The least width of a column; columns that do not fit the terminal with it are left out."""

SAMPLE_ROWS = 500
"""The rows that decide the widths of a table. No other rows are held in memory."""


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Print a table.

    On a terminal the table is made to fit: long cells are cut, and columns that do not fit are named below it.
    Elsewhere nothing is cut. The first rows decide the widths; the rest is streamed.

    Returns:
        The number of rows.
    """
    limit = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    remaining = iter(rows)
    sample = list(islice(remaining, SAMPLE_ROWS))
    layout = _Layout(headers, sample, limit)
    heading = layout.line(headers)
    echo(heading if limit is None else Styled(heading, bold=True))
    echo(GAP.join("-" * room for room in layout.widths))
    count = write_plain(layout.lines(chain(sample, remaining)))
    if layout.hidden:
        echo(f"(no room for: {', '.join(layout.hidden)})")
    return count


def print_facts(facts: Sequence[tuple[str, Any]]) -> None:
    """Print `name  value` lines with the values aligned."""
    room = max((display_width(name) for name, _ in facts), default=0)
    for name, value in facts:
        echo(f"{name}{' ' * (room - display_width(name))}{GAP}{printable(value)}")


def printable(value: Any) -> str:
    """A value as one line: NULL for None, and control characters as escapes, because data must not control a terminal."""
    text = value_text(value)
    if text is None:
        return "NULL"
    return escape_controls(text)


def display_width(line: str) -> int:
    """The width of a line in columns of a terminal."""
    if line.isascii():
        return len(line)
    return sum(_char_width(c) for c in line)


def fit_widths(widths: Sequence[int], limit: int | None) -> list[int]:
    """Reduce widths to fit `limit` columns of a terminal, the widest first. Trailing columns that do not fit are dropped."""
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
    """The widths and alignment of a table's columns."""

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
    """The start of a cell with an ellipsis, at most `room` wide; and its width."""
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
