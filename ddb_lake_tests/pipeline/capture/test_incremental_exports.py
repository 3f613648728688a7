"""Changes that come by incremental exports alone: the chain of windows, through pauses, crashes and rivals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.export_requests import ExportState, describe_export, list_exports, start_export
from ddb_lake.core.capture.export_windows import Window
from ddb_lake.errors import ConfigError, ExportError, TransientError, UsageError
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.capture import incremental_exports
from ddb_lake.pipeline.capture.incremental_exports import SETTLE_S, examine_windows, full_export_time, start_due
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.load.request_export import export_increments, export_window
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.pipeline.sync import sync
from ddb_lake.sandbox import Sandbox, Traffic
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.sandbox_lake import assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.several_tables import due_work

EVERY = {"changes": {"incremental_exports": {"every": "15m"}}}
QUARTER_S = 900


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with orders_source(monkeypatch) as sandbox:
        yield sandbox


@pytest.fixture
def traffic(sandbox: Sandbox) -> Traffic:
    traffic = Traffic(sandbox.client("dynamodb"), seed=5, now=sandbox.clock.now)
    traffic.insert(12)
    return traffic


@pytest.fixture
def lake(sandbox: Sandbox, traffic: Traffic, tmp_path: Path) -> Iterator[Lake]:
    """A lake with a full export of the twelve orders."""
    with orders_lake(sandbox, tmp_path / "lake", **EVERY) as lake:
        full_export(lake, sandbox)
        yield lake


def full_export(lake: Lake, sandbox: Sandbox) -> None:
    """A full export of this whole second, wherever that is in the chain; it shows all that was written so far."""
    table = lake.table("orders")
    sandbox.clock.advance(timedelta(seconds=1))
    state = start_export(table, at=sandbox.clock.now().replace(microsecond=0))
    load_export(lake, "orders", describe_export(table, state.arn).manifest_uri)


def windows_of(lake: Lake) -> list[Window]:
    """The windows of all incremental exports that were requested, in order, without failed ones."""
    table = lake.table("orders")
    found = [describe_export(table, one.arn) for one in list_exports(table)]
    return sorted(one.window for one in found if one.window is not None and one.status != "FAILED")


def assert_chained(windows: list[Window]) -> None:
    assert windows
    assert all(one.to_s == other.from_s for one, other in pairwise(windows))


def caught_up(lake: Lake, sandbox: Sandbox) -> None:
    """Let a window pass without traffic, so that everything before it has been exported and loaded."""
    sandbox.clock.advance(timedelta(seconds=QUARTER_S + SETTLE_S))
    sync(lake)
    sync(lake)


def test_chain_of_windows_keeps_the_lake_equal_to_its_source(lake: Lake, sandbox: Sandbox, traffic: Traffic) -> None:
    chosen = random.Random(7)
    for minutes in (3, 16, 1, 40, 15, 17):
        traffic.run(chosen.randint(0, 6))
        sandbox.clock.advance(timedelta(minutes=minutes))
        sync(lake)
        assert all(w.seconds % QUARTER_S == 0 for w in windows_of(lake))
    caught_up(lake, sandbox)

    assert_lake_is_source(lake, sandbox)
    assert_readers_agree(lake, "orders")
    windows = windows_of(lake)
    assert_chained(windows)
    changes = lake.changes("orders")
    assert changes is not None
    assert changes_state(changes).windows == tuple(windows)
    assert table_status(lake, "orders").watermark_us == windows[-1].to_s * 1_000_000


def test_first_window_begins_with_the_second_of_the_full_export(lake: Lake, sandbox: Sandbox) -> None:
    base_us = table_status(lake, "orders").base_export_us
    assert base_us is not None
    sandbox.clock.advance(timedelta(minutes=20))
    start_due(lake, "orders")
    assert windows_of(lake)[0].from_s == base_us // 1_000_000


def test_nothing_is_due_within_a_window_and_looking_costs_no_request(
    lake: Lake, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.clock.advance(timedelta(minutes=9))
    for name in ("list_exports", "restorable_since_s"):
        monkeypatch.setattr(incremental_exports, name, lambda *_: pytest.fail("DynamoDB was called"))
    assert due_work(lake) == []


def test_days_without_a_daemon_are_caught_up_in_windows_of_a_day(
    lake: Lake, sandbox: Sandbox, traffic: Traffic
) -> None:
    traffic.run(5)
    sandbox.clock.advance(timedelta(hours=30))
    traffic.run(5)
    sandbox.clock.advance(timedelta(hours=30))
    sync(lake)
    sync(lake)
    windows = windows_of(lake)
    assert_chained(windows)
    assert [w.seconds for w in windows[:2]] == [86_400, 86_400] and len(windows) == 3
    caught_up(lake, sandbox)
    assert_lake_is_source(lake, sandbox)


def test_crash_before_loading_neither_repeats_nor_skips_a_window(
    sandbox: Sandbox, traffic: Traffic, tmp_path: Path
) -> None:
    with orders_lake(sandbox, tmp_path / "lake", **EVERY) as lake:
        full_export(lake, sandbox)
        traffic.run(4)
        sandbox.clock.advance(timedelta(minutes=20))
        start_due(lake, "orders")  # and the process dies
    with orders_lake(sandbox, tmp_path / "lake", **EVERY) as lake:
        sandbox.clock.advance(timedelta(minutes=20))
        start_due(lake, "orders")  # and dies again: neither export is loaded
        assert_chained(windows_of(lake))
        assert len(windows_of(lake)) == 2
        assert [w.kind for w in due_work(lake)][:2] == ["load", "load"]
        caught_up(lake, sandbox)
        assert_chained(windows_of(lake))
        assert_lake_is_source(lake, sandbox)


def test_two_daemons_at_once_start_each_window_once(sandbox: Sandbox, traffic: Traffic, tmp_path: Path) -> None:
    with orders_lake(sandbox, tmp_path / "lake", **EVERY) as lake:
        full_export(lake, sandbox)
        for _ in range(3):
            traffic.run(3)
            sandbox.clock.advance(timedelta(minutes=15))
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(lambda _: start_due(lake, "orders"), range(3)))
        assert_chained(windows_of(lake))
        assert len(windows_of(lake)) == len(set(windows_of(lake))) <= 3
        caught_up(lake, sandbox)
        assert_lake_is_source(lake, sandbox)


def test_daemon_that_saw_less_is_refused_by_the_token_and_looks_again(
    lake: Lake, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.clock.advance(timedelta(minutes=17))
    start_due(lake, "orders")
    sandbox.clock.advance(
        timedelta(minutes=15)
    )  # now two windows would be due for a planner that does not see the first
    blind = [[], []]
    listed = incremental_exports.list_exports
    monkeypatch.setattr(incremental_exports, "list_exports", lambda *a, **k: blind.pop() if blind else listed(*a, **k))
    start_due(lake, "orders")
    assert_chained(windows_of(lake))
    assert len(windows_of(lake)) == 2


def test_failed_export_is_tried_again_under_another_token(lake: Lake, sandbox: Sandbox, traffic: Traffic) -> None:
    traffic.run(3)
    sandbox.clock.advance(timedelta(minutes=16))
    sandbox.client("s3").put_object(Bucket="exports", Key="keep", Body=b"")
    table = lake.table("orders")
    nowhere = table.model_copy(update={"export": table.export and table.export.model_copy(update={"bucket": "gone"})})
    warnings: list[str] = []
    lake.warn = warnings.append
    lake.settings = lake.settings.model_copy(update={"tables": (nowhere,)})
    for _ in range(2):
        with pytest.raises((ExportError, TransientError), match="S3NoSuchBucket"):
            start_failing(lake)
    lake.settings = lake.settings.model_copy(update={"tables": (table,)})
    caught_up(lake, sandbox)
    assert_chained(windows_of(lake))
    assert_lake_is_source(lake, sandbox)
    assert any("failed before and is tried again: S3NoSuchBucket" in said for said in warnings)


def start_failing(lake: Lake) -> None:
    """Start what is due; an export may fail in the answer already, or be seen to have failed the next time."""
    for state in start_due(lake, "orders").under_way:
        failed = describe_export(lake.table("orders"), state.arn)
        raise ExportError(str(failed.failure))


def test_recovery_that_no_longer_reaches_back_asks_for_a_full_export(
    lake: Lake, sandbox: Sandbox, traffic: Traffic
) -> None:
    client = sandbox.client("dynamodb")
    for enabled in (False, True):
        sandbox.clock.advance(timedelta(hours=1))
        recovery = {"PointInTimeRecoveryEnabled": enabled}
        client.update_continuous_backups(TableName="orders", PointInTimeRecoverySpecification=recovery)
    traffic.run(4)
    sandbox.clock.advance(timedelta(hours=1))
    with pytest.raises(ExportError, match=r"reaches back to 2026-03-01T11:30:\d\dZ only.*`ddb-lake export orders`"):
        sync(lake)
    full_export(lake, sandbox)
    traffic.run(4)
    caught_up(lake, sandbox)
    assert_lake_is_source(lake, sandbox)
    assert_chained(windows_of(lake))


def test_full_export_at_the_end_of_the_last_window_leaves_the_chain_as_it_is(
    lake: Lake, sandbox: Sandbox, traffic: Traffic
) -> None:
    table = lake.table("orders")
    for _ in range(2):
        traffic.run(4)
        sandbox.clock.advance(timedelta(minutes=16))
        sync(lake)
        sync(lake)
        traffic.run(2)
        state = start_export(table, at=full_export_time(lake, table))
        load_export(lake, "orders", describe_export(table, state.arn).manifest_uri)
        assert table_status(lake, "orders").base_export_us == windows_of(lake)[-1].to_s * 1_000_000
    caught_up(lake, sandbox)
    assert_chained(windows_of(lake))
    assert_lake_is_source(lake, sandbox)


def test_full_export_in_the_middle_of_a_window_resurrects_nothing(
    lake: Lake, sandbox: Sandbox, traffic: Traffic
) -> None:
    client = sandbox.client("dynamodb")
    brief = {"customer": {"S": "brief"}, "order_id": {"S": "o"}}
    sandbox.clock.advance(timedelta(minutes=4))
    client.put_item(TableName="orders", Item=brief)  # in no incremental export: it comes and goes within a window
    full_export(lake, sandbox)
    sandbox.clock.advance(timedelta(minutes=1))
    client.delete_item(TableName="orders", Key=brief)
    caught_up(lake, sandbox)
    caught_up(lake, sandbox)
    assert_lake_is_source(lake, sandbox)


def test_window_of_ones_own_repairs_a_stretch_and_repeating_it_finds_the_same_export(
    lake: Lake, sandbox: Sandbox, traffic: Traffic
) -> None:
    from_us = sandbox.clock.now_us()
    traffic.run(8)
    to_us = sandbox.clock.now_us()
    sandbox.clock.advance(timedelta(minutes=30))
    (first,) = export_window(lake, "orders", from_us, to_us)
    (again,) = export_window(lake, "orders", from_us, to_us)
    assert (first.already_loaded, again.already_loaded) == (False, True)
    assert first.export_id == again.export_id
    assert_lake_is_source(lake, sandbox)


def test_window_without_changes_is_loaded_all_the_same(lake: Lake, sandbox: Sandbox) -> None:
    sandbox.clock.advance(timedelta(minutes=20))
    (empty,) = export_increments(lake, "orders")
    assert (empty.items, empty.already_loaded) == (0, False)
    assert load_export(
        lake, "orders", f"s3://exports/AWSDynamoDB/{empty.export_id}/manifest-summary.json"
    ).already_loaded
    assert due_work(lake) == []


def test_stretch_that_is_empty_or_not_over_is_wrong_use(lake: Lake, sandbox: Sandbox) -> None:
    now_us = sandbox.clock.now_us()
    for from_us, to_us in ((now_us, now_us), (now_us, now_us + 10**9)):
        with pytest.raises(UsageError, match="a stretch to export begins before it ends"):
            export_window(lake, "orders", from_us, to_us)


def test_increments_without_a_base_ask_for_one(sandbox: Sandbox, tmp_path: Path) -> None:
    with orders_lake(sandbox, tmp_path / "lake", **EVERY) as lake:
        assert due_work(lake) == []
        with pytest.raises(ExportError, match="run `ddb-lake export orders` first"):
            examine_windows(lake, "orders")


def test_listing_goes_on_to_its_end_unless_it_is_newest_first(
    lake: Lake, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddb_lake.aws import export_requests

    pages: list[dict[str, Any]] = []
    starts = [1_772_000_000_000 + number * 3_600_000 for number in range(75)]

    class Client:
        def list_exports(self, **asked: Any) -> dict[str, Any]:
            return pages[int(asked.get("NextToken", 0))]

    def listed(order: list[int]) -> list[ExportState]:
        arns = [f"arn:aws:dynamodb:eu-west-1:111122223333:table/orders/export/0{at}-0badcafe" for at in order]
        summaries = [{"ExportArn": arn, "ExportStatus": "COMPLETED"} for arn in arns]
        pages[:] = [
            {"ExportSummaries": summaries[at : at + 25], "NextToken": str(at // 25 + 1) if at < 50 else None}
            for at in (0, 25, 50)
        ]
        return list_exports(lake.table("orders"), since_s=starts[60] // 1000)

    monkeypatch.setattr(export_requests, "source_client", lambda table: Client())
    assert len(listed(starts[::-1])) == 25
    shuffled = random.Random(1).sample(starts, 75)
    for order in (starts, shuffled):
        assert len(listed(order)) == 75


def test_incremental_exports_need_a_place_and_a_window_that_dynamodb_takes() -> None:
    from ddb_lake.config import parse_settings

    for table, said in (
        ({"changes": {"incremental_exports": {}}}, "needs `export"),
        ({"export": {"bucket": "b"}, "changes": {"incremental_exports": {"every": "5m"}}}, "15m to 24h"),
        ({"export": {"bucket": "b"}, "changes": {"notifications": "orders-queue"}}, "named by its URL"),
    ):
        with pytest.raises(ConfigError, match=said):
            parse_settings({"warehouse": "w", "tables": [{"name": "orders", **table}]}, "test")
