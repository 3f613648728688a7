"""Stream records in the JSON of SDK objects, converted to DynamoDB's spelling.

Go writes `Dynamodb` and `EventID`, Java writes `keys` and `{"s": "x"}`, and both write absent members as null.
"""

from __future__ import annotations

from typing import Any, Final

_RECORD_NAMES: Final = {
    name.lower(): name
    for name in (
        "eventID", "eventName", "eventVersion", "eventSource", "eventSourceARN", "awsRegion", "dynamodb", "userIdentity",
        "tableName", "recordFormat", "kinesisRecordMetadata",
    )
}  # fmt: skip
_IMAGES: Final = ("Keys", "NewImage", "OldImage")
_BODY_NAMES: Final = {
    name.lower(): name
    for name in (
        "ApproximateCreationDateTime", "ApproximateCreationDateTimePrecision", *_IMAGES, "SequenceNumber", "SizeBytes",
        "StreamViewType",
    )
}  # fmt: skip
_TAGS: Final = {tag.lower(): tag for tag in ("S", "N", "B", "SS", "NS", "BS", "M", "L", "BOOL", "NULL")}
_BODY: Final = {"Keys", "ApproximateCreationDateTime", "SequenceNumber"}
_MAX_LEVELS: Final = 64
"""DynamoDB nests 32 levels. Deeper levels are not converted, and fail when they are checked."""


def respelled(obj: dict[str, Any]) -> dict[str, Any] | None:
    """The record, or its `dynamodb` object, in DynamoDB's spelling; None if it has no SDK's spelling.

    A record whose own members have DynamoDB's names is not converted.
    """
    record = _renamed(obj, _RECORD_NAMES)
    if record is not None and isinstance(record.get("dynamodb"), dict):
        members = next(value for name, value in obj.items() if name.lower() == "dynamodb")
        body = _body(members)
        as_dynamodb = "dynamodb" in obj and body is not None and body.keys() <= members.keys()
        return None if body is None or as_dynamodb else {**record, "dynamodb": body}
    body = _body(obj)
    return body if body is not None and body.keys() >= _BODY and not body.keys() <= obj.keys() else None


def _body(obj: dict[str, Any]) -> dict[str, Any] | None:
    body = _renamed(obj, _BODY_NAMES)
    if body is None:
        return None
    return {name: _image(value) if name in _IMAGES else value for name, value in body.items()}


def _renamed(obj: dict[str, Any], names: dict[str, str]) -> dict[str, Any] | None:
    """The members that are not null, under their names in `names`; None if two would have the same name."""
    present = {name: value for name, value in obj.items() if value is not None}
    found = {names.get(name.lower(), name): value for name, value in present.items()}
    return found if len(found) == len(present) else None


def _image(image: Any) -> Any:
    if not isinstance(image, dict):
        return image
    return {name: _value(value, _MAX_LEVELS) for name, value in image.items()}


def _value(value: Any, levels: int) -> Any:
    if not isinstance(value, dict) or not levels:
        return value
    renamed = _renamed(value, _TAGS)
    if renamed is None or len(renamed) != 1:
        return value
    ((tag, payload),) = renamed.items()
    if tag == "M" and isinstance(payload, dict):
        return {"M": {name: _value(member, levels - 1) for name, member in payload.items()}}
    if tag == "L" and isinstance(payload, list):
        return {"L": [_value(member, levels - 1) for member in payload]}
    return {tag: payload}
