"""Erasures: no file has the item any more, nothing else changes, a kill or another writer at any step makes no difference."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_text
from ddb_lake.errors import UsageError
from ddb_lake.lake.erasure_state import unfinished_erasures
from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.apply.erasures import read_erased_keys
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.daily_snapshots import keep_day
from ddb_lake.pipeline.maintain.erase import erase_keys, unfinished
from ddb_lake.pipeline.maintain.erasure import EraseRequest
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.maintain.rebuild import rebuild_table
from ddb_lake.pipeline.merge.entities import update_entities
from ddb_lake.pipeline.merge.entity_source import entities_behind
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import list_unapplied
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.query import run_query
from ddb_lake.pipeline.verify.full import verify_export
from ddb_lake.pipeline.verify.repair import repair_from_export
from ddb_lake_tests.simulator import Scenario, write
from ddb_lake_tests.support.crashing_lake import Crash
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.erased_values import files_with
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, increment, item, land
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.history_steps import run_step, steps
from ddb_lake_tests.support.killed_steps import instrumented
from ddb_lake_tests.support.lake_contents import small_scenario

NAME = "orders"
LATER_US = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
SECRET = "quince-marmalade-7f3a91"
"""The key of the item that is erased. Its first 16 characters are in no other item."""

PRIVATE = "walnut-street-221b-xyzzy"
"""A value of the item that is erased."""


@dataclass
class Ground:
    """A lake with every kind of file that can hold an item. One item is to be erased."""

    folder: Path
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def landing(self) -> Path:
        """The folder in which changes land."""
        return self.folder / "landing"

    @property
    def key(self) -> Item:
        """The key to erase."""
        return {"id": {"S": SECRET}}

    @contextmanager
    def lake(self) -> Iterator[Lake]:
        """The open lake."""
        changes = {"uri": str(self.landing)}
        with lake(self.folder / "lake", NAME, ["id"], changes=changes, **self.options) as opened:
            yield opened

    def fill(self, changes: int = 3) -> None:
        """Exports, changes, entries of the quarantine, kept days, deleted positions and an old snapshot."""
        secret, other = item(SECRET, v=0, p=PRIVATE), item("other", v=0, p="common")
        self.copy.write_text(f"{json.dumps(secret)}\n{json.dumps(other)}\n")
        full([secret, other], [item(f"key {n}", v=n) for n in range(5)], at_us=T0_US).write(self.folder / "exports/1")
        records: list[Any] = []
        for number in range(changes):
            at_us = T0_US + (number + 1) * MINUTE_US
            records.append(change(at_us, item(SECRET, v=number, p=f"{PRIVATE}{number}"), secret))
            records.append(change(at_us, item("other", v=number, p="common"), other))
        cut = json.dumps(records[0])[:-20]
        wrapped = {"Records": [_streams(SECRET, PRIVATE, 1), _streams("wrapped", "kept", 2)]}
        land(
            self.landing / "2026/03/01/09/one",
            *records,
            "\n",
            '{"no": "envelope"}',
            "\n",
            cut,
            "\n",
            '{"odd": "after"}',
        )
        land(self.landing / "2026/03/01/10/two", wrapped, "\n", *records[:2], pack=lambda t: gzip.compress(t, mtime=0))
        end_us = T0_US + 60 * MINUTE_US
        window = increment(
            (end_us - 5, secret, self.key), (end_us - 4, other, {"id": {"S": "other"}}), at_us=end_us, window=T0_US
        )
        window.write(self.folder / "exports/2")
        full([secret, other], at_us=T0_US - 60 * MINUTE_US).write(self.folder / "exports/3")
        with self.lake() as opened:
            load_export(opened, NAME, str(self.folder / "exports/1"))
            apply_objects(opened, NAME, [str(self.landing)])
            load_export(opened, NAME, str(self.folder / "exports/2"))
            load_export(opened, NAME, str(self.folder / "exports/3"))
            keep_day(opened, NAME, date(2026, 3, 1))

    def erase(self, opened: Lake, **settings: Any) -> dict[str, int]:
        """Erase the item, and landed objects and a copy outside of the lake with it."""
        request = EraseRequest([self.key], others_landing=True, **settings)
        return dict(erase_keys(opened, NAME, request, replicas={"copy": self.erase_copy}).removed)

    def erase_copy(self, key_texts: Sequence[str]) -> int:
        """Erase items from the copy, a file with an item in each line."""
        lines = self.copy.read_text().splitlines() if self.copy.exists() else []
        kept = [line for line in lines if key_text(json.loads(line), ["id"]) not in key_texts]
        self.copy.write_text("".join(f"{line}\n" for line in kept))
        return len(lines) - len(kept)

    @property
    def copy(self) -> Path:
        """A copy of the table outside of the lake."""
        return self.folder / "copy.jsonl"

    def left(self) -> list[str]:
        """The files that have the key or the value."""
        return [*files_with(SECRET, self.folder), *files_with(PRIVATE, self.folder)]

    def contents(self, opened: Lake) -> dict[str, Any]:
        """All that the lake has of other items, as a reader sees it."""
        return contents(opened, NAME, lambda text: SECRET not in text, [T0_US, T0_US + 90_000_000, LATER_US])


def _streams(key: str, value: str, number: int) -> dict[str, Any]:
    return {
        "eventID": f"e{number}",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "dynamodb": {
            "ApproximateCreationDateTime": T0_US // 1_000_000 + number,
            "Keys": {"id": {"S": key}},
            "NewImage": {"id": {"S": key}, "p": {"S": value}},
            "SequenceNumber": f"{number:021d}",
            "SizeBytes": 20,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
    }


def contents(opened: Lake, name: str, is_other: Callable[[str], bool], times_us: list[int]) -> dict[str, Any]:
    """The items now and at some times, the rows of the history, the quarantine and the objects, without those of one key."""
    found: dict[str, Any] = {"now": _lines(dump_items(opened, name), is_other)}
    for time_us in times_us:
        found[f"as of {time_us}"] = _lines(dump_items(opened, name, time_us), is_other)
    queries = {
        "changes": f'SELECT * FROM "{name}_changes"',
        "quarantine": f'SELECT * EXCLUDE (quarantined_at, quarantine_id), raw::VARCHAR FROM "{name}_quarantine"',
        "objects": f'SELECT object, arrival_hour, records, "new", rejected, other_tables FROM "{name}_objects"',
    }
    for what, query in queries.items():
        with run_query(opened, query) as result:
            found[what] = sorted(text for rows in result.batches() for text in map(repr, rows) if is_other(text))
    return found


def _lines(lines: Iterator[bytes], is_other: Callable[[str], bool]) -> list[str]:
    return sorted(text for text in (line.decode() for line in lines) if is_other(text))


def test_no_file_has_the_item_and_everything_else_is_as_before(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.fill()
    assert len(ground.left()) > 10
    with ground.lake() as opened:
        before = ground.contents(opened)
        dry = erase_keys(opened, NAME, EraseRequest([ground.key], others_landing=True), dry=True)
        assert ground.contents(opened) == before
        removed = ground.erase(opened)
        assert ground.left() == []
        assert ground.contents(opened) == before
        assert unfinished(opened, NAME) == []
        again = erase_keys(opened, NAME, EraseRequest([ground.key], others_landing=True))
        assert {searched.place for searched in again.proof} >= {"kept days", "landing", "orders_quarantine"}
        assert sum(searched.files for searched in again.proof) == again.files_read
        assert not any(SECRET in searched.searched_for for searched in again.proof)
        counted = {place: count for place, count in dry.removed.items() if count}
        assert counted.items() <= {**removed, "orders: rows of exports": counted["orders: rows of exports"]}.items()
        assert list_unapplied(opened, opened.table(NAME)).refs == ()
        assert_every_item_of_exports_is_accounted_for(opened, [1, 1])


def assert_every_item_of_exports_is_accounted_for(opened: Lake, erased: list[int]) -> None:
    """The rows of an export's branch and its erased items are the items of its manifest. `erased`: by export."""
    table = opened.current(NAME)
    assert table is not None
    exports = CurrentState.of(table).exports
    assert [export.erased for export in exports] == erased
    rows = [scan_table(table, table.metadata.refs[export.branch].snapshot_id).live.rows for export in exports]
    assert [export.items - export.erased for export in exports] == rows


