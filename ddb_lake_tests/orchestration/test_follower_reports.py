"""What a follower reports to Dagster: sums, once a minute, and the checks that a run would have evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ddb_lake.checks.registry import SCHEMA_UNCHANGED, UNIQUE_KEYS
from ddb_lake.errors import CheckFailed, UsageError
from ddb_lake.orchestration.follower_reports import REPORT_EVERY_S, FollowerReports, follower_reports
from ddb_lake_tests.support.simulated_follower import NAME, Following, following
from ddb_lake_tests.support.streams_service import SimulatedStreams

CHANGES, CURRENT = dg.AssetKey(["changes", NAME]), dg.AssetKey(["current", NAME])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Following]:
    service = SimulatedStreams()
    service.enable()
    with following(tmp_path, service) as opened:
        yield opened


def _follow(found: Following, reports: FollowerReports, *values: int) -> None:
    """Write items one after the other, with a turn for each, and add the results."""
    follower = found.follower()
    found.run(follower, rounds=1)
    for value in values:
        found.service.write(value, value)
        found.run(follower, rounds=1)
        applied = found.heard.turns[-1].applied
        assert applied is not None
        reports.add(applied)
    follower.close()


def _materializations(instance: dg.DagsterInstance, key: dg.AssetKey) -> list[dict[str, Any]]:
    """The metadata of the materializations, the oldest first."""
    records = instance.fetch_materializations(key, limit=100, ascending=True).records
    events = [record.asset_materialization for record in records]
    return [
        {name: value.value for name, value in event.metadata.items()} | {"partition": event.partition}
        for event in events
        if event is not None
    ]


def _check(instance: dg.DagsterInstance, name: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(CURRENT, name)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


def test_turns_are_added_up_and_reported_once_a_minute(found: Following, instance: dg.DagsterInstance) -> None:
    reports = FollowerReports(found.lake, instance, found.service.clock)
    reports.report()
    assert _materializations(instance, CURRENT) == []
    _follow(found, reports, 1, 2, 3)
    reports.report()
    _follow(found, reports, 4, 5)
    reports.report()
    (first,) = _materializations(instance, CURRENT)
    assert (first["changed"], first["upserted"], first["dagster/row_count"]) == (3, 3, 3)
    (changes,) = _materializations(instance, CHANGES)
    assert (changes["new"], changes["inserted"], changes["objects"]) == (3, 3, 3)
    assert changes["partition"] in {f"{found.lake.now():%Y-%m-%d}", f"{found.lake.now():%Y-%m-%d-%H:00}"}
    assert _check(instance, UNIQUE_KEYS.name).passed
    found.service.advance(REPORT_EVERY_S)
    reports.report()
    reports.report()
    assert [one["changed"] for one in _materializations(instance, CURRENT)] == [3, 2]
    assert [one["new"] for one in _materializations(instance, CHANGES)] == [3, 2]
    assert _check(instance, SCHEMA_UNCHANGED.name).passed


def test_rest_is_reported_at_the_end(found: Following, instance: dg.DagsterInstance) -> None:
    reports = FollowerReports(found.lake, instance, found.service.clock)
    _follow(found, reports, 1)
    reports.report()
    _follow(found, reports, 2)
    reports.report(at_once=True)
    assert [one["changed"] for one in _materializations(instance, CURRENT)] == [1, 1]


def test_check_that_does_not_hold_is_reported_red(found: Following, instance: dg.DagsterInstance) -> None:
    reports = FollowerReports(found.lake, instance, found.service.clock)
    reports.add_failure(NAME, ValueError("this is no check"))
    reports.report()
    reports.add_failure(NAME, CheckFailed("two rows have one key; nothing was committed", table=NAME))
    reports.report()
    evaluation = _check(instance, UNIQUE_KEYS.name)
    assert not evaluation.passed
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    assert _materializations(instance, CURRENT) == []


def test_what_could_not_be_reported_is_reported_later(
    found: Following, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(event: object) -> None:
        raise OSError("the database does not answer")

    reports = FollowerReports(found.lake, instance, found.service.clock)
    _follow(found, reports, 1)
    with monkeypatch.context() as patched:
        patched.setattr(instance, "report_runless_asset_event", fail)
        with pytest.raises(OSError, match="does not answer"):
            reports.report()
    reports.report()
    assert [one["changed"] for one in _materializations(instance, CURRENT)] == [1]


def test_instance_must_be_known(found: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(UsageError, match="DAGSTER_HOME"), follower_reports(found.lake):
        pass
