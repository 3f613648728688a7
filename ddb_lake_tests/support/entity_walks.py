"""Random histories of a single-table design: changes, exports, compactions, other patterns, and kills between the commits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

from ddb_lake.core.layout.table_names import entity_table
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.lake.commit import Commit
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.executor import ExecutorFactory
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.rebuild import rebuild_table
from ddb_lake.pipeline.merge.current import has_unmerged_changes, update_current
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.merge.entity_source import entities_behind
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.verify.entities import compare_entities
from ddb_lake_tests.support.entity_histories import expected, held, item, items_held, record, text_of_item
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, full, land
from ddb_lake_tests.support.several_tables import lake_of

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

    def __init__(self, folder: Path, seed: int, executor: ExecutorFactory = LocalExecutor) -> None:
        self.folder, self.random, self.executor = folder, random.Random(seed), executor
        self.items: dict[tuple[str, str], Item] = {}
        self.late: list[Item] = []
        self.time_us, self.design, self.files = T0_US, 0, 0

    @contextmanager
    def lake(self) -> Iterator[Lake]:
        """The lake with the present design."""
        landing = self.folder / "landing"
        landing.mkdir(exist_ok=True)
        export = {"bucket": str(self.folder / "exports"), "prefix": ""}
        settings = table(self.design, changes={"uri": str(landing)}, export=export)
        with lake_of(self.folder / "lake", settings) as opened:
            opened.executors = {"duckdb": self.executor}
            yield opened

    def image(self, key: tuple[str, str]) -> Item:
        """A new image of a key: attributes have several types, and some names are those of parts."""
        attributes: dict[str, Any] = {}
        for name in self.random.sample(["created", "number", "customer", "total", "new", "{number}", "{{number}"], 3):
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


def run_history(folder: Path, seed: int, steps: int, executor: ExecutorFactory = LocalExecutor) -> None:
    """Run a random history, with kills, and check the entities where no step was killed."""
    history = History(folder, seed, executor)
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


def contents_of(history: History) -> dict[str, Any]:
    """The columns and the items of the tables of entities, with the parts of keys."""
    found: dict[str, Any] = {}
    with history.lake() as lake:
        held = items_held(lake, "app")
        for name, some in held.items():
            table = lake.readable(entity_table("app", name))
            state = EntityState.of(table) if table is not None else None
            assert state is not None
            texts = sorted(str(sorted(one.items())) for one in some)
            found[name] = (state.schema.to_json(), texts, sorted(map(text_of_item, some)))
    return found
