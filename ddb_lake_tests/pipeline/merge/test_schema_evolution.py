"""What a new attribute, a new type and a new name do to the columns, by policy; the items stay exact whatever it is."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from ddb_lake.errors import CheckFailed
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.merge.misfits import find_misfits
from ddb_lake.pipeline.read.status import table_status
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land, sorted_items
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.several_tables import dumped, lake_of, queried

pytestmark = pytest.mark.usefixtures("no_source")

OLD = item("a", v=1)
NEW = item("b", v="text", fresh=2, m={"M": {"x": {"N": "1"}}})
COLUMNS = "SELECT column_name FROM (DESCRIBE orders) WHERE column_name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY 1"


def orders(policy: str) -> dict[str, object]:
    return {"name": "orders", "schema_evolution": policy}


def grown(folder: Path, policy: str) -> tuple[str, str]:
    """A lake with one item loaded; gives an export and an object that both bring new attributes and a new type."""
    with lake_of(folder / "lake", orders(policy)) as lake:
        load_export(lake, "orders", str(full([OLD]).write(folder / "first")))
    later = str(full([OLD, NEW], at_us=T0_US + HOUR_US).write(folder / "second"))
    return later, land(folder / "object", change(T0_US + MINUTE_US, NEW))


@pytest.mark.parametrize("way", ("load", "apply"))
def test_add_columns_adds_them_in_the_same_commit(tmp_path: Path, way: str) -> None:
    export, landed = grown(tmp_path, "add_columns")
    with lake_of(tmp_path / "lake", orders("add_columns")) as lake:
        before = table_status(lake, "orders").snapshots
        load_export(lake, "orders", export) if way == "load" else apply_objects(lake, "orders", [landed])
        assert [name for (name,) in queried(lake, COLUMNS)] == ["fresh", "id", "m__x", "v", "v__s"]
        assert table_status(lake, "orders").snapshots == before + (2 if way == "load" else 1)
        assert dumped(lake) == sorted_items([OLD, NEW])
        assert_readers_agree(lake, "orders")


@pytest.mark.parametrize("way", ("load", "apply"))
def test_rescue_keeps_the_columns_and_the_values(tmp_path: Path, way: str) -> None:
    export, landed = grown(tmp_path, "rescue")
    with lake_of(tmp_path / "lake", orders("rescue")) as lake:
        load_export(lake, "orders", export) if way == "load" else apply_objects(lake, "orders", [landed])
        assert [name for (name,) in queried(lake, COLUMNS)] == ["id", "v"]
        assert dumped(lake) == sorted_items([OLD, NEW])
        compact_table(lake, "orders", force=True)
        assert [name for (name,) in queried(lake, COLUMNS)] == ["id", "v"]
        assert dumped(lake) == sorted_items([OLD, NEW])


@pytest.mark.parametrize("way", ("load", "apply"))
def test_fail_leaves_current_as_it_is_until_it_is_allowed(tmp_path: Path, way: str) -> None:
    export, landed = grown(tmp_path, "fail")
    with lake_of(tmp_path / "lake", orders("fail")) as lake:
        for _ in range(2):
            with pytest.raises(CheckFailed, match="fresh"):
                load_export(lake, "orders", export) if way == "load" else apply_objects(lake, "orders", [landed])
        assert dumped(lake) == sorted_items([OLD])
    with lake_of(tmp_path / "lake", orders("add_columns")) as lake:
        load_export(lake, "orders", export) if way == "load" else apply_objects(lake, "orders", [landed])
        assert dumped(lake) == sorted_items([OLD, NEW])


def test_failing_table_does_not_keep_another_from_its_records(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", orders("fail"), {"name": "items"}) as lake:
        apply_objects(lake, "orders", [land(tmp_path / "1", change(T0_US, OLD))])
        both = land(tmp_path / "2", change(T0_US + 1, NEW), change(T0_US + 1, NEW, table="items"))
        with pytest.raises(CheckFailed, match="fresh"):
            apply_objects(lake, "items", [both])
        assert dumped(lake, "items") == sorted_items([NEW])
        assert dumped(lake, "orders") == sorted_items([OLD])
        assert table_status(lake, "orders").pending_batches == 1


def test_rescued_values_move_into_columns_when_files_are_rewritten(tmp_path: Path) -> None:
    _, landed = grown(tmp_path, "rescue")
    with lake_of(tmp_path / "lake", orders("rescue")) as lake:
        apply_objects(lake, "orders", [landed])
    with lake_of(tmp_path / "lake", orders("add_columns")) as lake:
        result = compact_table(lake, "orders", force=True)
        assert {"fresh", "m__x"} <= set(result.retyped)
        assert queried(lake, "SELECT id, fresh, m__x FROM orders ORDER BY id") == [("a", None, None), ("b", 2, 1)]
        assert dumped(lake) == sorted_items([OLD, NEW])
        assert_readers_agree(lake, "orders")


def test_type_that_no_longer_fits_widens_when_files_are_rewritten(tmp_path: Path) -> None:
    items = [item("a", v=1), item("b", v=2)]
    wider = [item("c", v={"N": "0.125"}), item("d", v={"N": "12345678901234567890"})]
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full(items).write(tmp_path / "export")))
        apply_objects(lake, "orders", [land(tmp_path / "1", *(change(T0_US + MINUTE_US, new) for new in wider))])
        assert queried(lake, "SELECT typeof(v), v FROM orders WHERE id IN ('a', 'c') ORDER BY id") == [
            ("BIGINT", 1),
            ("BIGINT", None),
        ]
        assert dumped(lake) == sorted_items([*items, *wider])
        assert compact_table(lake, "orders", force=True).retyped == ("v",)
        assert queried(lake, "SELECT v FROM orders ORDER BY id") == [
            (Decimal("1.000"),),
            (Decimal("2.000"),),
            (Decimal("0.125"),),
            (Decimal("12345678901234567890.000"),),
        ]
        assert dumped(lake) == sorted_items([*items, *wider])
        assert dumped(lake, as_of_us=T0_US) == sorted_items(items)
        assert_readers_agree(lake, "orders")


def test_configured_types_hold_and_what_they_cannot_hold_is_rescued(tmp_path: Path) -> None:
    items = [item("a", v={"N": "1.5"}, doc={"M": {"x": {"S": "y"}}}, t=7), item("b", v={"N": "1.125"}, t={"N": "7.0"})]
    columns = {"v": "decimal(38,2)", "doc": "json", "t": "string"}
    with lake_of(tmp_path / "lake", {"name": "orders", "columns": columns}) as lake:
        load_export(lake, "orders", str(full(items).write(tmp_path / "export")))
        found = queried(lake, "SELECT v, doc, t FROM orders ORDER BY id")
        assert [row[0] for row in found] == [Decimal("1.50"), None]
        assert found[0][1:] == ('{"x":"y"}', "7")
        assert found[1][2] == "7.0"
        assert dumped(lake) == sorted_items(items)


MIXED = [
    item("u1", created=1),
    item("u2", created={"N": "2.50"}),
    item("o1", created={"S": "2026-01-01"}),
    item("x", created={"BOOL": True}),
]
AS_TEXT = [("o1", "2026-01-01"), ("u1", "1"), ("u2", "2.50"), ("x", "true")]
AS_JSON = [("o1", '"2026-01-01"'), ("u1", "1"), ("u2", "2.5"), ("x", "true")]


@pytest.mark.parametrize(("column_type", "expected"), [("string", AS_TEXT), ("json", AS_JSON)])
@pytest.mark.parametrize("way", ["load", "apply"])
def test_declared_column_has_the_values_of_every_type(
    tmp_path: Path, column_type: str, expected: list[tuple[str, str]], way: str
) -> None:
    with lake_of(tmp_path / "lake", {"name": "orders", "columns": {"created": {"type": column_type}}}) as lake:
        if way == "load":
            load_export(lake, "orders", str(full(MIXED).write(tmp_path / "export")))
        else:
            for number, new in enumerate(MIXED):
                apply_objects(lake, "orders", [land(tmp_path / str(number), change(T0_US + number, new))])
        assert queried(lake, "SELECT id, created FROM orders ORDER BY id") == expected
        assert find_misfits(lake, "orders") == ()
        assert dumped(lake) == sorted_items(MIXED)
        assert_readers_agree(lake, "orders")


USERS = [item(f"u{number}", created=number, name="x") for number in range(400)]
ORDERS = [item(f"o{number}", created={"S": f"2026-01-{number:02}"}, total=number) for number in range(1, 31)]


@pytest.mark.parametrize("way", ["load", "apply"])
def test_attribute_of_two_types_has_two_columns(tmp_path: Path, way: str) -> None:
    """Users and orders in one table, whose `created` are numbers and texts: no query misses a value."""
    items = [*USERS, *ORDERS]
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full(items if way == "load" else USERS).write(tmp_path / "export")))
        if way == "apply":
            apply_objects(lake, "orders", [land(tmp_path / "1", *(change(T0_US + MINUTE_US, new) for new in ORDERS))])
        assert queried(lake, "SELECT count(created), sum(created), count(created__s), min(created__s) FROM orders") == [
            (400, sum(range(400)), 30, "2026-01-01")
        ]
        assert queried(lake, "SELECT count(_rescued) FROM orders") == [(0,)]
        assert find_misfits(lake, "orders") == ()
        assert dumped(lake) == sorted_items(items)
        assert_readers_agree(lake, "orders")


def test_rare_value_of_another_type_gets_no_column_by_an_apply_and_one_when_files_are_rewritten(tmp_path: Path) -> None:
    few, more = ORDERS[:4], ORDERS[4:8]
    with lake_of(tmp_path / "lake", {"name": "orders"}) as lake:
        load_export(lake, "orders", str(full(USERS).write(tmp_path / "export")))
        for number, landed in enumerate((few, more)):
            apply_objects(
                lake, "orders", [land(tmp_path / f"{number}", *(change(T0_US + MINUTE_US, new) for new in landed))]
            )
            assert [(one.attribute, one.values) for one in find_misfits(lake, "orders")] == [
                ("created", {"S": 4 + 4 * number})
            ]
        assert compact_table(lake, "orders", force=True).retyped == ("created__s",)
        assert queried(lake, "SELECT count(created), count(created__s), count(_rescued) FROM orders") == [(400, 8, 0)]
        apply_objects(
            lake, "orders", [land(tmp_path / "3", change(T0_US + 2 * MINUTE_US, item("o1", created={"BOOL": True})))]
        )
        assert queried(lake, "SELECT count(created__s), count(_rescued) FROM orders") == [(7, 1)]
        assert_readers_agree(lake, "orders")


def test_declared_type_replaces_the_column_when_files_are_rewritten(tmp_path: Path) -> None:
    """Rows of before have a number column, and their maps a JSON column of DynamoDB JSON."""
    items = [*MIXED, item("m", created={"N": "3"}, doc={"M": {"a": {"N": "1"}}}), item("n", doc={"L": [{"N": "1"}]})]
    export = str(full(items).write(tmp_path / "export"))
    with lake_of(tmp_path / "lake", {"name": "orders", "nested": "json"}) as lake:
        load_export(lake, "orders", export)
        assert queried(lake, "SELECT doc, doc__m FROM orders WHERE id IN ('m', 'n') ORDER BY id") == [
            (None, '{"a":{"N":"1"}}'), ('[{"N":"1"}]', None),
        ]  # fmt: skip
    declared = {"name": "orders", "nested": "json", "columns": {"created": "string", "doc": "json"}}
    with lake_of(tmp_path / "lake", declared) as lake:
        apply_objects(lake, "orders", [land(tmp_path / "1", change(T0_US + MINUTE_US, item("z", created={"S": "z"})))])
        assert dumped(lake) == sorted_items([*items, item("z", created={"S": "z"})])
        assert compact_table(lake, "orders", force=True).retyped == ("created", "doc")
        assert queried(lake, "SELECT id, created, doc FROM orders ORDER BY id") == [
            ("m", "3", '{"a":1}'),
            ("n", None, "[1]"),
            *((key, value, None) for key, value in [*AS_TEXT, ("z", "z")]),
        ]
        assert find_misfits(lake, "orders") == ()
        assert dumped(lake) == sorted_items([*items, item("z", created={"S": "z"})])
        assert dumped(lake, as_of_us=T0_US) == sorted_items(items)
        assert_readers_agree(lake, "orders")
