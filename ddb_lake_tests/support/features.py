"""Features that act on the same data, one after the other, against the simulator's own rules.

    python -m ddb_lake_tests.support.features --seed 1 --steps 12        # a random walk
    python -m ddb_lake_tests.support.features --pairs                    # every A, B, A: what `make trust` runs

A walk keeps a DynamoDB table of its own (`World`), whose changes, exports and repairs land as its features say. After
each step everything that users see must be what `simulator.reference` makes of what has landed: `dump`, `query`, both as
of a time, the kept days, the rows in MariaDB, the dbt models and `verify`. It runs in a process of its own, because dbt
keeps state in the one it runs in.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import duckdb

from ddb_lake.config import parse_settings
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.values.change_record import ChangeRecord, Item
from ddb_lake.dbt.project import table_models, write_frame, write_models
from ddb_lake.executors import open_lake
from ddb_lake.mysql.connection import Server
from ddb_lake.mysql.replication import replicate
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.gap_log import open_gaps, record_gap
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.daily_snapshots import end_us, keep_day
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.maintain.rebuild import rebuild_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.files import check_files
from ddb_lake.pipeline.read.quarantine import show_quarantine
from ddb_lake.pipeline.sync import sync
from ddb_lake.pipeline.verify.entities import compare_entities
from ddb_lake.pipeline.verify.full import verify_export
from ddb_lake.pipeline.verify.repair import repair_from_export
from ddb_lake_tests.simulator import ReadExport, reference_current, reference_expired
from ddb_lake_tests.simulator.model import item_text
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, increment, item, land, text_of
from ddb_lake_tests.support.mariadb import PASSWORD, MariaDb, running
from ddb_lake_tests.support.mysql_lakes import PASSWORD_ENV, aurora
from ddb_lake_tests.support.several_tables import queried

CLOCK_SKEW_US: Final = 5 * MINUTE_US
KEYS: Final = tuple(f"k{number:02d}" for number in range(14))
DAY_US: Final = 24 * HOUR_US


Rows: TypeAlias = dict[str, set[tuple[int, int | None] | None]]
"""Key to the row that a query may show of it, `v` and `_expired_at`; None is no row."""


@dataclass
class World:
    """A table, what has landed of it, and the lake. `rnd` decides everything.

    If `leaves_out`, items with other keys and an attribute `secret` arrive too, and the lake's settings keep them out.
    """

    folder: Path
    rnd: random.Random
    server: Server
    mariadb: MariaDb
    ttl_deletes: str = "keep"
    leaves_out: bool = False
    now_us: int = T0_US
    items: dict[str, Item] = field(default_factory=dict)
    writes: list[dict[str, Any]] = field(default_factory=list)
    exports: list[ReadExport] = field(default_factory=list)
    records: list[ChangeRecord] = field(default_factory=list)
    withheld: list[dict[str, Any]] = field(default_factory=list)
    days: dict[date, Rows] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    attributes: list[str] = field(default_factory=list)
    files: int = 0
    done: list[str] = field(default_factory=list)
    replayed: dict[str, bytes] = field(default_factory=dict)
    built: bool = False

    # --- the table

    def pass_time(self, least_us: int, most_us: int) -> None:
        self.now_us += self.rnd.randrange(least_us, most_us)

    def write(self, count: int, lose: bool = False) -> list[dict[str, Any]]:
        """Some writes, as change records in the order in which they happened."""
        made: list[dict[str, Any]] = []
        for _ in range(count):
            self.pass_time(1, 20 * MINUTE_US)
            key = self.rnd.choice(KEYS)
            old = self.items.get(key)
            if self.rnd.random() < 0.1 and key not in self.lost and not lose:  # there and back, within an instant
                there = self._image(key)
                made += [self._change(key, there, old), self._change(key, old, there)]
                continue
            if old is not None and self.rnd.random() < 0.45:
                made.append(self._change(key, None, old, ttl=self.rnd.random() < 0.7))
            else:
                made.append(self._change(key, self._image(key), old))
            if lose:
                self.lost.add(key)
        return made

    def _image(self, key: str) -> Item:
        number = self.rnd.randrange(10_000)
        return item(
            key,
            v=number,
            tags={"SS": sorted({"a", f"t{number % 3}"}, reverse=bool(number % 2))},
            doc={"M": {"a": {"S": f"text {number % 5}"}, "n": {"N": str(number % 7)}}},
            **{
                name: f"x{number}" if number % 9 == 0 else number for name in self.attributes if self.rnd.random() < 0.7
            },
        )

    def _change(self, key: str, new: Item | None, old: Item | None, ttl: bool = False) -> dict[str, Any]:
        record = change(self.now_us, new, old, ttl=ttl)
        self.writes.append(record)
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new
        return record

    # --- what lands

    def path(self, name: str) -> Path:
        self.files += 1
        moment = datetime.fromtimestamp(self.now_us / 1e6, UTC)
        return self.folder / "landing" / f"{moment:%Y/%m/%d/%H}" / f"{name}-{self.files:04d}"

    def land(self, records: Sequence[dict[str, Any]]) -> list[str]:
        """One or two objects of the records; some of them twice."""
        shuffled = [*records, *self.rnd.sample(records, len(records) // 4)]
        self.rnd.shuffle(shuffled)
        cut = self.rnd.randint(0, len(shuffled))
        known = {record.event_id for record in self.records}
        self.records += [read(record) for record in records if record["eventID"] not in known]
        return [land(self.path("part"), *self.with_more(part)) for part in (shuffled[:cut], shuffled[cut:]) if part]

    def with_more(self, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The records as they arrive: with what the lake leaves out, if it leaves out anything."""
        if not self.leaves_out:
            return list(records)
        arriving = []
        for record in records:
            body = record["dynamodb"]
            images = {name: self.with_secret(body[name]) for name in ("NewImage", "OldImage") if name in body}
            arriving += [record | {"dynamodb": body | images}, change(time_of(record), self.other_item())]
        return arriving

    def with_secret(self, image: Item) -> Item:
        """An item as it arrives."""
        return image | {"secret": {"S": f"secret {self.rnd.random()}"}} if self.leaves_out else image

    def other_item(self) -> Item:
        """An item that the filter leaves out."""
        return item(f"other{self.rnd.randrange(10)}", v=self.rnd.randrange(10_000))

    def lines(self, items: Sequence[Item]) -> list[Item]:
        """The lines of a full export of some items."""
        return [self.with_secret(image) for image in items] + ([self.other_item()] if self.leaves_out else [])

    def apply(self, records: Sequence[dict[str, Any]]) -> None:
        with self.lake() as lake:
            apply_objects(lake, "orders", self.land(records))

    def take_full(self) -> tuple[str, ReadExport]:
        """A full export of this moment, well apart from any write."""
        at_us = self._quiet_second()
        lines = sorted(self.items.values(), key=str)
        path = full(self.lines(lines[::2]), self.lines(lines[1::2]), at_us=at_us).write(
            self.folder / "exports" / str(at_us)
        )
        return str(path), ReadExport(at_us, True, items=tuple(lines))

    def take_increment(self, from_us: int) -> tuple[str, ReadExport]:
        """An incremental export from a second, inclusive, to this moment."""
        at_us = self._quiet_second()
        last = {w["dynamodb"]["Keys"]["id"]["S"]: w for w in self.writes if from_us <= time_of(w) < at_us}
        first = {w["dynamodb"]["Keys"]["id"]["S"]: w for w in reversed(self.writes) if from_us <= time_of(w) < at_us}
        lines = [
            (time_of(write), write["dynamodb"].get("NewImage"), write["dynamodb"]["Keys"])
            for key, write in last.items()
            if "NewImage" in write["dynamodb"] or "OldImage" in first[key]["dynamodb"]
        ]
        written = [(us, image and self.with_secret(image), key) for us, image, key in lines]
        if self.leaves_out:
            other = self.other_item()
            written.append((from_us, other, {"id": other["id"]}))
        path = increment(*written, at_us=at_us, window=from_us).write(self.folder / "windows" / str(at_us))
        told = tuple((key, image) for _, image, key in lines)
        return str(path), ReadExport(at_us - 1, False, lines=told, written_us=tuple(us for us, _, _ in lines))

    def _quiet_second(self) -> int:
        self.pass_time(20 * MINUTE_US, 40 * MINUTE_US)
        at_us = self.now_us // 1_000_000 * 1_000_000
        self.now_us = at_us + 20 * MINUTE_US
        return at_us

    def load(self, taken: tuple[str, ReadExport]) -> None:
        with self.lake() as lake:
            load_export(lake, "orders", taken[0])
        self.exports.append(taken[1])

    # --- the lake

    @property
    def settings(self) -> dict[str, Any]:
        """The lake's configuration."""
        table = {
            "name": "orders",
            "key": ["id"],
            "ttl_deletes": self.ttl_deletes,
            "changes": {"uri": str(self.folder / "landing")},
            "daily_states": {"start": "2026-03-01"},
            "entities": [{"name": "ones", "key": {"id": "*1"}}, {"name": "rest"}],
            "aurora": aurora(self.server),
        }
        if self.leaves_out:
            table |= {"filter": {"exclude": {"id": "other*"}}, "columns": {"secret": {"drop": True}}}
        return {"warehouse": str(self.folder / "lake"), "tables": [table]}

    @contextmanager
    def lake(self) -> Iterator[Lake]:
        """The lake, opened again as each command opens it."""
        with open_lake(parse_settings(self.settings, "test")) as lake:
            lake.now = lambda: datetime.fromtimestamp(self.now_us / 1e6, UTC)
            yield lake

    # --- what it should hold

    def expected(self, as_of_us: int | None = None) -> dict[str, Item]:
        """The items by what has landed."""
        found = reference_current(self.exports, self.records, CLOCK_SKEW_US, ("id",), as_of_us)
        return {image["id"]["S"]: image for image in found.values()}

    def expected_rows(self, as_of_us: int | None = None) -> Rows:
        """Of each key the rows that a query may show: (v, _expired_at). More than one only for ties of removals."""
        rows: Rows = {key: {(int(image["v"]["N"]), None)} for key, image in self.expected(as_of_us).items()}
        if self.ttl_deletes == "keep":
            for text, kept in reference_expired(self.exports, self.records, CLOCK_SKEW_US, ("id",), as_of_us).items():
                key = json.loads(text)["id"]["S"]
                rows[key] = {one and (int(json.loads(one[0])["v"]["N"]), one[1]) for one in kept}
        return rows


