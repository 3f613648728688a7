"""A standalone Spark cluster of small processes, from the PySpark wheel: a master and workers of one core each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyspark

WORKER_MEMORY = "700m"
SMALL_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData"
"""Compiling less takes half the time of a JVM that lives for a minute."""

SETTINGS = {
    "spark.executor.memory": "512m",
    "spark.executor.cores": "1",
    "spark.executor.extraJavaOptions": SMALL_JVM,
    "spark.driver.memory": "512m",
    "spark.driver.extraJavaOptions": SMALL_JVM,
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}
_START_S = 240
_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"


@contextmanager
def cluster(folder: Path, workers: int = 2, memory: str = WORKER_MEMORY) -> Iterator[str]:
    """A running cluster's master URL; its logs are in `folder`. Whatever it started is ended with it."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        log = folder / "master.log"
        started.append(_start([_MASTER, "--host", "127.0.0.1", "--port", "0", "--webui-port", "0"], log))
        url = _said(log, r"Starting Spark master at (spark://\S+)", started[0])
        for number in range(workers):
            own = folder / f"worker-{number}"
            arguments = ["--host", "127.0.0.1", "--webui-port", "0", "--cores", "1", "--memory", memory]
            started.append(_start([_WORKER, *arguments, "--work-dir", str(own), url], own.with_suffix(".log")))
        for number in range(workers):
            _said(folder / f"worker-{number}.log", r"(Successfully registered) with master", started[1 + number])
        yield url
    finally:
        for process in reversed(started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    home = Path(pyspark.__file__).parent
    environment = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "128m",
        "SPARK_DAEMON_JAVA_OPTS": SMALL_JVM,
        "PYSPARK_PYTHON": sys.executable,
    }
    with log.open("wb") as out:
        command = [str(home / "bin" / "spark-class"), *arguments]
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)


def _said(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    """What a process says in its log, once it does."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        found = re.search(pattern, log.read_text(errors="replace"))
        if found:
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(f"{log}: nothing like {pattern!r}:\n{log.read_text(errors='replace')[-2000:]}")
