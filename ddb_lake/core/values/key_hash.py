"""The hash by which keys are found: equal in Python, DuckDB and Spark."""

from __future__ import annotations

import hashlib


def key_hash(text: str) -> int:
    """63 bits of the MD5 of a key's text: the last eight bytes, little-endian, without the lowest bit.

    In DuckDB: `(md5_number(text) >> 65)::BIGINT`.
    """
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:], "little") >> 1