def time_of(record: dict[str, Any]) -> int:
    """When a change was."""
    at_us: int = record["dynamodb"]["ApproximateCreationDateTime"]
    return at_us


def read(record: dict[str, Any]) -> ChangeRecord:
    """A record as the reference takes it."""
    body = record["dynamodb"]
    return ChangeRecord(
        "kds",
        record["eventName"],
        time_of(record),
        body["Keys"],
        body.get("NewImage"),
        body.get("OldImage"),
        record["tableName"],
        record["eventID"],
        ttl=record["userIdentity"] is not None,
    )


# --- the features


def changes(world: World) -> None:
    """`apply` of what has just happened."""
    world.apply(world.write(world.rnd.randint(3, 8)))


def late_changes(world: World) -> None:
    """`apply` of some of what happened, and of what did not arrive before."""
    made = world.write(6)
    kept = world.rnd.sample(made, 2)
    arriving = [record for record in made if record not in kept] + world.withheld
    world.withheld = kept
    world.apply(arriving)


def synced_changes(world: World) -> None:
    """`sync` finds what landed."""
    world.land(world.write(5))
    world.pass_time(HOUR_US, 2 * HOUR_US)
    with world.lake() as lake:
        sync(lake)


def full_export(world: World) -> None:
    """`load` of a full export; the stream may have delivered some of its changes before."""
    made = world.write(3)
    if world.rnd.random() < 0.5:
        world.apply(made)
        made = []
    world.load(world.take_full())
    if made:
        world.apply(made)


