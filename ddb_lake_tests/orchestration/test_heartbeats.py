"""Runs that died, are silent, or belong to another lake: which of them the sensor waits for."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin  # no public way

from ddb_lake.orchestration import heartbeats
from ddb_lake.orchestration.heartbeats import SILENT_S, Process, beating
from ddb_lake.orchestration.run_requests import LAKE_TAG, WAREHOUSE_TAG
from ddb_lake_tests.support.dagster_folders import FolderLake, inserted
from ddb_lake_tests.support.run_requests import requests

STATUS = dg.DagsterRunStatus


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def origin_in(location: str) -> Any:
    """The origin of a job in a code location, which each queued run has."""
    return RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "repository").get_job_origin("lake_sync")


def add_run(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    location: str = "ours",
    selection: str = "changes/a",
    **tags: str,
) -> dg.DagsterRun:
    run = dg.DagsterRun(
        job_name="lake_sync",
        run_id=dg.DagsterRun("x").run_id,
        status=status,
        tags={LAKE_TAG: "lake", **tags},
        asset_selection=frozenset({dg.AssetKey(selection.split("/"))}),
        remote_job_origin=origin_in(location),
    )
    return instance.add_run(run)


def note(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    process: Process | None,
    ago_s: float = 0,
    step: str = "s",
    ends: bool = False,
    text: str = "message",
) -> None:
    """An event of the run: a heartbeat of a process, the end of a step (skipped has no data of its own), or any other message."""
    data = {} if process is None else {name: getattr(process, name) for name in ("host", "pid", "started")}
    event = dg.DagsterEvent("STEP_SKIPPED", "lake_sync", step_key=step) if ends else None
    instance.event_log_storage.store_event(
        dg.EventLogEntry(
            error_info=None,
            level=20,
            user_message=text if process is None else f"at work: {json.dumps(data)}",
            run_id=run.run_id,
            timestamp=time.time() - ago_s,
            step_key=step,
            job_name="lake_sync",
            dagster_event=event,
        )
    )


def ended_process() -> Process:
    """A process of this host that does not exist any more."""
    with subprocess.Popen(["sleep", "600"]) as child:
        started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        found = replace(Process.this(), pid=child.pid, started=started)
        assert not found.has_ended
        child.kill()
    return found


def test_process_is_known_from_others_of_its_number() -> None:
    this = Process.this()
    assert this.pid == os.getpid() and not this.has_ended
    assert replace(this, started="1").has_ended, "the number has passed to another process"
    assert ended_process().has_ended
    assert not replace(ended_process(), host="other/boot/pid:[1]").has_ended, "nothing is known of another host"
    assert not Process("", 1, "").has_ended


def test_run_whose_process_was_killed_is_failed_and_its_work_requested(instance: dg.DagsterInstance) -> None:
    run = add_run(instance, STATUS.STARTED)
    note(instance, run, ended_process())

    busy, said = requests("a").busy(instance, time.time())

    assert busy.applying == set() and busy.runs == {}
    assert run.run_id in said[0] and "does not exist any more" in said[0] and "marked as failed" in said[0]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == STATUS.FAILURE
    assert requests("a").busy(instance, time.time())[1] == []


def test_run_at_work_makes_its_table_busy_and_is_named(instance: dg.DagsterInstance) -> None:
    run = add_run(instance, STATUS.STARTED)
    note(instance, run, Process.this(), ago_s=SILENT_S - 60)

    busy, said = requests("a", "b").busy(instance, time.time())

    assert busy.applying == {"a"} and said == []
    assert list(busy.runs) == ["a"] and f"run {run.run_id} is STARTED, its last event was at" in busy.runs["a"]


def test_run_of_another_host_is_failed_when_its_heartbeats_stop(instance: dg.DagsterInstance) -> None:
    elsewhere = Process("other/boot/pid:[1]", 1, "1")
    run = add_run(instance, STATUS.STARTED)
    note(instance, run, elsewhere)
    assert requests("a").busy(instance, time.time())[0].applying == {"a"}
    assert requests("a").busy(instance, time.time() + SILENT_S - 1)[0].applying == {"a"}

    busy, said = requests("a").busy(instance, time.time() + SILENT_S + 1)

    assert busy.applying == set() and "no heartbeat since" in said[0]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == STATUS.FAILURE


@pytest.mark.parametrize("status", [STATUS.STARTED, STATUS.STARTING, STATUS.NOT_STARTED, STATUS.CANCELING])
def test_silent_run_whose_process_is_unknown_is_not_waited_for_and_not_ended(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    run = add_run(instance, status)
    note(instance, run, ended_process(), step="done")
    note(instance, run, None, step="done", ends=True)
    assert requests("a").busy(instance, time.time())[0].applying == {"a"}, "it is between two steps"

    busy, said = requests("a").busy(instance, time.time() + SILENT_S + 1)

    assert busy.applying == set() and "terminate the run" in said[0]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == status


@pytest.mark.parametrize(
    ("pid", "ago_s", "location", "tagged", "state"),
    [
        ("gone", 1, "ours", True, STATUS.FAILURE),
        ("this", 1, "ours", True, STATUS.STARTED),
        ("this", 10**9, "ours", True, STATUS.FAILURE),
        ("gone", 1, "theirs", True, STATUS.STARTED),
        ("gone", 1, "ours", False, STATUS.STARTED),
    ],
    ids=["gone", "lives", "number passed on", "another code location", "another launcher"],
)
def test_run_that_waited_for_a_pool_when_it_was_killed_is_failed(
    instance: dg.DagsterInstance, pid: str, ago_s: float, location: str, tagged: bool, state: dg.DagsterRunStatus
) -> None:
    """It has no op at work, and a slot that becomes free would be its own."""
    run = add_run(instance, STATUS.STARTED, location, **({".dagster/grpc_info": "{}"} if tagged else {}))
    number = os.getpid() if pid == "this" else ended_process().pid
    note(instance, run, None, ago_s, text=f"Started process for run (pid: {number}).")

    requests("a").busy(instance, time.time(), "ours")

    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == state


def test_queued_run_of_a_code_location_that_is_gone_is_not_waited_for(instance: dg.DagsterInstance) -> None:
    add_run(instance, STATUS.QUEUED, "theirs")
    later = time.time() + SILENT_S + 1
    assert requests("a").busy(instance, later, "theirs")[0].applying == {"a"}, "the coordinator will launch it"
    assert requests("a").busy(instance, time.time(), "ours")[0].applying == {"a"}
    assert requests("a").busy(instance, later, "ours")[0].applying == set()


def test_run_of_a_lake_of_the_same_name_elsewhere_does_not_count(instance: dg.DagsterInstance) -> None:
    run = add_run(instance, STATUS.STARTED, **{WAREHOUSE_TAG: "theirs"})
    note(instance, run, ended_process())

    busy, said = requests("a").busy(instance, time.time())

    assert busy.applying == set() and said == []
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == STATUS.STARTED


def test_run_that_ends_while_it_is_looked_at_keeps_its_status(instance: dg.DagsterInstance) -> None:
    run = add_run(instance, STATUS.SUCCESS)
    assert not heartbeats.end_dead_run(instance, run, "text")
    found = instance.get_run_by_id(run.run_id)
    assert found is not None and found.status == STATUS.SUCCESS


def test_op_notes_its_process_at_once_and_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(heartbeats, "BEAT_S", 0.01)
    context: Any = SimpleNamespace(log=SimpleNamespace(info=notes.append))
    with beating(context):
        while len(notes) < 3:
            time.sleep(0.01)
    count = len(notes)
    time.sleep(0.05)
    assert len(notes) == count and f'"pid": {os.getpid()}' in notes[0]


def test_skipped_tick_names_the_run_that_its_table_waits_for(folder_lake: Callable[..., FolderLake]) -> None:
    lake = folder_lake()
    lake.land("2025/02/03/04/x", inserted(1))
    run = add_run(lake.instance, STATUS.STARTED, selection="changes/orders", **{LAKE_TAG: lake.name})
    note(lake.instance, run, Process.this())
    skipped = lake.ticker.tick().skipped
    assert skipped is not None
    assert "Waiting for runs that are under way, tables: 1 (orders: run" in skipped and run.run_id in skipped
    assert "Nothing is due for the other tables looked at: 0." in skipped

    note(lake.instance, run, ended_process())
    (done,) = lake.ticker.tick().runs
    assert done.success and ("changes/orders", "2025-02-03") in done.materialized
