"""Exports as DynamoDB gives them to a run that may die while it waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg
import pytest

from ddb_lake.aws import export_requests as exports_api
from ddb_lake.aws.export_requests import ExportState
from ddb_lake.config import TableSettings
from ddb_lake.errors import ExportError, TransientError
from ddb_lake.orchestration import definitions
from ddb_lake.orchestration.assets import export
from ddb_lake.orchestration.in_process_daemon import QUIET
from ddb_lake_tests.support.dagster_folders import FolderLake
from ddb_lake_tests.support.landed_files import order

Make = Callable[..., FolderLake]


@dataclass
class FakeExports:
    """DynamoDB's exports: each ends after `looks` looks, as `ends` says. The same token gives the same export."""

    manifest: Path
    looks: int = 2
    ends: str = "COMPLETED"
    bucket: str = ""
    by_token: dict[str, ExportState] = field(default_factory=dict)
    started: list[ExportState] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)

    def start(self, table: TableSettings, *, token: str | None = None, **_: object) -> ExportState:
        assert token is not None and len(token) <= 36
        known = self.by_token.get(token)
        if known is None:
            known = self.add("IN_PROGRESS")
        self.by_token[token] = known
        return self.now(known.arn)

    def add(self, status: str) -> ExportState:
        state = ExportState(f"arn:export/{len(self.started):02d}", status, bucket=self.bucket)
        self.started.append(state)
        return state

    def now(self, arn: str) -> ExportState:
        return next(state for state in self.started if state.arn == arn)

    def describe(self, table: TableSettings, arn: str) -> ExportState:
        if self.faults:
            raise self.faults.pop()
        self.looks -= 1
        if self.looks <= 0:
            failure = "S3AccessDenied: no" if self.ends == "FAILED" else None
            ended = replace(self.now(arn), status=self.ends, failure=failure, manifest_key="m")
            self.started = [ended if state.arn == arn else state for state in self.started]
        return self.now(arn)

    def list(self, table: TableSettings) -> list[ExportState]:
        return [replace(state, bucket=None) for state in self.started]


@pytest.fixture
def exports(folder_lake: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[FolderLake, FakeExports]:
    monkeypatch.setattr(definitions, "RETRIES", dg.RetryPolicy(max_retries=1, delay=0))
    lake = folder_lake()
    manifest = lake.export(order("ann", 1), order("ann", 2))
    fake = FakeExports(manifest, bucket=str(lake.folder / "exports"))
    monkeypatch.setattr(exports_api, "start_export", fake.start)
    monkeypatch.setattr(export, "describe_export", fake.describe)
    monkeypatch.setattr(exports_api, "describe_export", fake.describe)
    monkeypatch.setattr(export, "list_exports", fake.list)
    monkeypatch.setattr(ExportState, "manifest_uri", property(lambda state: str(manifest)))
    monkeypatch.setattr(exports_api, "EXPORT_WAITS_S", (0.0, 0.0))
    return lake, fake


def materialize(lake: FolderLake, **options: object) -> dg.ExecuteInProcessResult:
    job = lake.defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=lake.instance,
        asset_selection=[dg.AssetKey([stage, "orders"]) for stage in ("export", "snapshot", "current")],
        run_config=QUIET,
        raise_on_error=False,
        **options,  # type: ignore[arg-type]
    )


def test_export_is_started_waited_for_and_loaded(exports: tuple[FolderLake, FakeExports]) -> None:
    lake, fake = exports

    result = materialize(lake)

    assert result.success and len(fake.started) == 1
    assert len(lake.items()) == 2
    (event,) = result.asset_materializations_for_node(f"{lake.name}__export__orders")
    assert event.metadata["export"].value == "arn:export/00"
    assert event.metadata["dagster/row_count"].value == 2


def test_run_that_died_while_it_waited_finds_its_export_again(exports: tuple[FolderLake, FakeExports]) -> None:
    lake, fake = exports
    fake.faults = [KeyError("the process is gone")] * 2
    assert not materialize(lake).success
    (died,) = lake.instance.get_runs()

    again = materialize(lake, tags={"dagster/parent_run_id": died.run_id, "dagster/root_run_id": died.run_id})

    assert again.success and len(fake.started) == 1


def test_run_that_died_after_its_export_ended_takes_that_one(exports: tuple[FolderLake, FakeExports]) -> None:
    lake, fake = exports
    fake.faults = [KeyError("the process is gone")] * 2
    assert not materialize(lake).success
    (died,) = lake.instance.get_runs()
    fake.started = [replace(fake.started[0], status="COMPLETED", manifest_key="m")]
    fake.by_token = dict.fromkeys(fake.by_token, fake.started[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dg.DagsterRun, "root_run_id", property(lambda run: died.run_id))
        again = materialize(lake)

    assert again.success and len(fake.started) == 1


def test_export_under_way_to_another_bucket_is_not_ours(exports: tuple[FolderLake, FakeExports]) -> None:
    lake, fake = exports
    theirs = fake.add("IN_PROGRESS")
    fake.started = [replace(theirs, bucket="theirs")]

    assert materialize(lake).success
    assert len(fake.started) == 2


def test_lost_connection_while_waiting_is_tried_again(exports: tuple[FolderLake, FakeExports]) -> None:
    lake, fake = exports
    fake.faults = [TransientError("throttled")]

    assert materialize(lake).success
    assert len(fake.started) == 1


def test_failed_export_fails_the_run_with_dynamodbs_reason(exports: tuple[FolderLake, FakeExports]) -> None:
    lake, fake = exports
    fake.ends = "FAILED"

    result = materialize(lake)

    assert not result.success and len(fake.started) == 1
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert "S3AccessDenied" in str(failed.step_failure_data.user_failure_data)


def test_failed_export_is_not_given_again_by_its_token(exports: tuple[FolderLake, FakeExports]) -> None:
    _, fake = exports
    table = TableSettings(name="orders")
    failed = export._started(table, "run")
    fake.started = [replace(failed, status="FAILED")]

    assert export._started(table, "run").arn != failed.arn


def test_exports_that_fail_at_once_end(
    exports: tuple[FolderLake, FakeExports], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports_api, "start_export", lambda table, **_: ExportState("arn", "FAILED", failure="no"))

    with pytest.raises(ExportError, match="8 exports of orders failed; the last: no"):
        export._started(TableSettings(name="orders"), "run")
