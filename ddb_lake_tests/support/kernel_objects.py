"""Records that the record kernel reads, records that it leaves to Python, and objects with changed bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from ddb_lake.core.values.times import EARLIEST_US
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.mutated_bytes import mutated

TIME_US: Final = 1_700_000_000_000_000


def line(number: int, members: dict[str, Any], event: str = "MODIFY", **envelope: Any) -> bytes:
    """A record as the kernel reads it."""
    keys = {"id": {"S": f"k{number}"}}
    new = {} if event == "REMOVE" else {"NewImage": {**keys, **members}}
    old = {} if event == "INSERT" else {"OldImage": {**members, **keys, "was": {"N": str(number)}}}
    body = {"ApproximateCreationDateTime": TIME_US + number, "Keys": keys, **new, **old, "SizeBytes": 9}
    return envelopes.compact(
        {
            "awsRegion": "eu-west-1",
            "eventID": f"e{number}",
            "eventName": event,
            "userIdentity": None,
            "recordFormat": "application/json",
            "tableName": "orders",
            "dynamodb": {**body, "ApproximateCreationDateTimePrecision": "MICROSECOND"},
            "eventSource": "aws:dynamodb",
            **envelope,
        }
    )


READ: Final = (
    {"s": {"S": ""}},
    {"s": {"S": 'ü€😀"\\\b\f\n\r\t/\u007f\u2028'}},
    {"Z": {"N": "0"}, "a": {"N": "-12.5"}, "ü": {"N": "0.001"}, "b": {"N": "9" * 38}},
    {"yes": {"BOOL": True}, "no": {"BOOL": False}, "none": {"NULL": True}},
    {"set": {"SS": ["b", "a", "b"]}, "numbers": {"NS": ["2", "10", "-1.5"]}, "sorted": {"SS": ["a", "b", "ü"]}},
    {"list": {"L": [{"L": []}, {"M": {}}, {"M": {"z": {"SS": ["y", "x"]}, "SS": {"S": "]"}, "a": {"NULL": True}}}]}},
    {f"{n * 7919 % 100}": {"S": "x" * n} for n in range(60)},
)
"""Members that the kernel reads itself."""

LEFT: Final = (
    {"b": {"B": "YQ=="}},
    {"n": {"N": "1.0"}},
    {"n": {"N": "9" * 39}},
    {"n": {"N": "-0"}},
    {"n": {"NULL": False}},
    {"s": {"SS": []}},
    {"s": {"SS": ['"']}},
    {"s": {"S": "\u0001"}},
    {'"': {"S": "a"}},
)
"""Members with which the kernel leaves a record to Python."""

ENVELOPES: Final = (
    {},
    {"userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}},
    {
        "kinesisRecordMetadata": {
            "sequenceNumber": "49",
            "shardId": "s-0",
            "approximateArrivalTimestamp": TIME_US // 1000,
        }
    },
    {"kinesisRecordMetadata": {"approximateArrivalTimestamp": EARLIEST_US // 1000 + 1}},
    {"kinesisRecordMetadata": {"shardId": "ü"}},
)


def mutated_objects(seed: int, count: int) -> Iterator[bytes]:
    """Objects of a few records; some of the records are changed. The objects are the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        lines = []
        for number in range(chance.randint(1, 5)):
            members = {**chance.choice(READ[:-1]), **chance.choice(LEFT if chance.random() < 0.15 else READ[:-1])}
            made = line(number, members, chance.choice(("INSERT", "MODIFY", "REMOVE")), **chance.choice(ENVELOPES))
            lines.append(mutated(chance, made) if chance.random() < 0.4 else made)
        yield chance.choice((b"\n", b"\n", b"", b"", b" ", b"\r\n", b"\\n", b",")).join(lines)
