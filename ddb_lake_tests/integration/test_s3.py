"""Landing and warehouse in S3, behind the SQL catalog and behind Glue: the same stages, the same exact items.

The tests cover each step that writes below the warehouse: also verify, repair, restore and daily snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.items import TableItems
from ddb_lake.config import parse_settings
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import UsageError
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.daily_snapshots import keep_day
from ddb_lake.pipeline.maintain.restore import open_restore
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.verification_report import keep_report, keys_of, last_report
from ddb_lake.pipeline.verify.full import verify_export, verify_scan
from ddb_lake.pipeline.verify.repair import repair_from_export, repair_from_source
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.simulator import big_scenario
from ddb_lake_tests.support.corruptions import lose_row, put_row
from ddb_lake_tests.support.sandbox_lake import BUCKET, START, assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.sandbox_steps import make_bucket, scan
from ddb_lake_tests.support.several_tables import queried
from ddb_lake_tests.support.verified_source import LANDING, Stand, at_fault

WAREHOUSE = "s3://lake/warehouse"
SCENARIO = big_scenario(seed=3, keys=20, changes=200)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ddb_lake.aws.session import session

    with Sandbox() as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        client = sandbox.client("s3")
        for bucket in ("lake", "landing"):
            where = {"LocationConstraint": sandbox.environment()["AWS_REGION"]}
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        yield client
    session.cache_clear()


@pytest.mark.parametrize("catalog", [pytest.param("sql", marks=pytest.mark.exhaustive), "glue"])
def test_landing_and_warehouse_in_s3_give_the_true_items(s3: Any, tmp_path: Path, catalog: str) -> None:
    for key, content in SCENARIO.objects.items():
        s3.put_object(Bucket="landing", Key=f"changes/{key}", Body=content)
    for number, export in enumerate(SCENARIO.exports):
        for path, content in export.files.items():
            s3.put_object(Bucket="landing", Key=f"exports/{number}/{path}", Body=content)
    chosen = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db"} if catalog == "sql" else {}
    table = {"name": SCENARIO.table, "key": list(SCENARIO.key_names)}
    settings = parse_settings({"warehouse": "s3://lake/warehouse", "catalog": chosen, "tables": [table]}, "test")
    with open_lake(settings) as lake:
        for number in range(len(SCENARIO.exports)):
            load_export(lake, SCENARIO.table, f"s3://landing/exports/{number}/")
        apply_objects(lake, SCENARIO.table, ["s3://landing/changes/"])
        compact_table(lake, SCENARIO.table, force=True)
        assert SCENARIO.differences(line.decode() for line in dump_items(lake, SCENARIO.table)) == []


# --- steps that need a source: the sandbox's table, its lake in S3


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    """Orders delivered, an export of them loaded, and changes after it; the warehouse is in S3."""
    with orders_source(monkeypatch) as sandbox:
        make_bucket(sandbox, "lake")
        changes = {"uri": f"s3://{BUCKET}/{LANDING}", "layout": "flat"}
        days = {"start": f"{START:%Y-%m-%d}"}
        with orders_lake(sandbox, tmp_path, WAREHOUSE, changes=changes, daily_states=days) as lake:
            stand = Stand(sandbox, lake)
            for number in range(8):
                stand.put(f"o{number}", total=f"{number}.25")
            stand.deliver()
            stand.wait()
            load_export(lake, "orders", stand.export())
            stand.wait()
            stand.delete("o7")
            stand.put("o6", total="6.5")
            stand.deliver()
            stand.wait()
            yield stand


def objects_below(stand: Stand, prefix: str) -> list[str]:
    found = stand.sandbox.client("s3").list_objects_v2(Bucket="lake", Prefix=f"warehouse/{prefix}")
    return [entry["Key"] for entry in found.get("Contents", ())]


def key(order: str) -> dict[str, dict[str, str]]:
    return {"customer": {"S": "ann"}, "order_id": {"S": order}}


def test_lake_in_s3_is_verified_and_repaired_from_its_source_and_from_an_export(stand: Stand) -> None:
    lake = stand.lake
    lose_row(lake, "orders", key("o1"))
    put_row(lake, "orders", key("o7"))
    put_row(lake, "orders", {**key("o2"), "total": {"N": "2.2"}})
    expected = {"o1": "missing", "o2": "wrong", "o7": "extra"}
    uri = stand.export()
    for report in (verify_scan(lake, "orders", read_rate=None), verify_export(lake, "orders", uri)):
        assert at_fault(report) == expected
    keep_report(lake, report)
    document = last_report(lake, "orders")
    assert document is not None and objects_below(stand, "reports/")
    mended, *others = keys_of(document, "orders")
    result = repair_from_export(lake, "orders", [mended], uri)
    assert (result.keys, result.left) == (1, ())
    assert len(verify_export(lake, "orders", uri).differences) == 2
    result = repair_from_source(lake, "orders", others, read_rate=None)
    assert (result.keys, result.left) == (2, ())
    assert len(objects_below(stand, "repairs/orders/")) == 2
    assert_lake_is_source(lake, stand.sandbox)
    assert verify_scan(lake, "orders", read_rate=None).outcome == "equal"


@pytest.mark.exhaustive
def test_lake_in_s3_is_restored_as_of_a_time_and_goes_on_where_it_was_broken_off(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddb_lake.pipeline.maintain.restore.MARK_EVERY_S", 0.0)
    monkeypatch.setattr("ddb_lake.core.operations.restore_batches.BATCH_ITEMS", 2)
    at_us, then = stand.sandbox.clock.now_us(), scan(stand.sandbox, "orders")
    stand.wait()
    stand.delete("o1")
    stand.deliver()
    put, calls = TableItems.put, iter(range(100))

    def breaking(self: TableItems, items: Sequence[Item]) -> None:
        if next(calls) == 2:
            raise KeyboardInterrupt
        put(self, items)

    monkeypatch.setattr(TableItems, "put", breaking)
    with pytest.raises(KeyboardInterrupt), stand.lake.session() as session:
        open_restore(stand.lake, session, "orders", "copy", at_us, None).run(create=True)
    assert len(objects_below(stand, "restores/orders/")) == 1
    with stand.lake.session() as session:
        result = open_restore(stand.lake, session, "orders", "copy", at_us, None).run(create=True)
    assert (result.items, result.verified) == (7, 7) and result.resumed > 0
    assert scan(stand.sandbox, "copy") == then


@pytest.mark.exhaustive
def test_day_of_a_lake_in_s3_is_replaced_when_it_is_made_again(stand: Stand) -> None:
    stand.wait(24 * 60)
    stand.put("later", total="1")
    stand.deliver()
    first = keep_day(stand.lake, "orders", START.date())
    assert (first.rows, first.uri) == (7, f"{WAREHOUSE}/daily/orders/2026-03-01.parquet")
    assert queried(stand.lake, "SELECT count(*), min(_day)::VARCHAR FROM orders_daily") == [(7, "2026-03-01")]
    for attack in (
        "FROM read_text('s3://lake/warehouse/daily/orders/2026-03-01.parquet')",  # of a table that the statement does not name
        "FROM read_text('s3://landing/x')",
        "FROM glob('s3://lake/**')",
        "SELECT (SELECT count(*) FROM orders), * FROM read_blob('s3://lake/**')",
        "COPY orders TO 's3://lake/warehouse/x.parquet'",
    ):
        with pytest.raises(UsageError):
            queried(stand.lake, attack)
    again = keep_day(stand.lake, "orders", START.date())
    assert (again.rows, again.bytes) == (7, first.bytes)
    assert len(objects_below(stand, "daily/")) == 1
