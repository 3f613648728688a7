"""What a piece of work took: seconds, processor seconds and greatest memory, with the processes that it started."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddb_lake_tests.support.peak_memory import peak_mb

_LOOK_EVERY_S = 0.1


@dataclass(slots=True)
class Took:
    """Of a measured block, once it has ended."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak_mb: float = 0.0

    def figures(self, rows: Sequence[Any] = (), size: int = 0) -> dict[str, Any]:
        """As a worker prints them: with the rows to compare and the bytes written."""
        told = [str(value) for value in rows]
        return {"seconds": self.seconds, "cpu": self.cpu, "peak_mb": self.peak_mb, "rows": told, "bytes": size}


@contextmanager
def measured() -> Iterator[Took]:
    """Measure a block. Memory is the resident memory of this process and of all below it together, ten times a second.

    What several processes share is counted in each. Without /proc it is this process alone.
    """
    took, done = Took(), threading.Event()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
    watch = threading.Thread(target=_watch, args=(took, done), daemon=True)
    cpu, started = _cpu_s(), time.monotonic()
    watch.start()
    try:
        yield took
    finally:
        took.seconds = time.monotonic() - started
        took.cpu = _cpu_s() - cpu
        done.set()
        watch.join()
        took.peak_mb = max(took.peak_mb, peak_mb())


def _watch(took: Took, done: threading.Event) -> None:
    while not done.wait(_LOOK_EVERY_S):
        took.peak_mb = max(took.peak_mb, sum(map(_resident_mb, _family())))


def _family() -> list[int]:
    """This process and all below it."""
    found = [os.getpid()]
    for pid in found:
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * resource.getpagesize() / 2**20


def _cpu_s() -> float:
    """Processor seconds of the family so far, those of its processes that have ended included."""
    if not Path("/proc/self/stat").exists():
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)
    ticks = 0
    for pid in _family():
        with suppress(OSError):
            after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            ticks += sum(map(int, after_name[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
