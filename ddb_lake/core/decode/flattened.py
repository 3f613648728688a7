"""Flattened records: a change as one JSON object with the item in plain JSON (no type tags). Written and read here.

    {"Event":"MODIFY","ingestion_timestamp":"2024-07-12 01:17:42.123456","_ddb_lake":"{…}","id":"864732","address__city":"Bonn"}

The flattening transforms of DynamoDB's reference architectures add `Event` and `ingestion_timestamp`. Their timestamp is the
time of the transform; ours is the time of the change, so that a retried transform returns the same bytes. `_ddb_lake` is added
by our transform and has what plain JSON loses, so that `read_flattened(flatten(record)) == record`, except for the image
before a change, which a flattened record does not have:

    version      2 for one level, 1 for nested output
    keys         names of the key attributes
    image        for a REMOVE: `old` if the item is the image before it, `keys` if only its key is known
    paths        one level only: member to JSON Pointer of its value in the item, for members of maps
    types        JSON Pointer to type tag, for B, SS, NS and BS, which plain JSON shows as text and arrays, and, in one level,
                 for M: an empty map, which is shown as null
    eventID, tableName, SequenceNumber, eventSourceARN, ttl, kinesisRecordMetadata: as captured, where known

One level: a member of a map is a member of the record, `<map>__<member>`, at any depth; no value is an object. `_ddb_lake` is
JSON text. Lists and sets are arrays; the elements of a list are nested plain JSON. If two values compete for a name, an attribute of
the item keeps it, and members of maps get `__2`, `__3`, … in the order of their pointers. Nested output has maps as objects, and
`_ddb_lake` as an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
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
from ddb_lake.core.values.plain_json import from_plain, loads_exact, plain_members, quoted
from ddb_lake.core.values.primary_key import check_keys
from ddb_lake.core.values.times import check_not_before, utc_text_us
from ddb_lake.errors import UndecodableError

DETAILS: Final = "_ddb_lake"
RESERVED_NAMES: Final = frozenset({"Event", "ingestion_timestamp", DETAILS})
"""An item with an attribute of one of these names cannot be flattened."""

SEPARATOR: Final = "__"
"""Between the names of a map and of its member, in a record of one level."""

_NESTED_VERSION: Final = 1
_ONE_LEVEL_VERSION: Final = 2
_EPOCH: Final = datetime(1970, 1, 1)


def flatten(record: ChangeRecord, *, nested: bool = False) -> str | None:
    """The JSON text of a captured change, on one line; None if the item has an attribute of a reserved name.

    `nested`: maps are objects. By default the members of maps are members of the record.
    """
    item = record.new_image
    if item is None:
        item = record.keys if record.old_image is None else record.old_image
    if not RESERVED_NAMES.isdisjoint(item):
        return None
    types: list[str] = []
    _note_hidden_types(item, "", types)
    if nested:
        details = f"{{{','.join(_details(record, _NESTED_VERSION, [], types))}}}"
    else:
        item, paths = _one_level(item, types)
        details = quoted(f"{{{','.join(_details(record, _ONE_LEVEL_VERSION, paths, types))}}}")
    time = (_EPOCH + timedelta(microseconds=record.changed_us)).isoformat(" ", "microseconds")
    members = [
        f'"Event":"{record.event_name}","ingestion_timestamp":"{time}"',
        f'"{DETAILS}":{details}',
        *plain_members(item),
    ]
    return f"{{{','.join(members)}}}"


def _one_level(item: Item, types: list[str]) -> tuple[Item, list[str]]:
    """The item with the members of its maps as attributes, and the JSON members of `paths`. Adds the types of empty maps."""
    if not any("M" in value for value in item.values()):
        return item, []
    flat: Item = {name: value for name, value in item.items() if not value.get("M")}
    members = [
        found
        for name, value in item.items()
        if value.get("M")
        for found in _leaves(value["M"], name, _pointer("", name))
    ]
    for name, value in item.items():
        if value.get("M") == {}:
            flat[name] = {"NULL": True}
            types.append(f'{quoted(_pointer("", name))}:"M"')
    paths = []
    for pointer, joined, value in sorted(members, key=itemgetter(0)):
        name, number = joined, 1
        while name in flat:
            number += 1
            name = f"{joined}{SEPARATOR}{number}"
        if value.get("M") == {}:
            value = {"NULL": True}
            types.append(f'{quoted(pointer)}:"M"')
        flat[name] = value
        paths.append(f"{quoted(name)}:{quoted(pointer)}")
    return flat, paths


def _leaves(members: Item, prefix: str, path: str) -> Iterator[tuple[str, str, AttributeValue]]:
    """The pointer, the joined name and the value of each member that is no map, or an empty one, at any depth."""
    for name, value in members.items():
        joined, pointer = f"{prefix}{SEPARATOR}{name}", _pointer(path, name)
        inner = value.get("M")
        if inner:
            yield from _leaves(inner, joined, pointer)
        else:
            yield pointer, joined, value


def _pointer(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"


def _details(record: ChangeRecord, version: int, paths: list[str], types: list[str]) -> list[str]:
    parts = [f'"version":{version},"keys":[{",".join(map(quoted, record.keys))}]']
    if record.new_image is None:
        parts.append('"image":"keys"' if record.old_image is None else '"image":"old"')
    if paths:
        parts.append(f'"paths":{{{",".join(paths)}}}')
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
    return parts


def _note_hidden_types(members: Item, path: str, types: list[str]) -> None:
    """Add the pointers to those values of `members` whose plain JSON reads as another type, and their tags."""
    for name, value in members.items():
        if "S" in value or "N" in value:
            continue
        ((tag, payload),) = value.items()
        if tag == "BOOL" or tag == "NULL":
            continue
        pointer = _pointer(path, name)
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
    if "paths" in details:
        item = _restore_paths(item, details["paths"])
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
    """What our transform added; empty for a record of another one, whose item may have an attribute of its name."""
    details = obj.get(DETAILS)
    version = _NESTED_VERSION
    if type(details) is str:
        version = _ONE_LEVEL_VERSION
        try:
            details = loads_exact(details)
        except UndecodableError:
            return {}
    if not isinstance(details, dict) or not {"keys", "version"} <= details.keys():
        return {}
    if str(details["version"]) != str(version):
        raise UndecodableError(f"{DETAILS}.version: only {version} is known; upgrade ddb_lake to read this record")
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


def _restore_paths(flat: Item, paths: Any) -> Item:
    """The item whose maps have the members of a record of one level that `paths` names."""
    if not isinstance(paths, dict):
        raise UndecodableError(f"{DETAILS}.paths: no object")
    item = {name: value for name, value in flat.items() if name not in paths}
    made: set[int] = set()
    for name, pointer in paths.items():
        steps = _steps(pointer) if type(pointer) is str else []
        if name not in flat or len(steps) < 2:
            raise UndecodableError(f"{DETAILS}.paths: does not fit the item")
        members = item
        for step in steps[:-1]:
            value = members.get(step)
            if value is None:
                value = members[step] = {"M": {}}
                made.add(id(value))
            elif id(value) not in made:
                raise UndecodableError(f"{DETAILS}.paths: does not fit the item")
            members = value["M"]
        if steps[-1] in members:
            raise UndecodableError(f"{DETAILS}.paths: does not fit the item")
        members[steps[-1]] = flat[name]
    return item


def _restore_types(item: Item, types: Any) -> None:
    """Change the values that `types` points to, in place, to the types that they had."""
    if types is None:
        return
    if not isinstance(types, dict):
        raise UndecodableError(f"{DETAILS}.types: no object")
    for pointer, tag in types.items():
        value = _at(item, _steps(pointer))
        typed = None if value is None else _retyped(value, tag)
        if value is None or typed is None:
            raise UndecodableError(f"{DETAILS}.types: does not fit the item")
        value.clear()
        value[tag] = typed


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


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
    if tag == "M":
        return {} if "NULL" in value else None
    member = {"SS": "S", "BS": "S", "NS": "N"}.get(tag) if isinstance(tag, str) else None
    if member is None or "L" not in value:
        return None
    members = [element.get(member) for element in value["L"]]
    return None if None in members else members
