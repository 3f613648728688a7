"""The transform handler on one core, side by side with the same work on boto3's TypeDeserializer.

    python -m ddb_lake_tests.benchmarks.transform [--records N]

Both get the same Firehose events of realistic Kinesis records (about 600 bytes) and must answer the same: what they
delivered is compared record by record before anything is timed. Times are of the process, the best of three runs.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import Binary, TypeDeserializer

from ddb_lake.lambdas.transform import handler
from ddb_lake.sandbox.history import Change
from ddb_lake.sandbox.records import change_record, partition_key

BATCH = 500
GOAL = 20_000
RUNS = 3
_START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Answer = dict[str, list[dict[str, Any]]]


def order(rng: random.Random, number: int) -> dict[str, Any]:
    """An order of a shop: text, money, a set, a nested address."""
    return {
        "customer": {"S": f"c-{number % 997:04d}"},
        "order_id": {"S": f"o-{number:08d}"},
        "status": {"S": rng.choice(("placed", "paid", "packed", "shipped"))},
        "total": {"N": f"{rng.randrange(1, 10**6) / 100:.2f}"},
        "tags": {"SS": ["express", "gift"]},
        "address": {"M": {"city": {"S": "Zürich"}, "zip": {"N": "8004"}, "lat": {"N": "47.376887"}}},
    }


def events(count: int) -> list[dict[str, Any]]:
    """Firehose events with `count` records in all, of inserts and modifies."""
    rng = random.Random(7)
    records = []
    for number in range(count):
        new = order(rng, number)
        old = {**new, "status": {"S": "placed"}} if number % 3 == 0 else None
        key = tuple((name, "S", new[name]["S"]) for name in ("customer", "order_id"))
        time_us = int((_START - _EPOCH) / timedelta(microseconds=1)) + 1371 * number
        change = Change(time_us, key, old, new)
        data = change_record(
            change, region="eu-west-1", table_name="orders", event_id=f"{number:032x}", precision="MICROSECOND"
        )
        arrived_ms = time_us // 1000 + 300
        sequence = str(49657828409187701520019995242508390119953358325192589314 + number * 2**80)
        records.append(
            {
                "recordId": f"{sequence}000000",
                "approximateArrivalTimestamp": arrived_ms,
                "data": base64.b64encode(data).decode(),
                "kinesisRecordMetadata": {
                    "sequenceNumber": sequence,
                    "subsequenceNumber": 0,
                    "partitionKey": partition_key(change),
                    "shardId": "shardId-000000000000",
                    "approximateArrivalTimestamp": arrived_ms,
                },
            }
        )
    return [{"records": records[start : start + BATCH]} for start in range(0, count, BATCH)]


# The same work as people write it: boto3 for the types, json for the text.

_deserialize = TypeDeserializer().deserialize


def _json(value: Any) -> Any:
    """What json.dumps cannot write of a deserialised value. A Decimal goes through a float: these records allow it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, Binary):
        return base64.b64encode(value.value).decode()
    raise TypeError(type(value).__name__)


def boto3_flatten(event: dict[str, Any], _context: object) -> Answer:
    """Flattening with boto3's TypeDeserializer, every image read."""
    results = []
    for record in event["records"]:
        obj = json.loads(base64.b64decode(record["data"]))
        body = obj["dynamodb"]
        images = {name: _deserialized(body.get(name)) for name in ("Keys", "NewImage", "OldImage")}
        chosen = next(name for name in ("NewImage", "OldImage", "Keys") if images[name])
        details: dict[str, Any] = {"version": 2, "keys": list(body["Keys"])}
        flat: dict[str, Any] = {}
        paths: dict[str, str] = {}
        _one_level(images[chosen], "", "", flat, paths)
        if paths:
            details["paths"] = dict(sorted(paths.items(), key=lambda one: one[1]))
        types: dict[str, str] = {}
        _types(body[chosen], "", types)
        if types:
            details["types"] = types
        details |= {"eventID": obj["eventID"], "tableName": obj["tableName"], "kinesisRecordMetadata": _stamp(record)}
        changed = _EPOCH + timedelta(microseconds=body["ApproximateCreationDateTime"])
        row = {
            "Event": obj["eventName"],
            "ingestion_timestamp": changed.strftime("%Y-%m-%d %H:%M:%S.%f"),
            "_ddb_lake": json.dumps(details, ensure_ascii=False, separators=(",", ":")),
            **flat,
        }
        text = json.dumps(row, default=_json, ensure_ascii=False, separators=(",", ":"))
        data = base64.b64encode(text.encode() + b"\n").decode()
        results.append({"recordId": record["recordId"], "result": "Ok", "data": data})
    return {"records": results}


