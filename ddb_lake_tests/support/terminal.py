"""A command on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 120.0


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, handle: int) -> None:
        self._handle, self.seen = handle, ""

    def type(self, line: str) -> None:
        os.write(self._handle, f"{line}\n".encode())

    def until(self, text: str) -> str:
        """Read until `text` is seen; what came before it. Fails if it does not come."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._handle], [], [], 1)[0]:
                try:
                    self.seen += os.read(self._handle, 65536).decode()
                except OSError as error:  # the program has ended
                    raise AssertionError(self.seen) from error
        before, _, self.seen = self.seen.partition(text)
        return before


@contextmanager
def on_terminal(
    folder: Path, *arguments: str, **environment: str
) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ddb_lake.cli", *arguments]
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", **environment}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
    )
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        process.kill()
        process.wait()
        os.close(ours)
