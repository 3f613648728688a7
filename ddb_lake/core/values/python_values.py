"""DynamoDB values as Python's, in the types of boto3's resource interface, and back without a loss.

    S str · N Decimal · B bytes · BOOL bool · NULL None · SS, NS, BS set · L list · M dict

`from_python(to_python(value))` equals the value for every checked value. Standard library only, because Lambda functions import
it. https://docs.aws.amazon.com/boto3/latest/guide/dynamodb.html
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Set
from decimal import Decimal
from typing import Any

from ddb_lake.core.values.change_record import AttributeValue
from ddb_lake.core.values.plain_json import MAX_NESTING
from ddb_lake.errors import UndecodableError


def to_python(value: AttributeValue) -> Any:
    """A checked value as a new Python value, which shares no container with `value`."""
    ((tag, payload),) = value.items()
    if tag == "N":
        return Decimal(payload)
    if tag == "B":
        return binascii.a2b_base64(payload)
    if tag == "M":
        return {name: to_python(member) for name, member in payload.items()}
    if tag == "L":
        return [to_python(member) for member in payload]
    if tag == "SS":
        return set(payload)
    if tag == "NS":
        return set(map(Decimal, payload))
    if tag == "BS":
        return set(map(binascii.a2b_base64, payload))
    return None if tag == "NULL" else payload


def from_python(value: Any, _depth: int = 0) -> AttributeValue:
    """A Python value in DynamoDB JSON. The members of a set are sorted, so equal values have the same text.

    An int is a number. A float is refused, as by boto3, because its digits are not those that were written.

    Raises:
        UndecodableError: the value has no DynamoDB type. The message has the Python type, and no value.
    """
    if _depth > MAX_NESTING:
        raise UndecodableError(f"nested deeper than {MAX_NESTING} levels")
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": str(value)}
    if isinstance(value, int | Decimal):
        return {"N": _number(value)}
    if isinstance(value, bytes | bytearray):
        return {"B": _base64(value)}
    if isinstance(value, Mapping):
        return {"M": {name: from_python(member, _depth + 1) for name, member in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [from_python(member, _depth + 1) for member in value]}
    if isinstance(value, Set):
        return _from_set(value)
    if isinstance(value, float):
        raise UndecodableError("a float; use int or decimal.Decimal")
    raise UndecodableError(f"{type(value).__name__} is no type of DynamoDB")


def _from_set(members: Set[Any]) -> AttributeValue:
    if members and all(isinstance(member, str) for member in members):
        return {"SS": sorted(map(str, members))}
    if members and all(isinstance(member, int | Decimal) and not isinstance(member, bool) for member in members):
        return {"NS": sorted(map(_number, members))}
    if members and all(isinstance(member, bytes) for member in members):
        return {"BS": sorted(map(_base64, members))}
    raise UndecodableError("a set is empty, or its members are not all text, all numbers or all bytes")


def _number(value: int | Decimal) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than CPython converts
        raise UndecodableError("a number with too many digits") from None


def _base64(content: bytes | bytearray) -> str:
    return binascii.b2a_base64(content, newline=False).decode("ascii")
