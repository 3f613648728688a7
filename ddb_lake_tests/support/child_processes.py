"""Servers that tests start, and that must not outlive the tests."""

from __future__ import annotations

import ctypes
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html"""

_LIBC: Final = ctypes.CDLL(None)


def killed_with_parent() -> None:
    """Let Linux kill this process when the thread that started it ends, also if that is killed. The `preexec_fn` of `Popen`."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
