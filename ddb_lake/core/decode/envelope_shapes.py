"""Which envelope a decoded JSON object is, by the names and types of its members alone.

`shape_of` dispatches whole objects and is generous: what looks like an envelope gets that envelope's reasons.
`is_envelope` picks objects out of damaged bytes and is strict: nothing that can occur inside an item (where
every member is an object with a type tag) may pass for a record.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from ddb_lake.core.decode.wrappers import wrapper_of
from ddb_lake.core.values.attributes import check_item
from ddb_lake.core.values.change_record import EVENT_NAMES
from ddb_lake.errors import UndecodableError

Shape: TypeAlias = Literal["capture", "wrapper", "body", "flattened", "incremental", "repair", "full"]

_LINE_MEMBERS: Final = frozenset({"Metadata", "Keys", "NewImage", "OldImage"})


def is_flattened(obj: dict[str, Any]) -> bool:
    """Whether the object carries the two attributes that the flattening transform adds to an item."""
    return "ingestion_timestamp" in obj and "Event" in obj and isinstance(obj["Event"], str)


def shape_of(obj: dict[str, Any]) -> Shape | None:
    """The envelope this object is, or None for an object of no known envelope.

    capture: a change record of DynamoDB (Streams or Kinesis). wrapper: one of `wrappers.WRAPPERS`. body: the `dynamodb`
    object of a stream record by itself. incremental, full: a line of an export. repair: a line of a repaired key.
    """
    if is_flattened(obj):  # first: its other members are an item's, of any name
        return "flattened"
    if "dynamodb" in obj:
        return "capture"
    if wrapper_of(obj) is not None:
        return "wrapper"
    if "Keys" in obj and "ApproximateCreationDateTime" in obj and ("eventName" in obj or "SequenceNumber" in obj):
        return "body"
    if "Keys" in obj and isinstance(obj.get("Repair"), dict):
        return "repair"
    if "Keys" in obj and ("Metadata" in obj or obj.keys() <= _LINE_MEMBERS):
        return "incremental"
    if "Metadata" in obj and ("NewImage" in obj or "OldImage" in obj):
        return "incremental"
    return "full" if obj.keys() == {"Item"} else None


def is_envelope(obj: dict[str, Any]) -> bool:
    """Whether the object is an envelope beyond doubt, so that it may be taken out of damaged surroundings."""
    match shape_of(obj):
        case "flattened":
            return obj["Event"] in EVENT_NAMES and isinstance(obj["ingestion_timestamp"], str)
        case "capture":
            body = obj["dynamodb"]
            return isinstance(obj.get("eventName"), str) and isinstance(body, dict) and "Keys" in body
        case "wrapper":
            wrapper = wrapper_of(obj)
            return wrapper is not None and wrapper.is_certain(obj)
        case "body":  # without its event's name it may be a part of a damaged record
            return isinstance(obj["Keys"], dict) and isinstance(obj.get("eventName"), str)
        case "repair":
            return "AssertedMicros" in obj["Repair"]
        case "incremental":
            metadata = obj.get("Metadata")
            return isinstance(metadata, dict) and "WriteTimestampMicros" in metadata and "Keys" in obj
        case "full":
            return _is_item(obj["Item"])
    return False


def _is_item(item: Any) -> bool:
    try:
        check_item(item)
    except UndecodableError:
        return False
    return True
