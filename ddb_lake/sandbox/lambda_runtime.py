"""The program of a function's process: imports the handler, then answers one event after the other.

It runs in the function's folder with the function's environment alone. What the handler prints is its log. Standard library
only: nothing of the sandbox is imported here, so a function sees only its own code and the installed packages.
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html

Protocol: one JSON document on each line of stdin (`{"id", "event", "deadline_s"}`), and one on each line of stdout: `{"ready": true}`
or `{"error": …}` after the import, then `{"payload": …}` or `{"error": …}` for each event.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

END_OF_LOG: Final = "\x00 end of the log of "
"""Begins the line that ends the log of an invocation; its id follows."""


@dataclass(frozen=True, slots=True)
class Context:
    """The context object of an invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    function_name: str
    aws_request_id: str
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = ""
    function_version: str = "$LATEST"
    remaining_ms: Callable[[], int] = lambda: 60_000

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        return self.remaining_ms()


def main() -> None:
    """Serve events until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    events = os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)  # what the handler prints is log
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115  # permanently
    sys.path.insert(0, str(os.environ.get("LAMBDA_TASK_ROOT", ".")))
    try:
        handler = load_handler(os.environ["_HANDLER"])
    except BaseException as error:
        _send(answers, {"error": _described(error)})
        return
    _send(answers, {"ready": True})
    for line in events:
        _send(answers, _answer(handler, json.loads(line)))


def load_handler(name: str) -> Callable[[Any, Any], Any]:
    """The function `module.attribute`; folders of the module may be separated by slashes.

    Raises:
        ImportError: the module, or the attribute in it, does not exist; the message is Lambda's.
    """
    module, _, attribute = name.rpartition(".")
    try:
        found = importlib.import_module(module.replace("/", "."))
    except ImportError as error:
        raise ImportError(f"Unable to import module '{module}': {error}") from error
    handler: Callable[[Any, Any], Any] | None = getattr(found, attribute, None)
    if handler is None:
        raise ImportError(f"Handler '{attribute}' missing on module '{module}'")
    return handler


def _answer(handler: Callable[[Any, Any], Any], request: dict[str, Any]) -> dict[str, Any]:
    variables, deadline_s = os.environ, request["deadline_s"]
    context = Context(
        variables["AWS_LAMBDA_FUNCTION_NAME"],
        request["id"],
        int(variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]),
        request["arn"],
        remaining_ms=lambda: max(0, int((deadline_s - time.time()) * 1000)),
    )
    try:
        answer: dict[str, Any] = {"payload": json.dumps(handler(request["event"], context))}
    except BaseException as error:
        error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None  # without this frame
        traceback.print_exception(error)
        answer = {"error": _described(error)}
    sys.stdout.flush()
    os.write(2, f"{END_OF_LOG}{request['id']}\n".encode())
    return answer


def _described(error: BaseException) -> dict[str, Any]:
    """An error as Lambda returns it.

    https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
    """
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def _send(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
