"""Protected attributes: no file of the lake has a value, the lake is that of a protected source, and other values are as they were."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.aws.session import session
from ddb_lake.checks import content
from ddb_lake.checks.check import Subject, reads_aws
from ddb_lake.checks.content import content_outcome
from ddb_lake.checks.continuity import continuity_outcome
from ddb_lake.checks.registry import CHECKS
from ddb_lake.config import parse_settings
from ddb_lake.errors import CheckFailed, ConfigError, ExportError, UsageError
from ddb_lake.executors import open_lake
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.streams import read_streams
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.load.scan import ScanOptions
from ddb_lake.pipeline.load.scan import scan_table as scan_source
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.daily_snapshots import keep_day
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.maintain.rebuild import rebuild_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.protection import changed_rules
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.quarantine import show_quarantine
from ddb_lake.pipeline.read.verification_report import report_of
from ddb_lake.pipeline.verify.canary import canary_sign
from ddb_lake.pipeline.verify.conservation import NotComparedError, compare_counts
from ddb_lake.pipeline.verify.continuity import examine_continuity
from ddb_lake.pipeline.verify.full import verify_export, verify_scan
from ddb_lake.pipeline.verify.repair import repair_from_source
from ddb_lake.sandbox import Sandbox
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake_tests.support.effort import cases, examples
from ddb_lake_tests.support.erased_values import files_with
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, increment, item, land
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.protected_items import (
    BINARY,
    COLUMNS,
    DIGITS,
    KEY,
    KEY_VARIABLE,
    NEEDLE,
    NEEDLES,
    bodies,
    expected,
    expected_record,
)
from ddb_lake_tests.support.sandbox_lake import START, point_at
from ddb_lake_tests.support.sandbox_steps import make_stream, make_table, put

NAME = "orders"
DAY = date(2026, 3, 1)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@contextmanager
def protected_lake(folder: Path, **table: Any) -> Iterator[Lake]:
    """A lake in `folder/lake` of one table, by default with the rules of `COLUMNS`."""
    table = {"name": NAME, "key": ["id"], "columns": COLUMNS, "changes": {"uri": str(folder / "landing")}, **table}
    settings = {
        "warehouse": str(folder / "lake"),
        "hash_key": {"env": KEY_VARIABLE},
        "tables": [table],
    }
    with open_lake(parse_settings(settings, "test")) as opened:
        yield opened


def shown(folder: Path) -> dict[str, list[str]]:
    """The files of the lake with a hidden value, by its beginning."""
    return {needle: found for needle in NEEDLES if (found := files_with(needle, folder / "lake"))}


SECRET = {
    "email": {"S": f"{NEEDLE}mail"},
    "note": {"L": [{"S": f"{NEEDLE}note"}]},
    "card": {"N": f"{DIGITS}1234"},
    "pin": {"B": BINARY},
    "address": {"M": {"street": {"S": f"{NEEDLE}one"}, "door": {"N": f"{DIGITS}77"}, "city": {"S": "Ghent"}}},
    "lines": {"L": [{"M": {"email": {"S": f"{NEEDLE}mail"}}}, {"S": f"{NEEDLE}odd"}]},
    "phones": {"N": f"{DIGITS}55"},
    "logins": {"L": [{"L": [{"M": {"ip": {"B": BINARY}}}]}, {"S": f"{NEEDLE}odd"}]},
}


def fill(folder: Path, opened: Lake) -> None:
    """Exports, changes, entries of the quarantine, and a kept day."""
    items = [item(f"key {n}", v=n, **SECRET) for n in range(3)]
    full(items[:2], items[2:], at_us=T0_US).write(folder / "exports/1")
    records = [
        change(T0_US + MINUTE_US * n, item("key 1", v=n, **SECRET), item("key 1", v=n - 1, **SECRET)) for n in (1, 2, 3)
    ]
    cut = json.dumps(records[0])[:-20]
    broken = json.dumps(records[0]).replace('"id"', '"di"')
    misspelled = json.dumps(change(T0_US, item("key 1", note={"M": {NEEDLE: {"X": "1"}}}), None))
    land(
        folder / "landing/2026/03/01/09/one",
        *records,
        "\n",
        cut,
        "\n",
        broken,
        misspelled,
        "\n",
        change(T0_US + 9, None, items[0]),
    )
    window = increment(
        (T0_US + 7 * MINUTE_US, item("key 2", v=9, **SECRET), {"id": {"S": "key 2"}}),
        at_us=T0_US + 60 * MINUTE_US,
        window=T0_US,
    )
    window.write(folder / "exports/2")
    load_export(opened, NAME, str(folder / "exports/1"))
    apply_objects(opened, NAME, [str(folder / "landing")])
    load_export(opened, NAME, str(folder / "exports/2"))
    keep_day(opened, NAME, DAY)


def living(opened: Lake) -> list[dict[str, Any]]:
    """The items of the lake, by key."""
    return sorted((json.loads(line)["Item"] for line in dump_items(opened, NAME)), key=lambda one: str(one["id"]))


def test_no_file_of_the_lake_has_a_protected_value(tmp_path: Path) -> None:
    entities = [{"name": "rest"}]
    with protected_lake(tmp_path, entities=entities, daily_states={"start": "2026-03-01"}) as opened:
        fill(tmp_path, opened)
        assert shown(tmp_path) == {}
        assert len(show_quarantine(opened, NAME)) == 3
        assert all(entry.raw == b"" for entry in show_quarantine(opened, NAME))
        report = verify_export(
            opened, NAME, str(full([item("key 9", **SECRET)], at_us=T0_US - 1).write(tmp_path / "x"))
        )
        assert shown(tmp_path) == {} and report.differences
        assert [one["v"] for one in living(opened)] == [{"N": "3"}, {"N": "9"}]
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    with protected_lake(open_folder, columns={}, entities=entities, daily_states={"start": "2026-03-01"}) as opened:
        fill(open_folder, opened)
        found = shown(open_folder)  # the scanner finds the values where they are not protected
        kinds = {Path(path).parts[len(open_folder.parts) + 2] for paths in found.values() for path in paths}
        assert set(found) == set(NEEDLES) and len(kinds) > 3, kinds


def changelog(opened: Lake, folder: Path) -> list[str]:
    """The records of the changelog, without their folder."""
    with opened.session() as session:
        # an offset depends on the bytes before the record
        rows = session.rows(f'SELECT * EXCLUDE ("offset") FROM {scan_table(opened.changes(NAME)).sql()}')  # type: ignore[arg-type]
    return sorted(repr(row).replace(str(folder), "") for row in rows)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The items of an export, and change records after it."""
    now: dict[str, dict[str, Any]] = {}
    for key in draw(st.sets(st.sampled_from("abcd"), max_size=4)):
        now[key] = item(key, **draw(bodies()))
    exported = list(now.values())
    records = []
    for place in range(draw(st.integers(0, 6))):
        key = draw(st.sampled_from("abcde"))
        new = item(key, **draw(bodies())) if key not in now or draw(st.integers(0, 3)) else None
        records.append(change(T0_US + 10 * MINUTE_US + place * 1000, new, now.get(key)))
        now |= {key: new} if new else {}
        if new is None:
            del now[key]
    return exported, records


