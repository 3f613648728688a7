"""Repair lines: read back as they were written, and in the order exactly where they say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.decode.export_lines import Assertion, write_repair_line
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.merge.ordering import ABSENT, Version, assertion_us, winner
from ddb_lake.core.values.change_record import ChangeRecord, Item, Rejected

WRITTEN_US, ASSERTED_US = 1_700_000_000_001_000, 1_700_000_000_002_000
KEY: Item = {"id": {"S": "k"}}
IMAGE: Item = {"id": {"S": "k"}, "n": {"N": "1"}, "b": {"B": "aGk="}}


def read(line: bytes) -> ChangeRecord | Rejected:
    (located,) = read_object(line, key_names=["id"])
    return located.outcome


@pytest.mark.parametrize("image", [IMAGE, None])
def test_line_reads_back_as_the_assertion_it_was(image: Item | None) -> None:
    record = read(write_repair_line(Assertion(KEY, image, WRITTEN_US, ASSERTED_US)))
    assert isinstance(record, ChangeRecord)
    assert (record.kind, record.event_name) == ("repair", "DELETE" if image is None else "UPSERT")
    assert (record.keys, record.new_image, record.changed_us, record.asserted_us) == (
        KEY,
        image,
        WRITTEN_US,
        ASSERTED_US,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Repair": {}}, "Repair.AssertedMicros: missing"),
        ({"Repair": {"AssertedMicros": {"N": "x"}}}, "Repair.AssertedMicros: neither a number"),
        ({"Metadata": {"WriteTimestampMicros": {"N": "-1"}}}, "Metadata.WriteTimestampMicros: neither a number"),
        ({"NewImage": {"id": {"S": "other"}}}, "NewImage: its key attributes"),
    ],
)
def test_damaged_line_is_rejected_with_the_field_at_fault(change: Item, reason: str) -> None:
    line = json.loads(write_repair_line(Assertion(KEY, IMAGE, WRITTEN_US, ASSERTED_US))) | change
    found = read(json.dumps(line).encode())
    assert isinstance(found, Rejected) and found.reason.startswith(reason)


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.sampled_from([b"a", b"b", ABSENT])), max_size=6, unique_by=lambda c: c[0]
    ),
    st.integers(1, 60),
    st.integers(0, 80),
    st.permutations(range(7)),
)
def test_repair_wins_over_what_it_has_seen_and_loses_to_what_came_later(
    changes: list[tuple[int, bytes]], seen_us: int, clock_skew_us: int, order: list[int]
) -> None:
    """An oracle that knows nothing of versions: the last change after the reading, else what was read."""
    stands_us = assertion_us(seen_us, seen_us + 1, clock_skew_us)
    versions = [Version(f"c{at}", at, after) for at, after in changes]
    versions.append(Version("repair", stands_us, b"read", asserted_us=seen_us + 1))
    later = [(at, after) for at, after in changes if at > stands_us]
    expected = max(later)[1] if later else b"read"
    shuffled = [versions[i] for i in order if i < len(versions)]
    assert winner(shuffled, lambda: ABSENT).after == expected
    assert stands_us - seen_us == (1 if clock_skew_us == 0 else 0)
