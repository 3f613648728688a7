"""Bytes spoiled at random, from a seed: a mutation fuzzer over real samples and over the simulator's objects."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from ddb_lake_tests.support.lake_contents import small_scenario
from ddb_lake_tests.support.samples import sample_files

MOST_BYTES: Final = 1 << 18

TOKENS: Final = (
    b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"\n", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28",
    b'{"Item":{', b'{"Keys":{', b'"dynamodb":', b'"NewImage":null', b'{"N":"' + b"9" * 5000 + b'"}', b"9" * 5000,
    b"-0", b"1e999999", b"NaN", b"\\ud800", b"\\u0000", b"[" * 2000, b'{"a":' * 1500, b'{"M":' * 200,
    b'"' + b"n" * 65_536 + b'":1,', b"\x1f\x8b\x08", b"PK\x03\x04", b"\xff\x06\x00\x00sNaPpY", b"\x82SNAPPY\x00",
    b'"ApproximateCreationDateTime":1e400', b'"SequenceNumber":"' + b"7" * 6000 + b'"', b"..", b"/", b"%2e%2e",
)  # fmt: skip


def seeds() -> list[bytes]:
    """What is spoiled: every sample of moderate size, the simulator's objects, and manifests."""
    scenario = small_scenario(seed=3, keys=5, writes=20, objects=3)
    found = [*scenario.objects.values(), *(data for export in scenario.exports for data in export.files.values())]
    return [*found, *(path.read_bytes()[:MOST_BYTES] for path in sample_files("."))]


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """So many spoiled inputs; the same ones for the same seed."""
    chance, corpus = random.Random(seed), seeds()
    plain = [_inflated(data) for data in corpus]
    for _ in range(count):
        data = chance.choice(plain if chance.random() < 0.7 else corpus)
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            data = chance.choice(WAYS)(data, chance, chance.choice(plain))[:MOST_BYTES]
        if chance.random() < 0.25:
            data = gzip.compress(data, 1)
            data = WAYS[chance.randrange(4)](data, chance, b"") if chance.random() < 0.7 else data
        yield data


def _inflated(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return data


def _flip(data: bytes, chance: random.Random, other: bytes) -> bytes:
    if not data:
        return other
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _cut(data: bytes, chance: random.Random, other: bytes) -> bytes:
    return data[: chance.randint(0, len(data))]


def _remove(data: bytes, chance: random.Random, other: bytes) -> bytes:
    low = chance.randint(0, len(data))
    return data[:low] + data[min(len(data), low + chance.choice((1, 2, 40))) :]


def _insert(data: bytes, chance: random.Random, other: bytes) -> bytes:
    at = chance.randint(0, len(data))
    return data[:at] + chance.choice(TOKENS) + data[at:]


def _double(data: bytes, chance: random.Random, other: bytes) -> bytes:
    low, high = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
    return data[:high] + data[low:high] + data[high:]


def _splice(data: bytes, chance: random.Random, other: bytes) -> bytes:
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


WAYS: Final[tuple[Callable[[bytes, random.Random, bytes], bytes], ...]] = (
    _flip,
    _cut,
    _remove,
    _insert,
    _double,
    _splice,
)
