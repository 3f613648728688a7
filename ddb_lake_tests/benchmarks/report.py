"""The tables of a run, printed as they come, and kept in results.json with those of earlier runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"
"""What was measured, for the documentation's page."""

SECTIONS = {
    "load": "Loading an export",
    "apply": "Applying changes",
    "read": "Reading",
    "small": "Many small objects",
    "freshness": "Freshness",
    "day": "A day of micro-batches",
    "state": "Commits to a table with many commits",
    "growth": "A small apply to a lake with a long history",
    "startup": "Starting",
}
"""The headings of the page, in its order, by the first word of a series."""


@dataclass(slots=True)
class Line:
    """One competitor's figures: medians of its runs, `ratio` to the one that all are compared with.

    `p99`: of the seconds, where there were many runs.
    """

    name: str
    seconds: float
    low: float
    high: float
    ratio: float | None
    megabytes: float
    peak_mb: float
    cpu: float
    p99: float | None = None

    def cells(self) -> list[str]:
        """As text: seconds, range, p99, ratio, MB, peak MB, CPU s; empty where nothing was measured."""
        several = f"{self.low:.2f}–{self.high:.2f}" if self.high > self.low else ""
        p99, ratio = (f"{value:.2f}" if value is not None else "" for value in (self.p99, self.ratio))
        megabytes = f"{self.megabytes:.1f}" if self.megabytes else ""
        peak, cpu = (f"{self.peak_mb:.0f}" if self.peak_mb else "", f"{self.cpu:.1f}" if self.cpu else "")
        return [f"{self.seconds:.2f}", several, p99, ratio, megabytes, peak, cpu]


HEADER = ("median s", "range", "p99", "ratio", "MB", "peak MB", "CPU s")
_WIDTHS = (10, 15, 8, 8, 9, 9, 8)


@dataclass(slots=True)
class Table:
    """Figures of one piece of work. `series` and `items` say where they belong in a plot.

    `figure`: what the goal is about, where that is not a line's seconds. `notes`: what a reader must know of the lines.
    """

    title: str
    series: str
    items: int
    goal: str
    run: str
    lines: list[Line] = field(default_factory=list)
    figure: float | None = None
    notes: list[str] = field(default_factory=list)

    def line(self, name: str) -> Line | None:
        """One competitor's figures."""
        return next((line for line in self.lines if line.name == name), None)

    def fill(self, runs: dict[str, list[dict[str, Any]]], base: str | None = None, p99: bool = False) -> None:
        """Take the figures of all runs in, and print them."""
        against = median(runs[base], "seconds") if base else None
        for name, of_name in runs.items():
            times = [run["seconds"] for run in of_name]
            self.lines.append(
                Line(
                    name,
                    median(of_name, "seconds"),
                    min(times),
                    max(times),
                    median(of_name, "seconds") / against if against else None,
                    median(of_name, "bytes") / 1e6,
                    max(run.get("peak_mb", 0.0) for run in of_name),
                    median(of_name, "cpu"),
                    percentile(times, 99) if p99 else None,
                )
            )
        self._print()

    def _print(self) -> None:
        print(f"\n{self.title}" + (f" (goal: {self.goal})" if self.goal else ""))
        for name, cells in [("", list(HEADER)), *((line.name, line.cells()) for line in self.lines)]:
            print(f"  {name:46}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)))
        for note in self.notes:
            print(f"  {note}")
        print(end="", flush=True)


def kept() -> list[Table]:
    """The tables of results.json, in the order of the page."""
    known = json.loads(RESULTS.read_text(encoding="utf-8"))
    return [Table(**{**table, "lines": [Line(**line) for line in table["lines"]]}) for table in known]


def median(runs: Sequence[dict[str, Any]], figure: str) -> float:
    """The median of one figure over some runs; 0 if it was not measured."""
    return float(statistics.median(run.get(figure, 0.0) for run in runs))


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile, between the two values beside it."""
    if len(values) < 2:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class Report:
    """All tables of a run."""

    def __init__(self, command: str, machine: str) -> None:
        self.command, self.machine = command, machine
        self.tables: list[Table] = []

    def table(self, title: str, series: str, items: int, goal: str, figure: float | None = None) -> Table:
        """A new, empty table."""
        table = Table(title, series, items, goal, f"{self.command}; {self.machine}", figure=figure)
        self.tables.append(table)
        return table

    def keep(self) -> list[Table]:
        """Rewrite results.json: the tables of this run, and the earlier ones that it has not measured again."""
        measured = {(table.series, table.items) for table in self.tables}
        earlier = kept() if RESULTS.exists() else []
        tables = [*self.tables, *(table for table in earlier if (table.series, table.items) not in measured)]
        tables.sort(key=_place)
        RESULTS.write_text(
            json.dumps([asdict(table) for table in tables], indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        return tables


def _place(table: Table) -> tuple[int, int, list[str], int]:
    """Where a table stands: by kind, size, and what was done (fewer changes first)."""
    kind, *rest = table.series.split("-")
    changes = int(rest.pop()) if rest and rest[-1].isdigit() else 0
    return list(SECTIONS).index(kind), changes, rest, table.items
