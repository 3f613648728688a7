"""Items as plain JSON: the form without type tags, which other systems read. Exact, but it does not distinguish types.

Text, numbers (every digit, as `canonical_number` writes them), true and false, null; sets and lists are arrays, maps
are objects, binary is base64 text. `from_plain` is the way back as far as there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from json.encoder import encode_basestring as quoted
from typing import Any, Final

from ddb_lake.core.values.change_record import AttributeValue
from ddb_lake.core.values.numbers import NumberText, canonical_number
from ddb_lake.errors import UndecodableError

__all__ = [
    "MAX_NESTING",
    "distinct_members",
    "from_plain",
    "loads_exact",
    "loads_strict",
    "plain_json_text",
    "plain_members",
    "plain_object",
    "plain_text",
    "plain_value",
    "quoted",
]

MAX_NESTING: Final = (
    120  # a little more than attributes.check_item accepts, because that function names the path in its error
)


def plain_text(value: AttributeValue) -> str:
    """The JSON text of a checked value, without white space; `quoted` is how its strings are written."""
    ((tag, payload),) = value.items()
    if tag == "S" or tag == "B":
        return quoted(payload)
    if tag == "N":
        return canonical_number(payload)
    if tag == "M":
        return plain_object(payload)
    if tag == "L":
        return f"[{','.join(map(plain_text, payload))}]"
    if tag == "NS":
        return f"[{','.join(map(canonical_number, payload))}]"
    if tag == "SS" or tag == "BS":
        return f"[{','.join(map(quoted, payload))}]"
    if tag == "BOOL":
        return "true" if payload else "false"
    return "null"


def plain_object(item: Mapping[str, AttributeValue]) -> str:
    """The JSON text of a checked item or of the members of a map, in their order."""
    return f"{{{','.join(plain_members(item))}}}"


def plain_members(item: Mapping[str, AttributeValue]) -> list[str]:
    """The members of a checked item as JSON text each, `"name":value`, in their order."""
    members = []
    for name, value in item.items():
        text = value.get("S")  # most values are text
        members.append(f"{quoted(name)}:{plain_text(value) if text is None else quoted(text)}")
    return members


def _number(canonical: str) -> int | Decimal:
    return Decimal(canonical) if "." in canonical else int(canonical)


def plain_value(value: AttributeValue, number: Callable[[str], Any] = _number) -> Any:
    """A checked value as Python's: sets and lists are lists; numbers are what `number` makes of their canonical text.

    By default integers are int, other numbers Decimal.
    """
    ((tag, payload),) = value.items()
    if tag == "N":
        return number(canonical_number(payload))
    if tag == "M":
        return {name: plain_value(member, number) for name, member in payload.items()}
    if tag == "L":
        return [plain_value(member, number) for member in payload]
    if tag == "NS":
        return [number(canonical_number(member)) for member in payload]
    if tag == "NULL":
        return None
    return payload


def loads_exact(text: str) -> Any:
    """Decode JSON text with each number as `NumberText`; NaN and Infinity are none, and names may not repeat.

    Raises:
        UndecodableError: no JSON text, nested too deeply, or an object has two members of one name.
    """
    return _decoded(_EXACT, text)


def loads_strict(data: bytes) -> Any:
    """Decode JSON bytes as strictly as `jsontext` does, with the standard library alone. Numbers are Python's.

    Raises:
        UndecodableError: not UTF-8, no JSON text, nested too deeply, or an object has two members of one name.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UndecodableError("no JSON object") from None
    return _decoded(_STRICT, text)


def plain_json_text(value: Any) -> str:
    """The JSON text of a value from `loads_exact`, without white space, with each number as it was written."""
    if isinstance(value, NumberText):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return f"{{{','.join(f'{quoted(name)}:{plain_json_text(member)}' for name, member in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(plain_json_text, value))}]"
    return json.dumps(value)


def _decoded(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except ValueError:  # of the number, if it has more digits than CPython converts
        raise UndecodableError("no JSON object") from None
    except RecursionError:
        raise UndecodableError("a JSON object nested too deeply") from None


def _no_constant(_text: str) -> Any:
    raise UndecodableError("no JSON object")


def distinct_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` of JSON decoders that drops no member in silence. Raises UndecodableError."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UndecodableError("two members of one JSON object have the same name")
    return members


_STRICT: Final = json.JSONDecoder(object_pairs_hook=distinct_members, parse_constant=_no_constant)
_EXACT: Final = json.JSONDecoder(
    object_pairs_hook=distinct_members, parse_constant=_no_constant, parse_int=NumberText, parse_float=NumberText
)


def from_plain(value: Any, _depth: int = 0) -> AttributeValue:
    """A plain JSON value as DynamoDB JSON: text S, number N, true/false BOOL, null NULL, list L, object M.

    `NumberText` keeps the digits of the source; a float has those of its shortest exact spelling.

    Raises:
        UndecodableError: not a JSON value, not a finite number, or nested too deeply.
    """
    if _depth > MAX_NESTING:
        raise UndecodableError(f"nested deeper than {MAX_NESTING} levels")
    if isinstance(value, NumberText):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float | Decimal):
        return {"N": _number_text(value)}
    if isinstance(value, list | tuple):
        return {"L": [from_plain(member, _depth + 1) for member in value]}
    if isinstance(value, Mapping):
        return {"M": {name: from_plain(member, _depth + 1) for name, member in value.items()}}
    raise UndecodableError(f"no JSON value: {type(value).__name__}")


def _number_text(value: int | float | Decimal) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than CPython converts
        raise UndecodableError("a number with too many digits") from None
