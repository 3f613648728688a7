"""The calls of all clients of boto3 in this process: recorded, answered with an error, or described by the members of the answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
from botocore.client import BaseClient
from botocore.model import ListShape, MapShape, Shape, StructureShape

Call: TypeAlias = tuple[str, str]
"""Service and operation."""

Failing: TypeAlias = Callable[[str, str], Exception | None]
Members: TypeAlias = defaultdict[Call, set[str]]
"""The paths of the members of all answers, by call."""


@contextmanager
def watching(
    patch: pytest.MonkeyPatch,
    failing: Failing = lambda _service, _operation: None,
    members: Members | None = None,
) -> Iterator[set[Call]]:
    """The calls within the block. `failing`: the error with which one fails. `members`: filled from the answers."""
    calls: set[Call] = set()
    send = BaseClient._make_api_call  # type: ignore[attr-defined]

    def watched(client: Any, operation: str, arguments: Any) -> Any:
        call = (client.meta.service_model.service_name, operation)
        calls.add(call)
        if (error := failing(*call)) is not None:
            raise error
        answer = send(client, operation, arguments)
        shape = client.meta.service_model.operation_model(operation).output_shape
        if members is not None and shape is not None:
            members[call] |= set(_members(shape, answer))
        return answer

    with patch.context() as patched:
        patched.setattr(BaseClient, "_make_api_call", watched)
        yield calls


def _members(shape: Shape, value: Any, path: str = "") -> Iterator[str]:
    """The paths of the members of a value. Items of DynamoDB are values, and have no members."""
    if isinstance(shape, StructureShape) and shape.name != "AttributeValue":
        for name, member in value.items():
            if name in shape.members:  # else it is metadata of the response
                yield from _members(shape.members[name], member, f"{path}.{name}" if path else name)
        return
    yield path
    if isinstance(shape, ListShape):
        for element in value:
            yield from _members(shape.member, element, f"{path}[]")
    elif isinstance(shape, MapShape):
        for member in value.values():
            yield from _members(shape.value, member, f"{path}{{}}")
