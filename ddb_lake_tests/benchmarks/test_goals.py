"""The summary judges what the tables hold, and says what is not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ddb_lake_tests.benchmarks.goals import OURS, goals, short
from ddb_lake_tests.benchmarks.parts import PARTS
from ddb_lake_tests.benchmarks.peers import BARE, BOTO3, NATIVE
from ddb_lake_tests.benchmarks.readme_table import speed
from ddb_lake_tests.benchmarks.report import SECTIONS, Line, Table, kept, percentile


def table(series: str, items: int, seconds: dict[str, float], figure: float | None = None) -> Table:
    lines = [Line(name, value, value, value, None, 0.0, 0.0, 0.0) for name, value in seconds.items()]
    return Table("", series, items, "", "", lines, figure)


def verdicts(*tables: Table) -> dict[str, list[str]]:
    return {goal.what: goal.cells()[2:] for goal in goals(tables)}


def test_goals_of_loads_are_judged_by_each_size() -> None:
    found = verdicts(
        table("load", 1_000_000, {BARE: 2.0, OURS: 2.5, BOTO3: 30.0}),
        table("load", 10_000_000, {BARE: 20.0, OURS: 30.0}),
    )
    assert found["Full load of 1 M orders, by DuckDB's bare parse"] == ["1.25 (1 M orders)", "no"]
    assert found["Full load of 10 M orders, by DuckDB's bare parse"] == ["1.50 (10 M orders)", "no"]
    assert found["Full load of 50 M orders, by DuckDB's bare parse"] == ["not measured", "–"]
    assert found["Full load: faster than boto3 and pandas"] == ["12.00 (1 M orders)", "yes"]
    assert found["Full load: faster than Spark"] == ["not measured", "–"]


def test_memory_and_starts_are_judged() -> None:
    load, start = (
        table("load", 1_000_000, {BARE: 2.0, OURS: 2.4}),
        table("startup", 20_000, {"--help": 0.1, "status": 0.7}),
    )
    load.lines[1].peak_mb = 1.6 * 1024
    found = verdicts(load, start)
    assert found["Full load of 1 M orders, by DuckDB's bare parse"] == ["1.20 (1 M orders)", "yes"]
    assert found["Full load: greatest memory in GB"] == ["1.60 (1 M orders)", "no"]
    assert found["`ddb-lake --help`, seconds"] == ["0.10 (20 k rows)", "yes"]
    assert found["`ddb-lake status`, seconds"] == ["0.70 (20 k rows)", "no"]


def test_growth_compares_the_same_changes() -> None:
    tables = [
        table(f"apply-random-{n}", items, {OURS: items / 10**7}) for n in (1000, 100_000) for items in (10**6, 10**8)
    ]
    found = verdicts(*tables)["100 k changes into 100 M rows, by the same into 1 M"]
    assert found == ["100.00 (random)", "no"]


def test_a_long_history_is_judged_by_its_ratio() -> None:
    what = "CPU of a small apply to a lake with a long history, by a fresh lake"
    for ratio, verdict in ((1.5, "yes"), (1.51, "no")):
        grown = table("growth", 100_000, {"fresh": 0.1, "grown": 0.1 * ratio}, ratio)
        assert verdicts(grown)[what] == [f"{ratio:.2f} (100,000 files)", verdict]


def test_bulk_is_judged_by_processor_time() -> None:
    bulk = table("apply-random-1000000", 1_000_000, {OURS: 9.0, NATIVE: 3.0})
    bulk.lines[:] = [replace(line, cpu=line.seconds / (1 if line.name == OURS else 2)) for line in bulk.lines]
    found = verdicts(bulk)
    assert found["1 M changes into 1 M rows, CPU time by DuckDB's native MERGE"] == ["6.00 (random)", "no"]
    assert found["100 k changes into 1 M rows, by DuckDB's native MERGE"] == ["not measured", "–"]


def test_figures_replace_what_is_no_time() -> None:
    assert verdicts(table("small", 1_000_000, {OURS: 4.0}, 35_000.0))["Small objects: records a second"] == [
        "35,000 (1 M rows)",
        "no",
    ]


def test_sizes_and_percentiles() -> None:
    assert [short(size) for size in (500, 20_000, 1_250_000)] == ["500", "20 k", "1.25 M"]
    assert (percentile([3.0], 99), percentile([0.0, 1.0], 50)) == (3.0, 0.5)


def test_every_part_has_a_section_on_the_page() -> None:
    assert set(PARTS) - {"sensor"} == set(SECTIONS), "the sensor's tables are in the section of freshness"


def test_readme_has_the_measured_figures() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert speed(kept()) in readme.read_text(encoding="utf-8")
