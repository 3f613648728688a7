"""Dagster's webserver and daemon in a process of their own, until they are interrupted."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from ddb_lake.errors import TerminalError, UsageError

HOST = "127.0.0.1"
START_S = 300.0
END_S = 60.0
AGAIN_S = 20.0
"""After this time a process is interrupted again: Python that starts prints an interrupt during some imports, and continues."""

GROUP_END_S = 10.0
_ASK_EVERY_S = 0.5
_LOOK_EVERY_S = 0.05
_DAGSTERS_OWN = "ignore:Function `dev_command`,ignore:Parameter `execution_type`"
"""Notices about Dagster's own code, on which users of this package cannot act."""


def serve_ui(
    code: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    ready: Callable[[str], None] = lambda _url: None,
) -> int:
    """Serve until interrupted or asked to end; Dagster's exit status, 0 if it was ended here.

    Args:
        code: what `dagster dev` loads, such as `-w workspace.yaml`.
        port: on this machine alone; 0 takes any that is free.
        environment: variables beside those of this process.
        ready: called once with the address, when it answers.

    Raises:
        UsageError: Dagster's UI is not installed, or the port is taken.
        TerminalError: it ended before it answered.
    """
    require_ui()
    port = free_port(port)
    command = [sys.executable, "-m", "dagster", "dev", "--host", HOST, "--port", str(port), *code]
    variables = {**os.environ, **environment, "PYTHONWARNINGS": _DAGSTERS_OWN}
    with _interrupts() as interrupts:
        # a session of its own: Ctrl-C reaches this process alone, which interrupts Dagster once
        process = subprocess.Popen(command, env=variables, start_new_session=True)
        try:
            interrupts.release()
            url = f"http://{HOST}:{port}"
            if _answers(url, process):
                ready(url)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            interrupts.hold()
            end_group(process, interrupts)


def require_ui() -> None:
    """Raise UsageError if Dagster's UI is not installed."""
    if importlib.util.find_spec("dagster_webserver") is None:
        raise UsageError("Dagster's UI is not installed here: pip install dagster-webserver")


class Interrupts:
    """Signals that ask us to end: noted, and raised as KeyboardInterrupt once they are not held back any more."""

    def __init__(self) -> None:
        self._held, self.count = True, 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Take a signal, as its handler."""
        self.count += 1
        if not self._held:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Only count from now on: what has been started is being ended, and that is not to be cut short."""
        self._held = True

    def release(self) -> None:
        """Raise from now on, and at once if one has come while they were held: what is started can be ended now."""
        self._held = False
        if self.count:
            raise KeyboardInterrupt


@contextmanager
def _interrupts() -> Iterator[Interrupts]:
    """SIGTERM and a terminal that closes end us as Ctrl-C does; so does SIGINT to a shell's background job."""
    interrupts = Interrupts()
    before = {one: signal.signal(one, interrupts) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield interrupts
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def end_group(process: subprocess.Popen[bytes], interrupts: Interrupts) -> None:
    """End a process that leads a group, and the processes left in the group; another interrupt shortens the wait.

    Dagster ends its webserver, daemon and code servers when it is interrupted, and is given time for that. Interrupted
    while it starts, it ends without them: a code server that is still loading is not ended by it.
    """
    before, deadline = interrupts.count, time.monotonic() + END_S
    while process.poll() is None and interrupts.count == before and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        _wait(lambda: process.poll() is not None or interrupts.count > before, AGAIN_S)
    for last in (signal.SIGTERM, signal.SIGKILL):
        if not _signal_group(process.pid, last):  # usual: no process of its group is left
            break
        _wait(lambda: process.poll() is not None and not _signal_group(process.pid, 0), GROUP_END_S)
    process.wait()


def _signal_group(leader: int, number: int) -> bool:
    """Send a signal to a group; False if no process is in it."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return False
    return True


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)


def free_port(port: int) -> int:
    """`port`, or any that is free for 0. Raises UsageError if it is taken."""
    try:
        with socket.create_server((HOST, port)) as taken:
            return int(taken.getsockname()[1])
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be had ({error.strerror})", hint="--port 0 takes any that is free"
        ) from error


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the webserver answers. False after `START_S`; raises TerminalError if it has ended."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise TerminalError(f"Dagster ended with status {process.returncode} before its UI answered; see above")
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(_ASK_EVERY_S)
    return False
