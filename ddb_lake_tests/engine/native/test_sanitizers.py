"""Under the sanitizers of addresses and undefined behaviour, the record kernel reads the same from changed objects and items."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from decimal import Context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ddb_lake.core.decode.export_lines import ITEM_MEMBER
from ddb_lake.engine.native.compiler import compiler
from ddb_lake.engine.native.items import ItemReader, KnownAttribute
from ddb_lake.engine.native.library import TAGS, load
from ddb_lake.engine.native.reader import NativeReader
from ddb_lake_tests.support.kernel_items import LEFT, POINTERS, READ, TYPES, line, mutated_lines
from ddb_lake_tests.support.kernel_objects import mutated_objects
from ddb_lake_tests.support.staged_objects import record_kernel

HARNESS = Path(__file__).with_name("harness.c")
SANITIZERS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-g",
    "-O1",
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
)


def rows_of(objects: list[bytes]) -> int:
    """How many rows the kernel reads if the rest of a line at which it stops is skipped."""
    reader = NativeReader(load().library, "orders", ("id",))
    found = 0
    for number, data in enumerate(objects):
        reader.begin_object("object", number, 1 << 62)
        start = 0
        while start < len(data):
            run = reader.read_run(data, start)
            found += 0 if run is None else run.rows
            start = start if run is None else run.end
            if reader.is_full:
                reader.take()
                continue
            line_end = data.find(b"\n", start)
            start = len(data) if line_end < 0 else line_end + 1
    return found


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The harness, compiled with the sanitizers."""
    command = compiler()
    if command is None:
        pytest.skip("no C compiler")
    found = tmp_path_factory.mktemp("sanitizers") / "harness"
    subprocess.run([*command, *SANITIZERS, "-o", str(found), str(HARNESS)], check=True)
    return found


def run(program: Path, mode: str, data: bytes) -> bytes:
    """What the harness writes; a fault that a sanitizer finds fails the test."""
    done = subprocess.run([str(program), mode], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return done.stdout


def sized(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


@pytest.mark.exhaustive
def test_it_reads_changed_objects_without_a_fault(program: Path) -> None:
    objects = [data for seed in range(20) for data in mutated_objects(1_000 + seed, 1_000)]
    written = run(program, "records", b"".join(map(sized, objects)))
    with record_kernel("on"):
        expected = rows_of(objects)
    rows, tiny_rows, cut_rows = map(int, written.split())
    assert rows == expected > len(objects) / 4
    assert 0 < tiny_rows < rows
    assert cut_rows > rows


# --- items


def described(member: str | None, item: KnownAttribute, types: Sequence[str]) -> bytes:
    """The known attributes and the columns as the harness reads them."""
    known, first = item.with_members(), 1
    found = struct.pack("<i", member is not None) + sized((member or "").encode())
    found += struct.pack("<ii", len(known), len(types))
    for one in known:
        places = [one.places.get(tag, -1) for tag in TAGS]
        found += sized(one.name.encode()) + struct.pack(f"<{len(TAGS) + 2}i", *places, first, len(one.members))
        first += len(one.members)
    return found + b"".join(map(column, types))


def column(column_type: str) -> bytes:
    """A column as the harness reads it."""
    if column_type.startswith("decimal"):
        precision, scale = map(int, column_type[len("decimal(") : -1].split(","))
        return struct.pack("<iii", 2, precision - scale, scale)
    return struct.pack("<iii", ["string", "long", "", "boolean", "list<string>"].index(column_type), 0, 0)


def with_cuts(chance: random.Random, documents: Sequence[bytes]) -> Iterator[bytes]:
    """Each document, then its beginning up to some places."""
    for document in documents:
        yield document
        for _ in range(4):
            yield document[: chance.randrange(len(document) + 1)]


def in_normal_build(
    documents: Sequence[bytes], member: str | None, item: KnownAttribute, types: Sequence[str]
) -> tuple[bytes, int]:
    """What the harness writes for a group, and the number of documents that were read, of the normal build."""
    array = pa.array(documents, pa.binary()).view(pa.string())
    rows = ItemReader(load().library, member, item, types).read(array).to_pylist()
    written = []
    for row in rows:
        written.append(bytes([row["is_read"]]))
        for place, column_type in enumerate(types):
            value = row[str(place)]
            written.append(bytes([value is not None]) + (b"" if value is None else as_written(value, column_type)))
    return b"".join(written), sum(row["is_read"] for row in rows)


def as_written(value: Any, column_type: str) -> bytes:
    """A value as the harness writes it."""
    if isinstance(value, str):
        return sized(value.encode())
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, list):
        return struct.pack("<I", len(value)) + b"".join(sized(text.encode()) for text in value)
    if isinstance(value, int):
        return struct.pack("<q", value)
    scale = int(column_type[:-1].split(",")[1])
    return int(value.scaleb(scale, Context(prec=60))).to_bytes(16, "little", signed=True)


@pytest.mark.exhaustive
def test_it_reads_changed_items_without_a_fault(program: Path) -> None:
    chance = random.Random(0)
    deep = [
        b'{"Item":{"%b":%b}}' % (name, opening * levels + b'{"S":"x"}' + closing * levels)
        for name, opening, closing in ((b"doc", b'{"M":{"m":', b"}}"), (b"list", b'{"L":[', b"]}"))
        for levels in (*range(6, 11), 100_000)
    ]
    lines = [*deep, *map(line, (*READ, *LEFT)), b'{"Item":{"id":{"S":"%b"}}}' % (b"\\n" * 1_000_000)]
    lines += [text for seed in range(10) for text in mutated_lines(1_000 + seed, 500)]
    bare = [text[len(b'{"Item":') : -1] for text in lines]
    texts = ("string",) * len(POINTERS)
    groups: list[tuple[str | None, Sequence[str], Sequence[str], Sequence[bytes]]] = [
        (ITEM_MEMBER, POINTERS, TYPES, lines),
        (None, POINTERS, texts, bare),
        ("", POINTERS, TYPES, [b'{"":%b}' % text for text in bare[:1_000]]),
        (ITEM_MEMBER, (), (), lines[:1_000]),
        (ITEM_MEMBER, ("/id/S", "/doc/M"), texts[:2], lines[:1_000]),
        (ITEM_MEMBER, POINTERS, TYPES, []),
    ]
    text, expected, counts = b"", [], []
    with record_kernel("on"):
        for member, pointers, types, documents in groups:
            item = KnownAttribute.of_pointers(pointers)
            assert item is not None
            cut = list(with_cuts(chance, documents))
            text += described(member, item, types) + struct.pack("<i", len(cut)) + b"".join(map(sized, cut))
            written, count = in_normal_build(cut, member, item, types)
            expected.append(written)
            counts.append(count)
    assert run(program, "items", text) == b"".join(expected)
    assert min(counts[0], counts[1]) > len(lines) / 10
    assert [count > 0 for count in counts[2:]] == [True, False, True, False]
