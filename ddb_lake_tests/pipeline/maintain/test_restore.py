"""Restoring a time into a table: broken off anywhere, it goes on, and what is there in the end is what was then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from ddb_lake.aws.items import TableItems
from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import CheckFailed, CommitConflict, UsageError
from ddb_lake.pipeline.maintain import restore as restoring
from ddb_lake.pipeline.maintain.restore import RestoreResult, open_restore
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.sandbox_lake import orders_lake, orders_source
from ddb_lake_tests.support.sandbox_steps import scan
from ddb_lake_tests.support.verified_source import Stand

ITEMS = 120


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    monkeypatch.setattr("ddb_lake.pipeline.maintain.restore.MARK_EVERY_S", 0.0)
    with orders_source(monkeypatch) as sandbox, orders_lake(sandbox, tmp_path) as lake:
        stand = Stand(sandbox, lake)
        for number in range(ITEMS):
            stand.put(f"o{number:03d}", total=f"{number}.125")
        stand.deliver()
        stand.wait()
        yield stand


def restore(stand: Stand, at_us: int, **options: bool) -> RestoreResult:
    with stand.lake.session() as session:
        return open_restore(stand.lake, session, "orders", "copy", at_us, None).run(create=True, **options)


@fault("the process ends while it writes", "restore")
def test_restore_that_is_broken_off_goes_on_and_gives_the_items_of_that_time(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_us = stand.sandbox.clock.now_us()
    then = sorted(canonical(json.loads(line)["Item"]) for line in dump_items(stand.lake, "orders"))
    stand.wait()
    stand.put("o000", total="7")
    stand.delete("o001")
    stand.deliver()
    put, calls = TableItems.put, iter(range(100))

    def breaking(self: TableItems, items: Sequence[Item]) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        put(self, items)

    monkeypatch.setattr(TableItems, "put", breaking)
    with pytest.raises(KeyboardInterrupt):
        restore(stand, at_us)
    stand.put("o002", total="8")
    stand.deliver()
    result = restore(stand, at_us)
    assert (result.items, result.written + result.resumed, result.verified) == (ITEMS, ITEMS, ITEMS)
    assert result.resumed in (50, 75)
    assert scan(stand.sandbox, "copy") == then
    with pytest.raises(UsageError, match="has items already"):
        restore(stand, at_us)
    assert restore(stand, at_us, into_existing=True).written == ITEMS


def test_restore_refuses_a_table_of_another_key_and_says_when_others_write(stand: Stand) -> None:
    at_us = stand.sandbox.clock.now_us()
    stand.client.create_table(
        TableName="copy",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(UsageError, match="its key is"):
        restore(stand, at_us)
    stand.client.delete_table(TableName="copy")
    with stand.lake.session() as session:
        prepared = open_restore(stand.lake, session, "orders", "copy", at_us, None)
        check = prepared._check_target

        def meddled(create: bool, into_existing: bool) -> None:
            check(create, into_existing)
            stranger = {"customer": {"S": "eve"}, "order_id": {"S": "x"}}
            stand.client.put_item(TableName="copy", Item=stranger)

        prepared._check_target = meddled  # type: ignore[method-assign]
        with pytest.raises(CheckFailed, match=f"{ITEMS} of {ITEMS} items as they were put, and 1 other item"):
            prepared.run(create=True)


class Killed(BaseException):
    """The process ends here, with nothing cleaned up."""


STEPS: tuple[tuple[Any, str], ...] = ((restoring, "make_table"), (Landing, "replace"), (TableItems, "put"))
"""Everything that a restore leaves outside its process."""


@contextmanager
def killed(point: int) -> Iterator[list[str]]:
    """Raise Killed after the `point`-th step. Gives the names of the steps passed."""
    passed: list[str] = []
    with ExitStack() as stack:
        for owner, name in STEPS:
            original = getattr(owner, name)

            def step(*arguments: Any, _original: Any = original, _name: str = name, **named: Any) -> Any:
                result = _original(*arguments, **named)
                passed.append(_name)
                if len(passed) == point:
                    raise Killed
                return result

            stack.enter_context(mock.patch.object(owner, name, step))
        yield passed


@fault("SIGKILL after any step, including before the first write", "restore")
def test_restore_killed_at_any_step_continues_with_the_same_command(stand: Stand) -> None:
    at_us = stand.sandbox.clock.now_us()
    then = sorted(canonical(json.loads(line)["Item"]) for line in dump_items(stand.lake, "orders"))
    with killed(0) as steps:
        restore(stand, at_us)
    assert steps[:2] == ["make_table", "replace"]
    assert "put" in steps
    for point in (1, 2, 3, 4, len(steps) - 1):
        stand.client.delete_table(TableName="copy")
        with killed(point), pytest.raises(Killed):
            restore(stand, at_us)
        assert restore(stand, at_us).verified == ITEMS
        assert scan(stand.sandbox, "copy") == then


def test_restore_into_a_table_with_items_of_others_is_refused_also_after_an_attempt(stand: Stand) -> None:
    at_us = stand.sandbox.clock.now_us()
    restore(stand, at_us)
    stand.client.delete_table(TableName="copy")
    restore(stand, at_us)
    stand.wait()
    later_us = stand.sandbox.clock.now_us()
    for _ in range(2):
        with pytest.raises(UsageError, match="has items already; restore into an empty table"):
            restore(stand, later_us)


def test_unfinished_restore_of_another_time_is_named(stand: Stand) -> None:
    at_us = stand.sandbox.clock.now_us()
    stand.wait()
    later_us = stand.sandbox.clock.now_us()
    with killed(4), pytest.raises(Killed):
        restore(stand, at_us)
    with pytest.raises(UsageError, match="has items already, of an unfinished restore as of 2026-03-01T"):
        restore(stand, later_us)
    assert restore(stand, at_us).verified == ITEMS


def test_of_two_restores_of_different_times_into_one_table_one_stops(stand: Stand) -> None:
    """Both have found the table empty before either writes its mark."""
    at_us = stand.sandbox.clock.now_us()
    then = sorted(canonical(json.loads(line)["Item"]) for line in dump_items(stand.lake, "orders"))
    stand.wait()
    stand.put("o000", total="7")
    stand.deliver()
    stand.wait()
    later_us = stand.sandbox.clock.now_us()
    with stand.lake.session() as one, stand.lake.session() as two:
        first = open_restore(stand.lake, one, "orders", "copy", at_us, None)
        second = open_restore(stand.lake, two, "orders", "copy", later_us, None)
        assert first.run(create=True).verified == ITEMS
        stand.client.delete_table(TableName="copy")
        with pytest.raises(CommitConflict, match="table copy: another restore writes to it"):
            second.run(create=True)
    assert stand.client.scan(TableName="copy")["Items"] == []
    assert restore(stand, at_us).verified == ITEMS
    assert scan(stand.sandbox, "copy") == then


def test_two_runs_of_one_restore_at_once_write_the_same(stand: Stand) -> None:
    at_us = stand.sandbox.clock.now_us()
    then = sorted(canonical(json.loads(line)["Item"]) for line in dump_items(stand.lake, "orders"))
    with killed(2), pytest.raises(Killed):
        restore(stand, at_us)

    def attempt(_: int) -> RestoreResult | CommitConflict:
        try:
            return restore(stand, at_us)
        except CommitConflict as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        ended = [result for result in pool.map(attempt, range(2)) if isinstance(result, RestoreResult)]
    if not ended:
        restore(stand, at_us)
    assert scan(stand.sandbox, "copy") == then
