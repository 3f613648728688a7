"""Lines of exports in Amazon Ion, as lines in DynamoDB JSON.

    $ion_1_0 {Item:{Id:103.,Tags:$dynamodb_SS::["a"],Note:null}}                                  full export
    $ion_1_0 {Record:{Keys:{…},Metadata:{WriteTimestampMicros:1680109764000000.},NewImage:{…}}}   incremental

Each line is Ion text: a version marker and one struct. A string is an S, a decimal an N, a blob a B, a list an L, a struct an M,
and a list with the annotation `$dynamodb_SS`, `$dynamodb_NS` or `$dynamodb_BS` is a set:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html

`Record` around the members of an incremental line may be absent. This module needs the package amazon.ion (the extra `ion`).
"""

from __future__ import annotations

import base64
import io
from typing import Any, Final

import orjson
from amazon.ion.exceptions import IonException
from amazon.ion.simple_types import IonPyNull
from amazon.ion.simpleion import load

from ddb_lake.core.decode.splitter import ION_MARKER
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.errors import UndecodableError

_SHORT_TEXT_BYTES: Final = 4096
"""The reader takes no smaller limit."""
_WRAPPER: Final = "Record"
_SETS: Final = {"$dynamodb_SS": "SS", "$dynamodb_NS": "NS", "$dynamodb_BS": "BS"}


def json_line(line: bytes) -> bytes:
    """The line that the export has in DynamoDB JSON in place of `line`. Numbers keep their value with all digits.

    Raises:
        UndecodableError: the line is no Ion text with one struct, or has a value that DynamoDB does not have. The message names
            the place, without a value.
    """
    members = _members(_only_value(line), "the line")
    if members.keys() == {_WRAPPER}:
        members = _members(members[_WRAPPER], _WRAPPER)
    try:
        return orjson.dumps({name: _attributes(value, name) for name, value in members.items()})
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise UndecodableError("nested too deeply") from error


def _only_value(line: bytes) -> Any:
    if not line.startswith(ION_MARKER):
        raise UndecodableError(f"no Ion text: the line does not begin with {ION_MARKER.decode()}")
    try:  # without a limit of ours, a longer text than 4,096 bytes is an error
        return load(io.BytesIO(line), text_buffer_size_limit=max(len(line), _SHORT_TEXT_BYTES))
    except (IonException, ValueError, ArithmeticError, RecursionError) as error:
        raise UndecodableError("no Ion text with one value") from error


def _attributes(value: Any, where: str) -> dict[str, Any]:
    return {name: _attribute(inner, name) for name, inner in _members(value, where).items()}


def _members(value: Any, where: str) -> dict[str, Any]:
    """The members of a struct. Raises UndecodableError for another value, and for a name that occurs twice."""
    if _kind(value) != "STRUCT" or value.ion_annotations:
        raise UndecodableError(f"{where}: expected an Ion struct")
    pairs = list(value.items())
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UndecodableError(f"{where}: a name occurs twice")
    if None in members:
        raise UndecodableError(f"{where}: a name without text")
    return members


def _attribute(value: Any, where: str) -> dict[str, Any]:
    """The attribute value in DynamoDB JSON."""
    kind = _kind(value)
    if value.ion_annotations:
        return _set(value, kind, where)
    if kind == "LIST":
        return {"L": [_attribute(inner, where) for inner in value]}
    if kind == "STRUCT":
        return {"M": _attributes(value, where)}
    if kind == "NULL":
        return {"NULL": True}
    if kind == "BOOL":
        return {"BOOL": bool(value)}
    return dict([_scalar(value, kind, where)])


def _set(value: Any, kind: str, where: str) -> dict[str, Any]:
    annotations = [symbol.text for symbol in value.ion_annotations]
    tag = _SETS.get(annotations[0] or "") if len(annotations) == 1 and kind == "LIST" else None
    if tag is None:
        raise UndecodableError(f"{where}: an Ion annotation that is none of {', '.join(_SETS)}")
    members = [_scalar(inner, _kind(inner), where) for inner in value]
    if any(member != tag[:-1] or inner.ion_annotations for (member, _), inner in zip(members, value, strict=True)):
        raise UndecodableError(f"{where}: a member of a set that is of another type")
    return {tag: [text for _, text in members]}


def _scalar(value: Any, kind: str, where: str) -> tuple[str, str]:
    """The tag and the text of a string, number or binary."""
    if kind == "STRING":
        return "S", str(value)
    if kind in ("DECIMAL", "INT"):
        return "N", canonical_number(str(value))
    if kind == "BLOB":
        return "B", base64.b64encode(value).decode()
    raise UndecodableError(f"{where}: an Ion {kind.lower()}, which is no type of DynamoDB")


def _kind(value: Any) -> str:
    """The name of the Ion type. A null of a type, such as `null.string`, has a name of its own."""
    if value is None:
        return "nothing"
    kind = str(value.ion_type.name)
    return f"NULL.{kind}" if isinstance(value, IonPyNull) and kind != "NULL" else kind
