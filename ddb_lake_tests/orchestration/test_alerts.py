"""The sensors that the guide gives as an example of alerts, on real runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from ddb_lake.orchestration.in_process_daemon import RunOptions, run_job
from ddb_lake_tests.support.dagster_folders import FolderLake, inserted
from ddb_lake_tests.support.docs_blocks import blocks, pages

DAY = ("2025-02-03", "2025-02-03")


@pytest.fixture
def example() -> dict[str, Any]:
    """The names that the guide's module defines; `sent` has what it sends."""
    (block,) = (one for one in blocks(pages()["guides/dagster.md"], "guides/dagster.md") if one.language == "python")
    names: dict[str, Any] = {"__name__": "alerts", "sent": []}
    exec(compile(block.text, "guides/dagster.md", "exec"), names)
    names["send"] = names["sent"].append
    return names


def test_checks_that_are_not_green_are_sent(example: dict[str, Any], folder_lake: Callable[..., FolderLake]) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/a", inserted(1), "garbage")
    assert lake.run("changes/orders", "current/orders", hours=DAY).success

    evaluate(example["checks"], lake, example)

    assert any(text.startswith("WARN: quarantine_empty of changes/orders: ") for text in example["sent"])
    assert not any("unique_keys" in text for text in example["sent"]), "it is green"


def test_failed_run_is_sent(example: dict[str, Any], folder_lake: Callable[..., FolderLake]) -> None:
    lake = folder_lake()
    config = {"ops": {f"{lake.name}__snapshot__orders": {"config": {"uri": str(lake.folder / "nowhere")}}}}
    options = RunOptions(config, [dg.AssetKey(["snapshot", "orders"])])
    assert not run_job(lake.defs, lake.instance, lake.sync_job, "test", options).success

    (run,) = lake.instance.get_runs(limit=1)
    (record,) = lake.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    event = record.event_log_entry.get_dagster_event()
    context = dg.build_run_status_sensor_context("alert_failed_runs", event, lake.instance, run).for_run_failure()
    example["failed_runs"](context)

    (text,) = example["sent"]
    assert text.startswith(f"The job {lake.sync_job} failed: ")


def evaluate(sensor: Any, lake: FolderLake, example: dict[str, Any]) -> None:
    """Evaluate a sensor for the newest run, which succeeded."""
    (run,) = lake.instance.get_runs(limit=1)
    (record,) = lake.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.RUN_SUCCESS).records
    event = record.event_log_entry.get_dagster_event()
    sensor(dg.build_run_status_sensor_context("alert_checks", event, lake.instance, run))
