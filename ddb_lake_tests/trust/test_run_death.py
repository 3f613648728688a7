"""A run whose process is killed under a real daemon: its table goes on, with one code location and with two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.orchestration.run_requests import UNFINISHED
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.dagster_folders import inserted
from ddb_lake_tests.support.dagster_runs import DAGSTERS_OWN, without_telemetry
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.landed_files import order, write_changes

__all__ = ["order", "without_telemetry"]

STARTING = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED])
PATIENCE_S = 240.0
"""A bound for broken code alone: a quiet machine takes a tenth of it."""

CODE = """
import time
from pathlib import Path
import dagster as dg
from ddb_lake import DynamoDBLakeComponent

class Held(DynamoDBLakeComponent):
    def execute(self, context, lake, assets, config):
        while Path({hold!r}).exists():
            time.sleep(0.1)
        yield from super().execute(context, lake, assets, config)

defs = dg.build_defs_for_component(Held(warehouse={warehouse!r}, tables={tables!r}, run_automatically=True))
"""

WORKSPACE = """
load_from:
{locations}
"""


class Stand:
    """A lake in folders, a DAGSTER_HOME with our settings, and code whose runs wait while the file `hold` exists."""

    def __init__(self, folder: Path, locations: int) -> None:
        self.folder, self.hold, self.home = folder, folder / "hold", folder / "home"
        self.home.mkdir()
        self.hold.touch()
        shipped = resources.files("ddb_lake.orchestration").joinpath("dagster.yaml").read_text(encoding="utf-8")
        (self.home / "dagster.yaml").write_text(shipped)
        changes = {"uri": str(folder / "landing")}
        self.lake = {
            "warehouse": str(folder / "lake"),
            "tables": [{"name": "orders", "key": ["customer", "order_id"], "changes": changes}],
        }
        names = [f"location_{number}" for number in range(locations)]
        for name in names:
            (folder / f"{name}.py").write_text(CODE.format(hold=str(self.hold), **self.lake))
        found = [f"- python_file: {{relative_path: {name}.py, location_name: {name}}}" for name in names]
        (folder / "workspace.yaml").write_text(WORKSPACE.format(locations="\n".join(found)))

    def land(self, count: int) -> None:
        for number in range(count):
            write_changes(self.folder / "landing" / f"2025/02/03/04/{number:02d}", inserted(number + 1))

    def changes(self) -> int:
        """How many change records the lake has."""
        with open_lake(parse_settings(self.lake, "test")) as lake:
            return table_status(lake, "orders").changes

    @contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """Dagster's daemon with its code servers and runs; whatever is left of them is killed at the end."""
        command = [
            str(Path(sys.executable).parent / "dagster-daemon"),
            "run",
            "-w",
            str(self.folder / "workspace.yaml"),
        ]
        environment = {**os.environ, "DAGSTER_HOME": str(self.home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
        with (self.folder / "daemon.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment, cwd=self.folder
            )
            try:
                yield process
            finally:
                kill_all(process)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and all of its descendants, whatever groups and sessions they have made."""
    for pid in (*descendants(process.pid), process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        children = [child for child, its in parents.items() if its == parent]
        found += children
        waiting += children
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"not in {PATIENCE_S:.0f} s: {what}")


def at_work(instance: dg.DagsterInstance) -> str | None:
    """The id of a run whose op has begun."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if any("at work: " in entry.user_message for entry in instance.all_logs(run.run_id)):
            return run.run_id
    return None


def slot_holders(instance: dg.DagsterInstance) -> set[str]:
    """The runs that have a slot of a pool."""
    storage = instance.event_log_storage
    return {run for key in storage.get_concurrency_keys() for run in storage.get_concurrency_info(key).active_run_ids}


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without /proc a dead process shows after ten minutes")
@pytest.mark.filterwarnings(*DAGSTERS_OWN)
@pytest.mark.parametrize("locations", by_effort((2,), (2,), (1, 2)))
def test_table_goes_on_after_its_run_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_telemetry: None, locations: int
) -> None:
    stand = Stand(tmp_path, locations)
    stand.land(3)
    monkeypatch.setenv("DAGSTER_HOME", str(stand.home))
    with dg.DagsterInstance.get() as instance:
        with stand.daemon():
            killed = until(lambda: at_work(instance), "no run has begun")
            until(lambda: not instance.get_runs(STARTING), "a run has not started")  # such a run has three minutes
        assert slot_holders(instance) == {killed}, "it holds the pool's slot; the other location's run may wait for it"
        stand.hold.unlink()
        stand.land(5)
        with stand.daemon():
            until(lambda: stand.changes() == 5, "the objects are not applied")
            until(lambda: not instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)), "a run has not ended")
        found = instance.get_run_by_id(killed)
        assert found is not None and found.status == dg.DagsterRunStatus.FAILURE
        failures = [entry for entry in instance.all_logs(killed) if "does not exist any more" in entry.message]
        assert failures, "the run says why it has failed"
        assert slot_holders(instance) == set()
        assert instance.event_log_storage.get_concurrency_run_ids() == set(), "no run waits for a slot"
