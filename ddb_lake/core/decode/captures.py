"""One record of one form, read into a ChangeRecord: what DynamoDB captured, and export lines.

Wrappers, which hold several records or hide one, are `envelopes`' business. Every function here takes the decoded
object and raises UndecodableError, whose text names the field, for what is no such record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ddb_lake.core.values.attributes import (
    canonical_value,
    check_item,
    check_keys,
    from_boto,
    is_utf8,
    undouble_binary,
)
from ddb_lake.core.values.change_record import EVENT_NAMES, ChangeRecord, Item
from ddb_lake.core.values.times import (
    UNIT_US,
    arrival_us_or_none,
    change_time_us,
    check_not_after,
)
from ddb_lake.errors import UndecodableError

_TIME: Final = "ApproximateCreationDateTime"
_PRECISION: Final = "ApproximateCreationDateTimePrecision"
_STREAM_ARN: Final = re.compile(r"arn:[^:]+:dynamodb:[^:]*:[^:]*:table/([^/]+)(?:/.*)?").fullmatch
_SEQUENCE: Final = re.compile(r"[0-9]{1,128}", re.ASCII).fullmatch
_NO_NEW_IMAGE: Final = "no NewImage: the source needs StreamViewType NEW_AND_OLD_IMAGES or NEW_IMAGE"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a wrapper says about the delivery of the records in it."""

    kinesis_sequence: str | None = None
    shard: str | None = None
    arrived_us: int | None = None

    def or_else(self, other: Arrival) -> Arrival:
        """This arrival with what it does not know taken from `other`."""
        if other is NOWHERE:
            return self
        return Arrival(
            self.kinesis_sequence or other.kinesis_sequence,
            self.shard or other.shard,
            other.arrived_us if self.arrived_us is None else self.arrived_us,
        )


NOWHERE: Final = Arrival()

ReadKeys: TypeAlias = Callable[[Any, bool], Item]
"""Of what `Keys` holds, and whether its binary is encoded twice."""

ReadImage: TypeAlias = Callable[[dict[str, Any], str, Item, bool], Item | None]
"""Of the record's `dynamodb`, the image's name, the keys, and whether its binary is encoded twice."""


def digits_or_none(value: Any) -> str | None:
    """A Kinesis sequence number, or None for what is none: a damaged stamp does not cost the record."""
    return value if isinstance(value, str) and _SEQUENCE(value) else None


def arrival_of(metadata: dict[str, Any]) -> Arrival:
    """The `kinesisRecordMetadata` of Firehose (times in milliseconds)."""
    shard = metadata.get("shardId")
    return Arrival(
        digits_or_none(metadata.get("sequenceNumber")),
        shard if isinstance(shard, str) else None,
        arrival_us_or_none(metadata.get("approximateArrivalTimestamp"), UNIT_US["MILLISECOND"]),
    )


def read_capture(obj: dict[str, Any], arrival: Arrival = NOWHERE, time_unit: str | None = None) -> ChangeRecord:
    """A record of DynamoDB Streams (Lambda's or boto3's form) or of Kinesis Data Streams for DynamoDB.

    A SequenceNumber makes it a Streams record, else `recordFormat` or `tableName` a Kinesis one; of records
    that have none of them, `eventVersion` or `eventSourceARN` marks Streams. The unit of time is the declared
    precision, else seconds for Streams and milliseconds for Kinesis. A Streams record without a time (as in the examples
    of Lambda's documentation) has `changed_us` 0: its sequence number still orders it.

    Args:
        time_unit: the unit for a time that is impossible in its declared unit (`times.change_time_us`).
    """
    return read_capture_by(obj, arrival, _checked_keys, _checked_image, time_unit)


