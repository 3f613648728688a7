"""The hash of a key is the same wherever it is computed."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given, settings

from ddb_lake.core.values.primary_key import canonical_key, key_hash, key_text
from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake_tests.support import strategies as ddb


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


@given(ddb.texts())
@settings(max_examples=200)
def test_key_hash_in_duckdb_is_the_same(con: duckdb.DuckDBPyConnection, text: str) -> None:
    row = con.execute(f"SELECT {key_hash_sql('?::VARCHAR')}", [text]).fetchone()
    assert row == (key_hash(text),)


@given(ddb.keys())
def test_key_hash_of_any_key_is_a_bigint_that_is_not_negative(keys: dict[str, dict[str, str]]) -> None:
    assert 0 <= key_hash(key_text(keys, tuple(keys))) < 2**63


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 4549053946144276596), ("S3:abc", 1265603144862809636), ("S2:🦆é", 4377368071296530938)],
)
def test_key_hash_stays_what_it_is_because_tables_hold_it(text: str, expected: int) -> None:
    assert key_hash(text) == expected


def test_key_hash_spreads_keys_over_all_its_bits() -> None:
    hashes = [key_hash(f"S4:{number:04}") for number in range(2000)]
    assert len(set(hashes)) == 2000
    for bit in range(63):
        assert 800 < sum(value >> bit & 1 for value in hashes) < 1200


@given(ddb.keys())
def test_canonical_key_is_an_equal_key_in_one_spelling(keys: dict[str, dict[str, str]]) -> None:
    names = tuple(keys)
    found = canonical_key(keys | {"other": {"S": "x"}}, names)
    assert key_text(found, names) == key_text(keys, names)
    assert found == canonical_key(found, names)
    assert canonical_key({"a": {"N": "+01.50e1"}}, ("a",)) == {"a": {"N": "15"}}
