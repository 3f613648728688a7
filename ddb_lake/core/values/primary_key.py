"""Primary keys of items: whether a key is valid, its text, which equal keys share, and the hash by which its rows are found.

Python, DuckDB (`engine.key_text`) and Spark compute the same text and the same hash. Standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from ddb_lake.core.values.attributes import canonical_base64, check_item, error_at
from ddb_lake.core.values.change_record import AttributeValue
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.errors import UndecodableError


def check_keys(keys: object) -> bool:
    """Check a primary key: one or two attributes of S, N or B; return whether it holds binary.

    Raises:
        UndecodableError: what is wrong, without the value.
    """
    if type(keys) is not dict or not 1 <= len(keys) <= 2:
        raise UndecodableError("a key is an object of one or two attributes")
    binary = check_item(keys)
    for value in keys.values():
        if not ("S" in value or "N" in value or "B" in value):
            raise UndecodableError("a key attribute is S, N or B")
    return binary


def key_text(keys: Mapping[str, AttributeValue], names: Sequence[str]) -> str:
    """Injective text of a primary key, the same for equal keys.

    For each attribute in the order of `names`: its type tag, the count of characters (code points) of its
    canonical text, a colon, that text. `{"a": {"S": "x:y"}, "b": {"N": "1.0"}}` is `S3:x:yN1:1`.

    Raises:
        UndecodableError: a key attribute is missing, or is not S, N or B.
    """
    parts = []
    for name in names:
        value = keys.get(name)
        if type(value) is not dict or len(value) != 1:
            raise error_at(UndecodableError("a key attribute is missing or no value"), name)
        ((tag, text),) = value.items()
        if tag == "N":
            text = canonical_number(text)
        elif tag == "B":
            text = canonical_base64(text)
        elif tag != "S" or type(text) is not str:
            raise error_at(UndecodableError("a key attribute is S, N or B"), name)
        parts.append(f"{tag}{len(text)}:{text}")
    return "".join(parts)


def key_values(keys: Mapping[str, AttributeValue], names: Sequence[str]) -> dict[str, str]:
    """The canonical text of each attribute of a primary key, by name. Raises UndecodableError as `key_text`."""
    return {name: key_text(keys, (name,)).partition(":")[2] for name in names}


def canonical_key(keys: Mapping[str, AttributeValue], names: Sequence[str]) -> dict[str, AttributeValue]:
    """The attributes of a primary key as DynamoDB writes them: `{"N": "1.0"}` is `{"N": "1"}`. Raises UndecodableError as `key_text`."""
    return {name: {next(iter(keys[name])): text} for name, text in key_values(keys, names).items()}


def key_hash(text: str) -> int:
    """63 bits of the MD5 of a key's text: the last eight bytes, little-endian, without the lowest bit.

    In DuckDB: `(md5_number(text) >> 65)::BIGINT`.
    """
    return int.from_bytes(hashlib.md5(text.encode(), usedforsecurity=False).digest()[8:], "little") >> 1