def read_capture_by(
    obj: dict[str, Any],
    arrival: Arrival,
    read_keys: ReadKeys,
    read_image: ReadImage,
    time_unit: str | None = None,
) -> ChangeRecord:
    """As `read_capture`, with other readers of the keys and of an image, which may raise UndecodableError."""
    body = obj["dynamodb"]
    if not isinstance(body, dict):
        raise UndecodableError("dynamodb: no object")
    event_name = obj.get("eventName")
    if not isinstance(event_name, str) or event_name not in EVENT_NAMES:
        raise UndecodableError(f"eventName: none of {', '.join(EVENT_NAMES)}")
    removed = event_name == "REMOVE"
    sequence = _sequence_number(body)
    streams = _is_streams(obj, sequence)
    keys = read_keys(body.get("Keys"), not streams)
    if removed and body.get("NewImage"):
        raise UndecodableError("NewImage: a REMOVE has none")
    new_image = None if removed else read_image(body, "NewImage", keys, not streams)
    if new_image is None and not removed:
        raise UndecodableError(_NO_NEW_IMAGE)
    stamp = obj.get("kinesisRecordMetadata")
    if isinstance(stamp, dict):
        arrival = arrival_of(stamp).or_else(arrival)
    stream, table = _source(obj)
    return ChangeRecord(  # by position, which takes half the time of keywords
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


def read_body(obj: dict[str, Any], arrival: Arrival = NOWHERE, time_unit: str | None = None) -> ChangeRecord:
    """A record that is the `dynamodb` object of a stream record, perhaps with its `eventName` beside the members.

    awslabs/lambda-streams-to-firehose writes such records. Without an `eventName` the images decide the event; a new
    image without an old one is an INSERT, although it may be a MODIFY if the stream has only new images.
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


def _is_streams(obj: dict[str, Any], sequence: str | None) -> bool:
    if sequence is not None:
        return True
    return "recordFormat" not in obj and "tableName" not in obj and ("eventVersion" in obj or "eventSourceARN" in obj)


def _sequence_number(body: dict[str, Any]) -> str | None:
    sequence = body.get("SequenceNumber")
    if sequence is None:
        return None
    if type(sequence) is int and 0 <= sequence < 1 << 128:
        return str(sequence)
    if not isinstance(sequence, str) or not _SEQUENCE(sequence):
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
    """The ARN of the stream and the name of the table, as far as the record gives them."""
    table = obj.get("tableName")
    arn = obj.get("eventSourceARN")
    match = _STREAM_ARN(arn) if isinstance(arn, str) else None
    if isinstance(table, str) and table and is_utf8(table):
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


def _checked_keys(keys: Any, doubled: bool) -> Item:
    if keys is None:
        raise UndecodableError("Keys: missing")
    try:
        checked, binary = _checked(keys, check_keys)
    except UndecodableError as error:
        raise UndecodableError(f"Keys: {error}") from None
    return undouble_binary(checked) if doubled and binary else checked


def _checked_image(body: dict[str, Any], name: str, keys: Item, doubled: bool) -> Item | None:
    """The image, checked and with its binary encoded once; None if there is none."""
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
        found = checked.get(attribute)
        if found != value and (found is None or canonical_value(found) != canonical_value(value)):
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


def read_export_line(obj: dict[str, Any], asserted_us: int | None, time_unit: str | None = None) -> ChangeRecord:
    """A line of an incremental export: UPSERT, or DELETE when it has no NewImage.

    Args:
        asserted_us: the export's exclusive end, also the time of a line that carries none.
        time_unit: as in `read_capture`.
    """
    keys = _checked_keys(obj.get("Keys"), doubled=False)
    metadata = obj.get("Metadata")
    written = metadata.get("WriteTimestampMicros") if isinstance(metadata, dict) else None
    if isinstance(written, dict):
        written = written.get("N") or ""
    if written is None and asserted_us is None:
        raise UndecodableError("Metadata.WriteTimestampMicros: missing, and the export's end is not known")
    try:
        changed_us = asserted_us if written is None else change_time_us(written, "MICROSECOND", time_unit)
        check_not_after(changed_us or 0, asserted_us)
    except UndecodableError as error:
        raise UndecodableError(f"Metadata.WriteTimestampMicros: {error}") from None
    new_image = _checked_image(obj, "NewImage", keys, doubled=False)
    return ChangeRecord(
        kind="incremental",
        event_name="DELETE" if new_image is None else "UPSERT",
        changed_us=changed_us or 0,
        keys=keys,
        new_image=new_image,
        old_image=_checked_image(obj, "OldImage", keys, doubled=False),
        asserted_us=asserted_us,
    )
