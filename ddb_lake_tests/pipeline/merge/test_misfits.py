"""The values that no column holds are counted as a reader of the items would count them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from ddb_lake.core.schema.table_schema import dotted
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.merge.misfits import find_entity_misfits, find_misfits
from ddb_lake_tests.support.export_files import full
from ddb_lake_tests.support.folder_lake import lake

NAMES = ("created", "a/b", "~", "it's", 'say "x"', "$.a[0]", "é")
VALUES: tuple[AttributeValue, ...] = (
    {"S": "x"}, {"N": "1"}, {"N": "1.50"}, {"BOOL": True}, {"B": "aGk="}, {"NULL": True}, {"L": []}, {"SS": ["a"]}, {"M": {}},
)  # fmt: skip


def test_values_outside_their_columns_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddb_lake.core.schema.inference.VARIANT_SHARE_PERCENT", 15)
    chosen = random.Random(7)
    items: list[Item] = [
        {"id": {"S": f"k{number}"}} | {name: chosen.choice(VALUES) for name in NAMES if chosen.random() < 0.8}
        for number in range(300)
    ]
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        load_export(opened, "orders", str(full(items).write(tmp_path / "exports")))
        current = opened.current("orders")
        assert current is not None
        held = {(column.path, column.tag) for column in CurrentState.of(current).schema.columns}
        found = find_misfits(opened, "orders")
    expected: dict[str, Counter[str]] = {}
    for one in items:
        for name, value in one.items():
            ((tag, content),) = value.items()
            if ((name,), tag) not in held and tag != "NULL" and (tag, content) != ("M", {}):
                expected.setdefault(dotted((name,)), Counter())[tag] += 1
    assert {one.attribute: one.values for one in found} == expected
    assert len(found) == len(NAMES)
    assert len(held) > 1 + len(NAMES), "some types have columns beside the attributes' own"


def test_a_type_that_is_rare_in_an_entity_is_counted(tmp_path: Path) -> None:
    """`current` has a column for the numbers of `created`, because users have them; the entity of orders does not."""
    items: list[Item] = [{"id": {"S": f"USER#{n}"}, "created": {"N": str(n)}} for n in range(50)]
    items += [{"id": {"S": f"ORDER#{n}"}, "created": {"S": "x"} if n else {"N": "7"}} for n in range(150)]
    items.append({"id": {"S": "ORDER#x"}})
    entities = [{"name": "order", "key": {"id": "ORDER#{n}"}, "columns": {"n": "long"}}, {"name": "rest"}]
    with lake(tmp_path / "lake", "orders", ["id"], entities=entities) as opened:
        load_export(opened, "orders", str(full(items).write(tmp_path / "exports")))
        assert find_misfits(opened, "orders") == ()
        ((table, (one,)),) = find_entity_misfits(opened, "orders").items()
        assert (table, str(one)) == (
            "orders_order",
            "attribute 'created': column created (string) does not hold 1 of type N; they are in _rescued",
        )
