"""Change records that are nearly those of AWS: members changed, doubled, reordered or spelled otherwise, and bytes damaged."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Final

from ddb_lake_tests.trust.mutating import WAYS

KEY: Final = ("customer", "order")
_TIMES: Final = (
    1_700_000_000_000_001,
    1_700_000_000_000,
    1_700_000_000,
    1.7e9,
    0,
    -1,
    "1700000000",
    253_402_300_800_000_000,
)
_VALUES: Final[tuple[Any, ...]] = (
    {"S": "x"}, {"S": ""}, {"S": 'ü€😀"\\\n/\u0001\u2028'}, {"S": 'S":["b","a"]'}, {"N": "12.5"}, {"N": "1.0"}, {"N": "-0"},
    {"N": "1e3"}, {"N": "9" * 38}, {"N": "9" * 1002}, {"B": "aGVsbG8="}, {"B": "x"}, {"BOOL": True}, {"NULL": True},
    {"NULL": False}, {"SS": ["a", "b"]}, {"SS": ["b", "a"]}, {"SS": ["a", "a"]}, {"SS": ["a", "]b"]}, {"SS": ['"', "a"]},
    {"SS": []}, {"NS": ["2", "10"]}, {"NS": ["10", "2"]}, {"NS": ["1.0"]}, {"BS": ["YQ=="]}, {"L": []}, {"M": {}},
    {"L": [{"S": "x"}, {"M": {"z": {"SS": ["z", "y"]}, "a": {"N": "2"}}}]}, {"X": "1"}, {"S": 1}, {"S": "a", "N": "1"}, {}, 5,
    1.5, None, "t", [], {"S": None}, {"M": {"a": 1e400}}, {"SS": "ab"},
)  # fmt: skip
_NAMES: Final = (
    "note",
    "a",
    "Z",
    "ü",
    'q"',
    "",
    "NewImage",
    "customer",
    "dynamodb",
    "Event",
    "ingestion_timestamp",
    "S",
)
_MEMBERS: Final = (
    "tableName",
    "eventID",
    "eventName",
    "awsRegion",
    "recordFormat",
    "eventSource",
    "SequenceNumber",
    "extra",
)


def mutated_objects(seed: int, count: int) -> Iterator[bytes]:
    """Landed objects of one to four records; the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        lines = [_line(chance, _record(chance)) for _ in range(chance.randint(1, 4))]
        yield chance.choice((b"\n", b"\n", b"", b" ", b"\r\n", b",")).join(lines)


def _record(chance: random.Random) -> dict[str, Any]:
    keys = {"customer": {"S": chance.choice(("a", "b", "ü"))}, "order": {"N": chance.choice(("1", "2.5"))}}
    members = list({**keys, "tags": {"SS": ["x", "y"]}, "n": chance.choice(_VALUES[:30])}.items())
    chance.shuffle(members)
    event = chance.choice(("INSERT", "MODIFY", "MODIFY", "REMOVE"))
    body: dict[str, Any] = {"ApproximateCreationDateTime": _TIMES[0], "Keys": keys}
    if event != "REMOVE":
        body["NewImage"] = dict(members)
    if event != "INSERT":
        body["OldImage"] = {**dict(members), "n": {"N": "7"}}
    record: dict[str, Any] = {"awsRegion": "eu-west-1", "eventID": "e1", "eventName": event, "userIdentity": None}
    if chance.random() < 0.3:
        body |= {"ApproximateCreationDateTime": _TIMES[2], "SequenceNumber": "140540000000000206328", "SizeBytes": 9}
        arn = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2024-01-01T00:00:00.000"
        return {**record, "eventVersion": "1.1", "dynamodb": body, "eventSourceARN": arn}
    body |= {"SizeBytes": 9, "ApproximateCreationDateTimePrecision": "MICROSECOND"}
    record |= {
        "recordFormat": "application/json",
        "tableName": "orders",
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }
    if chance.random() < 0.3:
        stamp = {"sequenceNumber": "49620", "shardId": "shardId-0", "approximateArrivalTimestamp": _TIMES[1]}
        record["kinesisRecordMetadata"] = stamp
    return record


def _line(chance: random.Random, record: dict[str, Any]) -> bytes:
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        _change(chance, record)
    if chance.random() < 0.1:
        record = dict(chance.sample(list(record.items()), len(record)))
    spaced = chance.random() < 0.1
    text = json.dumps(record, ensure_ascii=chance.random() < 0.3, separators=None if spaced else (",", ":")).encode()
    if chance.random() < 0.15:
        at = text.find(chance.choice((b',"', b'{"')), chance.randrange(len(text)))
        doubled = chance.choice(
            (b'"n":{"S":"q"},', b'"eventID":"x",', b'"Keys":{},', b'"S":"x",', b'"customer":{"S":"a"},')
        )
        text = text if at < 0 else text[: at + 1] + doubled + text[at + 1 :]
    if chance.random() < 0.1:
        text = text.replace(b'"customer"', b'"c\\u0075stomer"', chance.choice((1, -1)))
    if chance.random() < 0.15:
        text = chance.choice(WAYS)(text, chance, b'{"a":1}')
    return text


def _change(chance: random.Random, record: dict[str, Any]) -> None:
    """Change one member of a record."""
    body = record["dynamodb"]
    if not isinstance(body, dict):
        return
    image = body.get(chance.choice(("NewImage", "OldImage", "Keys")))
    kind = chance.randrange(8)
    if kind < 3 and isinstance(image, dict):
        image[chance.choice(_NAMES)] = chance.choice(_VALUES)
    elif kind == 3 and isinstance(image, dict):
        image["deep"] = _nested(chance, chance.choice((3, 7, 8, 9, 31, 101)))
    elif kind == 4:
        body["ApproximateCreationDateTime"] = chance.choice(_TIMES)
        precision = chance.choice(("MICROSECOND", "MILLISECOND", "SECOND", "microsecond", "X", None, 5))
        body["ApproximateCreationDateTimePrecision"] = precision
    elif kind == 5:
        place = chance.choice((record, body))
        place.pop(chance.choice(list(place)) if place is not record else chance.choice(_MEMBERS), None)
    elif kind == 6:
        identity = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
        record["userIdentity"] = chance.choice((identity, {"a": 1.5}, "x"))
    else:
        place = chance.choice((record, body))
        place[chance.choice((*_MEMBERS, *body))] = chance.choice(
            ("other", "ü", "", 5, 1e300, None, "MODIFY", *_VALUES[-8:])
        )


def _nested(chance: random.Random, levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"S": "x"}
    for _ in range(levels):
        value = {"M": {"m": value}} if chance.random() < 0.5 else {"L": [value]}
    return value
