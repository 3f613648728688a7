"""Other shapes of DynamoDB values, turned into DynamoDB JSON with base64 encoded once.

Nothing here validates: what these functions return goes through `attributes.check_item` next, which names
what is wrong and where. They only promise to end: nesting beyond MAX_NESTING is an error, not a crash.
"""

from __future__ import annotations

import binascii
import re
from typing import Any, Final

from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.core.values.plain_json import MAX_NESTING
from ddb_lake.errors import UndecodableError

_BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?").fullmatch


def from_boto(value: Any, _depth: int = 0) -> Any:
    """One value of boto3's low-level client (B as bytes, or `Binary`, sets as lists) as DynamoDB JSON.

    B that is text already is taken for base64 and kept. What is no value is given back as it is.
    """
    if _depth > MAX_NESTING:
        raise UndecodableError(f"nested deeper than {MAX_NESTING} levels")
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((tag, payload),) = value.items()
    if tag == "B":
        return {"B": _encoded(payload)}
    if tag == "BS" and isinstance(payload, list | tuple | set | frozenset):
        return {"BS": [_encoded(member) for member in payload]}
    if tag in ("SS", "NS") and isinstance(payload, tuple | set | frozenset):
        return {tag: list(payload)}
    if tag == "M" and isinstance(payload, dict):
        return {"M": {name: from_boto(member, _depth + 1) for name, member in payload.items()}}
    if tag == "L" and isinstance(payload, list | tuple):
        return {"L": [from_boto(member, _depth + 1) for member in payload]}
    return value


def to_boto(value: AttributeValue) -> dict[str, Any]:
    """A checked value as boto3's low-level client takes it: binary as bytes. The inverse of `from_boto`."""
    ((tag, payload),) = value.items()
    if tag == "B":
        return {"B": binascii.a2b_base64(payload)}
    if tag == "BS":
        return {"BS": [binascii.a2b_base64(member) for member in payload]}
    if tag == "M":
        return {"M": {name: to_boto(member) for name, member in payload.items()}}
    if tag == "L":
        return {"L": [to_boto(member) for member in payload]}
    return value


def _encoded(payload: Any) -> Any:
    content = getattr(payload, "value", payload)  # boto3.dynamodb.types.Binary, without importing boto3
    if isinstance(content, bytes | bytearray | memoryview):
        return binascii.b2a_base64(content, newline=False).decode("ascii")
    return payload


def undouble_binary(item: Item) -> Item:
    """A checked item of a Kinesis Data Streams record with its binary encoded once; the same object without any.

    AWS documents that these records carry binary base64-encoded twice, without saying whether that holds in
    sets and nested values. So it is decided by decoding, each B by itself: if the bytes it decodes to are
    themselves canonical base64 text, that text is the value, else the value was encoded once and stays. A BS
    is undoubled if all its members can be; an empty binary is empty either way.

    What remains ambiguous: where AWS encodes once, a binary whose own content is canonical base64 text
    is decoded once too often. Under the documented rule (always twice) no value is ambiguous.
    """
    changed: Item | None = None
    for name, value in item.items():
        once = _undouble(value)
        if once is not value:
            if changed is None:
                changed = dict(item)
            changed[name] = once
    return item if changed is None else changed


def _undouble(value: AttributeValue) -> AttributeValue:
    ((tag, payload),) = value.items()
    if tag == "B":
        inner = _inner_base64(payload)
        return value if inner is None or inner == payload else {"B": inner}
    if tag == "BS":
        inners = [_inner_base64(member) for member in payload]
        return value if None in inners or inners == payload else {"BS": inners}
    if tag == "M":
        attributes = undouble_binary(payload)
        return value if attributes is payload else {"M": attributes}
    if tag == "L":
        members = [_undouble(member) for member in payload]
        return value if members == payload else {"L": members}
    return value


def double_binary(value: AttributeValue) -> AttributeValue:
    """A checked value with its binary base64-encoded twice, as in records of Kinesis Data Streams."""
    ((tag, payload),) = value.items()
    if tag == "B":
        return {"B": _encoded(payload.encode("ascii"))}
    if tag == "BS":
        return {"BS": [_encoded(member.encode("ascii")) for member in payload]}
    if tag == "M":
        return {"M": {name: double_binary(member) for name, member in payload.items()}}
    if tag == "L":
        return {"L": [double_binary(member) for member in payload]}
    return value


def _inner_base64(text: str) -> str | None:
    """The base64 text that `text` encodes, or None if it encodes something else."""
    content = binascii.a2b_base64(text)
    if not _BASE64(content):
        return None
    if binascii.b2a_base64(binascii.a2b_base64(content), newline=False) != content:
        return None
    return content.decode("ascii")
