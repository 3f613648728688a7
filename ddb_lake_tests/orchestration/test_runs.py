"""Runs of the assets on real data, small, in folders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from ddb_lake.checks import backlog
from ddb_lake.errors import CheckFailed, CommitConflict
from ddb_lake.orchestration import definitions
from ddb_lake.orchestration.spark import launching
from ddb_lake.pipeline.maintain.erase import erase_keys
from ddb_lake.pipeline.maintain.erasure import EraseRequest
from ddb_lake_tests.support.dagster_folders import HOUR_US, FolderLake, check, inserted
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order

Make = Callable[..., FolderLake]

HOURS = ("2025-02-03-04:00", "2025-02-03-06:00")
DAY = ("2025-02-03", "2025-02-03")


def partitions(run: Any, asset: str = "changes/orders") -> list[str]:
    return [partition for name, partition in run.materialized if name == asset]


def latest(lake: FolderLake, asset: str) -> dict[str, Any]:
    event = lake.instance.get_latest_materialization_event(dg.AssetKey(asset.split("/")))
    assert event is not None and event.asset_materialization is not None
    return {name: value.value for name, value in event.asset_materialization.metadata.items()}


def test_hours_are_applied_in_one_run_with_the_figures_of_each(folder_lake: Make) -> None:
    lake = folder_lake(partitions={"every": "hour"})
    lake.land("2025/02/03/04/a", inserted(1), inserted(2))
    lake.land("2025/02/03/06/b", inserted(3), inserted(2))
    lake.land("2025/02/03/07/not-asked-for", inserted(4))

    run = lake.run("changes/orders", "current/orders", hours=HOURS)

    assert run.success
    assert partitions(run) == ["2025-02-03-04:00", "2025-02-03-05:00", "2025-02-03-06:00"]
    events = lake.instance.fetch_materializations(dg.AssetKey(["changes", "orders"]), limit=10).records
    rows = {
        record.asset_materialization.partition: record.asset_materialization.metadata[
            "dagster/partition_row_count"
        ].value
        for record in events
        if record.asset_materialization is not None
    }
    assert rows == {"2025-02-03-04:00": 2, "2025-02-03-05:00": 0, "2025-02-03-06:00": 1}
    told = latest(lake, "changes/orders")
    assert (told["records"], told["new"], told["duplicates"], told["quarantined"]) == (4, 3, 1, 0)
    assert told["dagster/row_count"] == 3


def test_current_shows_rows_columns_place_and_a_preview(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1, total={"N": "10.50"}, note={"S": "a|b\n`c`"}))

    lake.run("changes/orders", "current/orders", hours=DAY)

    told = latest(lake, "current/orders")
    assert told["dagster/row_count"] == 1
    assert told["dagster/table_name"] == "ddb_lake.orders"
    assert told["dagster/uri"].endswith("/ddb_lake/orders")
    assert (told["changed"], told["upserted"], told["removed"]) == (1, 1, 0)
    columns = {column.name: column.type for column in told["dagster/column_schema"].columns}
    assert columns["order_id"] == "bigint" and columns["customer"] == "varchar"
    sample = [record.data["values in 1 row"] for record in told["preview"].records]
    assert sample[:2] == ["customer: ann", "order_id: 1"] and "note: a|b `c`" in sample
    assert all(isinstance(told[name], int | float) for name in ("lag seconds", "bytes", "files", "delete share"))


def test_run_again_changes_nothing(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    lake.run("changes/orders", "current/orders", hours=DAY)
    before = lake.items()

    run = lake.run("changes/orders", "current/orders", hours=DAY)

    told = latest(lake, "changes/orders")
    assert run.success and lake.items() == before
    assert (told["objects"], told["objects already ingested"], told["new"]) == (1, 1, 0)
    assert latest(lake, "current/orders")["changed"] == 0


def test_everything_is_applied_when_requested(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("no-hour-at-all", inserted(1))
    lake.land("1999/12/31/23/too-early", inserted(2))
    config = {"ops": {f"{lake.name}__current__orders": {"config": {"everything": True}}}}

    run = lake.run("changes/orders", "current/orders", hours=DAY, config=config)

    assert run.success and len(lake.items()) == 2


def test_sensor_and_runs_bring_the_lake_up_to_date(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.export(order("ann", 1), order("bob", 2))
    lake.land("2025/02/03/04/a", inserted(3))
    lake.land("anywhere", inserted(4))

    runs = lake.settle()

    assert all(run.success for run in runs)
    assert {name for run in runs for name, _ in run.materialized} == {
        "snapshot/orders",
        "changes/orders",
        "current/orders",
    }
    assert len(lake.items()) == 4
    assert {c.check_name for c in runs[-1].checks if not c.passed} == {"sensor_ticks"}  # no daemon ticks here
    skipped = lake.ticker.tick().skipped
    assert skipped is not None and "Objects listed: " in skipped


def test_snapshot_compares_the_rows_with_the_manifest(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.export(order("ann", 1), order("ann", 2), order("bob", 1))

    run = lake.run("snapshot/orders", "current/orders")

    found = check(run, "snapshot/orders", "rows_match_manifest")
    assert found.passed and found.metadata["rows of the branch"].value == 3
    unique = check(run, "snapshot/orders", "unique_keys")
    assert unique.passed and unique.metadata["distinct keys"].value == 3
    assert latest(lake, "snapshot/orders")["dagster/row_count"] == 3
    assert latest(lake, "current/orders")["dagster/row_count"] == 3


@pytest.mark.parametrize("is_loaded", [True, False])
def test_erased_items_are_no_difference_from_the_manifest(folder_lake: Make, is_loaded: bool) -> None:
    lake = folder_lake()
    lake.export(order("ann", 1), order("ann", 2), order("bob", 1))
    if is_loaded:
        lake.run("snapshot/orders")
    with lake.opened() as opened:
        erase_keys(opened, "orders", EraseRequest([{"customer": {"S": "bob"}, "order_id": {"N": "1"}}]))

    found = check(lake.run("snapshot/orders"), "snapshot/orders", "rows_match_manifest")

    assert found.passed, found.description
    assert (found.metadata["rows of the branch"].value, found.metadata["erased items"].value) == (2, 1)


def test_snapshot_without_any_export_says_what_to_do(folder_lake: Make) -> None:
    lake = folder_lake()
    (lake.folder / "exports" / "AWSDynamoDB").mkdir(parents=True)

    run = lake.run("snapshot/orders")

    assert not run.success
    assert "materialize its export first" in failure(lake)


def test_damaged_export_fails_its_check_and_loads_nothing(folder_lake: Make) -> None:
    lake = folder_lake()
    manifest = lake.export(order("ann", 1), order("ann", 2))
    (data,) = manifest.parent.glob("data/*")
    data.write_bytes(data.read_bytes()[:-4])

    run = lake.run("snapshot/orders", "current/orders")

    assert not run.success
    found = check(run, "snapshot/orders", "rows_match_manifest")
    assert not found.passed and "MD5" in (found.description or "")
    with lake.opened() as opened:
        assert opened.current("orders") is None


def test_key_that_stands_twice_fails_the_blocking_check_before_the_commit(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.export(order("ann", 1, total={"N": "1"}), order("ann", 1, total={"N": "2"}))

    run = lake.run("snapshot/orders", "current/orders")

    found = check(run, "snapshot/orders", "unique_keys")
    assert not found.passed and found.blocking and "more than once" in (found.description or "")
    assert not run.success and run.materialized == ()


def test_merge_without_one_winner_fails_the_blocking_check(folder_lake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))

    def two_winners(*_: object) -> None:
        raise CheckFailed("orders: 1 key has 2 winners, 1 distinct; nothing was committed")

    monkeypatch.setattr(launching, "apply_objects", two_winners)
    run = lake.run("changes/orders", "current/orders", hours=DAY)

    found = check(run, "current/orders", "unique_keys")
    assert not found.passed and found.severity == dg.AssetCheckSeverity.ERROR
    assert not run.success and run.materialized == ()


def test_new_column_is_reported_once(folder_lake: Make) -> None:
    lake = folder_lake()
    passed = []
    for hour, attributes in (("04", {}), ("05", {"colour": {"S": "red"}}), ("06", {"colour": {"S": "blue"}})):
        lake.land(f"2025/02/03/{hour}/a", inserted(int(hour), **attributes))
        run = lake.run("changes/orders", "current/orders", hours=DAY)
        passed.append(check(run, "current/orders", "schema_unchanged"))

    assert [found.passed for found in passed] == [False, False, True]
    assert (passed[0].description or "").startswith("unknown: whether the columns changed, because there is no earlier")
    assert "added: colour" in (passed[1].description or "")
    assert passed[1].severity == dg.AssetCheckSeverity.WARN


def test_undecodable_bytes_are_a_warning_and_the_run_succeeds(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1), '{"eventName": "NONE"}', "garbage")

    run = lake.run("changes/orders", "current/orders", hours=DAY)

    found = check(run, "changes/orders", "quarantine_empty")
    assert run.success and not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert found.metadata["quarantined"].value == latest(lake, "changes/orders")["quarantined"] > 0
    assert len(lake.items()) == 1


def test_records_of_another_table_are_reported_there(folder_lake: Make) -> None:
    key = ["customer", "order_id"]
    lake = folder_lake(others=[{"name": "archive", "key": key, "changes": {"uri": "s3://landing/archive/"}}])
    elsewhere = change(2, EXPORT_US + HOUR_US, order("bob", 2), table="archive")
    nowhere = change(3, EXPORT_US + HOUR_US, order("cec", 3), table="unknown")
    lake.land("2025/02/03/04/a", inserted(1), elsewhere, nowhere)

    run = lake.run("changes/orders", "current/orders", hours=DAY)

    assert ("changes/archive", "2025-02-03") in run.materialized
    assert ("current/archive", None) in run.materialized
    assert latest(lake, "current/archive")["dagster/row_count"] == 1
    assert latest(lake, "changes/orders")["records of tables not configured"] == {"unknown": 1}


def test_current_alone_applies_what_the_changelog_has(folder_lake: Make) -> None:
    lake = folder_lake()

    run = lake.run("current/orders")

    assert run.success
    assert latest(lake, "current/orders")["dagster/row_count"] == 0


def test_changes_alone_report_what_they_wrote_to_current(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))

    run = lake.run("changes/orders", hours=DAY)

    assert run.success and ("current/orders", None) in run.materialized
    assert latest(lake, "current/orders")["dagster/row_count"] == 1
    found = check(run, "current/orders", "unique_keys")
    assert found.passed and found.metadata["changed keys"].value == found.metadata["winning records"].value == 1


def test_checks_can_be_evaluated_alone(folder_lake: Make) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1))
    job = lake.defs.resolve_job_def(f"{lake.name}_checks_job")

    result = job.execute_in_process(instance=lake.instance)

    found = {c.check_name: c for c in result.get_asset_check_evaluations()}
    assert set(found) == {"up_to_date", "quarantine_empty", "continuity", "objects_intact", "no_gaps", "sensor_ticks"}
    late = found["up_to_date"]
    assert late.passed and "1 object is not applied" in (late.description or "")


def test_object_that_waits_too_long_fails_the_check(folder_lake: Make) -> None:
    import os

    lake = folder_lake(orders={"checks": {"max_lag": "10m"}})
    os.utime(lake.land("2025/02/03/04/a", inserted(1)), (1_700_000_000, 1_700_000_000))
    job = lake.defs.resolve_job_def(f"{lake.name}_checks_job")

    result = job.execute_in_process(instance=lake.instance)

    (late,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "up_to_date")
    assert not late.passed and late.severity == dg.AssetCheckSeverity.ERROR
    assert "max_lag is 10m" in (late.description or "")


def test_source_that_cannot_be_reached_is_reported_as_not_compared(folder_lake: Make) -> None:
    lake = folder_lake(orders={"source": {"region": "eu-west-1"}})
    lake.land("2025/02/03/04/a", inserted(1))

    run = lake.run("changes/orders", "current/orders", hours=DAY)

    found = check(run, "current/orders", "rows_match_source")
    assert not found.passed and found.severity == dg.AssetCheckSeverity.WARN
    assert (found.description or "").startswith("unknown: whether the lake has as many rows")


def test_lake_can_be_worked_on_where_aws_cannot_be_reached(folder_lake: Make) -> None:
    lake = folder_lake(orders={"changes": {"uri": "s3://landing/orders/"}})

    run = lake.run("current/orders")

    found = check(run, "current/orders", "up_to_date")
    assert run.success and not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert (found.description or "").startswith("unknown: ")


def test_missing_credentials_fail_a_run_at_once_and_plainly(folder_lake: Make) -> None:
    lake = folder_lake(orders={"changes": {"uri": "s3://landing/orders/"}})

    run = lake.run("changes/orders", "current/orders", hours=DAY)

    assert not run.success and retries(lake) == 0
    assert failure(lake).startswith("AWS cannot be called: ")


def test_check_that_cannot_be_evaluated_does_not_keep_the_others_from_it(
    folder_lake: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = folder_lake(orders={"source": {"region": "eu-west-1"}})
    lake.land("2025/02/03/04/a", inserted(1))
    lake.settle()

    def broken(*_: object) -> None:
        raise ValueError("a value of an item")

    monkeypatch.setattr(backlog, "describe_source", broken)
    result = lake.defs.resolve_job_def(f"{lake.name}_checks_job").execute_in_process(instance=lake.instance)

    found = {c.check_name: c for c in result.get_asset_check_evaluations()}
    assert found["rows_match_source"].description == (
        "unknown: whether the lake has as many rows as the source has items, because unexpected ValueError."
    )
    assert found["up_to_date"].passed and found["quarantine_empty"].passed


def test_what_will_not_pass_by_itself_is_not_tried_again(folder_lake: Make) -> None:
    lake = folder_lake()
    config = {"ops": {f"{lake.name}__snapshot__orders": {"config": {"uri": str(lake.folder / "nowhere")}}}}

    run = lake.run("snapshot/orders", config=config)

    assert not run.success
    assert retries(lake) == 0


def test_what_may_pass_is_tried_again(folder_lake: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "RETRIES", dg.RetryPolicy(max_retries=2, delay=0))
    lake = folder_lake()
    lake.export(order("ann", 1))
    real, calls = launching.load_export, iter([CommitConflict("another writer was first"), None])

    def once_in_conflict(*arguments: Any) -> Any:
        if error := next(calls):
            raise error
        return real(*arguments)

    monkeypatch.setattr(launching, "load_export", once_in_conflict)
    run = lake.run("snapshot/orders")

    assert run.success and retries(lake) == 1


def test_compaction_reports_its_figures_and_changes_no_item(folder_lake: Make) -> None:
    lake = folder_lake()
    for hour in range(4):
        lake.land(f"2025/02/03/{hour:02d}/a", inserted(hour), inserted(hour + 10))
        lake.run("changes/orders", "current/orders", hours=DAY)
    before = lake.items()
    config = {"ops": {f"{lake.name}_compact_tables": {"config": {"force": True}}}}

    lake.defs.resolve_job_def(f"{lake.name}_compact").execute_in_process(run_config=config, instance=lake.instance)

    (observed,) = lake.instance.fetch_observations(dg.AssetKey(["current", "orders"]), limit=5).records
    assert observed.event_log_entry.asset_observation is not None
    told = observed.event_log_entry.asset_observation.metadata
    assert told["compaction/files before"].value == 4 and told["compaction/files after"].value == 1
    assert lake.items() == before


def failure(lake: FolderLake) -> str:
    """What the last run's failed step says."""
    (run,) = lake.instance.get_runs(limit=1)
    (event,) = (
        e for e in lake.instance.all_logs(run.run_id) if e.is_dagster_event and e.get_dagster_event().is_step_failure
    )
    error = event.get_dagster_event().step_failure_data
    return str(error.user_failure_data.description if error.user_failure_data else error.error)


def retries(lake: FolderLake) -> int:
    """How often a step of the last run was tried again."""
    (run,) = lake.instance.get_runs(limit=1)
    return sum(1 for e in lake.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED))
