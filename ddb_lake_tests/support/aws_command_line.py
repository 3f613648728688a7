"""`aws SERVICE OPERATION --option value …` in this process, from botocore's models.

The AWS command line itself takes about a second a command. This is the part of it that the documentation uses: options by the names of
members, JSON, shorthand (`A=b,C={D=e}`), `file://` and `fileb://`, `--query`, and text or JSON output.
https://docs.aws.amazon.com/cli/latest/userguide/cli-usage-parameters.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import OperationModel

Clients = Callable[[str], Any]
_SERVICES = {"s3api": "s3"}
_GLOBAL = ("query", "output")
_FILES = {("lambda", "invoke"): "Payload", ("s3api", "get-object"): "Body"}
"""Operations with a file for the output, and the member that is written to it."""


def aws(arguments: Sequence[str], folder: Path, clients: Clients) -> tuple[str, str, int]:
    """Run a command; return stdout, stderr and the exit status."""
    service, command, *rest = arguments
    client = clients(_SERVICES.get(service, service))
    operations = {xform_name(name, "-"): name for name in client.meta.service_model.operation_names}
    operation = client.meta.service_model.operation_model(operations[command])
    options, files = _options(rest)
    zip_file = options.pop("zip-file", None)  # the command line's own name for Code.ZipFile
    shared = {name: options.pop(name)[0] for name in _GLOBAL if name in options}
    try:
        parameters = _parameters(operation, options, folder)
        if zip_file:
            parameters["Code"] = {"ZipFile": _content(zip_file[0], folder)}
        answer = getattr(client, xform_name(operation.name))(**parameters)
    except ClientError as error:
        return "", f"{error}\n", 254
    answer.pop("ResponseMetadata", None)
    if (service, command) in _FILES:
        (name,) = files
        (folder / name).write_bytes(answer.pop(_FILES[service, command]).read())
    found = jmespath.search(shared["query"], answer) if "query" in shared else answer
    if shared.get("output") == "text":
        return _text(found), "", 0
    return (json.dumps(found, indent=4, default=str) + "\n" if found != {} else ""), "", 0


def _options(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options with their values, and the arguments that belong to none."""
    options: dict[str, list[str]] = {}
    files: list[str] = []
    name = None
    for word in words:
        if word.startswith("--"):
            name = word[2:]
            options[name] = []
        elif name is None:
            files.append(word)
        else:
            options[name].append(word)
    if name is not None and len(options[name]) > 1 and "." in options[name][-1] and "=" not in options[name][-1]:
        files.append(options[name].pop())
    return options, files


def _parameters(operation: OperationModel, options: Mapping[str, list[str]], folder: Path) -> dict[str, Any]:
    members = {} if operation.input_shape is None else operation.input_shape.members
    names = {xform_name(name, "-"): name for name in members}
    found: dict[str, Any] = {}
    for option, words in options.items():
        negated = option not in names
        name = names[option.removeprefix("no-") if negated else option]
        shape = members[name]
        if shape.type_name == "boolean" and not words:
            found[name] = not negated
            continue
        texts = [_content(word, folder) for word in words]
        if shape.type_name == "list" and not _is_json(texts[0]):
            found[name] = [_value(shape.member, _shorthand(text, shape.member)) for text in texts]
        else:
            (text,) = texts
            is_document = shape.type_name in ("structure", "map", "list") and _is_json(text)
            found[name] = _value(shape, json.loads(text) if is_document else _shorthand(text, shape))
    return found


def _content(word: str, folder: Path) -> Any:
    if word.startswith("fileb://"):
        return (folder / word.removeprefix("fileb://")).read_bytes()
    return (folder / word.removeprefix("file://")).read_text() if word.startswith("file://") else word


def _is_json(text: Any) -> bool:
    return isinstance(text, str) and text.lstrip().startswith(("{", "["))


def _shorthand(text: Any, shape: Any) -> Any:
    if shape.type_name not in ("structure", "map") or not isinstance(text, str):
        return text
    value, end = _pairs(text, 0)
    assert end == len(text), text
    return value


def _pairs(text: str, at: int) -> tuple[dict[str, Any], int]:
    """`A=b,C={D=e}` from a position to the end or to a closing brace."""
    found: dict[str, Any] = {}
    while at < len(text) and text[at] != "}":
        equals = text.index("=", at)
        key, at = text[at:equals], equals + 1
        if text[at : at + 1] == "{":
            found[key], at = _pairs(text, at + 1)
            at += 1
        else:
            end = min(n for n in (text.find(",", at), text.find("}", at), len(text)) if n >= 0)
            found[key], at = text[at:end], end
        if text[at : at + 1] == ",":
            at += 1
    return found, at


def _value(shape: Any, value: Any) -> Any:
    """A parsed value with the types of its shape."""
    kind = shape.type_name
    if kind == "structure":
        return {name: _value(shape.members[name], member) for name, member in value.items()}
    if kind == "map":
        return {name: _value(shape.value, member) for name, member in value.items()}
    if kind == "list":
        return [_value(shape.member, member) for member in value]
    if kind in ("integer", "long"):
        return int(value)
    if kind == "boolean":
        return value in (True, "true")
    return value.encode() if kind == "blob" and isinstance(value, str) else value


def _text(found: Any) -> str:
    if isinstance(found, list) and any(isinstance(one, list) for one in found):
        return "".join("\t".join(map(str, one)) + "\n" for one in found)
    return ("\t".join(map(str, found)) if isinstance(found, list) else str(found)) + "\n"


@cache
def _session() -> botocore.session.Session:
    """One session, which keeps the models of the services."""
    return botocore.session.get_session()


def client_of(variables: Mapping[str, str], service: str) -> Any:
    """A client with the credentials and the address of an environment."""
    return _session().create_client(
        service,
        region_name=variables["AWS_REGION"],
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=variables.get("AWS_SESSION_TOKEN"),
    )
