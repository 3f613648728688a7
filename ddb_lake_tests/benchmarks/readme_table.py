"""The table `Speed` of the README, from the tables of results.json. A figure that was not measured has no row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddb_lake_tests.benchmarks.goals import MILLION, OURS
from ddb_lake_tests.benchmarks.peers import BARE, BOTO3, DELTA, NATIVE, SPARK_LOAD
from ddb_lake_tests.benchmarks.report import Line, Table

_HEADING = "## Speed\n"
_TABLE = re.compile(r"(^\|.*\n)+", re.MULTILINE)

_LOADS = {
    ("load", MILLION): "load 1,000,000 items",
    ("load", 10 * MILLION): "load 10,000,000 items",
    ("load-documents", 50_000): "load 50,000 documents of 20 KB",
}
_LOAD_PEERS = {BARE: "DuckDB's bare `read_json`", SPARK_LOAD: "Spark", BOTO3: "boto3 and pandas"}
_APPLIES = (
    (1_000, 10 * MILLION),
    (100_000, MILLION),
    (100_000, 10 * MILLION),
    (MILLION, MILLION),
    (MILLION, 10 * MILLION),
)
_APPLY_PEERS = {
    NATIVE: "DuckDB's own MERGE",
    DELTA: "delta-rs",
    "pyiceberg overwrite": "pyiceberg",
    "Spark anti-join, rewrite": "Spark",
}


def write_speed(readme: Path, tables: Sequence[Table]) -> None:
    """Replace the table in the section `Speed` of a README."""
    before, heading, after = readme.read_text(encoding="utf-8").partition(_HEADING)
    readme.write_text(before + heading + _TABLE.sub(lambda _: speed(tables), after, count=1), encoding="utf-8")


def speed(tables: Sequence[Table]) -> str:
    """The table as Markdown, with the newline of its last row."""
    rows = [("", "ddb_lake", "for comparison"), ("---", "---", "---"), *_rows({(t.series, t.items): t for t in tables})]
    return "".join(f"| {what} | {ours} | {others} |\n" for what, ours, others in rows)


def _rows(tables: dict[tuple[str, int], Table]) -> Iterator[tuple[str, str, str]]:
    for place, what in _LOADS.items():
        if place in tables:
            ours = tables[place].line(OURS)
            assert ours is not None
            yield what, f"{_seconds(ours)}, {ours.peak_mb / 1024:.1f} GB of memory", _others(tables[place], _LOAD_PEERS)
    for changes, items in _APPLIES:
        table = tables.get((f"apply-random-{changes}", items))
        if table:
            ours = table.line(OURS)
            assert ours is not None
            what = f"{changes:,} random changes, from landed objects, into {items:,} rows"
            yield what, _seconds(ours), _others(table, _APPLY_PEERS)
    small, day, read = (tables.get((series, MILLION)) for series in ("small", "day", "read"))
    if small:
        yield "10,000 objects of 14 records each, in one batch", f"{small.figure:,.0f} records a second", ""
    if day:
        yield (
            "a day of micro-batches, 500 changes each",
            f"{day.figure:.1f} bytes written per byte landed",
            "compaction included",
        )
    for series, by in (("freshness", "`sync` in a loop"), ("freshness-sensor", "Dagster's sensor")):
        fresh = tables.get((series, MILLION))
        if fresh:
            line = fresh.lines[0]
            what = f"from the landing of an object until `query` shows its rows, {by}"
            yield what, f"median {_seconds(line)}, 99 of 100 below {line.p99:.1f} s", "a table of 1,000,000 rows"
    if read:
        ratio = read.lines[0].seconds / read.lines[1].seconds
        what = "scan a table with a fifth of its rows deleted by position"
        yield what, f"{ratio:.1f} times the scan of the compacted table", "compaction is due at a quarter"


def _others(table: Table, names: dict[str, str]) -> str:
    lines = [(said, table.line(name)) for name, said in names.items()]
    return ", ".join(f"{said} {_seconds(line)}" for said, line in lines if line)


def _seconds(line: Line) -> str:
    return f"{line.seconds:.{1 if line.seconds < 20 else 0}f} s"
