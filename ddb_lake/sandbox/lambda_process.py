"""A Lambda function in a process of its own, which is started at the first event and kept for the next ones, as Lambda does.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html

The process has the function's folder, environment and credentials, and the packages that this Python has. An invocation that takes
longer than the function's timeout ends the process. Memory is not limited.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from ddb_lake.sandbox import lambda_runtime
from ddb_lake.sandbox.lambda_runtime import END_OF_LOG

_LOG: Final = logging.getLogger(__name__)
_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "LD_LIBRARY_PATH")
"""The variables of this process that a function's process gets too."""

_PACKAGES: Final = str(Path(lambda_runtime.__file__).parents[2])
_START_WITHIN_S: Final = 120.0
_LOG_WITHIN_S: Final = 10.0


class InvocationError(Exception):
    """An invocation that failed. `document`: the error as Lambda returns it."""

    def __init__(self, document: Mapping[str, Any], *, timed_out: bool = False) -> None:
        super().__init__(f"{document.get('errorType', 'Error')}: {document.get('errorMessage', '')}")
        self.document = dict(document)
        self.timed_out = timed_out


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """What a process needs.

    `handler`: `module.attribute`. `folder`: where its code is. `environment`: its variables, with the AWS ones.
    """

    name: str
    arn: str
    handler: str
    folder: Path
    environment: Mapping[str, str]
    timeout_s: float = 300.0
    memory_mb: int = 128


@dataclass(slots=True)
class FunctionProcess:
    """Runs one event at a time. `stop` ends the process; the next event starts a new one."""

    spec: FunctionSpec
    _process: subprocess.Popen[bytes] | None = None
    _answers: queue.Queue[bytes | None] = field(default_factory=queue.Queue)
    _log: list[str] = field(default_factory=list)
    _logged: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, event: Any) -> tuple[str, list[str]]:
        """The handler's response as JSON text, and the lines of its log.

        Raises:
            InvocationError: the handler raised, ended its process, took too long, or cannot be imported.
        """
        with self._lock:
            self._log.clear()
            if self._process is None or self._process.poll() is not None:
                self._start()
            request_id = str(uuid.uuid4())
            self._logged.clear()
            request = {
                "id": request_id,
                "arn": self.spec.arn,
                "event": event,
                "deadline_s": time.time() + self.spec.timeout_s,
            }
            answer = self._ask(json.dumps(request), request_id)
            self._logged.wait(_LOG_WITHIN_S)
            if "error" in answer:
                raise self._failure(answer["error"])
            return answer["payload"], list(self._log)

    @property
    def log(self) -> list[str]:
        """The lines that the last invocation has logged."""
        return list(self._log)

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has started, which may hold its pipes
        process.wait()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def _start(self) -> None:
        self.stop()
        spec = self.spec
        own = {name: os.environ[name] for name in _KEPT if name in os.environ}
        variables = {
            **own,
            "PYTHONPATH": _PACKAGES,
            "TZ": "UTC",
            "_HANDLER": spec.handler,
            "LAMBDA_TASK_ROOT": str(spec.folder),
            "AWS_LAMBDA_FUNCTION_NAME": spec.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
            **spec.environment,
        }
        self._answers = queue.Queue()
        self._process = process = subprocess.Popen(
            # -P: the folder of the program is not on the path of the modules
            [sys.executable, "-P", "-W", "ignore", lambda_runtime.__file__],
            cwd=spec.folder,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the sandbox, which then ends its functions
        )
        assert process.stdout is not None
        assert process.stderr is not None
        answers, log = (process.stdout, self._answers), (process.stderr,)
        self._threads = [
            threading.Thread(target=_pass_lines, args=answers, daemon=True),
            threading.Thread(target=self._read_log, args=log, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        started = self._next_answer(_START_WITHIN_S)
        if "error" in started:
            self.stop()
            raise self._failure(started["error"])

    def _ask(self, request: str, request_id: str) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self.stop()
            raise self._failure(_exited(request_id)) from None
        return self._next_answer(self.spec.timeout_s, request_id)

    def _next_answer(self, within_s: float, request_id: str = "init") -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=within_s)
        except queue.Empty:
            self.stop()
            text = f"{request_id} Task timed out after {within_s:.2f} seconds"
            raise self._failure({"errorMessage": text, "errorType": "Sandbox.Timedout"}, timed_out=True) from None
        if line is None:
            self.stop()
            raise self._failure(_exited(request_id))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failure(self, document: Mapping[str, Any], *, timed_out: bool = False) -> InvocationError:
        failure = InvocationError(document, timed_out=timed_out)
        _LOG.error("function %s: %s", self.spec.name, failure)
        return failure

    def _read_log(self, pipe: IO[bytes]) -> None:
        for raw in pipe:
            line = raw.decode(errors="replace").rstrip("\n")
            text, ended, _ = line.partition(END_OF_LOG)
            if text or not ended:
                self._log.append(text)
                _LOG.info("function %s: %s", self.spec.name, text)
            if ended:
                self._logged.set()


def _pass_lines(pipe: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    for line in pipe:
        lines.put(line)
    lines.put(None)


def _exited(request_id: str) -> dict[str, str]:
    return {
        "errorMessage": f"RequestId: {request_id} Error: Runtime exited without providing a reason",
        "errorType": "Runtime.ExitError",
    }
