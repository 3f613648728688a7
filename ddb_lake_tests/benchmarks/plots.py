"""Log-log growth curves: seconds over the rows of the table, and over the changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ddb_lake_tests.benchmarks.goals import short
from ddb_lake_tests.benchmarks.report import Table

Curves = dict[str, list[tuple[int, float]]]
_CHANGES = 100_000
"""The growth with the table's rows is shown for this many changes."""


def draw(tables: Sequence[Table], images: Path) -> list[tuple[str, str]]:
    """Write a plot of each series that has several sizes, in place of earlier plots; gives names and titles."""
    for path in images.glob("bench-*.png"):
        path.unlink()
    written = []
    for (name, title, axis), curves in sorted(_series(tables).items()):
        if max(len(points) for points in curves.values()) > 1:
            _plot(images / f"{name}.png", title, axis, curves)
            written.append((name, title))
    return written


def _series(tables: Sequence[Table]) -> dict[tuple[str, str, str], Curves]:
    """Curves by the plot's name, title and horizontal axis."""
    found: dict[tuple[str, str, str], Curves] = defaultdict(lambda: defaultdict(list))
    for table in tables:
        kind, *rest = table.series.split("-")
        for line in table.lines:
            if kind == "load" and not rest:
                found["bench-load", "Full load of orders", "items"][line.name].append((table.items, line.seconds))
            if kind == "apply":
                where, changes = rest[0], int(rest[1])
                if changes == _CHANGES:
                    plot = f"bench-apply-{where}-rows", f"{short(changes)} changes, {where} keys", "rows of the table"
                    found[plot][line.name].append((table.items, line.seconds))
                size = short(table.items)
                plot = f"bench-apply-{where}-{table.items:010d}", f"Into {size} rows, {where} keys", "change records"
                found[plot][line.name].append((changes, line.seconds))
    return found


def _plot(path: Path, title: str, axis: str, curves: Curves) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, points in curves.items():
        ours = {"linewidth": 2.5, "color": "black"} if name == "ddb-lake" else {}
        axes.loglog(*zip(*sorted(points), strict=True), marker="o", label=name, **ours)
    sizes = sorted({size for points in curves.values() for size, _ in points})
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: short(int(size))))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    for one in (axes.xaxis, axes.yaxis):
        one.set_minor_locator(NullLocator())
    axes.set(xlabel=axis, ylabel="seconds", title=title)
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
