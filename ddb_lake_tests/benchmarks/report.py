"""The tables of a run, printed as they come and written as a page with plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results.json"
"""What was measured, for the documentation's page."""

ORDER = ("load", "apply", "read", "small", "freshness", "day")
_HEADER = f"  {'':28}{'median s':>10}{'range':>15}{'ratio':>8}{'MB':>9}{'peak MB':>9}{'CPU s':>8}"


@dataclass(slots=True)
class Line:
    """One competitor's figures: medians of its runs, `ratio` to the one that all are compared with."""

    name: str
    seconds: float
    low: float
    high: float
    ratio: float | None
    megabytes: float
    peak_mb: float
    cpu: float


@dataclass(slots=True)
class Table:
    """Figures of one piece of work. `series` and `items` say where they belong in a plot."""

    title: str
    series: str
    items: int
    goal: str
    run: str
    lines: list[Line] = field(default_factory=list)

    def fill(self, runs: dict[str, list[dict[str, Any]]], base: str | None = None) -> None:
        """Take the figures of all runs in, and print them."""
        against = median(runs[base], "seconds") if base else None
        print(f"\n{self.title}" + (f" (goal: {self.goal})" if self.goal else ""), _HEADER, sep="\n", flush=True)
        for name, of_name in runs.items():
            times = [run["seconds"] for run in of_name]
            line = Line(
                name,
                median(of_name, "seconds"),
                min(times),
                max(times),
                median(of_name, "seconds") / against if against else None,
                median(of_name, "bytes") / 1e6,
                max(run["peak_mb"] for run in of_name),
                median(of_name, "cpu"),
            )
            self.lines.append(line)
            spread, ratio = f"{line.low:.2f}–{line.high:.2f}", f"{line.ratio:.2f}" if line.ratio else ""
            print(
                f"  {name:28}{line.seconds:10.2f}{spread:>15}{ratio:>8}{line.megabytes:9.1f}{line.peak_mb:9.0f}"
                f"{line.cpu:8.1f}",
                flush=True,
            )


def median(runs: list[dict[str, Any]], figure: str) -> float:
    """The median of one figure over some runs."""
    return float(statistics.median(run[figure] for run in runs))


class Report:
    """All tables of a run."""

    def __init__(self, command: str, machine: str) -> None:
        self.command, self.machine = command, machine
        self.tables: list[Table] = []

    def table(self, title: str, series: str, items: int, goal: str) -> Table:
        """A new, empty table."""
        self.tables.append(Table(title, series, items, goal, f"{self.command}; {self.machine}"))
        return self.tables[-1]

    def write(self, docs: Path) -> None:
        """`explanation/benchmarks.md` and the plots it shows, into the documentation's folder."""
        tables = self._with_earlier()
        plots = self._plot(tables, docs / "images")
        page = [
            "# Benchmarks\n",
            "Written by `make bench`, whose programs run us and the peers in turn and check that both end with the same rows.",
            "Ratios carry over to other machines, seconds do not. `MB` is what was written, `peak MB` the process's",
            "greatest resident memory, `CPU s` its processor time with imports. What misses its goal, and why, is in",
            "[decision 39](../decisions/0039-speed-of-load-and-apply.md) and",
            "[decision 40](../decisions/0040-reading-on-trust.md).\n",
        ]
        page += [f"![{name}](../images/{name}.png)\n" for name in plots]
        for table in tables:
            page.append(f"## {table.title}\n")
            page.append(
                f"{f'Goal: {table.goal}. ' if table.goal else ''}By `{table.run.partition('; ')[0]}`; {table.run.partition('; ')[2]}.\n"
            )
            page.append(
                "| | seconds | range | ratio | MB | peak MB | CPU s |\n| --- | --- | --- | --- | --- | --- | --- |"
            )
            for line in table.lines:
                ratio = f"{line.ratio:.2f}" if line.ratio else ""
                page.append(
                    f"| {line.name} | {line.seconds:.2f} | {line.low:.2f}–{line.high:.2f} | {ratio} |"
                    f" {line.megabytes:.1f} | {line.peak_mb:.0f} | {line.cpu:.1f} |"
                )
            page.append("")
        target = docs / "explanation" / "benchmarks.md"
        target.write_text("\n".join(page), encoding="utf-8")

    def _with_earlier(self) -> list[Table]:
        """The tables of this run, and those of earlier runs that this one has not measured again."""
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
        earlier = [Table(**{**table, "lines": [Line(**line) for line in table["lines"]]}) for table in known]
        measured = {(table.series, table.items) for table in self.tables}
        tables = [*self.tables, *(table for table in earlier if (table.series, table.items) not in measured)]
        tables.sort(key=lambda table: (ORDER.index(table.series.partition("-")[0]), table.series, table.items))
        RESULTS.write_text(json.dumps([asdict(table) for table in tables], indent=1) + "\n", encoding="utf-8")
        return tables

    @staticmethod
    def _plot(tables: Sequence[Table], images: Path) -> list[str]:
        """Log-log growth curves of the series that have figures for several sizes."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot

        series: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for table in tables:
            for line in table.lines:
                series.setdefault(table.series, {}).setdefault(line.name, []).append((table.items, line.seconds))
        written = []
        for name, curves in series.items():
            if max(len(points) for points in curves.values()) < 2:
                continue
            figure, axes = pyplot.subplots(figsize=(6, 4))
            for curve, points in sorted(curves.items()):
                axes.loglog(*zip(*sorted(points), strict=True), marker="o", label=curve)
            axes.set(xlabel="rows", ylabel="seconds", title=name)
            axes.grid(True, which="both", alpha=0.3)
            axes.legend(fontsize=8)
            figure.tight_layout()
            figure.savefig(images / f"bench-{name}.png", dpi=110)
            pyplot.close(figure)
            written.append(f"bench-{name}")
        return written
