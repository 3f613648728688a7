"""The likeliest key of a table, from its change records and items, where no configuration states it. Pure.

Change records name the key attributes, but not which of two is the partition key. Items name neither. So each answer says what it
is derived from, and whether it is certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from ddb_lake.core.values.change_record import Item

KEY_TAGS = ("S", "N", "B")
"""The types that a key attribute may have. https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.CoreComponents.html"""

MOST_CANDIDATES = 40
"""The most attributes whose pairs are examined."""

_PARTITION_NAMES = ("pk", "partitionkey", "partition", "hashkey", "hash", "hk")
_NO_NAME = 3
"""The rank of an attribute whose name is no sign of a key."""

_SORT_NAMES = ("sk", "sortkey", "sort", "rangekey", "range", "rk")


@dataclass(frozen=True, slots=True)
class KeyCandidate:
    """A key, and how it is known.

    Attributes:
        names: the attributes, the partition key first.
        is_certain: whether it can be no other.
        reason: what it is derived from, a clause.
    """

    names: tuple[str, ...]
    is_certain: bool
    reason: str


def key_of_records(names: Sequence[str], items: Sequence[Item]) -> KeyCandidate:
    """The key of a table, from the key attributes that its change records name.

    Args:
        names: one or two attributes, in the sequence in which a record has them.
        items: items of the table, which decide which of two attributes is the partition key.
    """
    if len(names) == 1:
        return KeyCandidate(tuple(names), True, "as the change records have it")
    first, reason = _partition_key(names, items)
    second = next(name for name in names if name != first)
    return KeyCandidate((first, second), False, f"as the change records have it; {first} as the partition key {reason}")


def key_of_items(items: Sequence[Item]) -> KeyCandidate | None:
    """The likeliest key of items: one attribute, or two, whose values identify each item. None if there is none, or no item.

    An attribute of a key is in every item, with a text, a number or bytes, always of one type.
    """
    if not items:
        return None
    names = [name for name in items[0] if _can_be_key(name, items)]
    names.sort(key=lambda name: (_rank(name), _is_fraction(name, items), list(items[0]).index(name)))
    names = names[:MOST_CANDIDATES]
    choices = [chosen for size in (1, 2) for chosen in combinations(names, size) if _is_unique(chosen, items)]
    if not choices:
        return None
    likeliest = min(choices, key=lambda chosen: _unlikeliness(chosen, names))  # the first of equals
    others = len(choices) - 1
    also = f", as {others} other choice{'' if others == 1 else 's'} would" if others else ""
    reason = f"it identifies each of {len(items):,} sampled items{also}"
    return KeyCandidate(likeliest if len(likeliest) == 1 else _ordered(likeliest, items), False, reason)


def _unlikeliness(chosen: Sequence[str], names: Sequence[str]) -> int:
    """A number that is less for a likelier key: attributes named as ids or as halves of a key before all others."""
    is_named = _rank(chosen[0]) < _NO_NAME
    if len(chosen) == 1:
        return 3 if _is_half(chosen[0], names) else 0 if is_named else 2
    return 1 if is_named else 4


def _partition_key(names: Sequence[str], items: Sequence[Item]) -> tuple[str, str]:
    """The likelier partition key of two attributes, and why."""
    named = [name for name in names if _plain(name) in _PARTITION_NAMES]
    named = named or [name for name in names if _plain(name) not in _SORT_NAMES]
    if len(named) == 1:
        return named[0], "by its name"
    distinct = {name: len({str(item.get(name)) for item in items}) for name in names}
    if len(set(distinct.values())) > 1:
        return min(names, key=distinct.__getitem__), "because its values repeat"
    return names[0], "is a guess"


def _ordered(names: Sequence[str], items: Sequence[Item]) -> tuple[str, ...]:
    names = sorted(names, key=list(items[0]).index)
    first, _ = _partition_key(names, items)
    return (first, *(name for name in names if name != first))


def _can_be_key(name: str, items: Iterable[Item]) -> bool:
    tags = {next(iter(item[name])) if name in item else None for item in items}
    return len(tags) == 1 and tags <= set(KEY_TAGS)


def _is_fraction(name: str, items: Iterable[Item]) -> bool:
    """Whether an attribute has a number with decimals: an amount, which is in no key as a rule."""
    return any("." in item[name].get("N", "") for item in items)


def _is_unique(names: Sequence[str], items: Sequence[Item]) -> bool:
    return len({tuple(str(item[name]) for name in names) for item in items}) == len(items)


def _is_half(name: str, names: Sequence[str]) -> bool:
    """Whether a name says that it is half of a key, and the other half is there."""
    halves = (_PARTITION_NAMES, _SORT_NAMES)
    return any(
        _plain(name) in one and any(_plain(found) in other for found in names) for one, other in (halves, halves[::-1])
    )


def _rank(name: str) -> int:
    plain = _plain(name)
    if plain in (*_PARTITION_NAMES, *_SORT_NAMES):
        return 0
    return 1 if plain == "id" else 2 if plain.endswith("id") else _NO_NAME


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
