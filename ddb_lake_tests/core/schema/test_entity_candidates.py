"""Entities that are proposed for the keys of a table, among them those of designs that AWS has published."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.config import parse_settings
from ddb_lake.core.schema.entity_candidates import entities_of_keys
from ddb_lake_tests.support.effort import examples

NAMES = ("PK", "SK")


def proposed(*keys: tuple[str, str]) -> list[tuple[str, dict[str, str], dict[str, str], int]]:
    found = entities_of_keys([dict(zip(NAMES, key, strict=True)) for key in keys], NAMES)
    return [(one.name, dict(one.key), dict(one.columns), one.items) for one in found]


def test_users_and_orders() -> None:
    keys = [("USER#ann", "PROFILE"), ("USER#bob", "PROFILE")]
    keys += [("USER#ann", f"ORDER#{number}") for number in range(3)]
    assert proposed(*keys) == [
        ("order", {"PK": "USER#{user_id}", "SK": "ORDER#{order_id}"}, {"order_id": "long"}, 3),
        ("user", {"PK": "USER#{user_id}", "SK": "PROFILE"}, {}, 2),
        ("rest", {}, {}, 0),
    ]


def test_recurring_payments() -> None:
    """https://github.com/aws-samples/aws-dynamodb-examples/tree/master/schema_design/SchemaExamples/RecurringPayments"""
    subscriptions = [(f"ACC#{account}", f"SUB#{account}1#SKU#{sku}") for account, sku in ((12, 7), (34, 8), (56, 7))]
    receipts = [(f"ACC#{account}", f"REC#2026-01-0{account}T10:00:00Z#SKU#7") for account in (1, 2)]
    assert proposed(*subscriptions, *receipts) == [
        (
            "sub",
            {"PK": "ACC#{acc_id}", "SK": "SUB#{sub_id}#SKU#{sku_id}"},
            {"acc_id": "long", "sub_id": "long", "sku_id": "long"},
            3,
        ),
        ("rec", {"PK": "ACC#{acc_id}", "SK": "REC#{rec_at}#SKU#{sku_id}"}, {}, 2),
        ("rest", {}, {}, 0),
    ]


def test_complaints() -> None:
    """https://github.com/aws-samples/aws-dynamodb-examples/tree/master/schema_design/SchemaExamples/ComplainManagement"""
    keys = [("Complaint10", "metadata"), ("Complaint20", "metadata")]
    keys += [("Complaint10", f"comm#2026-01-01T10:0{number}:00#comm{number}") for number in range(2)]
    assert proposed(*keys) == [
        ("metadata", {"SK": "metadata"}, {}, 2),
        ("comm", {"SK": "comm#{comm_at}#{comm_id}"}, {}, 2),
        ("rest", {}, {}, 0),
    ]


def test_keys_that_are_equal() -> None:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/data-modeling-online-shop.html"""
    keys = [("c#1", "c#1"), ("c#2", "c#2"), ("o#1", "p#9"), ("o#2", "p#8")]
    assert proposed(*keys) == [
        ("c", {"PK": "c#{c_id}", "SK": "c#{c_2}"}, {}, 2),
        ("p", {"PK": "o#{o_id}", "SK": "p#{p_id}"}, {}, 2),
        ("rest", {}, {}, 0),
    ]


def test_word_that_several_kinds_have_names_the_one_that_has_no_other() -> None:
    """https://github.com/aws-samples/amazon-dynamodb-design-patterns/tree/master/examples/an-online-shop"""
    keys = [(f"p#{n}", f"w#{n}") for n in range(3)] + [("w#1", "w#1"), ("w#2", "w#2"), ("o#1", "p#1"), ("p#1", "p#1")]
    keys += [("o#1", "c#1"), ("o#1", "sh#1")]
    assert {name: (key["PK"], key["SK"]) for name, key, _, items in proposed(*keys) if key} == {
        "p_w": ("p#{p_id}", "w#{w_id}"),
        "w": ("w#{w_id}", "w#{w_2}"),
        "o_p": ("o#{o_id}", "p#{p_id}"),
        "p": ("p#{p_id}", "p#{p_2}"),
        "c": ("o#{o_id}", "c#{c_id}"),
        "sh": ("o#{o_id}", "sh#{sh_id}"),
    }


def test_words_behind_an_id_are_kinds_and_names_of_people_are_not() -> None:
    """https://github.com/aws-samples/aws-dynamodb-examples/tree/master/schema_design/SchemaExamples/SocialNetwork"""
    kinds = ("follower", "following", "post")
    keys = [(f"u#{one}#{kind}", f"{kind[0]}#{other}") for kind in kinds for one in range(2) for other in range(3)]
    assert [(name, key["PK"], items) for name, key, _, items in proposed(*keys) if key] == [
        (f"u_{kind}_f" if kind != "post" else "p", f"u#{{u_id}}#{kind}", 6) for kind in kinds
    ]
    people = [(f"org#1#{name}", f"f#{n}") for n, name in enumerate(("ann", "bob", "cec"))] + [("org#1#ann", "g#1")]
    assert {key["PK"] for _, key, _, _ in proposed(*people) if key} == {"org#{org_id}#{org_2}"}


@pytest.mark.parametrize("keys", [[], [("a1", "b2"), ("a3", "b4")], [("U#1", "x1"), ("U#2", "x2")]])
def test_table_of_one_kind_has_no_entities(keys: list[tuple[str, str]]) -> None:
    assert proposed(*keys) == []


_TEXTS = st.one_of(
    st.text("aB#|{*}\\:1é\n", min_size=1, max_size=9),
    st.sampled_from(
        ["USER#1", "USER#2", "ORDER#1#ITEM#2", "PROFILE", "CHANGES#1", "_x#1", "a.b#{c}", "DAILY#", "PK#1"]
    ),
)


@examples(60, 300, 1000)
@given(keys=st.lists(st.tuples(_TEXTS, _TEXTS), max_size=12))
def test_proposal_is_a_valid_configuration_in_which_each_key_has_an_entity(keys: list[tuple[str, str]]) -> None:
    found = proposed(*keys)
    entities: list[dict[str, Any]] = [{"name": name, "key": key, "columns": columns} for name, key, columns, _ in found]
    parse_settings({"warehouse": "w", "tables": [{"name": "t", "key": list(NAMES), "entities": entities}]}, "test")
    assert not found or sum(items for *_, items in found) == len(keys)
