"""The tables of entities have the items of `current`, each in the entity that its key states, whatever changed `current`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.checks.check import Subject
from ddb_lake.checks.entities import entities_complete
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.errors import CheckFailed, ConfigError
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.rebuild import rebuild_table
from ddb_lake.pipeline.merge.current import has_unmerged_changes, update_current
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.merge.entity_source import entities_behind
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.pipeline.verify.entities import compare_entities
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.entity_histories import expected, held, item, items_held, record
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, full, land
from ddb_lake_tests.support.killed_steps import cleaning_at_once
from ddb_lake_tests.support.several_tables import lake_of, queried

pytestmark = pytest.mark.usefixtures("no_source")

DESIGNS: tuple[list[dict[str, Any]], ...] = (
    [
        {"name": "user", "key": {"PK": "USER#*", "SK": "PROFILE"}},
        {"name": "order", "key": {"PK": "USER#{customer}", "SK": "ORDER#{number}"}, "columns": {"number": "long"}},
        {"name": "rest"},
    ],
    [
        {"name": "order", "key": {"SK": "ORDER#{number}"}},
        {"name": "user", "key": {"PK": "USER#a*"}},
    ],
    [{"name": "rest"}],
)
KEYS = [
    ("USER#ann", "PROFILE"),
    ("USER#ann", "ORDER#1"),
    ("USER#ann", "ORDER#x"),
    ("USER#bob", "PROFILE"),
    ("USER#bob", "ORDER#22"),
    ("CONFIG", "ORDER#3"),
    ("CONFIG", "x\n"),
]


def table(design: int = 0, **settings: Any) -> dict[str, Any]:
    """A table with the entities of a design."""
    return {"name": "app", "key": ["PK", "SK"], "entities": DESIGNS[design], **settings}


def dumped(lake: Lake) -> list[Item]:
    """The items of the table, from exports and change records alone."""
    return [orjson.loads(line)["Item"] for line in dump_items(lake, "app")]


def check(lake: Lake, design: int = 0) -> None:
    """The entities are complete, by the independent matcher and by the check."""
    assert held(lake, "app") == expected(DESIGNS[design], dumped(lake))
    assert entities_behind(lake, "app") == ()
    found = compare_entities(lake, "app")
    assert found is None or not any(one.differences or one.behind for one in found.entities)


class Killed(BaseException):
    """The end of a step; nothing may catch it."""


@contextmanager
def killed_at(commits: int, after: bool) -> Iterator[None]:
    """Kill the process before or after its commit of this number, from 1 on; 0 kills nothing."""
    run, seen = Commit.run, 0

    def counted(self: Commit) -> Any:
        nonlocal seen
        seen += 1
        if seen == commits and not after:
            raise Killed
        result = run(self)
        if seen == commits:
            raise Killed
        return result

    with mock.patch.object(Commit, "run", counted):
        try:
            yield
        except Killed:
            return


class History:
    """A random history of one table: what each step did, and the lake's folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.items: dict[tuple[str, str], Item] = {}
        self.late: list[Item] = []
        self.time_us, self.design, self.files = T0_US, 0, 0

    def lake(self) -> Any:
        """The lake with the present design."""
        landing = self.folder / "landing"
        landing.mkdir(exist_ok=True)
        export = {"bucket": str(self.folder / "exports"), "prefix": ""}
        settings = table(self.design, changes={"uri": str(landing)}, export=export)
        return lake_of(self.folder / "lake", settings)

    def image(self, key: tuple[str, str]) -> Item:
        """A new image of a key: attributes have several types, and some names are those of parts."""
        attributes: dict[str, Any] = {}
        for name in self.random.sample(["created", "number", "customer", "total", "new"], 3):
            attributes[name] = self.random.choice(
                [self.random.randint(1, 99), "text", "1.50", {"NULL": True}, {"M": {"a": {"N": "1"}}}, {"BOOL": True}]
            )
        return item(*key, **attributes)

    def changes(self, lake: Lake) -> None:
        """Some keys change; one record arrives with a later object."""
        records = []
        for key in self.random.sample(KEYS, self.random.randint(1, 4)):
            self.time_us += MINUTE_US
            old = self.items.get(key)
            new = None if old is not None and self.random.random() < 0.4 else self.image(key)
            records.append(record(self.time_us, new, old))
            if new is None:
                del self.items[key]
            else:
                self.items[key] = new
        held_back, self.late = records[:1], self.late
        records = [*records[1:], *self.late]
        self.late = held_back
        self.random.shuffle(records)
        self.land(lake, records)

    def land(self, lake: Lake, records: list[Item]) -> None:
        """Apply records."""
        self.files += 1
        landed = land(self.folder / "landing" / "2026/03/01/10" / f"object-{self.files}", *records)
        apply_objects(lake, "app", [landed])

    def all_arrive(self, lake: Lake) -> None:
        """The records that are late arrive."""
        self.land(lake, self.late)
        self.late = []

    def export(self, lake: Lake) -> None:
        """A full export of the present items."""
        self.time_us += 20 * MINUTE_US
        written = full(list(self.items.values()), at_us=self.time_us, table="app").write(self.folder / "exports")
        self.time_us += 20 * MINUTE_US
        load_export(lake, "app", str(written))

    def compact(self, lake: Lake) -> None:
        """All files are rewritten."""
        compact_table(lake, "app", force=True)

    def redecide(self, lake: Lake) -> None:
        """Keys are decided again without new records."""
        keys = [key_text({"PK": {"S": pk}, "SK": {"S": sk}}, ("PK", "SK")) for pk, sk in KEYS]
        update_current(lake, "app", [(text, key_hash(text)) for text in keys])

    def rebuild(self, lake: Lake) -> None:
        """The table is rebuilt from landing and exports."""
        if lake.current("app") is not None:
            rebuild_table(lake, "app", without_exports=True)

    def another_design(self, lake: Lake) -> None:
        """The patterns change, and nothing else."""
        self.design = self.random.choice([n for n in range(len(DESIGNS)) if n != self.design])
        with self.lake() as changed:
            update_entities(changed, "app")

    def step(self) -> Callable[[Lake], None]:
        """A random step."""
        often = [self.changes] * 4 + [self.another_design] * 2
        return self.random.choice([*often, self.export, self.compact, self.redecide, self.rebuild])


def run_history(folder: Path, seed: int, steps: int) -> None:
    """Run a random history, with kills, and check the entities where no step was killed."""
    history = History(folder, seed)
    with history.lake() as lake:
        history.changes(lake)
    for _ in range(steps):
        step, kill = history.step(), history.random.choice([0, 0, 1, 2, 3, 4, 5])
        with history.lake() as lake, killed_at(kill, history.random.random() < 0.5):
            step(lake)
        with history.lake() as lake:  # another process does what the killed one left
            if lake.current("app") is not None and not kill:
                check(lake, history.design)
    with history.lake() as lake:
        history.all_arrive(lake)
        check(lake, history.design)
        assert has_unmerged_changes(lake, "app") is False


@examples(1, 12, 200)
@given(seed=st.integers(0, 10**9))
def test_any_history(seed: int) -> None:
    with TemporaryDirectory() as folder:
        run_history(Path(folder), seed, 4)


@pytest.mark.exhaustive
@examples(1, 4, 40)
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


def test_attribute_that_is_named_as_a_part_is_an_error(tmp_path: Path) -> None:
    with lake_of(tmp_path / "lake", table()) as lake, pytest.raises(CheckFailed, match="Give the part another name"):
        _loaded(tmp_path / "export", lake, item("USER#ann", "ORDER#7", **{"{number}": 1}))


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
