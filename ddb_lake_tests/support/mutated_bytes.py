"""JSON that is nearly as it was: bytes put between others, or in the place of some."""

from __future__ import annotations

import random
from typing import Final

TOKENS: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\r", b"\n", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc3", b"\xc3\xa9",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\xaf", b"\\u00e9", b"\\ud83d", b"\\ud83d\\ude00", b"\\u0000", b"\\/", b"\\n", b"\\b",
    b"0", b"-", b".", b"1e5", b"9" * 39, b"null", b"true", b'"S":"x",', b'"a":{"S":"x"},', b'"eventID":"2",', b'"Keys":{},',
    b'{"L":[' * 40, b'{"M":{"m":' * 40, b"}{", b'}{"a":', b'"SS":["b","a"]', b'"NS":["2","10"]', b"\xef\xbb\xbf", b"x" * 5_000,
)  # fmt: skip
"""What is put between the bytes of JSON, or in the place of some."""


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Some bytes, changed at a few places."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(data) + 1)
        skipped = chance.choice((0, 0, 1, 1, 4, 30))
        put = chance.choice((*TOKENS, b"", bytes([chance.randrange(256)])))
        data = data[:at] + put + data[at + skipped :]
    return data
