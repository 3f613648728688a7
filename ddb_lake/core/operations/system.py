"""Host facts: CPU count, detection of a full disk and of refused memory."""

from __future__ import annotations

import errno
import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
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
