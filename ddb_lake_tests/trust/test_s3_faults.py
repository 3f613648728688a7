"""S3 on bad days: every stage, with landing, exports and warehouse in S3, through a way there that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake_tests.support.failing_steps import through, wrong
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.fault_proxy import Fault, Way
from ddb_lake_tests.support.s3_faults import SCENARIO, apply, load, opened
from ddb_lake_tests.support.s3_faults import way as way

LANDED = ("load", "increment", "apply")


def assert_exact_through(way: Way, folder: Path, *faults: Fault) -> int:
    """Every stage that reads landing, under the faults, until it has ended; gives how often one refused."""
    before, refusals = way.injected.total(), 0
    with opened(folder) as lake:
        for stage in (lambda: load(lake, "full"), lambda: apply(lake), lambda: load(lake, "incremental")):
            way.faults = list(faults)
            refusals += len(through(stage, way.faults.clear))
        assert wrong(lake, SCENARIO) == []
    assert way.injected.total() > before, "no fault was met"
    return refusals


@fault("S3 fails (500)", *LANDED)
def test_s3_that_fails_in_bursts_costs_nothing(way: Way, tmp_path: Path) -> None:
    assert assert_exact_through(way, tmp_path, Fault("fail", ("get", "list"))) > 0


@pytest.mark.exhaustive
@fault("S3 throttles (503)", *LANDED)
def test_s3_that_throttles_costs_nothing(way: Way, tmp_path: Path) -> None:
    assert_exact_through(way, tmp_path, Fault("throttle", ("get", "list"), burst=1, period=3))


@pytest.mark.exhaustive
@fault("S3 does not answer in time", *LANDED)
def test_s3_that_does_not_answer_costs_nothing(way: Way, tmp_path: Path) -> None:
    assert_exact_through(way, tmp_path, Fault("hang", ("get", "list"), burst=1, period=7))


@pytest.mark.exhaustive
@fault("the connection ends half-way through an object", *LANDED)
def test_transfer_that_breaks_off_costs_nothing(way: Way, tmp_path: Path) -> None:
    assert_exact_through(way, tmp_path, Fault("half", ("get",), burst=1, period=3))


@fault("a truncated object with a consistent length", *LANDED)
def test_half_an_object_is_never_taken_for_a_whole_one(way: Way, tmp_path: Path) -> None:
    assert assert_exact_through(way, tmp_path, Fault("short", ("get",), burst=1, period=2, below="/landing/")) > 0


@fault("S3 lists late", "apply")
def test_objects_that_are_listed_late_are_ingested_later(way: Way, tmp_path: Path) -> None:
    with opened(tmp_path) as lake:
        load(lake, "full")
        load(lake, "incremental")
        way.faults = [Fault("late", ("list",), burst=1, period=1, below="/landing")]
        assert apply(lake).objects < len(SCENARIO.objects)
        way.faults.clear()
        assert apply(lake).objects == len(SCENARIO.objects)
        assert wrong(lake, SCENARIO) == []


@pytest.mark.exhaustive
@fault("S3 fails (500)", "compact", "dump")
@fault("S3 stores an object and its answer is lost", "apply", "compact")
def test_warehouse_in_s3_that_fails_costs_nothing(way: Way, tmp_path: Path) -> None:
    with opened(tmp_path, "s3://lake/warehouse") as lake:
        load(lake, "full")
        load(lake, "incremental")
        for stage in (lambda: apply(lake), lambda: compact_table(lake, SCENARIO.table, force=True)):
            way.faults = [Fault("lose", ("put",), 1, 6), Fault("fail", ("get", "put"), 1, 11)]
            through(stage, way.faults.clear)
        way.faults = [Fault("fail", ("get",), 1, 11)]
        assert wrong(lake, SCENARIO) == []
        way.faults.clear()
    assert way.injected["lose"] > 0