def test_late_records_exports_and_a_rebuild_do_not_bring_the_item_back(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.fill()
    copies = {path: path.read_bytes() for path in ground.landing.rglob("*") if path.is_file()}
    with ground.lake() as opened:
        before = ground.contents(opened)
        ground.erase(opened)
        for number, data in enumerate(copies.values()):  # the objects as they were, delivered once more
            late = ground.folder / f"late/2026/03/01/11/{number}"
            late.parent.mkdir(parents=True, exist_ok=True)
            late.write_bytes(data)
        result = apply_objects(opened, NAME, [str(ground.folder / "late")])
        assert (result.new, result.refused) == (0, 5)  # four distinct records, and one that was cut off
        repeated = full([item(SECRET, v=1), item("other", v=9)], at_us=T0_US - 90 * MINUTE_US)
        assert load_export(opened, NAME, str(repeated.write(ground.folder / "late/export"))).refused == 1
        assert_every_item_of_exports_is_accounted_for(opened, [1, 1, 1])
        in_window = increment((T0_US + 1, item(SECRET, v=1), ground.key), at_us=T0_US + 2 * MINUTE_US, window=T0_US)
        assert load_export(opened, NAME, str(in_window.write(ground.folder / "late/increment"))).refused == 1
        assert replay_quarantine(opened, NAME).new == 0
        assert [*files_with(SECRET, ground.folder / "lake"), *files_with(PRIVATE, ground.folder / "lake")] == []
        assert ground.contents(opened)["now"] == before["now"]
        rebuild_table(opened, NAME, [str(ground.folder / f"exports/{number}") for number in (1, 2, 3)])
        assert_every_item_of_exports_is_accounted_for(opened, [0, 0, 1])  # the erasure changed the first two manifests
        rebuilt = ground.contents(opened)
        assert rebuilt["now"] == before["now"] and len(rebuilt["changes"]) == len(before["changes"])
        assert [*files_with(SECRET, ground.folder / "lake"), *files_with(PRIVATE, ground.folder / "lake")] == []


@pytest.mark.parametrize("allowed", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_later_change_makes_the_item_again_only_by_choice(tmp_path: Path, allowed: bool) -> None:
    ground = Ground(tmp_path)
    ground.fill(changes=1)
    now_us = int(datetime.now(UTC).timestamp()) * 1_000_000
    with ground.lake() as opened:
        ground.erase(opened, allow_recreation=allowed)
        again = item(SECRET, v=7, p="new")
        records = [
            change(now_us - MINUTE_US, item(SECRET, v=6, p=PRIVATE)),
            change(now_us + 10 * MINUTE_US, again, item(SECRET, v=6, p=PRIVATE)),
        ]
        result = apply_objects(opened, NAME, [land(tmp_path / "later/2026/03/02/01/x", *records)])
        assert (result.new, result.refused) == ((1, 1) if allowed else (0, 2))
        items = [line for line in dump_items(opened, NAME) if SECRET.encode() in line]
        assert [json.loads(line)["Item"] for line in items] == ([again] if allowed else [])
        assert files_with(PRIVATE, ground.folder / "lake") == []  # not in the old image of a later record either
        with opened.session() as session:
            assert read_erased_keys(opened, session, NAME).allows_recreation is allowed
        ground.erase(opened)
        assert [line for line in dump_items(opened, NAME) if SECRET.encode() in line] == []


def with_crash_after(opened: Lake, step: int, run: Callable[[Lake], Any]) -> bool:
    """Run until a step that leaves something on disk; whether it was reached."""
    passed = 0

    def step_passed(_name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == step:
            raise Crash

    try:
        with instrumented(step_passed):
            run(opened)
    except Crash:
        return True
    return False


@pytest.mark.parametrize("steps_between", [pytest.param(1, marks=pytest.mark.exhaustive), 16])
def test_erasure_that_is_killed_after_any_step_is_completed_by_the_next_one(tmp_path: Path, steps_between: int) -> None:
    """The first run dies after its first step, the next one after a later step, and so on; in between everything is applied."""
    ground = Ground(tmp_path)
    ground.fill(changes=2)
    step, kills = 1, 0
    with ground.lake() as opened:
        before = ground.contents(opened)
    while True:
        with ground.lake() as opened:
            killed = with_crash_after(opened, step, ground.erase)
            apply_objects(opened, NAME, [str(ground.landing)])
            if not killed:
                break
            kills += 1
            begun = opened.readable(f"{NAME}_erasures") is not None
            assert not begun or unfinished(opened, NAME) or ground.left() == []
            stated = unfinished_erasures(opened.erasures(NAME))
            assert stated is not None and [one.begun_us for one in stated] == unfinished(opened, NAME)
        step += steps_between
    assert kills > 3
    with ground.lake() as opened:
        assert ground.left() == []
        after = ground.contents(opened)
        # An object that was rewritten before the kill may have been read once more, so the ledger has it twice.
        assert after | {"objects": []} == before | {"objects": []}
        assert {one.split("'")[1] for one in after["objects"]} == {one.split("'")[1] for one in before["objects"]}
        assert unfinished(opened, NAME) == []
        assert unfinished_erasures(opened.erasures(NAME)) == ()


@pytest.mark.parametrize("fails", ["before", "after"])
def test_erasure_is_complete_only_after_the_copies_outside_of_the_lake(tmp_path: Path, fails: str) -> None:
    ground = Ground(tmp_path)
    full([item(SECRET, p=PRIVATE), item("other", v=1)], at_us=T0_US).write(tmp_path / "exports/1")
    ground.copy.write_text(f"{json.dumps(item(SECRET))}\n{json.dumps(item('other'))}\n")

    def failing(key_texts: Sequence[str]) -> int:
        if fails == "after":
            ground.erase_copy(key_texts)
        raise Crash

    with ground.lake() as opened:
        load_export(opened, NAME, str(tmp_path / "exports/1"))
        request = EraseRequest([ground.key], others_landing=True)
        with pytest.raises(Crash):
            erase_keys(opened, NAME, request, replicas={"first": ground.erase_copy, "second": failing})
        assert [places for _, places in audit(opened)] == [set(), {"lake"}, {"lake", "first"}]
        assert len(unfinished(opened, NAME)) == 1 and not any(complete for complete, _ in audit(opened))
        removed = ground.erase(opened)
        assert audit(opened)[3:] == [(False, set()), (False, {"lake"}), (True, {"lake", "copy"})]
        assert removed["copy: rows"] == 0 and ground.left() == [] and unfinished(opened, NAME) == []


def audit(opened: Lake) -> list[tuple[bool, set[str]]]:
    """For each row of the table of erasures in order, whether it is complete, and which places it states."""
    query = "SELECT completed_at, removed FROM orders_erasures ORDER BY erased_at, removed IS NOT NULL, len(removed)"
    found = []
    with run_query(opened, query) as result:
        for completed_at, removed in (row for rows in result.batches() for row in rows):
            places = {place.partition(": ")[0] for place in json.loads(removed or "{}")}
            outside = places & {"first", "second", "copy"}
            found.append((completed_at is not None, outside | ({"lake"} if places - outside else set())))
    return found


def test_table_with_a_replica_is_not_erased_without_it(tmp_path: Path) -> None:
    database = {"host": "unused", "database": "d", "user": "u", "password_env": "UNUSED"}
    with Ground(tmp_path, {"aurora": database}).lake() as opened:
        with pytest.raises(UsageError, match="replicated to MySQL"):
            erase_keys(opened, NAME, EraseRequest([{"id": {"S": "a"}}]))
        assert opened.erasures(NAME) is None


@pytest.mark.exhaustive
@pytest.mark.parametrize("at", range(12))
def test_apply_during_an_erasure_and_erasure_during_an_apply_lose_nothing(tmp_path: Path, at: int) -> None:
    ground = Ground(tmp_path)
    ground.fill(changes=2)
    later = T0_US + 90 * MINUTE_US
    pieces = [change(later, item(SECRET, v=8, p=PRIVATE)), change(later, item("fresh", v=8))]
    uri = land(ground.landing / "2026/03/01/12/three", *pieces)

    def interrupted(first: Callable[[Lake], Any], second: Callable[[Lake], Any], step: int) -> None:
        passed, inside = 0, False

        def step_passed(_name: str) -> None:
            nonlocal passed, inside
            passed += 1
            if passed == step and not inside:
                inside = True
                with ground.lake() as other:
                    second(other)

        with ground.lake() as opened, instrumented(step_passed):
            first(opened)

    def applied(opened: Lake) -> None:
        apply_objects(opened, NAME, [uri])

    if at % 2:
        interrupted(ground.erase, applied, 1 + at * 3)
    else:
        interrupted(applied, ground.erase, 1 + at)
    with ground.lake() as opened:
        ground.erase(opened)
        assert ground.left() == []
        items = [json.loads(line)["Item"]["id"]["S"] for line in dump_items(opened, NAME)]
        assert SECRET not in items and "fresh" in items and "other" in items


@pytest.mark.exhaustive
def test_item_of_ten_thousand_changes_is_in_no_file(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.fill(changes=1)
    with ground.lake() as opened:
        for number in range(10):
            pieces = []
            for place in range(1000):
                at_us = T0_US + 3_700_000_000 + (number * 1000 + place) * 1000
                pieces.append(
                    change(at_us, item(SECRET, v=place, p=f"{PRIVATE}-{number}-{place}"), item(SECRET, p=PRIVATE))
                )
                pieces.append(change(at_us, item(f"key {place % 7}", v=place)))
            apply_objects(opened, NAME, [land(ground.landing / f"2026/03/01/{11 + number}/x", *pieces)])
            if number == 5:
                compact_table(opened, NAME, force=True)
        before = ground.contents(opened)
        removed = ground.erase(opened)
        assert removed["orders_changes: rows"] >= 10_000
        assert ground.left() == []
        assert ground.contents(opened) == before


@pytest.mark.exhaustive
@settings(max_examples=by_effort(1, 4, 60))
@given(seed=st.integers(0, 10_000))
def test_erasing_a_key_of_any_history_changes_nothing_else(seed: int) -> None:
    scenario: Scenario = small_scenario(seed, keys=5, writes=24, objects=4)
    rnd = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write(scenario, folder)
        changes = {"uri": str(folder / "landing")}
        with lake(folder / "lake", scenario.table, scenario.key_names, changes=changes) as opened:
            for step in steps(scenario, folder, rnd):
                run_step(opened, scenario.table, step)
            key = {"id": {"S": f"key {rnd.randrange(5)}"}}
            times = [probe.time_us for probe in scenario.probes]

            def is_other(text: str) -> bool:
                return key["id"]["S"] not in text

            before = contents(opened, scenario.table, is_other, times)
            erase_keys(opened, scenario.table, EraseRequest([key], others_landing=True))
            assert contents(opened, scenario.table, is_other, times) == before
            everything = contents(opened, scenario.table, lambda _text: True, times)
            assert contents(opened, scenario.table, is_other, times) == everything
            for step in steps(scenario, folder, rnd):
                run_step(opened, scenario.table, step)
            assert dict(contents(opened, scenario.table, lambda _text: True, times), objects=[]) == dict(
                before, objects=[]
            )


def test_wrong_keys_are_refused_without_their_values(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.fill(changes=1)
    with ground.lake() as opened:
        for keys in ([], [{"other": {"S": SECRET}}], [{"id": {"SS": [SECRET]}}]):
            with pytest.raises(UsageError) as raised:
                erase_keys(opened, NAME, EraseRequest(keys))
            assert SECRET not in str(raised.value)
        assert opened.erasures(NAME) is None


@pytest.mark.exhaustive
def test_objects_of_others_are_reported_and_left(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.fill(changes=1)
    before = {path: path.read_bytes() for path in ground.landing.rglob("*") if path.is_file()}
    with ground.lake() as opened:
        result = erase_keys(opened, NAME, EraseRequest([ground.key]))
    assert {path: path.read_bytes() for path in before} == before
    assert result.removed["landing: records"] == result.removed["landing: objects rewritten"] == 0
    (what,) = result.not_reached
    assert what.startswith("7 records in 5 objects that an AWS service")
    assert all(str(path) in what for path in before) and "--landing" in what and SECRET not in what
    assert files_with(SECRET, ground.folder / "lake") == []


def test_object_outside_of_landing_is_found_by_an_erasure_after_one_that_left_it(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    place = tmp_path / "elsewhere/2026/03/01/09/one"
    records = [
        change(T0_US + n, item(key, p=value)) for n, (key, value) in enumerate([(SECRET, PRIVATE), ("other", "x")])
    ]
    with ground.lake() as opened:
        apply_objects(opened, NAME, [land(place, *records)])
        left = erase_keys(opened, NAME, EraseRequest([ground.key]))
        assert [str(place) in what for what in left.not_reached] == [True]
        assert SECRET in place.read_text()
        again = erase_keys(opened, NAME, EraseRequest([ground.key], others_landing=True))
        assert (again.removed["landing: records"], again.not_reached) == (1, ())
        assert ground.left() == []
        assert place.read_text().count('"other"') > 0


def test_erased_key_that_the_source_still_has_is_no_difference(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    full([item(SECRET, v=1), item("other", v=1)], at_us=T0_US).write(tmp_path / "exports/1")
    with ground.lake() as opened:
        load_export(opened, NAME, str(tmp_path / "exports/1"))
        ground.erase(opened)
        source = full([item(SECRET, v=1), item("other", v=1)], at_us=T0_US + MINUTE_US).write(tmp_path / "exports/2")
        report = verify_export(opened, NAME, str(source))
        assert (report.outcome, report.compared, report.kinds) == ("equal", 2, {})
        assert report.notes == ("1 key of the source is erased here (`ddb-lake erase`), which is no difference",)
        missing = full([item("lost", v=1), item("other", v=1)], at_us=T0_US + 2 * MINUTE_US).write(
            tmp_path / "exports/3"
        )
        assert verify_export(opened, NAME, str(missing)).kinds == {"missing": 1}
        with pytest.raises(UsageError, match="1 of the keys was erased"):
            repair_from_export(opened, NAME, [ground.key], str(source))


def test_tables_of_entities_lose_the_item_and_stay_up_to_date(tmp_path: Path) -> None:
    entities = [{"name": "quince", "key": {"id": "quince-*"}}, {"name": "rest"}]
    ground = Ground(tmp_path, {"entities": entities})
    full([item(SECRET, p=PRIVATE), item("quince-2", v=2), item("z", v=3)], at_us=T0_US).write(tmp_path / "exports/1")
    pieces = [change(T0_US + MINUTE_US, item(SECRET, p=PRIVATE, v=5)), change(T0_US + MINUTE_US, item("z", v=5))]
    with ground.lake() as opened:
        load_export(opened, NAME, str(tmp_path / "exports/1"))
        apply_objects(opened, NAME, [land(ground.landing / "2026/03/01/10/x", *pieces)])
        of_rest = data_files(opened, "orders_rest")
        with patch("ddb_lake.pipeline.merge.entities._Update") as update:
            ground.erase(opened)
        assert ground.left() == []
        assert not update.called and data_files(opened, "orders_rest") == of_rest  # no entity is derived again
        assert entities_behind(opened, NAME) == ()
        for entity, expected in (("quince", [("quince-2", 2)]), ("rest", [("z", 5)])):
            with run_query(opened, f"SELECT id, v FROM orders_{entity}") as result:
                assert [row for rows in result.batches() for row in rows] == expected
        later = change(T0_US + 2 * MINUTE_US, item("quince-2", v=9))
        apply_objects(opened, NAME, [land(ground.landing / "2026/03/01/11/x", later)])
        assert data_files(opened, "orders_rest") == of_rest
        with run_query(opened, "SELECT id, v FROM orders_quince") as result:
            assert [row for rows in result.batches() for row in rows] == [("quince-2", 9)]


def data_files(opened: Lake, full_name: str) -> list[str]:
    """The data files of a table."""
    table = opened.readable(full_name)
    assert table is not None
    return sorted(file.file_path for file in live_files(table).data)


@pytest.mark.exhaustive
@settings(max_examples=by_effort(1, 3, 20))
@given(seed=st.integers(0, 10_000))
def test_tables_of_entities_are_those_of_a_lake_that_derives_them_again(seed: int) -> None:
    scenario: Scenario = small_scenario(seed, keys=6, writes=24, objects=4)
    rnd = random.Random(seed)
    entities = [{"name": "some", "key": {"id": "key 1*"}}, {"name": "rest"}]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        write(scenario, folder)
        options: dict[str, Any] = {"changes": {"uri": str(folder / "landing")}, "entities": entities}
        with lake(folder / "lake", scenario.table, scenario.key_names, **options) as opened:
            history = steps(scenario, folder, rnd)
            cut = rnd.randrange(1, len(history) + 1)
            for step in history[:cut]:
                run_step(opened, scenario.table, step)
            keys: list[Item] = [{"id": {"S": f"key {rnd.randrange(6)}"}}]
            erase_keys(opened, scenario.table, EraseRequest(keys, others_landing=True))
            for step in history[cut:]:
                run_step(opened, scenario.table, step)
            followed = entity_rows(opened, scenario.table)
            update_entities(opened, scenario.table, rewrite="a test compares the rows")
            assert followed == entity_rows(opened, scenario.table)


def entity_rows(opened: Lake, name: str) -> dict[str, list[str]]:
    """The rows of the tables of entities, without NULLs: a table that is derived again lacks columns that have no value."""
    found = {}
    for entity in opened.table(name).entities:
        if opened.readable(f"{name}_{entity.name}") is not None:
            with run_query(opened, f'SELECT * FROM "{name}_{entity.name}"') as result:
                named = (dict(zip(result.columns, row, strict=True)) for rows in result.batches() for row in rows)
                found[entity.name] = sorted(
                    repr(sorted(pair for pair in row.items() if pair[1] is not None)) for row in named
                )
    return found


@pytest.mark.parametrize(
    ("key", "reported"),
    [
        ({"PK": {"S": "USER#ann"}, "SK": {"S": "name"}}, False),  # `name` is in all metadata
        ({"PK": {"S": "window"}}, True),  # the name of an attribute
        ({"PK": {"N": "1796"}}, False),  # a part of times
    ],
)
def test_words_that_metadata_has_anyway_do_not_make_an_erasure_fail(tmp_path: Path, key: Item, reported: bool) -> None:
    """Guards against an erasure that can never be complete, because metadata has a word that equals a text of the key."""
    record = change(T0_US, {"id": {"S": "x"}})
    record["dynamodb"] |= {"Keys": key, "NewImage": {**key, "window": {"S": "x"}}}
    land(tmp_path / "landing/2026/03/01/09/one", record)
    with lake(tmp_path / "lake", NAME, list(key), changes={"uri": str(tmp_path / "landing")}) as opened:
        assert apply_objects(opened, NAME, [str(tmp_path / "landing")]).new == 1
        result = erase_keys(opened, NAME, EraseRequest([key], others_landing=True))
        assert unfinished(opened, NAME) == [] and list(dump_items(opened, NAME)) == []
    assert [what.partition(":")[0] for what in result.not_reached] == ["metadata of tables"] * reported
