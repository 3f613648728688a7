"""The tables of entities have the items of `current`, each in the entity that its key states, whatever changed `current`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.checks.check import Subject
from ddb_lake.checks.entities import entities_complete
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import ConfigError
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.merge.entity_source import entities_behind
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.pipeline.verify.entities import compare_entities
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.entity_histories import item, items_held, record
from ddb_lake_tests.support.entity_walks import DESIGNS, check, run_history, table
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, full, land
from ddb_lake_tests.support.killed_steps import cleaning_at_once
from ddb_lake_tests.support.several_tables import lake_of, queried

pytestmark = pytest.mark.usefixtures("no_source")


@examples(1, 6, 200)
@given(seed=st.integers(0, 10**9))
def test_any_history(seed: int) -> None:
    with TemporaryDirectory() as folder:
        run_history(Path(folder), seed, 4)


@pytest.mark.exhaustive
@examples(1, 3, 40)
@given(seed=st.integers(0, 10**9))
def test_any_history_in_which_snapshots_expire_at_once(seed: int) -> None:
    with TemporaryDirectory() as folder, cleaning_at_once():
        run_history(Path(folder), seed, 6)


def _loaded(folder: Path, lake: Lake, *items: Item, at_us: int = T0_US) -> None:
    load_export(lake, "app", str(full(items, at_us=at_us, table="app").write(folder)))


def test_each_entity_has_its_own_types_and_the_parts_of_its_keys(tmp_path: Path) -> None:
    items = [
        item("USER#ann", "PROFILE", created=1),
        item("USER#ann", "ORDER#7", created="2026-03-01", number="seven"),
        item("USER#ann", "ORDER#x", created="2026-03-02"),
        item("CONFIG", "x", created={"BOOL": True}),
    ]
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(tmp_path / "export", lake, *items)
        check(lake)
        assert queried(lake, "SELECT created FROM app_user") == [(1,)]
        orders = "SELECT customer, number, COLUMNS('number_.*'), created FROM app_order ORDER BY SK"
        assert queried(lake, orders) == [
            ("ann", 7, "seven", "2026-03-01"),
            ("ann", None, None, "2026-03-02"),
        ]
        assert queried(lake, "SELECT created FROM app_rest") == [(True,)]
        (order, other) = sorted(items_held(lake, "app")["order"], key=lambda one: one["SK"]["S"])
        assert (order["{number}"], other["{number}"]) == ({"N": "7"}, {"NULL": True})
        found = compare_entities(lake, "app")
        assert found is not None and found.entities[1].unconverted == (("number", 1),)


def test_changes_replace_few_rows(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(tmp_path / "export", lake, *(item(f"USER#{n}", "ORDER#1", v=n) for n in range(50)))
        later = T0_US + 30 * MINUTE_US
        records = [
            record(later, item("USER#1", "ORDER#1", v=100), item("USER#1", "ORDER#1", v=1)),
            record(later, None, item("USER#2", "ORDER#1", v=2)),
            record(later, item("USER#3", "PROFILE", v=3)),
        ]
        merged = apply_objects(lake, "app", [land(tmp_path / "object", *records)]).current["app"]
        assert [(one.entity, one.added, one.deleted, one.rows, one.rewritten) for one in merged.entities] == [
            ("user", 1, 0, 1, None),
            ("order", 1, 2, 49, None),
            ("rest", 0, 0, 0, None),
        ]
        check(lake)
        compact_table(lake, "app", force=True)
        check(lake)
        assert update_entities(lake, "app") == ()


def test_compaction_of_current_rewrites_no_row_of_an_entity(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(tmp_path / "export", lake, *(item(f"USER#{n}", "ORDER#1", v=n) for n in range(5)))
        plain = lake_of(tmp_path / "lake", table(entities=[]))
        with plain as without:
            compact_table(without, "app", force=True)
        assert set(entities_behind(lake, "app")) == {"user", "order", "rest"}
        assert [(one.added, one.deleted, one.rewritten) for one in update_entities(lake, "app")] == [(0, 0, None)] * 3
        check(lake)


@pytest.mark.exhaustive
def test_another_definition_writes_this_entity_and_those_after_it_again(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(tmp_path / "export", lake, item("USER#ann", "ORDER#7"), item("USER#ann", "PROFILE"))
    changed = table()
    changed["entities"] = [DESIGNS[0][0], {**DESIGNS[0][1], "columns": {"number": "string"}}, DESIGNS[0][2]]
    with lake_of(tmp_path / "lake", changed) as lake:
        assert entities_behind(lake, "app") == ("order",)
        (result,) = update_entities(lake, "app")
        assert result.rewritten == "its definition has changed"
        assert queried(lake, "SELECT number FROM app_order") == [("7",)]
    with lake_of(tmp_path / "lake", {**table(), "entities": DESIGNS[0][1:]}) as lake:
        assert entities_behind(lake, "app") == ("order", "rest")
        update_entities(lake, "app")
        assert queried(lake, "SELECT SK FROM app_rest") == [("PROFILE",)]


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Merge on read is not yet supported")
def test_table_that_is_not_what_its_state_says_is_written_again(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(tmp_path / "export", lake, item("USER#ann", "ORDER#7"), item("USER#bob", "ORDER#7"))
        orders = lake.readable("app_order")
        assert orders is not None
        orders.delete("PK = 'USER#ann'")  # another tool
        later = T0_US + 30 * MINUTE_US
        removal = land(tmp_path / "object", record(later, None, item("USER#ann", "ORDER#7")))
        merged = apply_objects(lake, "app", [removal]).current["app"]
        assert [one.rewritten is not None for one in merged.entities] == [False, True, False]
        check(lake)


def test_entities_as_of_an_instant(tmp_path: Path) -> None:
    later = T0_US + 30 * MINUTE_US
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(tmp_path / "export", lake, item("USER#ann", "ORDER#7", total=1), item("USER#ann", "PROFILE"))
        new = record(later, item("USER#ann", "ORDER#7", total=2), item("USER#ann", "ORDER#7", total=1))
        apply_objects(lake, "app", [land(tmp_path / "object", new)])
        sql = "SELECT number, total, (SELECT count(*) FROM app_user) FROM app_order"
        assert queried(lake, sql) == [(7, 2, 1)]
        assert queried(lake, sql, later - 1) == [(7, 1, 1)]


def test_attribute_that_is_spelled_as_a_part_has_a_column_of_its_own(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(
            tmp_path / "export",
            lake,
            item("USER#ann", "ORDER#7", **{"{number}": 1}),
            item("USER#bob", "ORDER#8", **{"{number}": {"M": {"a": {"NULL": True}}}, "{{number}": "x"}),
            item("USER#bob", "PROFILE", **{"{number}": 2}),
        )
        check(lake)
        orders = queried(lake, "SELECT number, __number_, ___number_ FROM app_order ORDER BY number")
        assert orders == [(7, 1, None), (8, None, "x")]
        assert queried(lake, "SELECT _number_ FROM app_user") == [(2,)]
        later = T0_US + 30 * MINUTE_US
        old = item("USER#ann", "ORDER#7", **{"{number}": 1})
        apply_objects(lake, "app", [land(tmp_path / "object", record(later, {**old, "{customer}": {"S": "y"}}, old))])
        check(lake)
        assert queried(lake, "SELECT customer, __customer_ FROM app_order WHERE number = 7") == [("ann", "y")]
        assert queried(lake, "SELECT number, __number_ FROM app_order WHERE number = 7", later - 1) == [(7, 1)]


def test_text_that_has_the_pointer_of_a_part_is_no_attribute(tmp_path: Path) -> None:
    text = '{"paths":{"/{customer}":{},"/{customer}/x":{}}}'
    with lake_of(tmp_path / "lake", table()) as lake:
        _loaded(
            tmp_path / "export",
            lake,
            *(item(f"USER#{n}", "PROFILE", v=n) for n in range(200)),
            item("USER#ann", "ORDER#7", v=text, **{"{customer}x": {"NULL": True}}),
        )
        assert queried(lake, "SELECT v FROM app_order") == [(text,)]
        check(lake)


def test_a_part_that_a_double_rounds_has_its_type(tmp_path: Path) -> None:
    rounded = table()
    rounded["entities"] = [DESIGNS[0][0], {**DESIGNS[0][1], "columns": {"number": "double"}}, DESIGNS[0][2]]
    with lake_of(tmp_path / "lake", rounded) as lake:
        _loaded(tmp_path / "export", lake, item("USER#ann", "ORDER#1.5"), item("USER#ann", "ORDER#x"))
        assert queried(lake, "SELECT number FROM app_order ORDER BY SK") == [(1.5,), (None,)]
        found = compare_entities(lake, "app")
        assert found is not None and found.entities[1].unconverted == (("number", 1),)


def test_pattern_of_another_key_is_an_error(tmp_path: Path) -> None:
    other = {"name": "app", "key": [], "entities": [{"name": "user", "key": {"pk": "USER#*"}}]}
    with lake_of(tmp_path / "lake", table(entities=[])) as lake:
        _loaded(tmp_path / "export", lake, item("USER#ann", "ORDER#7"))
    with lake_of(tmp_path / "lake", other) as lake, pytest.raises(ConfigError, match="'pk' is no key attribute"):
        update_entities(lake, "app")


def test_check_is_red_yellow_and_green(tmp_path: Path) -> None:
    def color(lake: Lake) -> tuple[str, str]:
        found = entities_complete(Subject(lake, lake.table("app")))
        return found.color(), found.text

    with lake_of(tmp_path / "lake", table()) as lake:
        assert color(lake)[0] == "yellow"
        _loaded(tmp_path / "export", lake, item("USER#ann", "ORDER#7"), item("USER#ann", "PROFILE"), item("C", "x"))
        assert color(lake)[0] == "green"
        assert [(one.entity, one.rows, one.behind) for one in table_status(lake, "app").entities] == [
            ("user", 1, False),
            ("order", 1, False),
            ("rest", 1, False),
        ]
        later = T0_US + 30 * MINUTE_US
        apply_objects(lake, "app", [land(tmp_path / "object", record(later, item("USER#ann", "ORDER#x")))])
        assert color(lake) == (
            "yellow",
            "4 items of app were compared with 3 entities: app_order: 'number' has not its declared type in 1 row, where it"
            " is NULL.",
        )
    with lake_of(tmp_path / "lake", {**table(), "entities": DESIGNS[0][:1]}) as lake:
        assert color(lake)[1].endswith("3 items are in no entity.")
    with lake_of(tmp_path / "lake", table(1)) as lake:
        assert color(lake)[0] == "yellow"
        assert "app_order is behind current" in color(lake)[1]
    with lake_of(tmp_path / "lake", table()) as lake:
        orders = lake.readable("app_order")
        state = EntityState.of(orders) if orders is not None else None
        assert orders is not None and state is not None
        commit = lake.commit(orders)
        commit.snapshot(Delta(replace_all=True))
        commit.set_properties(state.properties())
        commit.run()  # a fault of ours: the state states rows that the table does not have
        assert color(lake) == (
            "red",
            "4 items of app were compared with 3 entities: app_order lacks 2, has 0 too many and 0 twice.",
        )
