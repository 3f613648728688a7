"""The record kernel reads what strict reading reads, in exactly the records that it accepts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.decode.splitter import RecordRun
from ddb_lake.engine.native import reader
from ddb_lake.engine.native.library import load
from ddb_lake.engine.native.reader import NativeReader
from ddb_lake_tests.support import envelopes, mutated_records
from ddb_lake_tests.support.effort import by_effort, cases, examples
from ddb_lake_tests.support.kernel_objects import ENVELOPES, LEFT, READ, TIME_US, line, mutated_objects
from ddb_lake_tests.support.mutated_bytes import mutated
from ddb_lake_tests.support.staged_objects import record_kernel, staged
from ddb_lake_tests.support.wrapped_records import aggregated


@pytest.fixture(autouse=True)
def on() -> Iterator[None]:
    with record_kernel("on"):
        yield


def kernel_reader(key: tuple[str, ...] = ("id",)) -> NativeReader:
    found = NativeReader(load().library, "orders", key)
    found.begin_object("object", 0, 1 << 62)
    return found


def accepted(data: bytes) -> int:
    """How many records the kernel reads from the beginning of some bytes."""
    run = kernel_reader().read_run(data, 0)
    return 0 if run is None else run.rows


def assert_alike(objects: list[bytes], key: tuple[str, ...] = ("id",)) -> None:
    assert staged(objects, key, "native") == staged(objects, key, "strict")


@pytest.mark.parametrize("separator", [b"", b"\n", b" ", b"\r\n", b"\n\n\t"])
def test_it_reads_whole_objects(separator: bytes) -> None:
    events = ("INSERT", "MODIFY", "REMOVE")
    lines = [
        line(place, members, event, **envelope)
        for place, (members, event, envelope) in enumerate(
            (members, event, envelope) for members in READ for event in events for envelope in ENVELOPES[:3]
        )
    ]
    data = separator.join(lines)
    assert accepted(data) == len(lines)
    assert_alike([data, b"", data + b"\n"])


@pytest.mark.parametrize("members", LEFT)
def test_what_it_leaves_to_python_is_read_between_its_runs(members: dict[str, Any]) -> None:
    assert accepted(line(1, members)) == 0
    parts = [line(1, READ[0]), line(2, members), line(3, READ[1]), line(4, READ[2]), line(5, members)]
    for separator in (b"\n", b""):
        assert_alike([separator.join(parts), separator.join(parts[1:])])


def test_records_around_an_aggregate_of_the_producer_library() -> None:
    """Its bytes end the kernel's run, and the object is split at it."""
    first, second, third = (line(number, READ[number]) for number in (0, 1, 2))
    for separator in (b"\n", b"", b" "):
        data = separator.join([first, second, aggregated(third, first), third, second])
        assert accepted(data) in (1, 2)
        assert_alike([data, separator + data, aggregated(second) + separator + first, first + aggregated(second)[:-1]])


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_it_reads_arrival_and_ttl(envelope: dict[str, Any]) -> None:
    assert_alike([line(n, READ[0], event, **envelope) for n, event in enumerate(("INSERT", "MODIFY", "REMOVE"))])


@pytest.mark.parametrize("levels", [30, 31, 32, 33, 34, 100, 101, 600])
@pytest.mark.parametrize("kind", ["M", "L"])
def test_it_reads_as_many_levels_as_dynamodb_allows(kind: str, levels: int) -> None:
    opening, closing = {"M": (b'{"M":{"m":', b"}}"), "L": (b'{"L":[', b"]}")}[kind]
    value = opening * levels + b'{"S":"x"}' + closing * levels
    data = line(1, {"deep": {"S": "here"}}).replace(b'{"S":"here"}', value)
    assert accepted(data) == (levels <= 32)
    assert_alike([data + b"\n" + line(2, READ[0])])


