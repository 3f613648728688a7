"""Lambda functions in this process: the handlers that production deploys, invoked as Lambda does.

https://docs.aws.amazon.com/lambda/latest/dg/python-handler.html
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ddb_lake.sandbox.lambda_runtime import Context

LambdaHandler: TypeAlias = Callable[[dict[str, Any], Any], Any]
FaultName: TypeAlias = Literal["error", "throttle", "timeout"]

_ENVIRONMENT: Final = threading.RLock()  # the environment is the process's: one invocation at a time


class FunctionFault(Exception):
    """An invocation without a response. `code` and `message` are those that Firehose writes for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


_FAULTS: Final[Mapping[FaultName, tuple[str, str]]] = {
    "error": (
        "Lambda.FunctionError",
        "The Lambda function was successfully invoked but it returned an error result.",
    ),
    "throttle": (
        "Lambda.InvokeLimitExceeded",
        "The Lambda function invocation limit was exceeded. Increase the Lambda function invocation limit.",
    ),
    "timeout": (
        "Lambda.FunctionTimedOut",
        "The Lambda function invocation timed out. Increase the Timeout setting in the Lambda function.",
    ),
}


@dataclass(slots=True)
class Function:
    """A Lambda function. Call it with an event; it returns the handler's response. Both are converted to JSON and back.

    `environment` holds the function's variables, for its own invocations alone. `faults` happen to the next
    invocations, one each (None: nothing does): throttled before the handler runs, or an error or a timeout after it ran,
    so that what it did was done and its answer is lost.
    """

    handler: LambdaHandler
    environment: Mapping[str, str] = field(default_factory=dict)
    faults: Iterable[FaultName | None] = ()
    name: str = "function"
    invocations: int = 0
    _next_faults: deque[FaultName | None] = field(init=False)

    def __post_init__(self) -> None:
        self._next_faults = deque(self.faults)

    def fail_next(self, *faults: FaultName | None) -> None:
        """Add faults after those that have not happened yet."""
        self._next_faults.extend(faults)

    def __call__(self, event: dict[str, Any]) -> Any:
        """Invoke the function.

        Raises:
            FunctionFault: a fault of `faults`. Errors of the handler are raised unchanged.
        """
        self.invocations += 1
        fault = self._next_faults.popleft() if self._next_faults else None
        if fault == "throttle":
            raise FunctionFault(*_FAULTS[fault])
        with _variables(self.environment):
            answer = self.handler(json.loads(json.dumps(event)), Context(self.name, str(uuid.uuid4())))
        if fault is not None:
            raise FunctionFault(*_FAULTS[fault])
        return json.loads(json.dumps(answer))


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    with _ENVIRONMENT:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
