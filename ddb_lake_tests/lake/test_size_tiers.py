"""Merging by size keeps few elements, and rewrites each one seldom."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.lake.size_tiers import TIER_SIZE, groups_to_merge
from ddb_lake_tests.support.effort import examples


@given(st.lists(st.integers(1, 5000), max_size=200))
@examples(50, 1000)
def test_groups_have_each_element_once_in_order_and_need_no_second_merge(sizes: list[int]) -> None:
    elements = list(enumerate(sizes))
    groups = groups_to_merge(elements, lambda element: element[1])
    assert sorted(element for group in groups for element in group) == elements
    assert all(group == sorted(group) for group in groups if len({size for _, size in group}) == 1)
    merged = [sum(size for _, size in group) for group in groups]
    assert all(len(group) == 1 for group in groups_to_merge(merged, lambda size: size))
    classes = Counter((size.bit_length() + 2) // 3 for size in merged)
    assert all(count < TIER_SIZE for count in classes.values())


def test_elements_that_come_one_by_one_are_rewritten_a_logarithmic_number_of_times() -> None:
    present: list[int] = []
    rewritten = 0
    for _ in range(4096):  # 8 to the power of 4
        groups = groups_to_merge([*present, 1], lambda size: size)
        rewritten += sum(sum(group) for group in groups if len(group) > 1)
        present = [sum(group) for group in groups]
    assert present == [4096]
    assert rewritten <= 4096 * 4
