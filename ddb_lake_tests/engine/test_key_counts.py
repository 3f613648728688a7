"""Distinct keys are counted exactly, whether their hashes are sorted in this process or by DuckDB."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.engine.key_counts import KeyCounts, count_key_hashes
from ddb_lake.engine.session import Session, connect
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples

FEW = st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1])
HASHES = st.lists(st.none() | FEW | st.integers(-(2**63), 2**63 - 1))


@pytest.fixture(scope="module")
def session() -> Session:
    with connect() as session:
        yield session


@examples(50, 300, 2_000, suppress=SHARED_FIXTURE)
@given(hashes=HASHES, memory_bytes=st.sampled_from([0, 10**9]))
def test_counts_are_those_of_python(session: Session, hashes: list[int | None], memory_bytes: int) -> None:
    session.con.register("hashed", pa.table({"_key_hash": pa.array(hashes, pa.int64())}))
    held = [found for found in hashes if found is not None]
    counts = count_key_hashes(session, "hashed", memory_bytes)
    assert counts == KeyCounts(len(hashes), len(held), len(set(held)))
    assert counts.is_unique == (None not in hashes and len(set(hashes)) == len(hashes))


@pytest.mark.parametrize("repeated", [None, 0, 131_071, 131_072, 299_999])
def test_a_repeated_hash_is_found_in_any_batch(session: Session, repeated: int | None) -> None:
    """Of rows that are read in several batches."""
    again = "" if repeated is None else f" UNION ALL SELECT ({repeated}::BIGINT * 7919) % 300007"
    rows = f"(SELECT (i * 7919) % 300007 AS _key_hash FROM range(300000) AS r(i){again})"
    found = count_key_hashes(session, rows, 10**9)
    assert found == KeyCounts(300_000 + (repeated is not None), 300_000 + (repeated is not None), 300_000)
