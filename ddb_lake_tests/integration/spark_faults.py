"""A task on Spark that takes its worker with it: run by the cluster's executors, so this module must import little."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ddb_lake.stages.spark_tasks import WriteShare, Written, write_share

MARKER = "DDB_LAKE_TEST_MARKER"
"""Environment variable of the executors: the file that says that a worker has died."""

_WORKER = b"org.apache.spark.deploy.worker.Worker"


def write_then_die(task: WriteShare) -> Written:
    """Write as ever; whoever is first to have written kills its executor and worker before it can say so."""
    written = write_share(task)
    marker = Path(os.environ[MARKER])
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return written
    marker.write_text("\n".join(written.paths))
    for process in _executor_and_worker():
        os.kill(process, signal.SIGKILL)
    os._exit(1)  # nobody is left to end this process


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