def exports_out_of_order(world: World) -> None:
    """`load` of a full export, and then of one that is older."""
    older = world.take_full()
    world.apply(world.write(4))
    world.load(world.take_full())
    world.load(older)


def incremental_export(world: World) -> None:
    """`load` of an incremental export; the stream has delivered some of its changes already."""
    world.apply(world.write(4))
    back_us = world.rnd.choice((HOUR_US, 6 * HOUR_US, 30 * HOUR_US))
    world.load(world.take_increment(max(T0_US, (world.now_us - back_us) // 1_000_000 * 1_000_000)))


def gap(world: World) -> None:
    """Changes are lost, the gap is recorded, and an incremental export of it is loaded."""
    from_us = world.now_us // 1_000_000 * 1_000_000
    world.write(4, lose=True)
    world.pass_time(MINUTE_US, 2 * MINUTE_US)
    to_us = world.now_us
    with world.lake() as lake:
        record_gap(lake, "orders", Gap("lost", from_us, to_us, "a test lost them", to_us))
    check(world)
    world.load(world.take_increment(from_us))
    with world.lake() as lake:
        assert open_gaps(lake, "orders") == (), "the gap is still open"


def repair(world: World) -> None:
    """`repair` of some keys from an export, of those that are wrong among them."""
    wrong = [key for key in KEYS if world.expected().get(key) != world.items.get(key)]
    keys = dict.fromkeys([*wrong, *world.rnd.sample(KEYS, 3)])
    path, export = world.take_full()
    with world.lake() as lake:
        result = repair_from_export(lake, "orders", [{"id": {"S": key}} for key in keys], path)
    assert not result.left, result.left
    told = tuple(({"id": {"S": key}}, world.items.get(key)) for key in keys)
    at_us = export.instant_us
    world.exports.append(ReadExport(at_us, False, lines=told, written_us=(at_us - CLOCK_SKEW_US,) * len(told)))


def compaction(world: World) -> None:
    """`compact`."""
    with world.lake() as lake:
        compact_table(lake, "orders", force=True)


def daily_state(world: World) -> None:
    """The state of the day before: kept, and what was kept before stays."""
    world.pass_time(DAY_US, DAY_US + HOUR_US)
    world.apply(world.write(2))
    day = (datetime.fromtimestamp(world.records[-1].changed_us / 1e6, UTC) - timedelta(days=1)).date()
    with world.lake() as lake:
        keep_day(lake, "orders", day)
    world.days[day] = world.expected_rows(end_us(day) - 1)


def quarantine(world: World) -> None:
    """A damaged record goes to the quarantine, and is replayed after it was corrected."""
    made = world.write(3)
    world.apply(made[:-1])
    whole = text_of(made[-1])
    with world.lake() as lake:
        damaged = land(world.path("damaged"), whole[:-9])
        apply_objects(lake, "orders", [damaged])
        entries = show_quarantine(lake, "orders")
    equal("entries in the quarantine", len(entries), 1)
    check(world)
    with world.lake() as lake:
        equal("records replayed", replay_quarantine(lake, "orders", {entries[0].quarantine_id: whole}).new, 1)
        equal("entries left", show_quarantine(lake, "orders"), [])
    world.records.append(read(made[-1]))
    world.replayed[damaged] = whole


def rebuild(world: World) -> None:
    """`rebuild`, after the corrected bytes of replayed records have landed too: else it stops, because no object has them.

    It opens the entries of the damaged bytes again; their records are in the lake.
    """
    for corrected in world.replayed.values():
        land(world.path("corrected"), corrected)
    with world.lake() as lake:
        equal("records left out", rebuild_table(lake, "orders", without_exports=True).dropped, 0)
        check_files(lake, "orders")
        entries = show_quarantine(lake, "orders")
        equal("entries of damaged bytes", len(entries), len(world.replayed))
        for entry in entries:
            again = {entry.quarantine_id: world.replayed[entry.object]}
            equal("records replayed", replay_quarantine(lake, "orders", again).new, 0)


def new_attribute(world: World) -> None:
    """Items get an attribute that no column has yet; a few of its values are of another type than the rest."""
    world.attributes.append(f"extra{len(world.attributes)}")
    world.apply(world.write(6))


FEATURES: Final[dict[str, Callable[[World], None]]] = {
    "changes": changes,
    "late changes": late_changes,
    "sync": synced_changes,
    "full export": full_export,
    "exports out of order": exports_out_of_order,
    "incremental export": incremental_export,
    "gap": gap,
    "repair": repair,
    "compaction": compaction,
    "daily state": daily_state,
    "quarantine": quarantine,
    "new attribute": new_attribute,
    "rebuild": rebuild,
}
"""What acts on a table's data. dbt's incremental models and MySQL follow after each of them."""

COMMANDS: Final = {
    "apply": "changes",
    "aurora": "MySQL, after each step",
    "compact": "compaction",
    "export": "full export",
    "follow": "sync",
    "init-dbt": "dbt, after each step",
    "load": "full export",
    "quarantine replay": "quarantine",
    "rebuild": "rebuild",
    "repair": "repair",
    "streams": "changes",
    "sync": "sync",
}
"""The commands that write to a table of the lake or to what follows it, and the feature here that covers each.

`export` loads as `load` does, `streams` lands what `apply` ingests, and `follow` repeats `sync`.
"""

SETTINGS: Final = {
    "aurora": "MySQL, after each step",
    "changes": "sync",
    "columns": "each walk has a dropped attribute and a filter, or neither",
    "daily_states": "daily state",
    "entities": "entities, after each step",
    "filter": "each walk has a dropped attribute and a filter, or neither",
    "schema_evolution": "new attribute",
    "ttl_deletes": "each walk is of `keep` or of `apply`",
    "validation": "quarantine",
}
"""The settings of a table that change what is done with its data, and the feature here that covers each."""


# --- what users see


def check(world: World) -> None:
    """Everything that users see, against the reference. Raises AssertionError with the steps that led there."""
    try:
        with world.lake() as lake:
            _check_lake(world, lake)
            _check_replica(world, lake)
            _check_models(world, lake)
    except AssertionError as error:
        raise AssertionError(f"after {' > '.join(world.done)}: {error}") from error


def equal(what: str, found: Any, wanted: Any) -> None:
    """Raise AssertionError with the difference."""
    assert found == wanted, f"{what}: {found} is not {wanted}"


def _check_lake(world: World, lake: Lake) -> None:
    _check_items("dump", lake, None, world.expected())
    _check_entities(lake)
    _check_rows("query", _rows(lake), world.expected_rows())
    first_us = min((one.instant_us for one in world.exports if one.full), default=None)
    later = [us for us in (one.changed_us for one in world.records) if first_us is None or us >= first_us]
    for as_of_us in world.rnd.sample(later, min(1, len(later))):
        _check_items(f"dump as of {as_of_us}", lake, as_of_us, world.expected(as_of_us))
        _check_rows(f"query as of {as_of_us}", _rows(lake, as_of_us), world.expected_rows(as_of_us))
    if world.days:
        kept = defaultdict(list)
        for day, *row in queried(lake, "SELECT _day, id, v, epoch_us(_expired_at) FROM orders_daily"):
            kept[day].append(tuple(row))
        equal("days kept", sorted(kept), sorted(world.days))
        for day, wanted in world.days.items():
            _check_rows(f"day {day}", kept[day], wanted)


def _check_items(what: str, lake: Lake, as_of_us: int | None, wanted: dict[str, Item]) -> None:
    found = [json.loads(line)["Item"] for line in dump_items(lake, "orders", as_of_us)]
    equal(what, sorted(map(str, map(item_text, found))), sorted(map(str, map(item_text, wanted.values()))))


def _check_rows(what: str, found: Sequence[tuple[Any, ...]], wanted: Rows) -> None:
    held = {key: row for key, *row in found}
    equal(f"{what}: rows of a key", len(held), len(found))
    wrong = {
        key: (held.get(key), wanted.get(key))
        for key in held.keys() | wanted.keys()
        if (tuple(held[key]) if key in held else None) not in wanted.get(key, {None})
    }
    equal(f"{what} (found, wanted)", wrong, {})


def _check_entities(lake: Lake) -> None:
    """The tables of entities have the items of `current`; an item is in the table of its entity."""
    found = compare_entities(lake, "orders")
    if found is None:
        equal("dump without current", list(dump_items(lake, "orders")), [])
        return
    equal(
        "entities",
        [(one.entity, one.behind, one.differences) for one in found.entities],
        [("ones", False, 0), ("rest", False, 0)],
    )
    ids = [text for (text,) in queried(lake, "SELECT id FROM orders_ones")]
    equal("entity ones", [text for text in ids if not text.endswith("1")], [])


def _rows(lake: Lake, as_of_us: int | None = None) -> list[tuple[Any, ...]]:
    keeps = lake.table("orders").ttl_deletes == "keep"
    expired = "epoch_us(_expired_at)" if keeps else "NULL"
    return queried(lake, f"SELECT id, v, {expired} FROM orders", as_of_us)


def _check_replica(world: World, lake: Lake) -> None:
    replicate(lake, "orders")
    database = world.mariadb.open(world.server)
    try:
        expired = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', _expired_at)" if world.ttl_deletes == "keep" else "NULL"
        found = database.rows(f"SELECT id, v, {expired} FROM orders")
    finally:
        database.close()
    equal("MySQL", sorted(found, key=str), sorted(_rows(lake), key=str))


# --- the dbt models


def _check_models(world: World, lake: Lake) -> None:
    build(world, lake)
    _check_built(world)


def build(world: World, lake: Lake, command: str = "run", *options: str) -> None:
    """Build the models, incrementally unless the options say otherwise."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    project = world.folder / "dbt"
    if not world.built:
        write_frame(project)
        write_models(project, table_models(lake, "orders"))
        (world.folder / "lake.json").write_text(json.dumps(world.settings))
        world.built = True
    os.environ |= {
        "DDB_LAKE_CONFIG": str(world.folder / "lake.json"),
        "DDB_LAKE_DBT_DATABASE": str(world.folder / "models.duckdb"),
        "DBT_TARGET_PATH": str(world.folder / "target"),
        "DBT_LOG_PATH": str(world.folder / "logs"),
    }
    folders = ["--project-dir", str(project), "--profiles-dir", str(project)]
    done = dbtRunner().invoke(["--no-use-colors", "--quiet", command, *options, *folders])
    DuckDBConnectionManager.close_all_connections()
    failed = [f"{one.node.name}: {one.status}, {one.message}" for one in done.result or () if one.status in BAD]
    assert done.success and not failed, f"dbt: {failed or done.exception}"


BAD: Final = ("error", "fail", "warn", "runtime error")


def _models(world: World, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(world.folder / "models.duckdb"), read_only=True) as con:
        found: list[tuple[Any, ...]] = con.execute(sql).fetchall()
    return found


def _check_built(world: World) -> None:
    living = [(key, int(image["v"]["N"])) for key, image in sorted(world.expected().items())]
    equal(
        "dbt history now",
        _models(world, "SELECT id, v FROM marts.dim_orders_history WHERE _is_current ORDER BY 1"),
        living,
    )
    values = "{v: v, a: doc__a, n: doc__n, tags: list_sort(tags)}"
    repeated = (
        f"SELECT id, _valid_from, _valid_to, _ended_by FROM (SELECT *, {values} AS image, lead({values}) OVER w AS next_image,"
        " lead(_valid_from) OVER w AS next_from FROM marts.dim_orders_history WINDOW w AS (PARTITION BY id ORDER BY _valid_from"
        " NULLS FIRST)) WHERE _valid_to = next_from AND image = next_image"
    )
    equal("dbt versions that repeat the one before", _models(world, repeated), [])
    counted: dict[date, Counter[str]] = defaultdict(Counter)
    for record in world.records:
        kind = record.event_name + (" by ttl" if record.ttl else "")
        counted[datetime.fromtimestamp(record.changed_us / 1e6, UTC).date()][kind] += 1
    kinds = ("INSERT", "MODIFY", "REMOVE", "REMOVE by ttl")
    wanted = [(day, *(counted[day][kind] for kind in kinds)) for day in sorted(counted)]
    sql = (
        "SELECT change_day, inserts, updates, user_deletes, ttl_deletes FROM marts.fct_orders_daily_changes ORDER BY 1"
    )
    equal("dbt daily changes", _models(world, sql), wanted)


HELD: Final = {"dim_orders_history": "_through_batch, _base_at", "fct_orders_daily_changes": "_through_batch"}
"""The incremental models, and the columns that say when a row was built."""


def check_refresh(world: World) -> None:
    """The incremental models are what a build from nothing makes."""
    with world.lake() as lake:
        build(world, lake, "build")  # with dbt's own tests
    before = {name: _models(world, f"SELECT * EXCLUDE ({when}) FROM marts.{name}") for name, when in HELD.items()}
    with world.lake() as lake:
        build(world, lake, "run", "--full-refresh")
    for name, when in HELD.items():
        found = _models(world, f"SELECT * EXCLUDE ({when}) FROM marts.{name}")
        extra, missing = [row for row in before[name] if row not in found], [r for r in found if r not in before[name]]
        equal(f"{name} built step by step and at once", (len(before[name]), extra, missing), (len(found), [], []))


def check_verify(world: World) -> None:
    """`verify` finds the items that what has landed does not give, and no others."""
    path, export = world.take_full()
    wrong = {key for key in KEYS if world.expected().get(key) != world.items.get(key)}
    with world.lake() as lake:
        report = verify_export(lake, "orders", path)
    equal("keys that verify names", {one.key["id"]["S"] for one in report.differences}, wrong)
    equal("rows that verify counts", (report.rows, report.compared), (len(world.expected()), len(export.items)))


# --- walks


def walk(steps: Sequence[str], seed: int, mariadb: MariaDb, ttl_deletes: str, leaves_out: bool) -> int:
    """Do the features in this order, checking after each; gives how many steps were checked."""
    with tempfile.TemporaryDirectory(prefix="ddb-lake-features-") as folder:
        world = World(Path(folder), random.Random(seed), mariadb.fresh(), mariadb, ttl_deletes, leaves_out)
        world.write(10)
        if world.rnd.random() < 0.7:
            world.load(world.take_full())
        else:
            world.records.clear()
            world.apply(world.writes)
        world.apply(world.write(6))
        for number, name in enumerate(steps, 1):
            world.done.append(name)
            FEATURES[name](world)
            check(world)
            if number == len(steps) or world.rnd.random() < 0.1:
                check_verify(world)
                check_refresh(world)
    return len(steps)


PAIRS_PER_WALK: Final = 3


def pairs(rnd: random.Random) -> list[list[str]]:
    """Walks in which each feature comes before and after each other: A, B, A, B for any two, A, A, A for one."""
    found = [[a, a, a] for a in FEATURES] + [[a, b, a, b] for a, b in itertools.combinations(FEATURES, 2)]
    rnd.shuffle(found)
    return [list(itertools.chain(*found[at : at + PAIRS_PER_WALK])) for at in range(0, len(found), PAIRS_PER_WALK)]


def random_steps(rnd: random.Random, count: int) -> list[str]:
    """Features at random."""
    return rnd.choices(list(FEATURES), k=count)


def main() -> int:
    """Run walks and print figures; 1 if anything differed."""
    parser = argparse.ArgumentParser(prog="python -m ddb_lake_tests.support.features", description=__doc__)
    parser.add_argument("--pairs", action="store_true", help="all ordered pairs of features, each pair with its return")
    parser.add_argument("--walks", type=int, default=1, help="of random features")
    parser.add_argument("--steps", type=int, default=12, help="of each such walk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no further walk begins")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    os.environ |= {PASSWORD_ENV: PASSWORD, "AWS_EC2_METADATA_DISABLED": "true"}
    rnd = random.Random(chosen.seed)
    planned = pairs(rnd) if chosen.pairs else [random_steps(rnd, chosen.steps) for _ in range(chosen.walks)]
    started, steps, failed = time.monotonic(), 0, 0
    done = 0
    with running() as mariadb:
        for number, names in enumerate(planned):
            if time.monotonic() - started > 60 * chosen.minutes:
                break
            mode, leaves_out = "apply" if number % 4 == 3 else "keep", number % 2 == 0
            try:
                steps += walk(names, chosen.seed * 1000 + number, mariadb, mode, leaves_out)
            except Exception as error:
                failed += 1
                print(
                    f"walk {number}, seed {chosen.seed}, {mode}, {leaves_out=}, {' > '.join(names)}: {error!r}",
                    flush=True,
                )
                if not isinstance(error, AssertionError):
                    traceback.print_exc()
            done += 1
    print(f"{done} of {len(planned)} walks, {steps} steps checked, {failed} walks differed", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