def boto3_envelope(event: dict[str, Any], _context: object) -> Answer:
    """Stamping, with the images deserialised to make sure that they can be read."""
    results = []
    for record in event["records"]:
        obj = json.loads(base64.b64decode(record["data"]))
        for name in ("Keys", "NewImage", "OldImage"):
            _deserialized(obj["dynamodb"].get(name))
        obj["kinesisRecordMetadata"] = _stamp(record)
        text = json.dumps(obj, ensure_ascii=False, separators=(",", ":"))
        data = base64.b64encode(text.encode() + b"\n").decode()
        results.append({"recordId": record["recordId"], "result": "Ok", "data": data})
    return {"records": results}


def _deserialized(image: dict[str, Any] | None) -> dict[str, Any]:
    return {name: _deserialize(value) for name, value in (image or {}).items()}


def _one_level(item: dict[str, Any], prefix: str, path: str, flat: dict[str, Any], paths: dict[str, str]) -> None:
    """Items of this benchmark have no empty maps, and no names that collide."""
    for name, value in item.items():
        pointer = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, dict):
            _one_level(value, f"{prefix}{name}__", pointer, flat, paths)
        else:
            flat[prefix + name] = value
            if prefix:
                paths[prefix + name] = pointer


def _types(image: dict[str, Any], path: str, types: dict[str, str]) -> None:
    for name, value in image.items():
        ((tag, payload),) = value.items()
        pointer = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if tag == "M":
            _types(payload, pointer, types)
        elif tag in ("B", "SS", "NS", "BS"):
            types[pointer] = tag


def _stamp(record: dict[str, Any]) -> dict[str, Any]:
    metadata = record["kinesisRecordMetadata"]
    return {name: metadata[name] for name in ("sequenceNumber", "shardId", "approximateArrivalTimestamp")}


def rows(answer: Answer) -> list[tuple[str, str, Any]]:
    """What was delivered, decoded."""
    return [(r["recordId"], r["result"], json.loads(base64.b64decode(r["data"]))) for r in answer["records"]]


def records_per_second(run: Callable[[dict[str, Any], object], Answer], given: Sequence[dict[str, Any]]) -> float:
    """The best of several runs over all events, in processor time."""
    count = sum(len(event["records"]) for event in given)
    times = []
    for _ in range(RUNS):
        started = time.process_time()
        for event in given:
            run(event, None)
        times.append(time.process_time() - started)
    return count / min(times)


def compare(count: int) -> dict[str, tuple[float, float]]:
    """Records per second of ours and of boto3's, by mode. AssertionError if they differ in what they deliver."""
    given = events(count)
    found = {}
    for mode, other in (("envelope", boto3_envelope), ("flatten", boto3_flatten)):
        os.environ["DDB_LAKE_MODE"] = mode
        for event in given:
            assert rows(handler(event, None)) == rows(other(event, None)), f"{mode}: the results differ"
        found[mode] = records_per_second(handler, given), records_per_second(other, given)
    return found


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000, help="records in all (default: %(default)s)")
    count = parser.parse_args().records
    sizes = [len(base64.b64decode(record["data"])) for event in events(2 * BATCH) for record in event["records"]]
    print(
        f"{count:,} records of {sum(sizes) / len(sizes):.0f} bytes on average, {BATCH} to an event (goal: {GOAL:,}/s)"
    )
    print(f"  {'':10}{'ours/s':>10}{'boto3/s':>10}{'ratio':>8}")
    for mode, (ours, theirs) in compare(count).items():
        print(f"  {mode:10}{ours:10,.0f}{theirs:10,.0f}{ours / theirs:8.2f}")


if __name__ == "__main__":
    main()
