"""The goals that the figures are held against, for the summary on top of the documentation's page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ddb_lake_tests.benchmarks.peers import BARE, BOTO3, DELTA, NATIVE, SPARK_LOAD
from ddb_lake_tests.benchmarks.report import Table

OURS = "ddb-lake"
MILLION = 1_000_000
_KINDS = {"load": "orders", "load-sparse": "sparse items", "load-documents": "documents"}
_LOAD_LIMITS = {MILLION: 1.2, 10 * MILLION: 1.35, 50 * MILLION: 1.35}
"""Of loads of orders, by their number."""

GROWTH_LIMIT = 1.5
"""How many times the cost of an apply to a fresh lake one to a lake with a long history may have."""

_WHERE = {"local": "last 2 %", "random": "random"}


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal. `found`: figures and what they are of; `met`: of each figure, None if it is not to be judged."""

    what: str
    goal: str
    found: tuple[tuple[str, float], ...]
    met: Callable[[float], bool] | None
    unit: str = ""

    def cells(self) -> list[str]:
        """Goal, figures and verdict as text."""
        told = ", ".join(f"{value:,.{0 if value > 100 else 2}f}{self.unit} ({of})" for of, value in self.found)
        return [self.what, self.goal, told or "not measured", self._verdict()]

    def _verdict(self) -> str:
        if self.met is None or not self.found:
            return "–"
        kept = [self.met(value) for _, value in self.found]
        return "yes" if all(kept) else "in part" if any(kept) else "no"


def short(rows: int) -> str:
    """A number of rows in words: 10 M, 20 k."""
    return f"{rows / MILLION:g} M" if rows >= MILLION else f"{rows / 1000:g} k" if rows >= 1000 else str(rows)


def goals(tables: Sequence[Table]) -> Iterator[Goal]:
    """All goals, with what the tables have on them."""
    loads = [t for t in tables if t.series in _KINDS]
    for items, limit in _LOAD_LIMITS.items():
        of_size = [t for t in loads if t.series == "load" and t.items == items]
        yield _at_most(
            f"Full load of {short(items)} orders, by DuckDB's bare parse", limit, _ratios(of_size, OURS, BARE)
        )
    others = [t for t in loads if t.series != "load"]
    yield _at_most("Full load of other items, by DuckDB's bare parse", 1.3, _ratios(others, OURS, BARE))
    yield _at_most("Full load: greatest memory in GB", 1.5, _peaks_gb(loads))
    yield _at_least("Full load: faster than Spark", 4, _ratios(loads, SPARK_LOAD, OURS))
    yield _at_least("Full load: faster than boto3 and pandas", 10, _ratios(loads, BOTO3, OURS))
    applies = [t for t in tables if _is_apply(t, 100_000)]
    small = [t for t in applies if t.items == MILLION]
    yield _at_most("100 k changes into 1 M rows, by DuckDB's native MERGE", 1, _ratios(small, OURS, NATIVE))
    large = [t for t in applies if t.items == 10 * MILLION]
    yield _at_most("100 k changes into 10 M rows, by DuckDB's native MERGE", 1.2, _ratios(large, OURS, NATIVE))
    yield _at_least("100 k changes into 10 M rows: faster than delta-rs", 6, _ratios(large, DELTA, OURS))
    bulk = [t for t in tables if _is_apply(t, MILLION) and t.items == MILLION]
    yield _at_most("1 M changes into 1 M rows, CPU time by DuckDB's native MERGE", 2, _cpu_ratios(bulk, OURS, NATIVE))
    yield _at_most("1 M changes into 1 M rows, by delta-rs", 1.5, _ratios(bulk, OURS, DELTA))
    yield _at_most("100 k changes into 100 M rows, by the same into 1 M", 3, _growth(tables))
    reads = [t for t in tables if t.series == "read"]
    yield _at_most("Reading with deletes, by reading compacted", 1.3, _ratios(reads, "with deletes", "compacted"))
    yield _at_most("Bytes written for a byte landed, over a day", 5, _figures(tables, "day"))
    yield _at_least("Small objects: records a second", 60_000, _figures(tables, "small"))
    grown = [(f"{t.items:,} files", t.figure) for t in tables if t.series == "growth" and t.figure is not None]
    yield _at_most("CPU of a small apply to a lake with a long history, by a fresh lake", GROWTH_LIMIT, grown)
    for command, limit in (("--help", 0.15), ("status", 0.6)):
        yield _at_most(f"`ddb-lake {command}`, seconds", limit, _seconds(tables, "startup", command))
    yield Goal("Landed to visible, `sync` in a loop", "as measured", _freshness(tables, "freshness"), None, " s")
    yield Goal("Landed to visible, Dagster's sensor", "as measured", _freshness(tables, "freshness-sensor"), None, " s")