def test_a_batch_that_is_full_is_staged_and_reading_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "BATCH_ROWS", 3)
    monkeypatch.setattr(reader, "_TEXT_BYTES", {"new_image": 500, "old_image": 500, "keys": 60, "_key": 60})
    monkeypatch.setattr(reader, "_OTHER_TEXT_BYTES", 30)
    chance = random.Random(5)
    lines = [line(n, {"text": {"S": "x" * chance.randrange(700)}}) for n in range(40)]
    for separator in (b"\n", b""):
        assert_alike([separator.join(lines[:7]), b"garbage " + lines[7], *lines[8:20], separator.join(lines[20:])])


def test_a_record_later_than_its_arrival_by_more_than_a_day_is_left_to_python() -> None:
    day_us = 86_400_000_000
    stamps = [{"approximateArrivalTimestamp": (TIME_US + moved) // 1000} for moved in (-day_us - 1000, -day_us, 0)]
    data = b"\n".join(line(0, READ[0], kinesisRecordMetadata=stamp) for stamp in stamps)
    for modified_us in (0, TIME_US - day_us - 1, TIME_US - day_us):
        plain = [line(0, READ[0]), data]
        assert staged(plain, ("id",), "native", modified_us) == staged(plain, ("id",), "strict", modified_us)


def test_keys_of_two_attributes_and_of_others() -> None:
    keys: list[Any] = [
        {"a": {"S": "ü:"}, "b": {"N": "-1.5"}},
        {"b": {"N": "2"}, "a": {"S": ""}},
        {"a": {"S": 'x"y'}, "b": {"N": "1"}},
    ]
    keys += [
        {"a": {"S": "x"}},
        {"a": {"S": "x"}, "b": {"N": "1"}, "c": {"S": "y"}},
        {"a": {"M": {}}, "b": {"N": "1"}},
        {},
    ]
    lines = []
    for key in keys:
        for image in (key, {**key, "a": {"S": "z"}}, {"b": {"N": "1"}}, {"z": {"S": "x"}, **key}):
            body = json.loads(line(1, {}, "INSERT"))
            body["dynamodb"] |= {"Keys": key, "NewImage": image}
            lines.append(envelopes.compact(body))
    for names in (("a", "b"), ("b", "a"), ("a",), ("id",)):
        assert_alike([b"\n".join(lines), *lines[:3]], names)


# --- mutated records


@pytest.fixture
def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of all runs that the kernel reads."""
    found = []
    read_run = NativeReader.read_run

    def noted(self: NativeReader, data: bytes, start: int) -> RecordRun | None:
        run = read_run(self, data, start)
        found.append(0 if run is None else run.rows)
        return run

    monkeypatch.setattr(NativeReader, "read_run", noted)
    return found


@pytest.mark.parametrize("seed", cases(range(40), quick=[0], exhaustive=range(10)))
def test_mutated_bytes_are_staged_alike(seed: int, read_rows: list[int]) -> None:
    objects = list(mutated_objects(seed, 500))
    for first in range(0, len(objects), 50):
        assert_alike(objects[first : first + 50])
    assert 250 < sum(read_rows) < 1_000  # of about 1,500 records: it accepts and it refuses


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(100, by_effort(101, 110, 140)))
def test_mutated_members_are_staged_alike(seed: int) -> None:
    objects = list(mutated_records.mutated_objects(seed, 500))
    for first in range(0, len(objects), 50):
        assert_alike(objects[first : first + 50], mutated_records.KEY)


@examples(8, 80)
@given(st.lists(envelopes.changes(), min_size=1, max_size=4), st.sampled_from([b"", b"\n"]), st.integers(0, 1 << 30))
def test_any_items_are_staged_alike(changes: list[envelopes.Change], separator: bytes, seed: int) -> None:
    lines = [envelopes.compact(envelopes.kds(change)) for change in changes]
    data = separator.join(lines)
    assert_alike([data, mutated(random.Random(seed), data)])
