"""Lambda's API: moto has the descriptions of functions and event source mappings, this module runs them.

https://docs.aws.amazon.com/lambda/latest/api/welcome.html

A function's code is Python: the zip file of CreateFunction, or code on this machine (`LocalFunction`). Firehose, Invoke, event source
mappings of DynamoDB Streams and Kinesis, and notifications of S3 run it. The sandbox refuses what it does not support: other runtimes,
container images, SQS mappings, filters and limits of retries.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import shutil
import sys
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import unquote

from ddb_lake.sandbox import backend, failed_batches
from ddb_lake.sandbox.awserror import Reply
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.functions import FunctionFault
from ddb_lake.sandbox.lambda_process import FunctionProcess, FunctionSpec, InvocationError
from ddb_lake.sandbox.stream_trigger import REPORT, DiscardedBatch, RetryRule, StreamTrigger
from ddb_lake.sandbox.transform import Handler

_LOG: Final = logging.getLogger(__name__)
_PATH: Final = re.compile(r"/[\d-]+/functions/(?P<name>[^/]+)/invocations/?$")
_FUNCTION_PATH: Final = re.compile(r"/[\d-]+/functions/?$")
_CODE_PATH: Final = re.compile(r"/[\d-]+/functions/[^/]+/code/?$")
_MAPPING_PATH: Final = re.compile(r"/[\d-]+/event-source-mappings/?")
_RUNTIME: Final = f"python3.{sys.version_info.minor}"
_ATTEMPTS: Final = 3
"""Attempts of an asynchronous invocation. https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html"""

_LOG_TAIL_BYTES: Final = 4096
_LONGEST_PAUSE_S: Final = 60
_UNSUPPORTED: Final = {
    "FilterCriteria": (None, {}),
    "TumblingWindowInSeconds": (None, 0),
}
"""Members of CreateEventSourceMapping that would change what is delivered, and their values without effect."""


class UnknownFunction(Exception):
    """There is no function of that name."""


@dataclass(frozen=True, slots=True)
class LocalFunction:
    """A function whose code is on this machine. It exists in each account and Region.

    `handler`: `module.attribute`. `folder`: its working folder, which comes first on the path of its modules.
    """

    name: str
    handler: str
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


PRODUCT: Final = tuple(
    LocalFunction(name, f"ddb_lake.lambdas.{name}.handler")
    for name in ("transform", "validate", "forward", "replicate", "load_aurora")
)
"""The functions that this project deploys, under the names of their modules."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """The settings of a function's process. When they change, the function gets a new process."""

    handler: str
    folder: Path
    environment: tuple[tuple[str, str], ...]
    timeout_s: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class _Pause:
    """The time after a batch of a mapping failed `failures` times in sequence, at whose end it is repeated."""

    failures: int
    until_us: int


@dataclass(slots=True)
class _Event:
    """An asynchronous invocation that is not done."""

    arn: str
    event: Any
    attempts: int = 0