def load_limit(series: str, items: int) -> float:
    """How many times the bare parse a load of a kind of items may take."""
    return _LOAD_LIMITS.get(items, 1.3) if series == "load" else 1.3


def _at_most(what: str, limit: float, found: Sequence[tuple[str, float]]) -> Goal:
    return Goal(what, f"≤ {limit:g}", tuple(found), lambda value: round(value, 2) <= limit)


def _at_least(what: str, limit: float, found: Sequence[tuple[str, float]]) -> Goal:
    return Goal(what, f"≥ {limit:,g}", tuple(found), lambda value: round(value, 2) >= limit)


def _is_apply(table: Table, changes: int) -> bool:
    return table.series.startswith("apply-") and table.series.endswith(f"-{changes}")


def _of(table: Table) -> str:
    if table.series.startswith("apply-"):
        return _WHERE[table.series.split("-")[1]]
    return short(table.items) + (f" {_KINDS[table.series]}" if table.series in _KINDS else "")


def _ratios(tables: Sequence[Table], name: str, base: str) -> list[tuple[str, float]]:
    """Seconds of one by those of another, in the tables that have both."""
    pairs = [(table, table.line(name), table.line(base)) for table in tables]
    return [(_of(table), one.seconds / other.seconds) for table, one, other in pairs if one and other]


def _cpu_ratios(tables: Sequence[Table], name: str, base: str) -> list[tuple[str, float]]:
    """Processor time of one by that of another, in the tables that have both."""
    pairs = [(table, table.line(name), table.line(base)) for table in tables]
    return [(_of(table), one.cpu / other.cpu) for table, one, other in pairs if one and other and other.cpu]


def _peaks_gb(tables: Sequence[Table]) -> list[tuple[str, float]]:
    """The greatest memory of our line, in the tables that have it."""
    lines = [(table, table.line(OURS)) for table in tables]
    return [(_of(table), line.peak_mb / 1024) for table, line in lines if line]


def _seconds(tables: Sequence[Table], series: str, name: str) -> list[tuple[str, float]]:
    """The median seconds of one line."""
    lines = [(table, table.line(name)) for table in tables if table.series == series]
    return [(f"{short(table.items)} rows", line.seconds) for table, line in lines if line]


def _growth(tables: Sequence[Table]) -> list[tuple[str, float]]:
    found = []
    for kind, said in _WHERE.items():
        of_kind = {t.items: t.line(OURS) for t in tables if t.series == f"apply-{kind}-100000"}
        small, large = of_kind.get(MILLION), of_kind.get(100 * MILLION)
        if small and large:
            found.append((said, large.seconds / small.seconds))
    return found


def _figures(tables: Sequence[Table], series: str) -> list[tuple[str, float]]:
    return [(f"{short(t.items)} rows", t.figure) for t in tables if t.series == series and t.figure is not None]


def _freshness(tables: Sequence[Table], series: str) -> tuple[tuple[str, float], ...]:
    for table in tables:
        if table.series == series:
            line = table.lines[0]
            return (("p50", line.seconds), *((("p99", line.p99),) if line.p99 is not None else ()))
    return ()
