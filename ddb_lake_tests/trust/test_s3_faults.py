"""S3 on bad days: every stage, with landing, exports and warehouse in S3, through a way there that fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from ddb_lake.aws.session import session
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.failing_steps import through, wrong
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.fault_proxy import Fault, Way
from ddb_lake_tests.support.lake_contents import small_scenario

SCENARIO = small_scenario(seed=6, keys=6, writes=24, objects=4)
EXPORTS = {export.kind: number for number, export in enumerate(SCENARIO.exports)}
IMPATIENT = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=1, read_timeout=1)
LANDED = ("load", "increment", "apply")


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    """A sandbox behind a way that may fail; landing has the scenario's objects and exports."""
    with pytest.MonkeyPatch.context() as patch, Sandbox() as sandbox:
        client = sandbox.client("s3")
        for bucket in ("lake", "landing"):
            where = {"LocationConstraint": sandbox.environment()["AWS_REGION"]}
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        for key, content in SCENARIO.objects.items():
            client.put_object(Bucket="landing", Key=f"changes/{key}", Body=content)
        for number, export in enumerate(SCENARIO.exports):
            for path, content in export.files.items():
                client.put_object(Bucket="landing", Key=f"exports/{number}/{path}", Body=content)
        found = Way(sandbox.environment()["AWS_ENDPOINT_URL"])
        with found.served() as url:
            for name, value in {**sandbox.environment(), "AWS_ENDPOINT_URL": url}.items():
                patch.setenv(name, value)
            patch.setattr("ddb_lake.aws.session._config", lambda: IMPATIENT)
            session.cache_clear()
            yield found
    session.cache_clear()


def opened(folder: Path, warehouse: str | None = None) -> Any:
    """A lake in `folder`, or in S3 with its catalog in `folder`."""
    table = {"name": SCENARIO.table, "key": list(SCENARIO.key_names)}
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db"} if warehouse else {}
    settings = {"warehouse": warehouse or str(folder / "lake"), "catalog": catalog, "tables": [table]}
    return open_lake(parse_settings(settings, "test"))


def load(lake: Lake, kind: str) -> Any:
    return load_export(lake, SCENARIO.table, f"s3://landing/exports/{EXPORTS[kind]}/")


def apply(lake: Lake) -> Any:
    return apply_objects(lake, SCENARIO.table, ["s3://landing/changes/"])


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


@fault("S3 throttles (503)", *LANDED)
def test_s3_that_throttles_costs_nothing(way: Way, tmp_path: Path) -> None:
    assert_exact_through(way, tmp_path, Fault("throttle", ("get", "list"), burst=1, period=3))


@fault("S3 does not answer in time", *LANDED)
def test_s3_that_does_not_answer_costs_nothing(way: Way, tmp_path: Path) -> None:
    assert_exact_through(way, tmp_path, Fault("hang", ("get", "list"), burst=1, period=7))


@fault("the connection ends half-way through an object", *LANDED)
def test_transfer_that_breaks_off_costs_nothing(way: Way, tmp_path: Path) -> None:
    assert_exact_through(way, tmp_path, Fault("half", ("get",), burst=1, period=3))


@fault("half an object that calls itself whole", *LANDED)
def test_half_an_object_is_never_taken_for_a_whole_one(way: Way, tmp_path: Path) -> None:
    assert assert_exact_through(way, tmp_path, Fault("short", ("get",), burst=1, period=2, below="/landing/")) > 0


@fault("S3 lists late", "apply")
def test_objects_that_are_listed_late_are_taken_in_later(way: Way, tmp_path: Path) -> None:
    with opened(tmp_path) as lake:
        load(lake, "full")
        load(lake, "incremental")
        way.faults = [Fault("late", ("list",), burst=1, period=1, below="/landing")]
        assert apply(lake).objects < len(SCENARIO.objects)
        way.faults.clear()
        assert apply(lake).objects == len(SCENARIO.objects)
        assert wrong(lake, SCENARIO) == []


@fault("S3 fails (500)", "compact", "dump")
@fault("S3 takes an object and its answer is lost", "apply", "compact")
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
