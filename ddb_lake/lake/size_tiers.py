"""Merging by size: when `TIER_SIZE` elements of about the same size exist, they become one.

Of n elements that are added one by one, each is rewritten about log8(n) times, and about 7 log8(n) elements remain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeVar

TIER_SIZE = 8
"""The number of elements of about the same size that are merged."""

_Element = TypeVar("_Element")


def groups_to_merge(elements: Iterable[_Element], size: Callable[[_Element], int]) -> list[list[_Element]]:
    """Divide elements into groups. Each group is to become one element. An element that stays is a group of its own.

    Args:
        elements: the elements. Their order is kept within a group.
        size: the size of an element, at least 1. That of a group is the sum.
    """
    tiers: dict[int, list[tuple[int, list[_Element]]]] = defaultdict(list)
    for element in elements:
        tiers[_tier(size(element))].append((size(element), [element]))
    while full := min((tier for tier, groups in tiers.items() if len(groups) >= TIER_SIZE), default=None):
        groups = tiers.pop(full)
        total = sum(one for one, _ in groups)
        tiers[_tier(total)].append((total, [element for _, group in groups for element in group]))
    return [group for groups in tiers.values() for _, group in groups]


def _tier(size: int) -> int:
    """The class of a size: 1 for 1 to 7, 2 for 8 to 63 and so on."""
    return (size.bit_length() + 2) // 3
