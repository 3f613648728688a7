"""A grammar and mutation fuzzer of landed objects: the fast path stages what reading with all checks stages.

An input is a landed object. Its records are generated from the grammar of change records, with values that DynamoDB
holds, values in unusual spellings and what is no value, or they come from samples; then members are replaced, removed,
renamed and repeated, the text is written in several ways, wrapped, joined and compressed, and bytes are spoiled. One seed
gives the same inputs again.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import cycle
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

import pyarrow.parquet as pq

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.engine import staging
from ddb_lake.pipeline.apply.object_reader import GroupReader, StagedGroup
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.group_reader import group_reader
from ddb_lake_tests.trust.mutating import TOKENS, WAYS, seeds

GROUP: Final = 40
"""Objects that are read together."""

ROUTES: Final = {"orders": "orders", "other": "others"}
KEYS: Final = (("id",), ("id",), ("id", "n"), ("n",), ())
"""Keys of the table; records mostly have the one that is configured."""
TAGS: Final = ("S", "N", "B", "M", "L", "SS", "NS", "BS", "BOOL", "NULL")
NAMES: Final = (
    "id",
    "n",
    "a",
    "b",
    "SS",
    "S",
    'q"uote',
    "back\\slash",
    "dot.",
    "é",
    "日本",
    "",
    "x" * 70,
    "}{",
    'S":[',
)
TEXTS: Final = ("", "a", "b", "x", "é", "日本", "🦆", 'q"', "\\", "\n", "\x00", "}{", '"SS":["b","a"]', "0", "a" * 90)
NUMBERS: Final = ("0", "1", "-1", "1.5", "9" * 38, "0.001", "12345678901234567890", "-0.5", "100", "2")
ODD_NUMBERS: Final = ("1.0", "01", "-0", "+1", "1e2", "1E+125", ".5", "5.", "1e-130", "0.0", "1E0", "10e-1")
BINARY: Final = ("", "AA==", "AQI=", "////", "QUJD")
NO_VALUES: Final = (
    None, True, False, 0, 1, -1.5, 1e300, "", "x", [], {}, [1], ["a", "b"], {"a": 1}, {"S": None}, {"S": 1}, {"N": 5},
    {"N": "NaN"}, {"N": "abc"}, {"N": ""}, {"N": "9" * 39}, {"N": "1e9999"}, {"N": None}, {"NULL": "true"}, {"NULL": 1},
    {"BOOL": "true"}, {"BOOL": 0}, {"B": "A"}, {"B": "_-__"}, {"B": 1}, {"Q": "x"}, {"S": "a", "N": "1"}, {"SS": "a"},
    {"SS": [1]}, {"SS": [None]}, {"NS": ["x"]}, {"NS": [1]}, {"NS": ["1", "1.0"]}, {"BS": ["A"]}, {"BS": [1]},
    {"M": []}, {"M": None}, {"M": {"a": "x"}}, {"M": {"a": {}}}, {"L": {}}, {"L": ["x"]}, {"L": None}, {"L": [[]]},
    {"S": ["b", "a"]}, {"S": {"S": "x"}}, {"SS": {"S": "x"}}, {"s": "x"},
)  # fmt: skip


# --- generation


def a_value(chance: random.Random, depth: int = 0) -> Any:
    """A value that DynamoDB holds, often in an unusual spelling."""
    tag = chance.choice(TAGS if depth < 5 else TAGS[:3])
    if tag == "S":
        return {"S": chance.choice(TEXTS)}
    if tag == "N":
        return {"N": a_number(chance)}
    if tag == "B":
        return {"B": chance.choice(BINARY)}
    if tag == "M":
        return {"M": an_item(chance, depth + 1)}
    if tag == "L":
        return {"L": [a_value(chance, depth + 1) for _ in range(chance.randint(0, 3))]}
    if tag == "BOOL":
        return {"BOOL": chance.random() < 0.5}
    if tag == "NULL":
        return {"NULL": chance.random() < 0.8}
    member: Callable[[], str] = {
        "SS": lambda: chance.choice(TEXTS),
        "NS": lambda: a_number(chance),
        "BS": lambda: chance.choice(BINARY),
    }[tag]
    return {tag: [member() for _ in range(chance.randint(0, 4))]}


def a_number(chance: random.Random) -> str:
    """A number, seldom in an odd spelling."""
    return chance.choice(NUMBERS if chance.random() < 0.8 else ODD_NUMBERS)


def an_item(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """Attributes; rarely, one is not a value."""
    item = {chance.choice(NAMES): a_value(chance, depth) for _ in range(chance.randint(0, 4))}
    if chance.random() < 0.06:
        item[chance.choice(NAMES)] = no_value(chance)
    return item


def a_record(chance: random.Random, key: Sequence[str]) -> dict[str, Any]:
    """A change record, mostly right."""
    names = (key or ("id",)) if chance.random() < 0.95 else chance.choice(KEYS[:4])
    kinds: dict[str, Any] = {"id": {"S": chance.choice(TEXTS[1:])}, "n": {"N": a_number(chance)}}
    keys = {name: {"B": chance.choice(BINARY)} if chance.random() < 0.05 else kinds[name] for name in names}
    event = chance.choice(("INSERT", "MODIFY", "REMOVE"))
    new = None if event == "REMOVE" else {**an_item(chance), **keys}
    old = None if event == "INSERT" else {**an_item(chance), **keys}
    change = envelopes.Change(event, keys, new, old, chance.randint(1_600_000_000_000, 1_700_000_000_000) * 1000, "e")
    if chance.random() < 0.3:
        return envelopes.streams(change, str(chance.randint(0, 10**25)))
    micros = chance.random() < 0.5
    try:
        record = envelopes.kds(change, micros=micros, encode_twice=chance.random() < 0.7)
    except AttributeError:  # a member of BS that is no text cannot be encoded
        record = envelopes.kds(change, micros=micros, encode_twice=False)
    record["eventID"] = str(chance.randint(0, 50))
    record["tableName"] = chance.choice(("orders", "orders", "orders", "other", "third"))
    return envelopes.stamped(record) if chance.random() < 0.2 else record


# --- mutation of what is decoded


def mutated(obj: Any, chance: random.Random) -> Any:
    """The same JSON with one node changed."""
    nodes = list(_containers(obj))
    if not nodes:
        return no_value(chance)
    node = chance.choice(nodes)
    if isinstance(node, list):
        at = chance.randrange(len(node) + 1)
        node[at : at + chance.randint(0, 1)] = [no_value(chance), a_value(chance)][: chance.randint(0, 2)]
        return obj
    names = list(node)
    name = chance.choice(names) if names else "a"
    way = chance.randrange(7)
    if way == 0:
        node.pop(name, None)
    elif way == 1:
        node[chance.choice((*NAMES, *TAGS, "Keys", "NewImage", "tableName", "Event"))] = node.pop(name, None)
    elif way == 2:
        node[name] = a_value(chance)
    elif way == 3:
        node[name] = {chance.choice(TAGS): node.get(name)}
    elif way == 4:
        node[name] = _nested(chance.choice((9, 40, 99, 101, 300)), chance)
    elif way == 5:
        node[chance.choice(names or NAMES)] = node.get(name)
    else:
        node[name] = no_value(chance)
    return obj


def _containers(obj: Any) -> Iterator[Any]:
    waiting = [obj]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            yield one
            waiting += one.values() if isinstance(one, dict) else one


def no_value(chance: random.Random) -> Any:
    """What is no value of DynamoDB, or one that it does not store."""
    return deepcopy(chance.choice(NO_VALUES))


def _nested(levels: int, chance: random.Random) -> Any:
    value: Any = chance.choice(({"S": "deep"}, no_value(chance)))
    for _ in range(levels):
        value = {"M": {"m": value}} if chance.random() < 0.5 else {"L": [value]}
    return value


# --- text, wrappers, objects


def written(obj: Any, chance: random.Random) -> bytes:
    """JSON text in one of its spellings, sometimes with a member twice."""
    way = chance.random()
    if way < 0.6:
        text = json.dumps(obj, separators=(",", ":"), ensure_ascii=False)
    elif way < 0.8:
        text = json.dumps(obj, ensure_ascii=True)
    elif way < 0.9:
        text = json.dumps(obj, indent=1, ensure_ascii=False)
    else:
        text = json.dumps(obj, separators=(",", ":"), sort_keys=True)
    if chance.random() < 0.04:
        at = text.find('{"', chance.randrange(len(text)))
        text = text if at < 0 else text[: at + 1] + '"a":{"S":"twice"},"a":{"N":"2"},' + text[at + 1 :]
    return text.encode("utf-8", "surrogatepass")


def wrapped(content: bytes, chance: random.Random) -> bytes:
    """The records within a wrapper, or within one of another's."""
    way = chance.randrange(5)
    if way == 0:
        return json.dumps(envelopes.error_object(content)).encode()
    if way == 1:
        return json.dumps(envelopes.kinesis_event(content, content[: chance.randint(0, len(content))])).encode()
    if way == 2:
        return json.dumps(envelopes.firehose_event(content)).encode()
    if way == 3:
        return b'{"Records":[' + content.replace(b"\n", b",") + b"]}"
    return json.dumps({"recordId": "1", "data": base64.b64encode(gzip.compress(content, 1)).decode()}).encode()


