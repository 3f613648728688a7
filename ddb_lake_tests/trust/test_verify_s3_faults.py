"""S3 on bad days while the lake is verified and repaired: the export lies in S3, and in one test the warehouse too.

A verification that could not read everything must say so: a lake with a row lost is never called equal, a whole one
never different. A repair ends exact, or says what to do and is exact when it is run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.core.values.change_record import Item
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.verification_report import Report
from ddb_lake.pipeline.verify.full import verify_export
from ddb_lake.pipeline.verify.repair import repair_from_export
from ddb_lake_tests.support.corruptions import lose_row
from ddb_lake_tests.support.failing_steps import explained, through
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.fault_proxy import Fault, Way
from ddb_lake_tests.support.s3_faults import EXPORTS, SCENARIO, apply, load, opened, way

__all__ = ["way"]

EXPORT = f"s3://landing/exports/{EXPORTS['full']}/"
TRIES = 2


@pytest.fixture(scope="module")
def lake(way: Way, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A lake with everything of the scenario in it. Every test leaves it exact."""
    with opened(tmp_path_factory.mktemp("lake")) as found:
        yield filled(found)


def filled(lake: Lake) -> Lake:
    load(lake, "full")
    apply(lake)
    load(lake, "incremental")
    assert verify(lake).outcome == "equal" and differences(lake) == []
    return lake


def verify(lake: Lake) -> Report:
    return verify_export(lake, SCENARIO.table, EXPORT)


def differences(lake: Lake) -> list[str]:
    """How the items differ from the truth."""
    return SCENARIO.differences(line.decode() for line in dump_items(lake, SCENARIO.table))


def spoil(lake: Lake) -> Item:
    """Lose a row; gives the key of its item."""
    items = (json.loads(line)["Item"] for line in dump_items(lake, SCENARIO.table))
    key = min(({name: item[name] for name in SCENARIO.key_names} for item in items), key=str)
    lose_row(lake, SCENARIO.table, key)
    return key


def told(way: Way, lake: Lake, *faults: Fault) -> tuple[set[str], list[str]]:
    """What verifications say under the faults: the keys at fault of those that ended, and what the others refused with."""
    said, refused = set(), []
    way.faults = list(faults)
    for _ in range(TRIES):
        try:
            report = verify(lake)
        except Exception as error:  # whatever it is, a user must be able to act on it
            refused.append(explained(error))
        else:
            said.add(str([found.key for found in report.differences]))
    way.faults.clear()
    return said, refused


def assert_never_misled(way: Way, lake: Lake, *faults: Fault) -> int:
    """Verify a damaged lake, repair it and verify it again, all under the faults. Returns the number of refusals."""
    before = way.injected.total()
    key = spoil(lake)
    said, refused = told(way, lake, *faults)
    assert said <= {str([key])}
    assert [found.key for found in verify(lake).differences] == [key]
    way.faults = list(faults)
    refused += through(lambda: repair_from_export(lake, SCENARIO.table, [key], EXPORT), way.faults.clear)
    assert differences(lake) == []
    said, again = told(way, lake, *faults)
    assert said <= {"[]"}
    assert verify(lake).outcome == "equal"
    assert way.injected.total() > before, "no fault was met"
    return len(refused) + len(again)


@fault("S3 fails (500)", "verify", "repair")
def test_s3_that_fails_in_bursts_misleads_no_verification(way: Way, lake: Lake) -> None:
    assert assert_never_misled(way, lake, Fault("fail", ("get", "list"))) > 0


@pytest.mark.exhaustive
@fault("S3 throttles (503)", "verify", "repair")
def test_s3_that_throttles_misleads_no_verification(way: Way, lake: Lake) -> None:
    assert_never_misled(way, lake, Fault("throttle", ("get", "list"), burst=1, period=5))


@pytest.mark.exhaustive
@fault("S3 does not answer in time", "verify", "repair")
def test_s3_that_does_not_answer_misleads_no_verification(way: Way, lake: Lake) -> None:
    assert_never_misled(way, lake, Fault("hang", ("get", "list"), burst=1, period=11))


@pytest.mark.exhaustive
@fault("the connection ends half-way through an object", "verify", "repair")
def test_transfer_that_breaks_off_misleads_no_verification(way: Way, lake: Lake) -> None:
    assert_never_misled(way, lake, Fault("half", ("get",), burst=1, period=3))


@pytest.mark.exhaustive
@fault("a truncated object with a consistent length", "verify", "repair")
def test_half_an_object_misleads_no_verification(way: Way, lake: Lake) -> None:
    assert assert_never_misled(way, lake, Fault("short", ("get",), burst=1, period=2)) > 0


@fault("S3 lists late", "verify", "repair", ending="refused")
def test_export_that_is_listed_late_is_reported_absent(way: Way, lake: Lake) -> None:
    late = Fault("late", ("list",), burst=1, period=1)
    key = spoil(lake)
    said, refused = told(way, lake, late)
    assert said == set() and len(refused) == TRIES
    way.faults = [late]
    refused += through(lambda: repair_from_export(lake, SCENARIO.table, [key], EXPORT), way.faults.clear)
    assert len(refused) == 2 * TRIES
    assert all("no manifest-summary.json at or below it" in text for text in refused)
    assert differences(lake) == [] and verify(lake).outcome == "equal"


@pytest.mark.exhaustive
@fault("S3 fails (500)", "verify", "repair")
@fault("S3 stores an object and its answer is lost", "repair")
def test_warehouse_in_s3_that_fails_misleads_no_verification(way: Way, tmp_path: Path) -> None:
    before = way.injected["lose"]
    with opened(tmp_path, "s3://lake/verified") as lake:
        key = spoil(filled(lake))
        way.faults = [Fault("lose", ("put",), 1, 9), Fault("fail", ("get", "put"), 1, 41)]
        try:
            assert [found.key for found in verify(lake).differences] == [key]
        except OSError as error:
            explained(error)
        through(lambda: repair_from_export(lake, SCENARIO.table, [key], EXPORT), way.faults.clear)
        assert differences(lake) == [] and verify(lake).outcome == "equal"
    assert way.injected["lose"] > before
