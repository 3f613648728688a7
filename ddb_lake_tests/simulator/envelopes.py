"""Change records as AWS writes them: the two envelopes, their precisions, and how binary is encoded in each.

`declare` decides for each change what a consumer can know of its time. It keeps one promise on which exactness rests:
all changes of one key within one second come in one kind, and within one millisecond in one precision. Otherwise the
declared times would contradict the true order and nothing could put it right.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake_tests.simulator.model import Change, History
from ddb_lake_tests.simulator.values import encoded, looks_encoded

Precision: TypeAlias = Literal["absent", "MILLISECOND", "MICROSECOND"]
Document: TypeAlias = dict[str, Any]

SECOND_US = 1_000_000
REGION = "eu-west-1"
ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Declared:
    """What the record of one change will say of its time and place.

    `us` is the time a consumer computes from it. `stream` (an ARN) and `sequence` are set for DynamoDB Streams only.
    """

    kind: Literal["kds", "streams"]
    us: int
    precision: Precision = "absent"
    stream: str = ""
    sequence: str = ""


def table_arn(table: str) -> str:
    """The ARN of `table` in the simulated account."""
    return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}"


def declare(
    history: History,
    kind: Literal["kds", "streams", "mixed"],
    precisions: Sequence[Precision],
    rng: random.Random,
    *,
    skewed_clocks: bool = False,
    second_stream: bool = False,
) -> list[Declared]:
    """What the record of each change declares, in the order of `history.changes`.

    `skewed_clocks` moves the time of each Streams record by up to a second either way, as different hosts' clocks do:
    only SequenceNumber then gives the order (for kind "streams" alone). `second_stream` lets the stream be recreated
    half-way: another ARN, whose sequence numbers start lower.
    """
    changes = history.changes
    kinds: dict[tuple[str, int], Literal["kds", "streams"]] = {}
    units: dict[tuple[str, int], Precision] = {}
    switch_us = changes[len(changes) // 2].time_us // SECOND_US * SECOND_US if changes and second_stream else None
    sequences = _sequence_numbers(len(changes), rng)
    declared = []
    for change, sequence in zip(changes, sequences, strict=True):
        second, millisecond = change.time_us // SECOND_US, change.time_us // 1000
        chosen = kinds.setdefault(
            (change.key_text, second), rng.choice(("kds", "streams")) if kind == "mixed" else kind
        )
        if chosen == "kds":
            precision = units.setdefault((change.key_text, millisecond), rng.choice(precisions))
            us = change.time_us if precision == "MICROSECOND" else millisecond * 1000
            declared.append(Declared("kds", us, precision))
            continue
        later = switch_us is not None and change.time_us >= switch_us
        label = "2026-02-11T08:00:00.250" if later else "2026-01-01T00:00:00.000"
        drift = rng.randint(-1, 1) if skewed_clocks and kind == "streams" and not second_stream else 0
        number = str(int(sequence) - 10**20) if later else sequence
        stream = f"{table_arn(history.table)}/stream/{label}"
        declared.append(Declared("streams", (second + drift) * SECOND_US, "absent", stream, number))
    return declared


def _sequence_numbers(count: int, rng: random.Random) -> list[str]:
    """Rising numbers which gain a digit on the way, so that comparing them as text is wrong."""
    number = 10 ** rng.choice((22, 24, 38)) - rng.randint(0, 2 * count + 1)
    numbers = []
    for _ in range(count):
        number += rng.randint(1, 3)
        numbers.append(str(number))
    return numbers


def reordered(item: Item, rng: random.Random) -> Item:
    """An equal item with attributes and the elements of sets in another order."""
    names = rng.sample(list(item), len(item))
    return {name: _reordered_value(item[name], rng) for name in names}


def _reordered_value(value: AttributeValue, rng: random.Random) -> AttributeValue:
    (tag, payload) = next(iter(value.items()))
    if tag == "M":
        return {"M": reordered(payload, rng)}
    if tag == "L":
        return {"L": [_reordered_value(element, rng) for element in payload]}
    if tag in ("SS", "NS", "BS"):
        return {tag: rng.sample(payload, len(payload))}
    return value


def map_binaries(value: AttributeValue, nested: Callable[[str], str], top: Callable[[str], str]) -> AttributeValue:
    """`value` with `top` applied to its own B, and `nested` to every B and BS element anywhere below it."""
    (tag, payload) = next(iter(value.items()))
    if tag == "B":
        return {"B": top(payload)}
    if tag == "BS":
        return {"BS": [nested(element) for element in payload]}
    if tag == "L":
        return {"L": [map_binaries(element, nested, nested) for element in payload]}
    if tag == "M":
        return {"M": {name: map_binaries(element, nested, nested) for name, element in payload.items()}}
    return value


def twice(text: str) -> str:
    """What KDS makes of base64 `text`: encoded once more."""
    return encoded(text.encode("ascii"))


def _kds_image(item: Item, nested_once: bool) -> Item:
    nested = (lambda text: text) if nested_once else twice
    return {name: map_binaries(value, nested, twice) for name, value in item.items()}


def _ambiguous(images: Sequence[Item | None]) -> bool:
    found = []

    def note(text: str) -> str:
        found.append(looks_encoded(text))
        return text

    for image in images:
        for value in (image or {}).values():
            map_binaries(value, note, lambda text: text)
    return any(found)


def _payload(keys: Item, new: Item | None, old: Item | None) -> Document:
    images: Document = {"Keys": keys}
    if new is not None:
        images["NewImage"] = new
    if old is not None:
        images["OldImage"] = old
    return images


def render(
    change: Change, declared: Declared, table: str, rng: random.Random, *, shuffle: bool, nested_once: bool
) -> Document:
    """The record of `change` as a JSON document, unstamped.

    `nested_once` encodes binary inside sets, maps and lists of a KDS record once instead of twice, wherever one can
    distinguish the two by decoding (AWS does not document which of them it does).
    """
    images = [image if image is None or not shuffle else reordered(image, rng) for image in (change.new, change.old)]
    if declared.kind == "kds":
        once = nested_once and not _ambiguous(images)
        coded = [None if image is None else _kds_image(image, once) for image in images]
        return _kds(change, declared, table, _payload(_kds_image(change.key, once), *coded), rng)
    return _streams(change, declared, _payload(change.key, *images), rng)


def _kds(change: Change, declared: Declared, table: str, images: Document, rng: random.Random) -> Document:
    unit = 1 if declared.precision == "MICROSECOND" else 1000
    body: Document = {
        "ApproximateCreationDateTime": declared.us // unit,
        **images,
        "SizeBytes": rng.randint(20, 400),
    }
    if declared.precision != "absent":
        body["ApproximateCreationDateTimePrecision"] = declared.precision
    digits = f"{rng.getrandbits(128):032x}"
    return {
        "awsRegion": REGION,
        "eventID": "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])),
        "eventName": change.event_name,
        "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"} if change.ttl else None,
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": body,
        "eventSource": "aws:dynamodb",
    }


def _streams(change: Change, declared: Declared, images: Document, rng: random.Random) -> Document:
    document: Document = {
        "eventID": f"{rng.getrandbits(128):032x}",
        "eventName": change.event_name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
    }
    if change.ttl:
        names = rng.choice((("type", "principalId"), ("Type", "PrincipalId")))
        document["userIdentity"] = dict(zip(names, ("Service", "dynamodb.amazonaws.com"), strict=True))
    document["dynamodb"] = {
        "ApproximateCreationDateTime": declared.us // SECOND_US,
        **images,
        "SequenceNumber": declared.sequence,
        "SizeBytes": rng.randint(20, 400),
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    document["eventSourceARN"] = declared.stream
    return document
