"""Which envelope a decoded JSON object is, by the names and types of its members alone.

`shape_of` dispatches whole objects and is generous: what looks like an envelope gets that envelope's reasons.
`is_envelope` picks objects out of damaged bytes and is strict: nothing that can occur inside an item (where
every member is an object with a type tag) may pass for a record.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

from ddb_lake.core.attributes import check_item
from ddb_lake.errors import UndecodableError

Shape: TypeAlias = Literal[
    "capture", "records", "kinesis", "firehose_record", "error", "flattened", "incremental", "repair", "full"
]

EVENT_NAMES: Final = ("INSERT", "MODIFY", "REMOVE")
ERROR_CODE_NAMES: Final = ("errorCode", "ErrorCode", "lastErrorCode")
_LINE_MEMBERS: Final = frozenset({"Metadata", "Keys", "NewImage", "OldImage"})


def is_flattened(obj: dict[str, Any]) -> bool:
    """Whether the object carries the two attributes that the flattening transform adds to an item."""
    return "ingestion_timestamp" in obj and "Event" in obj and isinstance(obj["Event"], str)


def shape_of(obj: dict[str, Any]) -> Shape | None:
    """The envelope this object is, or None for an object of no known envelope.

    capture: a change record of DynamoDB (Streams or Kinesis). records: a Lambda or Firehose event. kinesis,
    firehose_record: one element of such an event. error: what Firehose could not deliver. incremental, full:
    a line of an export. repair: a line that mending a key has landed.
    """
    if is_flattened(obj):  # first: its other members are an item's, of any name
        return "flattened"
    if "dynamodb" in obj:
        return "capture"
    if isinstance(obj.get("Records"), list) or isinstance(obj.get("records"), list):
        return "records"
    if "rawData" in obj or ("attemptsMade" in obj and any(name in obj for name in ERROR_CODE_NAMES)):
        return "error"
    if isinstance(obj.get("kinesis"), dict):
        return "kinesis"
    if "recordId" in obj and "data" in obj:
        return "firehose_record"
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
        case "records":
            elements = obj["Records"] if isinstance(obj.get("Records"), list) else obj["records"]
            return bool(elements) and all(isinstance(element, dict) for element in elements)
        case "error":
            return isinstance(obj.get("rawData", ""), str) and any(
                isinstance(obj.get(name), str) for name in (*ERROR_CODE_NAMES, "rawData")
            )
        case "kinesis":
            return isinstance(obj["kinesis"].get("data"), str)
        case "firehose_record":
            return isinstance(obj["recordId"], str) and isinstance(obj["data"], str)
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