@examples(3, 8, 100)
@given(histories(), st.sampled_from((LocalExecutor, partial(SparkExecutor, carrier=InlineCarrier()))))
def test_lake_with_rules_is_the_lake_of_a_protected_source(
    history: tuple[list[Any], list[Any]], executor: Callable[..., Any]
) -> None:
    exported, records = history
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name, "real"), Path(name, "model")
        found = []
        for folder, columns in zip(folders, (COLUMNS, {}), strict=True):
            is_model = not columns
            items = list(map(expected, exported)) if is_model else exported
            landed = list(map(expected_record, records)) if is_model else records
            full(items, at_us=T0_US).write(folder / "exports")
            if landed:
                land(folder / "landing/2026/03/01/09/one", *landed)
            with protected_lake(folder, columns=columns) as opened:
                opened.executors = {"duckdb": LocalExecutor if is_model else executor}
                load_export(opened, NAME, str(folder / "exports"))
                if landed:
                    apply_objects(opened, NAME, [str(folder / "landing")])
                records_found = changelog(opened, folder) if landed else []
                found.append((living(opened), records_found))
        assert found[0] == found[1]
        assert shown(folders[0]) == {}


def test_record_that_a_schema_rejected_is_replayed_with_its_rules(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"properties": {"v": {"const": 0}}}))
    records = [change(T0_US + n, item(f"key {n}", v=n, **SECRET)) for n in (0, 1, 2)]
    land(tmp_path / "landing/2026/03/01/09/one", records[0], "\n", records[1], records[2])
    with protected_lake(tmp_path, validate={"schema": str(schema)}) as opened:
        apply_objects(opened, NAME, [str(tmp_path / "landing")])
        assert [entry.raw for entry in show_quarantine(opened, NAME)] == [b"", b""]
        assert shown(tmp_path) == {}
    with protected_lake(tmp_path) as opened:
        assert replay_quarantine(opened, NAME).replayed == 2
        assert living(opened) == [expected(record["dynamodb"]["NewImage"]) for record in records]
        assert shown(tmp_path) == {}