@dataclass(slots=True)
class LambdaApi:
    """The functions. `client` returns a client in an account; `endpoint` its address, for the functions; `now_us` the time.

    `in_process` has handlers, by name, that run in this process, in place of a function of that name.
    """

    client: Callable[[Scope, str], Any]
    endpoint: Callable[[], str]
    now_us: Callable[[], int]
    local: dict[str, LocalFunction] = field(default_factory=dict)
    in_process: dict[str, Handler] = field(default_factory=dict)
    _known: set[Scope] = field(default_factory=set)
    _empty: dict[tuple[Scope, str], str] = field(default_factory=dict)
    _processes: dict[tuple[Scope, str], tuple[_Settings, FunctionProcess]] = field(default_factory=dict)
    _folders: dict[tuple[str, str], Path] = field(default_factory=dict)
    _triggers: dict[str, StreamTrigger] = field(default_factory=dict)
    _scopes: dict[str, Scope] = field(default_factory=dict)
    _reported: dict[str, str] = field(default_factory=dict)
    _pauses: dict[str, _Pause] = field(default_factory=dict)
    _events: deque[_Event] = field(default_factory=deque)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _polling: threading.Lock = field(default_factory=threading.Lock)

    # --- the life of the sandbox

    def forget(self) -> None:
        """End all processes, and drop the mappings and the events that are waiting."""
        processes, self._processes = list(self._processes.values()), {}
        for _, process in processes:
            process.stop()
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        for state in (
            self._known,
            self._empty,
            self._folders,
            self._triggers,
            self._scopes,
            self._reported,
            self._pauses,
            self._events,
        ):
            state.clear()

    def notify(self, arn: str, event: dict[str, Any]) -> None:
        """Queue an asynchronous invocation: `poll` runs it."""
        self._events.append(_Event(arn, event))

    def poll(self, *, pause: bool = False) -> int:
        """Run what is queued, and pass new records of streams. Returns the number of events and records processed.

        `pause`: repeat a batch that failed only after a pause, of 1 s at first and twice as long after each failure, up to 1 min.
        """
        with self._polling:
            return self._run_events() + sum(self._poll_mapping(uuid, pause) for uuid in list(self._triggers))

    # --- invocations

    def call(self, arn: str, event: dict[str, Any]) -> Any:
        """Invoke a function for another service. Returns the handler's response.

        Raises:
            FunctionFault: the function does not exist, failed, or took too long; with Firehose's code and message.
                https://docs.aws.amazon.com/firehose/latest/dev/monitoring-with-cloudwatch-logs.html
            Exception: what a handler in this process raised.
        """
        scope, name = _scope_of(arn), _name_of(arn)
        if name in self.in_process:
            return self.in_process[name](event)
        try:
            payload, _ = self._run(scope, name, event)
        except UnknownFunction:
            _LOG.error(
                "function %s does not exist: create it, or start the sandbox with --function %s=FILE", name, name
            )
            raise FunctionFault(
                "Lambda.ResourceNotFound",
                "The specified Lambda function does not exist. Use a different function that does exist.",
            ) from None
        except InvocationError as error:
            if error.timed_out:
                raise FunctionFault(
                    "Lambda.FunctionTimedOut",
                    "The Lambda function invocation timed out. Increase the Timeout setting in the Lambda function.",
                ) from None
            raise FunctionFault(
                "Lambda.FunctionError",
                "The Lambda function was successfully invoked but it returned an error result.",
            ) from None
        except Exception:  # of the sandbox: the callers repeat the event, which must not hide it
            _LOG.exception("function %s could not be started", name)
            raise
        return json.loads(payload)

    def answer(self, scope: Scope, environ: Mapping[str, Any], data: bytes) -> Reply | None:
        """The response to a request to Lambda; None if moto has to respond."""
        self._ensure_local(scope)
        path, method = unquote(environ["PATH_INFO"]), environ["REQUEST_METHOD"]
        if method == "POST" and (match := _PATH.search(path)):
            return self._invoke(scope, match["name"], environ, data)
        if method == "POST" and _FUNCTION_PATH.search(path):
            return _refusal_of_function(json.loads(data or b"{}"))
        if method == "PUT" and _CODE_PATH.search(path):
            return _refusal_of_code(json.loads(data or b"{}"))
        if method in ("POST", "PUT") and _MAPPING_PATH.search(path):
            return _refusal_of_mapping(json.loads(data or b"{}"))
        return None

    def completed(self, scope: Scope, environ: Mapping[str, Any]) -> None:
        """After moto's response to a request: follow the event source mappings that exist now."""
        if not _MAPPING_PATH.search(environ["PATH_INFO"]):
            return
        backend.detach_mappings(scope)
        mappings = {mapping.uuid: mapping for mapping in backend.event_source_mappings(scope)}
        for uuid, mapping in mappings.items():
            if uuid not in self._triggers:
                self._triggers[uuid] = self._trigger(scope, mapping)
                self._scopes[uuid] = scope
        for uuid in [uuid for uuid, owner in self._scopes.items() if owner == scope and uuid not in mappings]:
            self._triggers.pop(uuid)
            self._scopes.pop(uuid)

    def _invoke(self, scope: Scope, name: str, environ: Mapping[str, Any], data: bytes) -> Reply:
        scope = _scope_of(name) if name.startswith("arn:") else scope
        name = _name_of(name)
        kind = environ.get("HTTP_X_AMZ_INVOCATION_TYPE", "RequestResponse")
        try:
            event = json.loads(data or b"{}")
        except ValueError:
            return _error("InvalidRequestContentException", "Could not parse request body into json", 400)
        if kind != "RequestResponse":
            if backend.find_function(scope, name) is None:
                return _not_found(scope, name)
            if kind == "Event":
                self.notify(scope.arn("lambda", f"function:{name}"), event)
            return (202 if kind == "Event" else 204), [("Content-Length", "0")], b""
        headers = [("Content-Type", "application/json"), ("X-Amz-Executed-Version", "$LATEST")]
        log: list[str] = []
        try:
            payload, log = self._run(scope, name, event)
        except UnknownFunction:
            return _not_found(scope, name)
        except InvocationError as error:
            payload, log = json.dumps(error.document), self._processes[scope, name][1].log
            headers.append(("X-Amz-Function-Error", "Unhandled"))
        if environ.get("HTTP_X_AMZ_LOG_TYPE") == "Tail":
            tail = "\n".join(log).encode()[-_LOG_TAIL_BYTES:]
            headers.append(("X-Amz-Log-Result", base64.b64encode(tail).decode()))
        return 200, [*headers, ("Content-Length", str(len(payload.encode())))], payload.encode()

    def _run(self, scope: Scope, name: str, event: Any) -> tuple[str, list[str]]:
        """Invoke a function in its process. Raises UnknownFunction and InvocationError."""
        self._ensure_local(scope)
        function = backend.find_function(scope, name)
        if function is None:
            raise UnknownFunction(name)
        process = self._process(scope, function)
        try:
            return process.invoke(event)
        finally:
            if process.log:
                backend.save_function_log(function, process.log)

    def _process(self, scope: Scope, function: Any) -> FunctionProcess:
        """The function's process; a new one if its code or its settings have changed."""
        name = str(function.function_name)
        with self._lock:
            settings = _Settings(
                str(function.handler),
                self._folder(scope, function),
                tuple((str(key), str(value)) for key, value in function.environment_vars.items()),
                float(function.timeout),
                int(function.memory_size),
            )
            known, process = self._processes.get((scope, name), (None, None))
            if process is not None and known == settings:
                return process
            if process is not None:
                process.stop()
            variables = {**self._aws_variables(scope, function), **dict(settings.environment)}
            process = FunctionProcess(
                FunctionSpec(
                    name,
                    scope.arn("lambda", f"function:{name}"),
                    settings.handler,
                    settings.folder,
                    variables,
                    settings.timeout_s,
                    settings.memory_mb,
                )
            )
            self._processes[scope, name] = settings, process
            return process

    def _aws_variables(self, scope: Scope, function: Any) -> dict[str, str]:
        """The variables with which AWS clients of the function use the sandbox, as its role in its account."""
        role = self.client(scope, "sts").assume_role(
            RoleArn=str(function.role), RoleSessionName=str(function.function_name)[:64].ljust(2, "-")
        )["Credentials"]
        return {
            "AWS_ENDPOINT_URL": self.endpoint(),
            "AWS_REGION": scope.region,
            "AWS_DEFAULT_REGION": scope.region,
            "AWS_ACCESS_KEY_ID": role["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": role["SecretAccessKey"],
            "AWS_SESSION_TOKEN": role["SessionToken"],
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{_RUNTIME}",
        }

    def _folder(self, scope: Scope, function: Any) -> Path:
        """The folder of the function's code: the local one, or the unpacked zip file."""
        name = str(function.function_name)
        local = self.local.get(name)
        if local is not None and local.folder is not None and self._empty.get((scope, name)) == function.code_sha_256:
            return local.folder
        code = (name, str(function.code_sha_256))
        if code not in self._folders:
            folder = Path(mkdtemp(prefix="ddb-lake-function-"))
            self._folders[code] = folder
            with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as archive:
                archive.extractall(folder)
        return self._folders[code]

    def _ensure_local(self, scope: Scope) -> None:
        """Create the local functions in an account and Region, once. A client may change or delete them."""
        with self._lock:
            if scope in self._known:
                return
            self._known.add(scope)
            for function in self.local.values():
                backend.create_function(scope, _creation_of(scope, function))
                created = backend.find_function(scope, function.name)
                self._empty[scope, function.name] = created.code_sha_256

    # --- queued events and mappings

    def _run_events(self) -> int:
        done = 0
        for _ in range(len(self._events)):
            waiting = self._events.popleft()
            waiting.attempts += 1
            try:
                self.call(waiting.arn, waiting.event)
                done += 1
            except Exception:  # of whatever kind: Lambda tries again, and drops the event after the last attempt
                if waiting.attempts < _ATTEMPTS:
                    self._events.append(waiting)
                else:
                    _LOG.error("function %s: an event is dropped after %d attempts", _name_of(waiting.arn), _ATTEMPTS)
        return done

    def _trigger(self, scope: Scope, mapping: Any) -> StreamTrigger:
        arn = str(mapping.event_source_arn)
        service = "kinesis" if arn.split(":")[2] == "kinesis" else "dynamodbstreams"
        return StreamTrigger(
            self.client(scope, service),
            arn,
            lambda event: self.call(str(mapping.function_arn), event),
            int(mapping.batch_size),
            from_start=mapping.starting_position != "LATEST",
            partial=REPORT in (mapping.function_response_types or ()),
            discard=lambda batch: self._discard(scope, mapping, batch),
            now_us=self.now_us,
        )

    def _discard(self, scope: Scope, mapping: Any, batch: DiscardedBatch) -> None:
        """Send a notice of a discarded batch to the mapping's destination. Without a destination, Lambda drops the records."""
        name, stream = _name_of(str(mapping.function_arn)), str(mapping.event_source_arn)
        destination = _destination_of({"DestinationConfig": mapping.destination_config})
        _LOG.error(
            "function %s: %d records of %s are discarded (%s) and sent to %s",
            *(name, len(batch.records), stream, batch.condition, destination or "no destination"),
        )
        if destination:
            notice = failed_batches.notice_of(batch, stream, str(mapping.function_arn), self.now_us())
            failed_batches.send(partial(self.client, scope), destination, notice, str(mapping.uuid), batch)

    def _poll_mapping(self, uuid: str, pause: bool) -> int:
        scope, trigger = self._scopes[uuid], self._triggers[uuid]
        paused = self._pauses.get(uuid, _Pause(0, 0))
        if pause and self.now_us() < paused.until_us:
            return 0
        mapping = next((m for m in backend.event_source_mappings(scope) if m.uuid == uuid), None)
        if mapping is None or mapping.enabled in (False, "false", "False"):
            return 0
        trigger.batch_size = int(mapping.batch_size)
        trigger.rule = RetryRule(
            _limit(mapping.max_retry_attempts),
            _limit(mapping.max_record_age),
            mapping.bisect_on_error in (True, "true"),
        )
        try:
            done = trigger.poll()
        except Exception as error:  # its stream was deleted, for instance; the other mappings continue
            if self._reported.get(uuid) != str(error):
                _LOG.error("event source mapping %s of %s: %s", uuid, mapping.event_source_arn, error)
            self._reported[uuid] = str(error)
            return 0
        if trigger.waiting:
            seconds = min(2**paused.failures, _LONGEST_PAUSE_S)
            self._pauses[uuid] = _Pause(paused.failures + 1, self.now_us() + seconds * 1_000_000)
        else:
            self._pauses.pop(uuid, None)
        return done


def _creation_of(scope: Scope, function: LocalFunction) -> dict[str, Any]:
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    return {
        "FunctionName": function.name,
        "Handler": function.handler,
        "Runtime": _RUNTIME,
        "Role": f"arn:aws:iam::{scope.account}:role/ddb-lake-sandbox",
        "Timeout": 300,
        "MemorySize": 512,
        "Description": "A function of this machine",
        "Environment": {"Variables": dict(function.environment)},
        "Code": {"ZipFile": base64.b64encode(archive.getvalue()).decode()},
    }


def _refusal_of_function(body: Mapping[str, Any]) -> Reply | None:
    runtime = str(body.get("Runtime", ""))
    if "ZipFile" in body.get("Code", {}) and runtime.startswith("python"):
        return _refusal_of_code(body["Code"])
    return _invalid(
        f"The sandbox runs functions of a zip file in Python, with its own interpreter; found runtime {runtime or 'none'}. "
        "Use --runtime python3.13 and --zip-file."
    )


def _refusal_of_code(code: Mapping[str, Any]) -> Reply | None:
    """https://docs.aws.amazon.com/lambda/latest/dg/configuration-function-zip.html"""
    if "ZipFile" in code and not zipfile.is_zipfile(io.BytesIO(base64.b64decode(code["ZipFile"]))):
        return _invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")
    return None


def _refusal_of_mapping(body: Mapping[str, Any]) -> Reply | None:
    arn = str(body.get("EventSourceArn", "arn:aws:kinesis"))
    if arn.split(":")[2] not in ("dynamodb", "kinesis"):
        return _invalid(f"The sandbox has event source mappings of DynamoDB Streams and Kinesis; found {arn}")
    for name, neutral in _UNSUPPORTED.items():
        if body.get(name) not in neutral:
            return _invalid(f"The sandbox does not support {name}. Leave it out.")
    destination = _destination_of(body)
    if destination and destination.split(":")[2:3] not in [[service] for service in failed_batches.SERVICES]:
        return _invalid(f"The sandbox has on-failure destinations in S3, SQS and SNS; found {destination}")
    return None


def _destination_of(mapping: Mapping[str, Any]) -> str | None:
    """The ARN of the on-failure destination of a mapping."""
    return ((mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination")


def _limit(value: Any) -> int | None:
    """A limit of a mapping; None for the value -1, which means none."""
    return None if value is None or int(value) < 0 else int(value)


def _invalid(message: str) -> Reply:
    return _error("InvalidParameterValueException", message, 400)


def _not_found(scope: Scope, name: str) -> Reply:
    arn = scope.arn("lambda", f"function:{name}")
    return _error("ResourceNotFoundException", f"Function not found: {arn}", HTTPStatus.NOT_FOUND)


def _error(code: str, message: str, status: int) -> Reply:
    body = json.dumps({"Type": "User", "Message": message, "message": message}).encode()
    headers = [("Content-Type", "application/json"), ("x-amzn-errortype", code), ("Content-Length", str(len(body)))]
    return int(status), headers, body


def _name_of(arn: str) -> str:
    """The function's name in its ARN, with or without a qualifier, or the name itself."""
    return arn.split(":function:")[-1].split(":")[0]


def _scope_of(arn: str) -> Scope:
    parts = arn.split(":")
    return Scope(parts[4], parts[3]) if len(parts) >= 7 else Scope(backend.account_of(""), "us-east-1")
