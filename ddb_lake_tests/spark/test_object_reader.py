"""Landed objects divided among tasks, here without Spark."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.spark.object_reader import _shares


@given(st.lists(st.integers(0, 20_000_000), min_size=1, max_size=40), st.integers(0, 5))
def test_shares_have_all_objects_once_in_order(sizes: list[int], cores: int) -> None:
    refs = [ObjectRef(f"s3://b/{number}", "v", size, 0) for number, size in enumerate(sizes)]
    shares = _shares(refs, cores)
    assert [entry for share in shares for entry in share] == [*enumerate(refs)]
    assert all(shares)
    assert cores or len(shares) == 1


def test_shares_of_equal_objects_are_as_many_as_three_a_core() -> None:
    refs = [ObjectRef(f"s3://b/{number}", "v", 8_000_000, 0) for number in range(12)]
    assert [len(share) for share in _shares(refs, 2)] == [2] * 6