def test_invalid_line_of_an_export_goes_to_the_quarantine_without_its_bytes(tmp_path: Path) -> None:
    misspelled = json.dumps({"Item": item("b", note={"M": {NEEDLE: {"X": "1"}}})})  # the reason names the member
    lines = ['{"Item":{"id":{"S":"a"},"note":{"S":"' + NEEDLE + '"}}', misspelled, {"Item": item("key 1", **SECRET)}]
    export = full([], at_us=T0_US)
    export.files = [lines]
    manifest = str(export.write(tmp_path / "exports"))
    with protected_lake(tmp_path) as opened:
        with pytest.raises(
            ExportError, match=r"2 lines of the export without a valid item.*unknown type tag at note\."
        ) as refused:
            load_export(opened, NAME, manifest)
        assert NEEDLE not in str(refused.value)
        assert load_export(opened, NAME, manifest, reject=True).quarantined == 2
        assert living(opened) == [expected(item("key 1", **SECRET))]
        assert shown(tmp_path) == {}
        assert (
            verify_export(
                opened, NAME, str(full([item("key 1", **SECRET)], at_us=T0_US + 1).write(tmp_path / "y"))
            ).outcome
            == "equal"
        )


def test_changed_rules_are_reported_until_a_rebuild_after_which_no_value_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddb_lake.pipeline.local_executor.groups", lambda refs: ([ref] for ref in refs))
    with protected_lake(tmp_path, columns={}) as opened:
        fill(tmp_path, opened)
        assert changed_rules(opened, NAME) == ()
        before = living(opened)
    with protected_lake(tmp_path) as opened:
        warnings: list[str] = []
        opened.warn = warnings.append
        assert changed_rules(opened, NAME) == tuple(sorted(COLUMNS))
        land(tmp_path / "landing/2026/03/01/10/two", change(T0_US + 30 * MINUTE_US, item("new", v=0, **SECRET)))
        land(tmp_path / "landing/2026/03/01/10/two-again", change(T0_US + 30 * MINUTE_US, item("new", v=0, **SECRET)))
        result = apply_objects(opened, NAME, [str(tmp_path / "landing")])
        assert result.tables[NAME].changed_rules == tuple(sorted(COLUMNS))
        assert len(warnings) == 1 and "`ddb-lake rebuild orders`" in warnings[0]
        assert changed_rules(opened, NAME)  # new rows by new rules do not hide the former ones
        assert rebuild_table(opened, NAME).dropped == 0
        assert changed_rules(opened, NAME, opened.protection(NAME).stored) == ()
        assert living(opened) == [expected(one) for one in [*before, item("new", v=0, **SECRET)]]
        columns = {field.name for field in opened.current(NAME).schema().fields}  # type: ignore[union-attr]
        assert "note" not in columns and "address__street" not in columns
        apply_objects(opened, NAME, [str(tmp_path / "landing")])
        assert len(warnings) == 1
        later = opened.now() + timedelta(days=2)
        opened.now = lambda: later
        compact_table(opened, NAME, force=True)
        assert {Path(path).parent.name for paths in shown(tmp_path).values() for path in paths} == {NAME}
        keep_day(opened, NAME, DAY)  # a kept day is a file that a rebuild does not write again
        assert shown(tmp_path) == {}


def test_another_key_of_hashes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    land(tmp_path / "landing/2026/03/01/09/one", change(T0_US, item("a", **SECRET)))
    with protected_lake(tmp_path) as opened:
        apply_objects(opened, NAME, [str(tmp_path / "landing")])
        monkeypatch.setenv(KEY_VARIABLE, "another key of hashes")
        assert changed_rules(opened, NAME, opened.protection(NAME).stored) == ("hash_key",)


def test_missing_key_of_hashes_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = str(full([item("a", **SECRET)], at_us=T0_US).write(tmp_path / "exports"))
    monkeypatch.delenv(KEY_VARIABLE)
    with protected_lake(tmp_path) as opened:
        with pytest.raises(ConfigError, match=f"the environment variable {KEY_VARIABLE} is not set"):
            load_export(opened, NAME, manifest)
        assert opened.current(NAME) is None


