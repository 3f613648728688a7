"""Host facts and limits: CPU count, memory, detection of a full disk and of refused memory."""

from __future__ import annotations

import errno
import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_TEXTS: Final = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "database or disk is full",
    "could not write all bytes",
    "max_temp_directory_size",
)

DISK_FULL: Final = (
    "the disk is full: free space in the warehouse and in the folder of temporary files (TMPDIR), then run it again;"
    " uncommitted data is written again"
)


MEMORY_SIZE: Final = re.compile(r"(?P<number>[1-9]\d*) ?(?P<unit>MB|GB)")
"""A size of memory as the configuration and DuckDB spell it; units are powers of ten."""


def memory_bytes(text: str) -> int:
    """The bytes of a size such as `512MB` or `4GB`."""
    size = MEMORY_SIZE.fullmatch(text)
    assert size is not None, "the configuration rejects other texts"
    return int(size["number"]) * {"MB": 10**6, "GB": 10**9}[size["unit"]]


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or a cause of it, means a full disk, an exceeded quota or a file size limit."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in _FULL:
            return True
        message = str(current).lower()
        if any(text in message for text in _FULL_TEXTS):
            return True
        current = current.__cause__ or current.__context__
    return False


_NO_MEMORY: Final = (
    "std::bad_alloc",
    "bad allocation",
    "cannot allocate memory",
    "unable to allocate",
    "failed to map segment",
    "can't start new thread",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the operating system refused memory to this process, by a limit (`ulimit -v`, a container) or the host's size.

    DuckDB raises the same class for this and for its own limit; only the message about its own limit has figures.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    message = str(error).lower()
    if type(error).__name__ == "OutOfMemoryException":
        return " used)" not in message
    if isinstance(error, MemoryError):
        return True
    library = type(error).__module__.lstrip("_").startswith(("duckdb", "pyarrow"))
    return (library or isinstance(error, ImportError | RuntimeError)) and any(text in message for text in _NO_MEMORY)


@contextmanager
def limited_memory(more_bytes: int) -> Iterator[None]:
    """Within the block, this process gets at most so much more memory than it has; allocating more fails.

    The limit is the kernel's, on private writable memory (https://man7.org/linux/man-pages/man2/getrlimit.2.html, RLIMIT_DATA).
    Other systems than Linux do not count it, and there nothing is limited. A lower limit that is set already stays.
    """
    used_bytes = _data_bytes()
    if used_bytes is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([used_bytes + more_bytes, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int | None:
    """The private writable memory of this process; None if the system does not state it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    found = _DATA.search(status)
    return int(found[1]) * 1024 if found else None


_DATA: Final = re.compile(r"^VmData:\s*(\d+) kB$", re.MULTILINE)


def cpu_count() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def without_cycle_detection() -> Iterator[None]:
    """Pause the search for reference cycles: decoded JSON has none, and the search takes as long as the decoding."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