def an_object(chance: random.Random, samples: Sequence[bytes], key: Sequence[str]) -> bytes:
    """One input."""
    if chance.random() < 0.1:
        content = chance.choice(samples)
    else:
        lines = []
        for _ in range(chance.choice((1, 1, 2, 3, 6))):
            record: Any = deepcopy(a_record(chance, key))
            for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 3))):
                record = mutated(record, chance)
            try:
                lines.append(written(record, chance))
            except RecursionError:  # nested more deeply than Python writes
                lines.append(b'{"M":' * 1_500)
        if chance.random() < 0.1:
            lines.append(lines[0])
        content = chance.choice((b"\n", b"\n", b"", b",", b" ", b"\r\n")).join(lines)
    if chance.random() < 0.1:
        content = wrapped(content, chance)
    for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2, 5))):
        content = chance.choice(WAYS)(content, chance, chance.choice((*TOKENS, chance.choice(samples))))
    content = content[: 1 << 17]
    return gzip.compress(content, 1) if chance.random() < 0.1 else content


def groups(seed: int) -> Iterator[tuple[tuple[str, ...], list[bytes]]]:
    """The table's key and objects that are read together, without end; the same ones for the same seed."""
    chance = random.Random(seed)
    samples = [line for data in seeds() for line in _lines(data)]
    while True:
        key = chance.choice(KEYS)
        yield key, [an_object(chance, samples, key) for _ in range(GROUP)]


