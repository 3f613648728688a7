"""Ending a command that runs until it is stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopped_by(stop: threading.Event, *signals: signal.Signals) -> Iterator[None]:
    """Set `stop` on the first of these signals. A second SIGINT interrupts the work in progress.

    In another thread than the main one this does nothing, because Python forbids it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.set()

    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
