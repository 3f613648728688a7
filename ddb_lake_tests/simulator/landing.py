"""From rendered change records to the objects Firehose leaves in S3, with all that goes wrong on the way.

A `Piece` is what stands between two separators: a record (ours or another table's, perhaps wrapped as a failed
delivery) or garbage. Garbage always has lines of its own, and every line of garbage is one piece, so that the number of
pieces a reader must send to quarantine is beyond dispute. Garbage bytes are never repeated.
"""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import json
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from ddb_lake_tests.simulator.envelopes import SECOND_US, Document, Precision

Compression: TypeAlias = Literal["none", "gzip", "zip"]
Separation: TypeAlias = Literal["newline", "none", "mixed"]


@dataclass(frozen=True)
class Delivery:
    """How a stream is rendered and landed. Rates are percentages; the defaults are the plain, orderly case.

    `kind` "mixed" renders each second of a key as KDS or Streams. `nested_binary_once` see `envelopes.render`.
    `failed` records are wrapped as Firehose error objects; `late` ones arrive up to a day after their time.
    `empty_objects`, `other_records` and `garbage` are numbers. `copies` lands garbage-free objects again.
    """

    kind: Literal["kds", "streams", "mixed"] = "kds"
    precisions: tuple[Precision, ...] = ("absent",)
    skewed_clocks: bool = False
    second_stream: bool = False
    shuffled_images: bool = False
    nested_binary_once: bool = False
    stamped: int = 0
    duplicates: int = 0
    failed: int = 0
    late: int = 0
    shuffled: bool = False
    other_records: int = 0
    garbage: int = 0
    objects: int = 1
    empty_objects: int = 0
    copies: int = 0
    separation: tuple[Separation, ...] = ("newline",)
    compressions: tuple[Compression, ...] = ("none",)


@dataclass(frozen=True)
class Piece:
    """One record or one line of garbage. `change` is the position of a record of ours in its history, else None."""

    content: bytes
    arrived_us: int
    origin: Literal["ours", "other", "garbage"]
    change: int | None = None
    failed: bool = False


def chance(rng: random.Random, percent: int) -> bool:
    """True in `percent` of a hundred cases; draws nothing when that is certain."""
    return percent > 0 and (percent >= 100 or rng.randrange(100) < percent)


def compact(document: object) -> bytes:
    """JSON as AWS writes it: no whitespace, UTF-8 unescaped."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def reserialised(document: Document, rng: random.Random) -> bytes:
    """The same JSON document with members in another order, spaces, and everything beyond ASCII escaped."""

    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {name: turned(value[name]) for name in rng.sample(list(value), len(value))}
        return [turned(element) for element in value] if isinstance(value, list) else value

    return json.dumps(turned(document), ensure_ascii=True, separators=(" , ", " : ")).encode()


def stamped(document: Document, arrived_us: int, rng: random.Random) -> Document:
    """`document` with the metadata that the transform Lambda adds; the sequence number follows arrival in Kinesis."""
    sequence = (4962 << 160) + arrived_us * 1000 + rng.randrange(1000)
    metadata = {
        "sequenceNumber": str(sequence),
        "subsequenceNumber": 0,
        "partitionKey": f"{rng.getrandbits(128):032X}",
        "shardId": f"shardId-{rng.randrange(3):012d}",
        "approximateArrivalTimestamp": arrived_us // 1000,
    }
    return {**document, "kinesisRecordMetadata": metadata}


def wrapped(raw: bytes, arrived_us: int, rng: random.Random) -> bytes:
    """The line of a Firehose error object which carries `raw`."""
    conversion = rng.random() < 0.3
    code = "DataFormatConversion.ParseError" if conversion else "Lambda.FunctionTimedOut"
    names = ("ErrorCode", "ErrorMessage") if conversion else ("errorCode", "errorMessage")
    line: Document = {
        "attemptsMade": 4,
        "arrivalTimestamp": arrived_us // 1000,
        names[0]: code,
        names[1]: "It failed; for {reasons} it did.",
        "attemptEndingTimestamp": arrived_us // 1000 + 88_128,
        "rawData": base64.b64encode(raw).decode("ascii"),
    }
    return compact(line if conversion else {**line, "lambdaArn": "arn:aws:lambda:eu-west-1:123456789012:function:f"})


def record_pieces(
    document: Document, time_us: int, position: int | None, delivery: Delivery, rng: random.Random
) -> list[Piece]:
    """The deliveries of one record: once, or several times in several guises, each now, late, or failed."""
    origin: Literal["ours", "other"] = "other" if position is None else "ours"
    stamping = document["eventSource"] == "aws:dynamodb" and "tableName" in document
    pieces: list[Piece] = []
    content = b""
    while not pieces or (chance(rng, delivery.duplicates) and len(pieces) < 4):
        delay_us = rng.randrange(100_000, 3 * SECOND_US)
        if chance(rng, delivery.late):
            delay_us = rng.randrange(86_400 * SECOND_US)
        arrived_us = time_us + delay_us
        if not (pieces and rng.random() < 0.4):  # else byte for byte the delivery before
            stamp = stamping and chance(rng, delivery.stamped)
            full = stamped(document, arrived_us, rng) if stamp else document
            content = reserialised(full, rng) if pieces and rng.random() < 0.5 else compact(full)
        failed = chance(rng, delivery.failed)
        body = wrapped(content, arrived_us, rng) if failed else content
        pieces.append(Piece(body, arrived_us, origin, position, failed))
    return pieces


def garbage_piece(sample: bytes, time_us: int, table: str, rng: random.Random) -> Piece:
    """One line no reader can make a record of. `sample` is a valid record, to be cut short or maimed."""
    mark = f"{rng.getrandbits(64):016x}"
    broken: Document = {"eventID": mark, "eventName": "INSERT", "tableName": table, "eventSource": "aws:dynamodb"}
    noise = bytes(byte for byte in rng.randbytes(40) if byte not in b"\r\n")
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: f"not json, {mark}".encode(),
        lambda: b'{"mark":"' + mark.encode() + b'",' + sample[1 : rng.randrange(2, len(sample))],
        lambda: b"\xfe" + mark.encode() + noise,
        lambda: f'"{mark}"'.encode(),
        lambda: compact([mark, 1]),
        lambda: compact({"mark": mark}),
        lambda: compact(broken),
        lambda: compact({**broken, "dynamodb": {"ApproximateCreationDateTime": 1720742302233}}),
        lambda: compact({**broken, "dynamodb": {"Keys": {"id": {"S": "a"}}, "NewImage": {"id": {"S": "a"}}}}),
        lambda: wrapped(f"raw {mark}".encode(), time_us, rng),
        lambda: compact({"attemptsMade": 4, "errorCode": mark, "rawData": "*not base64*"}),
    )
    return Piece(rng.choice(kinds)(), time_us, "garbage")


def _pretty(piece: Piece) -> bytes:
    return json.dumps(json.loads(piece.content), ensure_ascii=False, indent=1).encode()


def object_text(pieces: Sequence[Piece], separation: Separation, rng: random.Random) -> bytes:
    """The uncompressed object. Records follow each other as `separation` says; garbage has lines of its own.

    Objects without garbage may hold a record that spans several lines.
    """
    clean = all(piece.origin != "garbage" for piece in pieces)
    out = io.BytesIO()
    last = b"\n"
    for piece in pieces:
        if piece.origin == "garbage" and last != b"\n":
            out.write(b"\n")
        content = _pretty(piece) if clean and separation == "mixed" and rng.random() < 0.1 else piece.content
        out.write(content)
        last = {"newline": b"\n", "none": b"", "mixed": rng.choice((b"", b"\n", b" ", b"\n\n", b"\r\n"))}[separation]
        if piece.origin == "garbage":
            last = b"\n"
        out.write(last)
        last = last[-1:]
    text = out.getvalue()
    return text.rstrip(b"\n") if rng.random() < 0.2 else text


def compressed(text: bytes, compression: Compression, rng: random.Random) -> bytes:
    """The object's bytes; gzip sometimes has two members, which is still one gzip file."""
    if compression == "gzip":
        cut = rng.randrange(len(text) + 1) if rng.random() < 0.2 else 0
        members = (text[:cut], text[cut:]) if cut else (text,)
        return b"".join(gzip.compress(member, 1, mtime=0) for member in members)
    if compression == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("stream-1", (2026, 1, 1, 0, 0, 0)), text)
        return out.getvalue()
    return text


