"""The documentation's page: the goals and what was found, plots, and every table. Written from results.json."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ddb_lake_tests.benchmarks.goals import goals
from ddb_lake_tests.benchmarks.plots import draw
from ddb_lake_tests.benchmarks.report import HEADER, Table

_INTRODUCTION = """# Benchmarks

Written by `make bench`, whose programs run us and the peers in turn and check that all end with the same rows.
Ratios carry over to other machines, seconds do not. What misses its goal, and why, is in
decisions [39](../decisions/0039-speed-of-load-and-apply.md), [40](../decisions/0040-reading-on-trust.md),
[43](../decisions/0043-cheaper-loads.md), [44](../decisions/0044-readers-fetch-their-share.md) and
[45](../decisions/0045-decoding-in-python.md).
"""
_READING = """
`MB` is what was written (of DuckDB's own table: by how much its file grew), `peak MB` the greatest resident memory of
the process and those that it started, `CPU s` their processor time; `ratio` is to the line with 1.00. Imports, the start
of Spark and the comparison of rows are not counted, where a table does not say so.
"""
_SECTIONS = {
    "load": "Loading an export",
    "apply": "Applying changes",
    "read": "Reading",
    "small": "Many small objects",
    "freshness": "Freshness",
    "day": "A day of micro-batches",
}
_ABOUT = {
    "apply": "From landed objects to committed `current`. Of the peers none keeps a changelog, the removed keys or a ledger"
    " of what is applied, and all are told the columns; ours is exact, in Iceberg. Spark alone has no Iceberg"
    " writer, so it writes its Parquet files anew; pyiceberg alone writes anew each file that has a changed key.",
    "freshness": "An object is dropped, and visible when a query finds its rows. The lines below the first say where the"
    " time goes: medians, which need not add up.",
}


def write_page(docs: Path, tables: Sequence[Table]) -> None:
    """`explanation/benchmarks.md` and the plots that it shows, into the documentation's folder."""
    page = [
        _INTRODUCTION,
        *_rows(["goal", "limit", "found", "met"], [goal.cells() for goal in goals(tables)]),
        _READING,
    ]
    plots = draw(tables, docs / "images")
    for kind, of_kind in groupby(tables, lambda table: table.series.partition("-")[0]):
        page.append(f"## {_SECTIONS[kind]}\n")
        page += [f"{_ABOUT[kind]}\n"] if kind in _ABOUT else []
        page += [f"![{title}](../images/{name}.png)\n" for name, title in plots if name.startswith(f"bench-{kind}")]
        for table in of_kind:
            page += _section(table)
    (docs / "explanation" / "benchmarks.md").write_text("\n".join(page), encoding="utf-8")


def _section(table: Table) -> list[str]:
    cells = [[line.name.strip(), *line.cells()] for line in table.lines]
    used = [n for n in range(len(HEADER) + 1) if n == 0 or any(row[n] for row in cells)]
    head = [["", *HEADER][n] for n in used]
    command, _, machine = table.run.partition("; ")
    goal = f"Goal: {table.goal}. " if table.goal else ""
    notes = [f"{note}\n" for note in table.notes]
    rows = _rows(head, [[row[n] for n in used] for row in cells])
    return [f"### {table.title}\n", *rows, "", *notes, f"{goal}By `{command}`; {machine}.\n"]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
