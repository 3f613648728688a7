"""Flattened records: a change as one JSON object with the item in plain JSON (no type tags). Written and read here.

    {"Event":"MODIFY","ingestion_timestamp":"2024-07-12 01:17:42.123456","_ddb_lake":{…},"id":"864732","tags":["a"],…}

The flattening transforms of DynamoDB's reference architectures add `Event` and `ingestion_timestamp`. Their timestamp is the
time of the transform; ours is the time of the change, so that a retried transform returns the same bytes. `_ddb_lake` is added
by our transform and has what plain JSON loses, so that `read_flattened(flatten(record)) == record`, except for the image
before a change, which a flattened record does not have:

    version      1
    keys         names of the key attributes
    image        for a REMOVE: `old` if the item is the image before it, `keys` if only its key is known
    types        JSON Pointer to type tag, for B, SS, NS and BS, which plain JSON shows as text and arrays
    eventID, tableName, SequenceNumber, eventSourceARN, ttl, kinesisRecordMetadata: as captured, where known
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ddb_lake.core.decode.arrival_stamp import (
    STAMP,
    UNKNOWN_ARRIVAL,
    Arrival,
    read_stamp,
    sequence_number_or_none,
    stamp_text,
)
from ddb_lake.core.values.attributes import check_item
from ddb_lake.core.values.change_record import EVENT_NAMES, AttributeValue, ChangeRecord, EventName, Item
from ddb_lake.core.values.conversions import from_plain
from ddb_lake.core.values.plain_json import plain_members, quoted
from ddb_lake.core.values.primary_key import check_keys
from ddb_lake.core.values.times import check_not_before, utc_text_us
from ddb_lake.errors import UndecodableError

DETAILS: Final = "_ddb_lake"
RESERVED_NAMES: Final = frozenset({"Event", "ingestion_timestamp", DETAILS})
"""An item with an attribute of one of these names cannot be flattened."""

_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1)


def flatten(record: ChangeRecord) -> str | None:
    """The JSON text of a captured change, on one line; None if the item has an attribute of a reserved name."""
    item = record.new_image
    if item is None:
        item = record.keys if record.old_image is None else record.old_image
    if not RESERVED_NAMES.isdisjoint(item):
        return None
    time = (_EPOCH + timedelta(microseconds=record.changed_us)).isoformat(" ", "microseconds")
    members = [
        f'"Event":"{record.event_name}","ingestion_timestamp":"{time}"',
        f'"{DETAILS}":{_details(record, item)}',
        *plain_members(item),
    ]
    return f"{{{','.join(members)}}}"


def _details(record: ChangeRecord, item: Item) -> str:
    parts = [f'{{"version":{_VERSION},"keys":[{",".join(map(quoted, record.keys))}]']
    if record.new_image is None:
        parts.append('"image":"keys"' if record.old_image is None else '"image":"old"')
    types: list[str] = []
    _note_hidden_types(item, "", types)
    if types:
        parts.append(f'"types":{{{",".join(types)}}}')
    for name, text in (
        ("eventID", record.event_id),
        ("tableName", record.table),
        ("SequenceNumber", record.sequence_number),
        ("eventSourceARN", record.stream),
    ):
        if text is not None:
            parts.append(f'"{name}":{quoted(text)}')
    if record.ttl:
        parts.append('"ttl":true')
    stamp = stamp_text(Arrival(record.kinesis_sequence, record.shard, record.arrived_us))
    if stamp:
        parts.append(f'"{STAMP}":{stamp}')
    return f"{','.join(parts)}}}"


def _note_hidden_types(members: Item, path: str, types: list[str]) -> None:
    """Add the pointers to those values of `members` whose plain JSON reads as another type, and their tags."""
    for name, value in members.items():
        if "S" in value or "N" in value:
            continue
        ((tag, payload),) = value.items()
        if tag == "BOOL" or tag == "NULL":
            continue
        pointer = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if tag == "M":
            _note_hidden_types(payload, pointer, types)
        elif tag == "L":
            _note_hidden_types(_numbered(payload), pointer, types)
        else:
            types.append(f'{quoted(pointer)}:"{tag}"')


def _numbered(elements: Sequence[AttributeValue]) -> Item:
    return {str(position): element for position, element in enumerate(elements)}


def read_flattened(
    obj: dict[str, Any], key_names: Sequence[str] | None, arrival: Arrival = UNKNOWN_ARRIVAL
) -> ChangeRecord:
    """The change of a flattened record, of our transform or of another one.

    Args:
        obj: decoded, with its numbers as `NumberText`.
        key_names: the table's key attributes. Records of our transform have them; for others they are required.

    Raises:
        UndecodableError: what is wrong, without the value.
    """
    event: EventName = obj["Event"]
    if event not in EVENT_NAMES:
        raise UndecodableError(f"Event: none of {', '.join(EVENT_NAMES)}")
    details = _details_of(obj)
    added = RESERVED_NAMES if details else RESERVED_NAMES - {DETAILS}
    item = {name: from_plain(value) for name, value in obj.items() if name not in added}
    _restore_types(item, details.get("types"))
    check_item(item)
    keys = _keys(item, details["keys"] if details else key_names)
    try:
        changed_us = utc_text_us(obj["ingestion_timestamp"])
        if changed_us or "SequenceNumber" not in details:  # a stream record without a time has the time 0
            check_not_before(changed_us)
    except UndecodableError as error:
        raise UndecodableError(f"ingestion_timestamp: {error}") from None
    stamp = details.get(STAMP)
    if isinstance(stamp, dict):
        arrival = read_stamp(stamp).or_else(arrival)
    removed = event == "REMOVE"
    return ChangeRecord(
        kind="flattened",
        event_name=event,
        changed_us=changed_us,
        keys=keys,
        new_image=None if removed else item,
        old_image=item if removed and details.get("image") != "keys" else None,
        table=_text(details, "tableName"),
        event_id=_text(details, "eventID"),
        sequence_number=sequence_number_or_none(details.get("SequenceNumber")),
        stream=_text(details, "eventSourceARN"),
        kinesis_sequence=arrival.kinesis_sequence,
        shard=arrival.shard,
        arrived_us=arrival.arrived_us,
        ttl=removed and details.get("ttl") is True,
    )


def _details_of(obj: dict[str, Any]) -> dict[str, Any]:
    """The object that our transform added; empty for a record of another one, whose item may have an attribute of its name."""
    details = obj.get(DETAILS)
    if not isinstance(details, dict) or not {"keys", "version"} <= details.keys():
        return {}
    if str(details["version"]) != str(_VERSION):
        raise UndecodableError(f"{DETAILS}.version: only {_VERSION} is known; upgrade ddb_lake to read this record")
    return details


def _keys(item: Item, names: Any) -> Item:
    if not names:
        raise UndecodableError("a flattened record does not say what its key is: configure the table's `key`")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UndecodableError(f"{DETAILS}.keys: no list of attribute names")
    if any(name not in item for name in names):
        raise UndecodableError("a flattened record lacks an attribute of the configured `key`")
    keys = {name: item[name] for name in names}
    check_keys(keys)
    return keys


def _text(details: dict[str, Any], name: str) -> str | None:
    value = details.get(name)
    if value is None or type(value) is str:
        return value
    raise UndecodableError(f"{DETAILS}.{name}: no text")


def _restore_types(item: Item, types: Any) -> None:
    """Change the values that `types` points to, in place, to the types that they had."""
    if types is None:
        return
    if not isinstance(types, dict):
        raise UndecodableError(f"{DETAILS}.types: no object")
    for pointer, tag in types.items():
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        value = _at(item, steps)
        typed = None if value is None else _retyped(value, tag)
        if value is None or typed is None:
            raise UndecodableError(f"{DETAILS}.types: does not fit the item")
        value.clear()
        value[tag] = typed


def _at(item: Item, steps: Sequence[str]) -> AttributeValue | None:
    value: AttributeValue | None = {"M": item}
    for step in steps:
        if value is None:
            return None
        members = value["M"] if "M" in value else _numbered(value.get("L", ()))
        value = members.get(step)
    return value


def _retyped(value: AttributeValue, tag: Any) -> Any:
    """The payload of a value from plain JSON as that of the type `tag`; None if it cannot be of that type."""
    if tag == "B":
        return value.get("S")
    member = {"SS": "S", "BS": "S", "NS": "N"}.get(tag) if isinstance(tag, str) else None
    if member is None or "L" not in value:
        return None
    members = [element.get(member) for element in value["L"]]
    return None if None in members else members