FILTER = {"include": [{"id": "a*"}, {"id": "*c"}], "exclude": {"id": "*b"}}
KINDS = [{"name": name, "key": {"id": text}} for name, text in (("bee", "*b"), ("one", "a*"), ("two", "*c"))]
FILTERED: tuple[dict[str, Any], ...] = (
    {"filter": FILTER},
    {"filter": {"include_entities": ["one", "two"]}, "entities": KINDS},
    {"filter": {"exclude_entities": ["rest", "bee"]}, "entities": [*KINDS, {"name": "rest"}]},
)


def is_kept(key: str) -> bool:
    """`FILTER`, a second time."""
    return (key.startswith("a") or key.endswith("c")) and not key.endswith("b")


@st.composite
def filtered_histories(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The items of an export, and change records after it. Items that the filter leaves out have hidden values."""
    keys = ("a", "ab", "ac", "bc", "b", "cab")
    now: dict[str, dict[str, Any]] = {}

    def body(key: str) -> dict[str, Any]:
        return item(key, v=draw(st.integers(0, 2)), p="plain" if is_kept(key) else f"{NEEDLE}{key}")

    for key in draw(st.sets(st.sampled_from(keys))):
        now[key] = body(key)
    exported, records = list(now.values()), []
    for place in range(draw(st.integers(0, 6))):
        key = draw(st.sampled_from(keys))
        new = body(key) if key not in now or draw(st.integers(0, 3)) else None
        records.append(change(T0_US + 10 * MINUTE_US + place * 1000, new, now.get(key)))
        now |= {key: new} if new else {}
        if new is None:
            del now[key]
    return exported, records


@examples(3, 12, 100)
@given(
    filtered_histories(),
    st.sampled_from((LocalExecutor, partial(SparkExecutor, carrier=InlineCarrier()))),
    st.sampled_from(FILTERED),
)
def test_lake_with_a_filter_is_the_lake_of_a_source_without_the_other_items(
    history: tuple[list[Any], list[Any]], executor: Callable[..., Any], filtered: dict[str, Any]
) -> None:
    exported, records = history
    kept = [one for one in exported if is_kept(one["id"]["S"])]
    kept_records = [one for one in records if is_kept(one["dynamodb"]["Keys"]["id"]["S"])]
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name, "real"), Path(name, "model")
        found = []
        for folder, items, landed, table in zip(
            folders, (exported, kept), (records, kept_records), (filtered, {}), strict=True
        ):
            manifest = str(full(items[::2], items[1::2], at_us=T0_US).write(folder / "exports"))
            land(folder / "landing/2026/03/01/09/one", *landed)
            with protected_lake(folder, columns={}, **table) as opened:
                opened.executors = {"duckdb": executor if table else LocalExecutor}
                loaded = load_export(opened, NAME, manifest)
                assert (loaded.items, loaded.left_out) == (len(items), len(items) - len(kept))
                exact = verify_export(opened, NAME, manifest)
                assert (exact.outcome, exact.compared) == ("equal", len(kept))
                applied = apply_objects(opened, NAME, [str(folder / "landing")])
                assert (applied.left_out, applied.doubts) == (len(landed) - len(kept_records), ())
                assert opened.ledger(NAME) is not None
                found.append((living(opened), changelog(opened, folder)))
        assert found[0] == found[1]
        assert shown(folders[0]) == {}


def test_changed_filter_is_reported_and_a_rebuild_finds_lost_objects_nevertheless(tmp_path: Path) -> None:
    folder = tmp_path / "landing/2026/03/01/09"
    for key in ("a", "b"):
        land(folder / key, change(T0_US, item(key, p=NEEDLE if key == "b" else "plain")))
    with protected_lake(tmp_path, columns={}) as opened:
        apply_objects(opened, NAME, [str(tmp_path / "landing")])
    with protected_lake(tmp_path, columns={}, filter=FILTER) as opened:
        assert changed_rules(opened, NAME) == ("filter",)
        source = str(full([item("a", p="plain"), item("b")], at_us=T0_US + 60 * MINUTE_US).write(tmp_path / "exports"))
        report = verify_export(opened, NAME, source)
        assert (report.kinds, report.changed_rules) == ({"extra": 1}, ("filter",))
        assert report_of(json.loads(json.dumps(report.to_json()))) == report
        said = content_outcome(report).text
        assert "`ddb-lake rebuild orders`" in said and "repair" not in said
        assert continuity_outcome(examine_continuity(opened, NAME)).state == "unknown"
        moved = (folder / "a").rename(tmp_path / "away")
        with pytest.raises(CheckFailed, match="landing/2026/03/01/09/a"):
            rebuild_table(opened, NAME)
        moved.rename(folder / "a")
        assert rebuild_table(opened, NAME).dropped == 0
        assert changed_rules(opened, NAME) == verify_export(opened, NAME, source).changed_rules == ()
        assert not examine_continuity(opened, NAME).changed_rules
        assert [one["id"]["S"] for one in living(opened)] == ["a"]
    with protected_lake(tmp_path, columns={}) as opened:
        assert changed_rules(opened, NAME) == ("filter",)
        rebuild_table(opened, NAME)
        assert [one["id"]["S"] for one in living(opened)] == ["a", "b"]


def test_full_check_that_a_filter_leaves_nothing_to_compare_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = str(full([item("b", v=1)], at_us=T0_US).write(tmp_path / "exports"))
    monkeypatch.setattr(content, "_export", lambda *_: manifest)
    for table_filter, status in ((FILTER, "unknown"), ({"include": {"id": "b"}}, "pass")):
        folder = tmp_path / status
        with protected_lake(folder, columns={}, filter=table_filter) as opened:
            load_export(opened, NAME, manifest)
            found = content.content_is_equal(Subject(opened, opened.table(NAME)))
            assert found.state == status


def test_checks_do_not_compare_what_a_filter_leaves_out(tmp_path: Path) -> None:
    changes = {"kinesis": "changes"}
    canary = {"canary": {"key": {"id": {"S": "canary"}}}}
    with protected_lake(tmp_path, columns={}, filter=FILTER, changes=changes, checks=canary) as opened:
        table = opened.table(NAME)
        with pytest.raises(NotComparedError, match="`filter` leaves records out before they land"):
            compare_counts(opened, table)
        with pytest.raises(ConfigError, match=r"checks\.canary\.key is left out of the lake by `filter`"):
            canary_sign(opened, table)
        assert "rows_match_source" not in {check.name for check in CHECKS if check.applies(table)}
        other = table.model_copy(update={"filter": None})
        assert reads_aws(table) is ("rows_match_source" in {check.name for check in CHECKS if check.applies(other)})


@pytest.mark.parametrize("source", cases(("streams", "kinesis"), quick=("streams",)))
def test_scan_and_stream_land_protected_items_and_verify_compares_with_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    hidden = {**SECRET, "pin": {"B": base64.b64decode(BINARY)}}
    changes: dict[str, Any] = {"streams": True} if source == "streams" else {"kinesis": "changes"}
    with Sandbox(start=START) as sandbox:
        point_at(sandbox, monkeypatch)
        stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        make_table(sandbox, **({"StreamSpecification": stream} if source == "streams" else {}))
        if source == "kinesis":
            make_stream(sandbox, "things")
        put(sandbox, "scanned", v={"N": "0"}, **hidden)
        put(sandbox, "left out", v={"S": NEEDLE})
        without = {"exclude": {"pk": "left *"}}
        with protected_lake(tmp_path, name="things", key=["pk", "sk"], changes=changes, filter=without) as opened:
            opened.now = sandbox.clock.now
            scanned = scan_source(opened, "things", ScanOptions(place=str(tmp_path / "lake/exports")))
            put(sandbox, "scanned", v={"N": "1"}, **hidden)
            put(sandbox, "streamed", v={"N": "2"}, **hidden)
            put(sandbox, "left out", v={"S": f"{NEEDLE}2"})
            sandbox.advance(timedelta(minutes=10))
            landed = read_streams(opened, "things")
            load_export(opened, "things", scanned.manifest_uri)
            apply_objects(opened, "things", list(landed.uris))
            assert landed.records == 3  # of five
            assert verify_scan(opened, "things").outcome == "equal"
            items = [json.loads(line)["Item"] for line in dump_items(opened, "things")]
            wanted = expected(SECRET)
            assert {one["pk"]["S"]: {name: one[name] for name in wanted} for one in items} == {
                "scanned": wanted,
                "streamed": wanted,
            }
            put(sandbox, "missed", v={"N": "3"}, **hidden)
            report = verify_scan(opened, "things")
            assert [one.key["pk"] for one in report.differences] == [{"S": "missed"}]
            repair_from_source(opened, "things", [one.key for one in report.differences], read_rate=None)
            assert verify_scan(opened, "things").outcome == "equal"
            with pytest.raises(UsageError, match="left out of the lake by `filter`"):
                repair_from_source(opened, "things", [{"pk": {"S": "left out"}, "sk": {"N": "1"}}], read_rate=None)
            assert shown(tmp_path) == {}
    session.cache_clear()