def object_key(arrived_us: int, failed: bool, ending: str, rng: random.Random) -> str:
    """Firehose's key: the time is the arrival of the oldest record within, in UTC."""
    moment = datetime.fromtimestamp(arrived_us // SECOND_US, UTC)
    digits = f"{rng.getrandbits(128):032x}"
    name = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    folder = ("processing-failed/" if failed else "") + moment.strftime("%Y/%m/%d/%H")
    return f"{folder}/stream-1-{moment.strftime('%Y-%m-%d-%H-%M-%S')}-{name}{ending}"


@dataclass(frozen=True)
class Landing:
    """Key to bytes of all objects, in the order to read them, and how often other tables' records are in them."""

    objects: dict[str, bytes]
    other_records: int


def land(pieces: Sequence[Piece], delivery: Delivery, rng: random.Random) -> Landing:
    """All objects that hold `pieces`; nothing of `pieces` is missing and nothing added to it.

    Failed deliveries go into objects of their own under `processing-failed/`, or among the rest.
    """
    apart = rng.random() < 0.7
    failed = [piece for piece in pieces if apart and piece.failed]
    rest = [piece for piece in pieces if not (apart and piece.failed)]
    groups = _groups(rest, delivery, rng) + _groups(failed, delivery, rng)
    objects: dict[str, bytes] = {}
    others = 0
    for group in groups:
        text = object_text(group, rng.choice(delivery.separation), rng)
        copies = 1 + (delivery.copies if all(piece.origin != "garbage" for piece in group) else 0)
        others += copies * sum(piece.origin == "other" for piece in group)
        for _ in range(copies):
            compression = rng.choice(delivery.compressions)
            ending = ".gz" if (compression == "gzip") != (rng.random() < 0.1) else ""
            oldest_us = min(piece.arrived_us for piece in group)
            key = object_key(oldest_us, group[0].failed and apart, ending, rng)
            objects[key] = compressed(text, compression, rng)
    for _ in range(delivery.empty_objects):
        oldest_us = min((piece.arrived_us for piece in pieces), default=0)
        blank = rng.choice((b"", b"\n"))
        objects[object_key(oldest_us, False, "", rng)] = compressed(blank, rng.choice(delivery.compressions), rng)
    ordered = rng.sample(list(objects.items()), len(objects)) if delivery.shuffled else objects.items()
    return Landing(dict(ordered), others)


def _groups(pieces: list[Piece], delivery: Delivery, rng: random.Random) -> list[list[Piece]]:
    """`pieces` cut into at most `delivery.objects` non-empty groups, in order of arrival or shuffled."""
    ordered = sorted(pieces, key=lambda piece: piece.arrived_us)
    if delivery.shuffled:
        rng.shuffle(ordered)
    cuts = sorted(rng.randrange(len(ordered) + 1) for _ in range(max(0, delivery.objects - 1)))
    edges = [0, *cuts, len(ordered)]
    return [ordered[start:end] for start, end in itertools.pairwise(edges) if start < end]
