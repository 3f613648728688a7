"""Kinesis records as items of a table in another account, with keys that make repeated writes harmless. Pure.

The key: the sort key is the record's sequence number, which is unique in its stream; the partition key is the two digits before
its last one, which vary most, and the shard: `80_shardId-000000000006`. With `key_names`, attributes of the payload are the key
instead, and the item with the greatest sequence number is kept.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ddb_lake.core.values.attributes import check_item
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.plain_json import from_plain, loads_exact
from ddb_lake.core.values.primary_key import check_keys
from ddb_lake.errors import UndecodableError

PARTITION_KEY: Final = "seqNumbershardIdHash"
SORT_KEY: Final = "sequenceNumber"
SHARD: Final = "shardId"
ORDER: Final = "sequenceOrder"
"""With keys from the payload: the sequence number padded with zeros, so that its text compares like the number."""

_RESERVED: Final = frozenset({PARTITION_KEY, SORT_KEY, SHARD, ORDER})
_LONGEST_SEQUENCE: Final = 129
_SEQUENCE: Final = re.compile(r"0|[1-9][0-9]{0,128}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Replica:
    """One item to write. `order`: the padded sequence number; greater is newer."""

    item: Item
    key: Item
    order: str


def sequence_of(record: Any) -> str:
    """The record's identifier in a partial batch response; empty if it has none: then Lambda retries the complete batch.

    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """
    body = record.get("kinesis") if isinstance(record, Mapping) else None
    sequence = body.get("sequenceNumber") if isinstance(body, Mapping) else None
    return sequence if isinstance(sequence, str) and _SEQUENCE(sequence) else ""


Enrich: TypeAlias = Callable[[Item, str, str, Sequence[str]], Item]
"""Changes the item of a payload. Arguments: the item, the sequence number, the shard, and the key attributes that it has."""


def replica_of(record: Any, key_names: Sequence[str] = (), enrich: Enrich | None = None) -> Replica:
    """The item of one record of a Kinesis event (Lambda's form), whose data is a JSON object.

    Numbers keep every digit. A member of the payload whose name is used by the key becomes the attribute `payload_<name>`.
    `enrich` changes the payload's item before the attributes of the record are added.

    Raises:
        UndecodableError: the record is of another form, or `enrich` raises it; the message has no values.
    """
    sequence = sequence_of(record)
    if not sequence:
        raise UndecodableError("kinesis.sequenceNumber: not digits")
    payload = {name: from_plain(value) for name, value in _payload(record["kinesis"].get("data")).items()}
    shard = _shard(record.get("eventID"))
    if enrich is not None:
        check_item(payload)
        payload = enrich(payload, sequence, shard, [name for name in key_names if name in payload])
    item: Item = {_free(name, payload): value for name, value in payload.items()}
    item[SORT_KEY] = {"S": sequence}
    item[SHARD] = {"S": shard}
    order = sequence.rjust(_LONGEST_SEQUENCE, "0")
    if key_names:
        item[ORDER] = {"S": order}
    else:
        item[PARTITION_KEY] = {"S": f"{sequence[-3:-1]}_{shard}"}
    names = tuple(key_names) or (PARTITION_KEY, SORT_KEY)
    check_item(item)
    missing = [name for name in names if name not in item]
    if missing:
        raise UndecodableError("the payload lacks an attribute of the table's key")
    key = {name: item[name] for name in names}
    check_keys(key)
    if any(not next(iter(value.values())) for value in key.values()):
        raise UndecodableError("an attribute of the table's key is empty")
    return Replica(item, key, order)


def _payload(data: Any) -> dict[str, Any]:
    try:
        text = base64.b64decode(data, validate=True).decode()
    except (TypeError, ValueError):
        raise UndecodableError("kinesis.data: not base64 of UTF-8") from None
    try:
        payload = loads_exact(text)
    except (UndecodableError, ValueError, RecursionError):
        raise UndecodableError("kinesis.data: not JSON") from None
    if not isinstance(payload, dict):
        raise UndecodableError("kinesis.data: no JSON object")
    return payload


def _free(name: str, payload: Mapping[str, Any]) -> str:
    """The attribute for a member of the payload."""
    if name not in _RESERVED:
        return name
    free = f"payload_{name}"
    while free in payload:
        free = f"payload_{free}"
    return free


def _shard(event_id: Any) -> str:
    """The shard of `shardId-000000000006:4954…`."""
    shard, colon, _ = event_id.partition(":") if isinstance(event_id, str) else ("", "", "")
    if not shard or not colon:
        raise UndecodableError("eventID: no shard in it")
    return str(shard)
