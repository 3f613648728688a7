"""Restoring a time into a table: broken off anywhere, it goes on, and what is there in the end is what was then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ddb_lake.aws.items import TableItems
from ddb_lake.core.records import Item
from ddb_lake.errors import CheckFailed, UsageError
from ddb_lake.sandbox.items import canonical
from ddb_lake.stages.dump import dump_items
from ddb_lake.stages.restore import RestoreResult, open_restore
from ddb_lake_tests.integration.stands import orders_lake, orders_source
from ddb_lake_tests.integration.test_verify import Stand
from ddb_lake_tests.sandbox.steps import scan
from ddb_lake_tests.trust.marks import fault

ITEMS = 120


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    monkeypatch.setattr("ddb_lake.stages.restore.MARK_EVERY_S", 0.0)
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


@fault("it is broken off while it writes", "restore")
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
        with pytest.raises(CheckFailed, match=f"{ITEMS} of {ITEMS} items are there as they were put, and 1 others"):
            prepared.run(create=True)
