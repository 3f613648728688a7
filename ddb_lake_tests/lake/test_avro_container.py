"""The frame of an Avro file, against files that pyiceberg writes and every cut of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.lake.avro_container import frame_fault


def varint(number: int) -> bytes:
    number = number * 2 if number >= 0 else -number * 2 - 1
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def sized(data: bytes) -> bytes:
    return varint(len(data)) + data


SYNC = bytes(range(16))
FILES = st.builds(
    lambda meta, negative, blocks: (
        b"Obj\x01"
        + (
            varint(-len(meta) if negative else len(meta))
            + (varint(sum(len(sized(n) + sized(v)) for n, v in meta.items())) if negative else b"")
            + b"".join(sized(n) + sized(v) for n, v in meta.items())
            if meta
            else b""
        )
        + varint(0)
        + SYNC
        + b"".join(varint(count) + sized(block) + SYNC for count, block in blocks)
    ),
    st.dictionaries(st.binary(max_size=20), st.binary(max_size=200), max_size=3),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2**40), st.binary(max_size=200)), max_size=3),
)


@given(FILES)
def test_complete_file_has_no_fault(data: bytes) -> None:
    assert frame_fault(data) is None


@given(FILES, st.data())
def test_file_that_is_cut_within_a_part_has_a_fault(data: bytes, draw: st.DataObject) -> None:
    length = draw.draw(st.integers(0, len(data) - 1))
    cut = data[:length]
    is_end_of_a_block = cut.endswith(SYNC) and frame_fault(data[: length - len(SYNC)]) is not None
    assert (frame_fault(cut) is None) <= is_end_of_a_block


@given(FILES, st.binary(max_size=60), st.integers(0, 600))
def test_damaged_file_never_raises(data: bytes, noise: bytes, at: int) -> None:
    assert isinstance(frame_fault(data[:at] + noise + data[at + len(noise) :]), str | None)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "it is no Avro file"),
        (b"PAR1", "it is no Avro file"),
        (b"Obj\x01", "it is cut short"),
        (b"Obj\x01" + varint(1) + varint(2**62), "it is cut short"),
        (b"Obj\x01" + varint(0) + SYNC + varint(1) + sized(b"x") + bytes(16), "sync marker"),
        (b"Obj\x01" + varint(0) + SYNC + varint(1) + varint(-3), "it is cut short"),
    ],
)
def test_fault_is_named(data: bytes, fault: str) -> None:
    assert fault in (frame_fault(data) or "")
