"""Tasks on Spark that take their executor with them: run by the cluster's executors, so this module must import little."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from ddb_lake.pipeline.apply.deduplication import Figures
from ddb_lake.spark.export_tasks import WriteShare, Written, write_share
from ddb_lake.spark.record_tasks import FindRepeated, WriteNew, find_repeated, write_new

MARKERS = "DDB_LAKE_TEST_MARKERS"
"""Environment variable of the executors: the folder of files that say who has died, and what was written before."""

_WORKER = b"org.apache.spark.deploy.worker.Worker"


def write_then_die(task: WriteShare) -> Written:
    """Write as before. The first task that has written kills its executor and worker before it can report."""
    written = write_share(task)
    _die("load", written.paths, _executor_and_worker)
    return written


def write_new_then_die(task: WriteNew) -> tuple[list[str], Figures]:
    """As `write_then_die`, of changes; the worker lives, and starts another executor."""
    written = write_new(task)
    staged = {file.path for file in task.files}  # the next attempt may return them too
    _die("apply", [path for path in written[0] if path not in staged], lambda: _executor_and_worker()[1:])
    return written


def find_then_die(task: FindRepeated) -> str | None:
    """The executor dies before it has compared the ids of a bucket."""
    _die("shuffle", [], lambda: _executor_and_worker()[1:])
    return find_repeated(task)


def _die(what: str, paths: list[str], processes: Any) -> None:
    marker = Path(os.environ[MARKERS]) / what
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    marker.write_text("\n".join(paths))
    for process in processes():
        os.kill(process, signal.SIGKILL)
    os._exit(1)  # no other process ends this one


def _executor_and_worker() -> list[int]:
    """The JVMs above this process, the worker first: else it might start another executor."""
    above: list[int] = []
    process = os.getppid()
    while process > 1:
        above.append(process)
        if _WORKER in Path(f"/proc/{process}/cmdline").read_bytes():
            return above[::-1]
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    raise AssertionError("no Spark worker above this process")
