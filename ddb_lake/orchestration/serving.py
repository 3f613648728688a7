"""Dagster's webserver and daemon in a process of their own, until somebody ends them."""

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
from contextlib import contextmanager, suppress

from ddb_lake.errors import TerminalError, UsageError

HOST = "127.0.0.1"
START_S = 300.0
END_S = 60.0
_ASK_EVERY_S = 0.5
_DAGSTERS_OWN = "ignore:Function `dev_command`,ignore:Parameter `execution_type`"
"""Notices about Dagster's own code, which nobody here can act on."""


def serve_ui(
    code: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    ready: Callable[[str], None] = lambda _url: None,
) -> int:
    """Serve until interrupted or asked to end; Dagster's exit status, 0 if it was ended here.

    Args:
        code: what `dagster dev` is told to load, such as `-w workspace.yaml`.
        port: on this machine alone; 0 takes any that is free.
        environment: variables beside those of this process.
        ready: called once with the address, when it answers.

    Raises:
        UsageError: Dagster's UI is not installed, or the port is taken.
        TerminalError: it ended before it answered.
    """
    if importlib.util.find_spec("dagster_webserver") is None:
        raise UsageError("Dagster's UI is not installed here: pip install dagster-webserver")
    port = free_port(port)
    command = [sys.executable, "-m", "dagster", "dev", "--host", HOST, "--port", str(port), *code]
    variables = {**os.environ, **environment, "PYTHONWARNINGS": _DAGSTERS_OWN}
    with _interruptible():
        # a session of its own: Ctrl-C comes to us alone, and Dagster hears of it once
        process = subprocess.Popen(command, env=variables, start_new_session=True)
        try:
            url = f"http://{HOST}:{port}"
            if _answers(url, process):
                ready(url)
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _end(process)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM and a terminal that closes end us as Ctrl-C does; so does SIGINT to a shell's background job."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {one: signal.signal(one, signal.default_int_handler) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Dagster ends its webserver, daemon and code servers when it is interrupted; it is given time for that."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):  # usual: nobody of its group is left
        os.killpg(process.pid, signal.SIGTERM)


def free_port(port: int) -> int:
    """`port`, or any that is free for 0. Raises UsageError if it is taken."""
    try:
        with socket.create_server((HOST, port)) as taken:
            return int(taken.getsockname()[1])
    except OSError as error:
        raise UsageError(f"port {port} cannot be had ({error.strerror}); --port 0 takes any that is free") from error


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the webserver answers. False if it takes longer than anybody waits; raises if it has ended."""
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
