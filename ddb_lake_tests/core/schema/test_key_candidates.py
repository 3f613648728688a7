"""The likeliest key of records and items: it identifies the items, and its doubt is stated."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.key_candidates import KEY_TAGS, key_of_items, key_of_records

NAMES = st.sampled_from(["pk", "SK", "id", "userId", "a", "b"])
VALUES = st.one_of(
    st.builds(lambda n: {"N": str(n)}, st.integers(0, 3)),
    st.builds(lambda s: {"S": s}, st.sampled_from(["x", "y", "z"])),
    st.just({"NULL": True}),
    st.just({"M": {}}),
)
ITEMS = st.lists(st.dictionaries(NAMES, VALUES, min_size=1), max_size=6)


@given(ITEMS)
def test_key_of_items_identifies_each_item(items: list[dict[str, Any]]) -> None:
    found = key_of_items(items)

    if found is None:
        return
    assert 1 <= len(found.names) <= 2
    assert not found.is_certain
    assert all({next(iter(item[name])) for item in items} <= set(KEY_TAGS) for name in found.names)
    assert len({tuple(str(item[name]) for name in found.names) for item in items}) == len(items)


@given(ITEMS, NAMES)
def test_there_is_a_key_if_an_attribute_identifies_each_item(items: list[dict[str, Any]], name: str) -> None:
    numbered = [{**item, name: {"S": str(number)}} for number, item in enumerate(items)]
    assert (key_of_items(numbered) is None) == (not items)


def test_names_of_halves_are_a_key_together() -> None:
    items = [{"SK": {"S": f"s{n}"}, "PK": {"S": f"p{n}"}, "created": {"S": str(n)}} for n in range(3)]
    found = key_of_items(items)
    assert found is not None
    assert found.names == ("PK", "SK")
    assert "as 5 other choices would" in found.reason


def test_attribute_named_as_an_id_is_likelier_than_one_that_happens_to_be_unique() -> None:
    items = [{"total": {"N": f"{n}.5"}, "order_id": {"N": str(n)}} for n in range(3)]
    found = key_of_items(items)
    assert found is not None
    assert found.names == ("order_id",)

    items = [
        {"total": {"N": f"{n}.5"}, "customer": {"S": "ab"[n // 2]}, "order_id": {"N": str(n % 2)}} for n in range(3)
    ]
    found = key_of_items(items)
    assert found is not None
    assert set(found.names) == {"customer", "order_id"}


def test_key_of_one_attribute_in_records_is_certain() -> None:
    assert key_of_records(["id"], []).is_certain


def test_partition_key_of_records_has_the_values_that_repeat() -> None:
    items = [{"order": {"N": str(n)}, "customer": {"S": "ab"[n % 2]}} for n in range(4)]
    found = key_of_records(["order", "customer"], items)
    assert (found.names, found.is_certain) == (("customer", "order"), False)
    assert "values repeat" in found.reason
    assert key_of_records(["b", "a"], []).names == ("b", "a")
    assert "guess" in key_of_records(["b", "a"], []).reason
    assert key_of_records(["range", "x"], items).names == ("x", "range")
