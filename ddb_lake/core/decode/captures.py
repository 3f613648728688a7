"""Captured records: the change of one item in the JSON of DynamoDB Streams or of Kinesis Data Streams for DynamoDB.

Belongs here: the two forms, the `dynamodb` object of a record by itself, and the spellings that SDKs give their members.
The functions take decoded JSON and return a ChangeRecord. UndecodableError names the faulty field, without its value.

Form of Streams: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html
Form of Kinesis: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from ddb_lake.core.decode.arrival_stamp import STAMP, UNKNOWN_ARRIVAL, Arrival, is_sequence_number, read_stamp
from ddb_lake.core.values.attributes import canonical_value, check_item, is_utf8
from ddb_lake.core.values.change_record import EVENT_NAMES, ChangeRecord, Item
from ddb_lake.core.values.conversions import from_boto, undouble_binary
from ddb_lake.core.values.primary_key import check_keys
from ddb_lake.core.values.times import UNIT_US, change_time_us
from ddb_lake.errors import UndecodableError

_TIME: Final = "ApproximateCreationDateTime"
_PRECISION: Final = "ApproximateCreationDateTimePrecision"
_STREAM_ARN: Final = re.compile(r"arn:[^:]+:dynamodb:[^:]*:[^:]*:table/([^/]+)(?:/.*)?").fullmatch
_NO_NEW_IMAGE: Final = "no NewImage: the source needs StreamViewType NEW_AND_OLD_IMAGES or NEW_IMAGE"


ReadKeys: TypeAlias = Callable[[Any, bool], Item]
"""Arguments: the value of `Keys`, and whether its binary is encoded twice."""

ReadImage: TypeAlias = Callable[[dict[str, Any], str, Item, bool], Item | None]
"""Arguments: the record's `dynamodb` object, the image's name, the keys, and whether its binary is encoded twice."""


def read_capture(obj: dict[str, Any], arrival: Arrival = UNKNOWN_ARRIVAL, time_unit: str | None = None) -> ChangeRecord:
    """A record of DynamoDB Streams (Lambda's or boto3's form) or of Kinesis Data Streams for DynamoDB.

    A record with a SequenceNumber is a Streams record. Of the others, one with `recordFormat` or `tableName` is a Kinesis
    record, and one with `eventVersion` or `eventSourceARN` is a Streams record. The unit of time is the declared precision;
    by default it is seconds for Streams and milliseconds for Kinesis. A Streams record without a time (as in the examples
    of Lambda's documentation) has `changed_us` 0: its sequence number still orders it.

    Args:
        arrival: the arrival that the record's wrapper states. The record's own stamp has precedence.
        time_unit: the unit for a time that is impossible in its declared unit (`times.change_time_us`).

    Raises:
        UndecodableError: the object is no such record.
    """
    return read_capture_with(obj, arrival, checked_keys, checked_image, time_unit)


def read_capture_with(
    obj: dict[str, Any],
    arrival: Arrival,
    read_keys: ReadKeys,
    read_image: ReadImage,
    time_unit: str | None = None,
) -> ChangeRecord:
    """`read_capture` with the caller's functions for keys and images; they may raise UndecodableError."""
    body = obj["dynamodb"]
    if not isinstance(body, dict):
        raise UndecodableError("dynamodb: no object")
    event_name = obj.get("eventName")
    if not isinstance(event_name, str) or event_name not in EVENT_NAMES:
        raise UndecodableError(f"eventName: none of {', '.join(EVENT_NAMES)}")
    removed = event_name == "REMOVE"
    sequence = _sequence_number(body) if "SequenceNumber" in body else None
    streams = sequence is not None or _is_streams_without_sequence(obj)
    keys = read_keys(body.get("Keys"), not streams)
    if removed and body.get("NewImage"):
        raise UndecodableError("NewImage: a REMOVE has none")
    new_image = None if removed else read_image(body, "NewImage", keys, not streams)
    if new_image is None and not removed:
        raise UndecodableError(_NO_NEW_IMAGE)
    stamp = obj.get(STAMP)
    if isinstance(stamp, dict):
        arrival = read_stamp(stamp).or_else(arrival)
    stream, table = _source(obj)
    return ChangeRecord(  # positional arguments take half the time of keywords
        "streams" if streams else "kds",
        event_name,  # type: ignore[arg-type]  # one of EVENT_NAMES
        _changed_us(body, streams, sequence, time_unit),
        keys,
        new_image,
        read_image(body, "OldImage", keys, not streams),
        table,
        _optional_text(obj, "eventID"),
        sequence,
        stream if streams else None,
        arrival.kinesis_sequence,
        arrival.shard,
        arrival.arrived_us,
        None,
        removed and _is_ttl(obj.get("userIdentity")),
        obj.get("awsRegion"),
    )


def read_body(obj: dict[str, Any], arrival: Arrival = UNKNOWN_ARRIVAL, time_unit: str | None = None) -> ChangeRecord:
    """A record that is the `dynamodb` object of a stream record, perhaps with its `eventName` beside the members.

    awslabs/lambda-streams-to-firehose writes such records. If there is no `eventName`, the images decide the event: a new
    image without an old one is taken for an INSERT, although it can be a MODIFY of a stream that has only new images.
    """
    event_name = obj.get("eventName", obj.get("EventName"))
    if event_name is None:
        event_name = _event_by_images(obj)
    members = {name: obj[name] for name in ("eventID", "eventSourceARN", "tableName", "userIdentity") if name in obj}
    return read_capture({**members, "eventName": event_name, "dynamodb": obj}, arrival, time_unit)


def _event_by_images(body: dict[str, Any]) -> str:
    if body.get("NewImage") is not None:
        return "INSERT" if body.get("OldImage") is None else "MODIFY"
    if body.get("OldImage") is not None or body.get("StreamViewType") == "NEW_IMAGE":
        return "REMOVE"
    raise UndecodableError("eventName: missing, and there is no image that shows what happened to the item")


def _is_streams_without_sequence(obj: dict[str, Any]) -> bool:
    return "recordFormat" not in obj and "tableName" not in obj and ("eventVersion" in obj or "eventSourceARN" in obj)


def _sequence_number(body: dict[str, Any]) -> str | None:
    sequence = body.get("SequenceNumber")
    if sequence is None:
        return None
    if type(sequence) is int and 0 <= sequence < 1 << 128:
        return str(sequence)
    if not isinstance(sequence, str) or not is_sequence_number(sequence):
        raise UndecodableError("dynamodb.SequenceNumber: not digits")
    return sequence


def _changed_us(body: dict[str, Any], streams: bool, sequence: str | None, time_unit: str | None) -> int:
    precision = body.get(_PRECISION)
    if precision is None:
        precision = "SECOND" if streams else "MILLISECOND"
    elif not isinstance(precision, str) or (precision := precision.upper()) not in UNIT_US:
        raise UndecodableError(f"dynamodb.{_PRECISION}: none of {', '.join(UNIT_US)}")
    time = body.get(_TIME)
    if time is None and sequence is not None:
        return 0
    try:
        return change_time_us(time, precision, time_unit)
    except UndecodableError as error:
        raise UndecodableError(f"dynamodb.{_TIME}: {error}") from None


def _source(obj: dict[str, Any]) -> tuple[str | None, str | None]:
    """The ARN of the stream and the name of the table; None for each that the record does not have."""
    table = obj.get("tableName")
    arn = obj.get("eventSourceARN")
    match = _STREAM_ARN(arn) if isinstance(arn, str) else None
    if isinstance(table, str) and table and (table.isascii() or is_utf8(table)):
        return (match[0] if match else None), table
    return (match[0], match[1]) if match else (None, None)


def _is_ttl(identity: Any) -> bool:
    if not isinstance(identity, dict):
        return False
    kind = identity.get("type", identity.get("Type"))
    principal = identity.get("principalId", identity.get("PrincipalId"))
    return bool(kind == "Service" and principal == "dynamodb.amazonaws.com")


def _optional_text(obj: dict[str, Any], name: str) -> str | None:
    value = obj.get(name)
    if value is None or (isinstance(value, str) and (value.isascii() or is_utf8(value))):
        return value
    raise UndecodableError(f"{name}: no UTF-8 text")


def checked_keys(keys: Any, doubled: bool) -> Item:
    """The keys, checked. `doubled`: their binary is encoded twice, and is returned encoded once."""
    if keys is None:
        raise UndecodableError("Keys: missing")
    try:
        checked, binary = _checked(keys, check_keys)
    except UndecodableError as error:
        raise UndecodableError(f"Keys: {error}") from None
    return undouble_binary(checked) if doubled and binary else checked


def checked_image(body: dict[str, Any], name: str, keys: Item, doubled: bool) -> Item | None:
    """The image of this name, checked; None if there is none. `doubled`: as in `checked_keys`."""
    image = body.get(name)
    if image is None:
        return None
    try:
        checked, binary = _checked(image, check_item)
    except UndecodableError as error:
        raise UndecodableError(f"{name}: {error}") from None
    if doubled and binary:
        checked = undouble_binary(checked)
    for attribute, value in keys.items():
        in_image = checked.get(attribute)
        if in_image != value and (in_image is None or canonical_value(in_image) != canonical_value(value)):
            raise UndecodableError(f"{name}: its key attributes are not those of Keys")
    return checked


def _checked(item: Any, check: Callable[[object], bool]) -> tuple[Item, bool]:
    """The item in DynamoDB JSON and whether it holds binary; it may come in boto3's form, with bytes in it."""
    try:
        return item, check(item)
    except UndecodableError:
        if not isinstance(item, dict):
            raise
        converted = {name: from_boto(value) for name, value in item.items()}
        return converted, check(converted)


# --- spellings of SDKs

_RECORD_NAMES: Final = {
    name.lower(): name
    for name in (
        "eventID", "eventName", "eventVersion", "eventSource", "eventSourceARN", "awsRegion", "dynamodb", "userIdentity",
        "tableName", "recordFormat", "kinesisRecordMetadata",
    )
}  # fmt: skip
_IMAGE_NAMES: Final = ("Keys", "NewImage", "OldImage")
_BODY_NAMES: Final = {
    name.lower(): name
    for name in (
        "ApproximateCreationDateTime", "ApproximateCreationDateTimePrecision", *_IMAGE_NAMES, "SequenceNumber", "SizeBytes",
        "StreamViewType",
    )
}  # fmt: skip
_TAGS: Final = {tag.lower(): tag for tag in ("S", "N", "B", "SS", "NS", "BS", "M", "L", "BOOL", "NULL")}
_REQUIRED_OF_BODY: Final = {"Keys", "ApproximateCreationDateTime", "SequenceNumber"}
_MAX_LEVELS: Final = 64
"""DynamoDB nests 32 levels. Deeper levels are not converted, and fail when they are checked."""


def respelled(obj: dict[str, Any]) -> dict[str, Any] | None:
    """A record, or its `dynamodb` object, converted from an SDK's spelling to DynamoDB's; None for any other object.

    SDKs write their record objects as JSON with names of their own: Go has `Dynamodb` and `EventID`, Java has `keys` and
    `{"s": "x"}`, and both write absent members as null. A record that has DynamoDB's names is not converted.
    """
    record = _renamed(obj, _RECORD_NAMES)
    if record is not None and isinstance(record.get("dynamodb"), dict):
        members = next(value for name, value in obj.items() if name.lower() == "dynamodb")
        body = _spelled_body(members)
        as_dynamodb = "dynamodb" in obj and body is not None and body.keys() <= members.keys()
        return None if body is None or as_dynamodb else {**record, "dynamodb": body}
    body = _spelled_body(obj)
    return body if body is not None and body.keys() >= _REQUIRED_OF_BODY and not body.keys() <= obj.keys() else None


def _spelled_body(obj: dict[str, Any]) -> dict[str, Any] | None:
    body = _renamed(obj, _BODY_NAMES)
    if body is None:
        return None
    return {name: _spelled_image(value) if name in _IMAGE_NAMES else value for name, value in body.items()}


def _renamed(obj: dict[str, Any], names: dict[str, str]) -> dict[str, Any] | None:
    """The members that are not null, under their names in `names`; None if two would have the same name."""
    present = {name: value for name, value in obj.items() if value is not None}
    found = {names.get(name.lower(), name): value for name, value in present.items()}
    return found if len(found) == len(present) else None


def _spelled_image(image: Any) -> Any:
    if not isinstance(image, dict):
        return image
    return {name: _spelled_value(value, _MAX_LEVELS) for name, value in image.items()}


def _spelled_value(value: Any, levels: int) -> Any:
    if not isinstance(value, dict) or not levels:
        return value
    renamed = _renamed(value, _TAGS)
    if renamed is None or len(renamed) != 1:
        return value
    ((tag, payload),) = renamed.items()
    if tag == "M" and isinstance(payload, dict):
        return {"M": {name: _spelled_value(member, levels - 1) for name, member in payload.items()}}
    if tag == "L" and isinstance(payload, list):
        return {"L": [_spelled_value(member, levels - 1) for member in payload]}
    return {tag: payload}
