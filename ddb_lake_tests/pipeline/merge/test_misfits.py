"""The values that no column holds are counted as a reader of the items would count them."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from ddb_lake.core.schema.table_schema import dotted
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.erase import erase_keys
from ddb_lake.pipeline.maintain.erasure import EraseRequest
from ddb_lake.pipeline.merge.misfits import find_entity_misfits, find_misfits
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.export_files import T0_US, change, full, land
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
            "attribute 'created': values that column created (string) does not hold: 1 of type N; they are in _rescued",
        )


def test_status_states_at_least_the_values_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly as many after a load, after new items, and after a compaction of all rows."""
    monkeypatch.setattr("ddb_lake.core.schema.inference.VARIANT_SHARE_PERCENT", 15)
    chosen = random.Random(11)
    values = [{"S": "x"}] * 60 + list(VALUES)

    def image(number: int) -> Item:
        return {"id": {"S": f"k{number}"}} | {name: chosen.choice(values) for name in NAMES[:3]}

    items = {number: image(number) for number in range(200)}
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:

        def check(exact: bool) -> None:
            status = table_status(opened, "orders")
            stated = {one.pointer: Counter(one.values) for one in status.misfits or ()}
            there = {one.pointer: Counter(one.values) for one in find_misfits(opened, "orders")}
            assert status.misfits_exact is exact and there
            assert stated == there if exact else all(stated[key] >= count for key, count in there.items())

        load_export(opened, "orders", str(full(list(items.values())).write(tmp_path / "exports")))
        check(exact=True)
        new = [change(T0_US + number, image(number)) for number in range(200, 230)]
        apply_objects(opened, "orders", [land(tmp_path / "new", *new)])
        check(exact=True)
        changed = [change(T0_US + 1000 + number, image(number), items[number]) for number in range(50)]
        apply_objects(opened, "orders", [land(tmp_path / "changed", *changed)])
        check(exact=False)
        compact_table(opened, "orders", force=True)
        check(exact=True)
        erase_keys(opened, "orders", EraseRequest([{"id": {"S": f"k{number}"}} for number in range(20)]))
        check(exact=False)