def _lines(data: bytes) -> list[bytes]:
    """The documents of a sample, one a line."""
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    try:
        return [envelopes.compact(json.loads(data[: 1 << 18]))]
    except ValueError:
        return [line for line in data.split(b"\n")[:40] if len(line) > 30 and line.startswith(b'{"')]


# --- comparison


@dataclass
class Staged:
    """What a group of objects was staged as, in a form that can be compared; `unexpected`: entries of exceptions that nothing expected."""

    tables: dict[str, Any]
    rest: Any
    rows: int
    rejected: int
    unexpected: int


def staged(data: Sequence[bytes], key: tuple[str, ...], fast: bool) -> Staged:
    """The objects read with the fast path, or with all checks."""
    refs = [ObjectRef(f"s3://bucket/landing/{number}", "1", len(one), 0) for number, one in enumerate(data)]
    with TemporaryDirectory() as folder:
        reader = group_reader(folder, "orders", key, fast=fast, routes=ROUTES)
        group = reader.read(zip(refs, data, strict=True))
        return _comparable(group, reader)


def _comparable(group: StagedGroup, reader: GroupReader) -> Staged:
    tables: dict[str, Any] = {}
    rows = rejected = unexpected = 0
    for name, table in sorted(group.tables.items()):
        changes = pq.read_table(table.changes.path).to_pylist()
        quarantined = pq.read_table(table.quarantine.path).to_pylist()
        assert (len(changes), len(quarantined)) == (table.changes.rows, table.quarantine.rows)
        rows, rejected = rows + len(changes), rejected + len(quarantined)
        unexpected += sum("reading it raised" in row["reason"] for row in quarantined)
        tables[name] = (sorted(map(repr, changes)), sorted(map(repr, quarantined)), +table.records)
    keys = {name: reader.keys[name] for name in group.tables}
    return Staged(tables, (group.objects, group.other_tables, keys), rows, rejected, unexpected)


@dataclass
class Fuzzed:
    """What was tried, and the inputs that were staged differently, with the key that was configured."""

    inputs: int = 0
    rows: int = 0
    rejected: int = 0
    differences: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)
    unexpected: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)

    def line(self) -> str:
        """In one line."""
        return (
            f"{self.inputs:,} inputs read twice, {self.rows:,} records, {self.rejected:,} quarantined,"
            f" {len(self.differences)} differences, {len(self.unexpected)} unexpected exceptions"
        )


def fuzz(
    seed: int,
    *,
    count: int | None = None,
    seconds: float | None = None,
    progress: Callable[[Fuzzed], None] | None = None,
) -> Fuzzed:
    """Compare the two paths on so many inputs, or for so long."""
    found, started = Fuzzed(), time.monotonic()
    for (key, group), batch_rows in zip(groups(seed), cycle((10_000, 1, 7, 2))):
        with patch.object(staging, "BATCH_ROWS", batch_rows):
            _compare(group, key, found)
        found.inputs += len(group)
        if progress is not None:
            progress(found)
        if (count is not None and found.inputs >= count) or (
            seconds is not None and time.monotonic() - started >= seconds
        ):
            break
    return found


def _compare(group: Sequence[bytes], key: tuple[str, ...], found: Fuzzed) -> None:
    fast, strict = _attempt(group, key, True), _attempt(group, key, False)
    if isinstance(fast, Staged) and isinstance(strict, Staged):
        found.rows += strict.rows
        found.rejected += strict.rejected
        if fast == strict and not strict.unexpected:
            return
    if len(group) > 1:
        before = len(found.differences) + len(found.unexpected)
        for one in group:
            _compare([one], key, found)
        if len(found.differences) + len(found.unexpected) == before:  # only together
            found.differences.append((key, b"\n".join(group)))
    elif fast != strict or isinstance(fast, str):
        found.differences.append((key, group[0]))
    else:
        found.unexpected.append((key, group[0]))


def _attempt(group: Sequence[bytes], key: tuple[str, ...], fast: bool) -> Staged | str:
    """What was staged, or the exception that reading raised."""
    try:
        return staged(group, key, fast)
    except Exception as error:
        return f"{type(error).__name__} at {error.__traceback__.tb_lineno if error.__traceback__ else ''}"
