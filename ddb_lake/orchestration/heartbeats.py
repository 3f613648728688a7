"""Whether a run that has not ended is still at work: each op writes its process, and then a heartbeat every minute.

Dagster's default launcher cannot check the health of a run: a run whose process was killed stays STARTED and keeps its pool
slot, and every run that would do its work waits for it. The heartbeats are messages in the run's own event log, so that they
work with every storage and are deleted with the run.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from ddb_lake.core.values.time_text import time_text

BEAT_S = 60.0
SILENT_S = 600.0
"""After this time without an event, nothing waits for a run. An op at work has ten heartbeats in this time."""

_NOTE = "at work: "
_STEP_ENDS = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SKIPPED,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
}
_MOST_EVENTS = 500
_LAUNCHED = re.compile(r"Started process for run \(pid: (\d+)\)")
_GRPC_TAG = ".dagster/grpc_info"
"""The default launcher gives it to the runs whose processes it starts."""

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class Process:
    """The identity of a process. `host`: machine, boot and PID namespace; `started`: in clock ticks since boot.

    Both are empty on systems without /proc: then only the heartbeats of a process are known.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        return cls(_host(), os.getpid(), _started(os.getpid()) or "")

    @property
    def has_ended(self) -> bool:
        """Whether the process was on this host and does not exist any more."""
        return bool(self.host) and self.host == _host() and _started(self.pid) != self.started


@dataclass(frozen=True, slots=True)
class RunHealth:
    """The health of a run that has not ended. `text`: one sentence about it, for messages.

    working: it is expected to finish. dead: its process does not exist, or has stopped its heartbeats. silent: it has
    written no event for long, and the reason is not known.
    """

    state: Literal["working", "dead", "silent"]
    text: str


@contextmanager
def beating(context: Any) -> Iterator[None]:
    """Write the process to the run's events now, and every minute until the block ends."""
    note = f"{_NOTE}{json.dumps(asdict(Process.this()))}"
    ended = threading.Event()
    context.log.info(note)

    def beat() -> None:
        while not ended.wait(BEAT_S):
            context.log.info(note)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def run_health(instance: dg.DagsterInstance, record: dg.RunRecord, now_s: float, is_own: bool) -> RunHealth:
    """The health of a run that has not ended.

    Args:
        is_own: whether the run is of the caller's code location. A queued run of another one may never be launched.
    """
    run = record.dagster_run
    entries = _entries(instance, run.run_id)
    last_s = max((entry.timestamp for entry in entries), default=record.create_timestamp.timestamp())
    is_silent = now_s - last_s >= SILENT_S
    text = f"run {run.run_id} is {run.status.value}, its last event was at {time_text(round(last_s * 1e6), unit='s')}"
    process = _process_at_work(entries) if run.status == dg.DagsterRunStatus.STARTED else None
    if process is not None:
        text += f", its process is {process.pid} on {process.host.partition('/')[0] or 'an unknown host'}"
        if process.has_ended:
            return RunHealth("dead", f"{text}, which does not exist any more")
        return (
            RunHealth("dead", f"{text}, which has sent no heartbeat since") if is_silent else RunHealth("working", text)
        )
    if (
        run.status == dg.DagsterRunStatus.STARTED
        and is_own
        and _GRPC_TAG in run.tags
        and _launched_process_ended(entries)
    ):
        return RunHealth("dead", f"{text}, and its process does not exist any more")
    if not is_silent or (run.status == dg.DagsterRunStatus.QUEUED and is_own):
        return RunHealth("working", text)
    return RunHealth("silent", text)


def end_dead_run(instance: dg.DagsterInstance, run: dg.DagsterRun, text: str) -> bool:
    """Mark a run as failed whose process is gone, and free its pool slots; False if it has ended meanwhile."""
    found = instance.get_run_by_id(run.run_id)
    if found is None or found.is_finished:
        return False
    instance.report_run_failed(found, f"{text}. Its work is requested again. Nothing was committed in part.")
    if instance.event_log_storage.supports_global_concurrency_limits:
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return True


def _entries(instance: dg.DagsterInstance, run_id: str) -> list[dg.EventLogEntry]:
    """The latest events of a run, the newest first."""
    found = instance.get_records_for_run(run_id, limit=_MOST_EVENTS, ascending=False)
    return [record.event_log_entry for record in found.records]


def _process_at_work(entries: list[dg.EventLogEntry]) -> Process | None:
    """The process of an op that has begun and not ended; `entries` are read from the newest back."""
    ended = set()
    for entry in entries:
        if entry.dagster_event is not None:
            if entry.dagster_event.event_type in _STEP_ENDS:
                ended.add(entry.step_key)
        elif entry.step_key not in ended and entry.user_message.startswith(_NOTE):
            return Process(**json.loads(entry.user_message.removeprefix(_NOTE)))
    return None


def _launched_process_ended(entries: list[dg.EventLogEntry]) -> bool:
    """Whether the process that Dagster's default launcher started is gone, for a run that has no op at work.

    The launcher starts it beside the code server, where a sensor of the same code location is evaluated.
    """
    for entry in entries:
        launched = _LAUNCHED.match(entry.message)
        if launched is not None:
            ticks = _started(int(launched[1]))
            return bool(_host()) and (ticks is None or _boot_s() + int(ticks) / _TICKS_PER_S > entry.timestamp + 1)
    return False


def _boot_s() -> float:
    """When this machine was started, in seconds since the epoch."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime ")))


def _host() -> str:
    """This machine, boot and PID namespace: in another container the same number is another process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process was started, in clock ticks since boot; None if there is none of that number.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: field 22; the state Z or X means that the process has ended.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[18]
