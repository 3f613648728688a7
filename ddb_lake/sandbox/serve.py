"""Run a sandbox until it is interrupted. It delivers and expires items continuously, as AWS does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from ddb_lake.sandbox.lambda_api import LocalFunction
from ddb_lake.sandbox.server import Sandbox

_LOG = logging.getLogger(__name__)
_TICK_S = 1.0


def serve(
    port: int,
    on_ready: Callable[[Sandbox], None],
    *,
    region: str = "eu-west-1",
    functions: Sequence[LocalFunction] = (),
    stop: threading.Event | None = None,
) -> None:
    """Serve on `port` (0: a free one) until interrupted from the keyboard, or until `stop` is set.

    `on_ready` is called once, with the running sandbox. Every second, records are passed to `functions`, delivery streams are
    pumped and expired items are deleted; an error is logged, and the next second tries again. A batch that a function failed is
    repeated after a pause, which grows to 1 min.

    Raises:
        UsageError: the port is taken, or another sandbox runs in this process.
    """
    ended = stop or threading.Event()
    with Sandbox(port, region=region, functions=functions) as sandbox:
        on_ready(sandbox)
        try:
            while not ended.wait(_TICK_S):
                _tick(sandbox)
        except KeyboardInterrupt:
            pass  # the usual way to end it
        _tick(sandbox)


def _tick(sandbox: Sandbox) -> None:
    try:
        sandbox.expire_all()
        sandbox.settle(pause=True)
    except Exception:  # nothing a client did may end the sandbox
        _LOG.exception("the sandbox could not deliver; it tries again")
