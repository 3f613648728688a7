"""The documentation's page: the goals and what was found, plots, and every table. Written from results.json."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ddb_lake_tests.benchmarks.goals import goals
from ddb_lake_tests.benchmarks.plots import draw
from ddb_lake_tests.benchmarks.report import HEADER, SECTIONS, Table

_INTRODUCTION = """# Benchmarks

`make bench ARGS="--docs ddb_lake/docs"` writes this page and the table of speeds in the README. Its programs run ddb_lake and the
other tools in turn and check that all end with the same rows. Ratios are comparable with other machines, seconds are not.
[Decision 0039](../../decisions/0039-speed-of-load-and-apply.md) explains which goals are not met, and why.
"""
_READING = """
`MB` is the amount written (for DuckDB's own table: the growth of its file). `peak MB` is the greatest resident memory of the process
and its child processes, and `CPU s` their processor time. `ratio` is relative to the line with 1.00. Unless a table states otherwise,
the times do not include imports, the start of Spark, and the comparison of rows.
"""
_ABOUT = {
    "apply": "From landed objects to committed `current`. None of the other tools keeps a changelog, the removed keys or a ledger"
    " of the applied objects, and all get the columns as input; ddb_lake is exact and writes Iceberg. Spark alone has no Iceberg"
    " writer, so it rewrites its Parquet files; pyiceberg alone rewrites each file that has a changed key.",
    "freshness": "An object lands, and is visible when a query finds its rows. The lines below the first divide the time into"
    " parts: medians, which need not add up.",
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
        page.append(f"## {SECTIONS[kind]}\n")
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
