"""Every way to spoil a lake is found, names exactly the keys at fault, and is mended while writes go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ddb_lake.aws.exports import describe_export, start_export
from ddb_lake.core.values.change_record import Item
from ddb_lake.orchestration.checks.verification import sample_matches_source
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.full import verify_counts, verify_export, verify_scan
from ddb_lake.pipeline.verify.repair import repair_from_export, repair_from_source
from ddb_lake.pipeline.verify.report import Report
from ddb_lake.pipeline.verify.sample import verify_sample
from ddb_lake.sandbox import Delivery, Sandbox, Traffic
from ddb_lake_tests.support.corruptions import double_row, lose_row, put_row
from ddb_lake_tests.support.sandbox_lake import (
    BUCKET,
    assert_lake_is_source,
    orders_lake,
    orders_source,
)
from ddb_lake_tests.support.sandbox_steps import make_stream

LANDING = "changes/"
ALL = 1_000


class Stand:
    """A source with traffic, delivered to S3 on demand, and its lake."""

    def __init__(self, sandbox: Sandbox, lake: Lake) -> None:
        self.sandbox, self.lake = sandbox, lake
        self.client = sandbox.client("dynamodb")
        self.traffic = Traffic(self.client, seed=7)
        arn = make_stream(sandbox, "orders", precision="MICROSECOND", shards=1)
        self.hose = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, prefix=LANDING, source=arn))
        self.hose.flush()

    def put(self, order: str, **attributes: str) -> Item:
        """One order put, as DynamoDB JSON; it has only what is given."""
        item: Item = {"customer": {"S": "ann"}, "order_id": {"S": order}}
        item |= {name: {"N": value} for name, value in attributes.items()}
        self.client.put_item(TableName="orders", Item=item)
        return item

    def delete(self, order: str) -> None:
        self.client.delete_item(TableName="orders", Key={"customer": {"S": "ann"}, "order_id": {"S": order}})

    def deliver(self, lost: bool = False) -> None:
        """Land what has changed and apply it; `lost`: it never arrives."""
        for key in self.hose.flush():
            if not lost:
                apply_objects(self.lake, "orders", [f"s3://{BUCKET}/{key}"])

    def wait(self, minutes: float = 20) -> None:
        self.sandbox.clock.advance(timedelta(minutes=minutes))

    def export(self) -> str:
        """A full export of now; its manifest."""
        table = self.lake.table("orders")
        state = start_export(table, at=self.sandbox.clock.now())
        while state.status == "IN_PROGRESS":
            time.sleep(0.02)
            state = describe_export(table, state.arn)
        return state.manifest_uri


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    with orders_source(monkeypatch) as sandbox, orders_lake(sandbox, tmp_path) as lake:
        stand = Stand(sandbox, lake)
        for number in range(12):
            stand.put(f"o{number:02d}", total=f"{number}.25", count=str(number))
        stand.deliver()
        stand.wait()
        load_export(lake, "orders", stand.export())
        stand.wait()
        yield stand


def at_fault(report: Report) -> dict[str, str]:
    """Order id to kind of difference."""
    return {found.key["order_id"]["S"]: found.kind for found in report.differences}


def spoil(stand: Stand) -> dict[str, str]:
    """Spoil the lake in every way; gives what verifying must find."""
    old = stand.put("o01", total="1.25", count="100")
    stand.put("o08", total="8.25", count="800")
    stand.delete("o05")
    stand.deliver()
    newer = stand.put("o01", total="1.5", count="101")
    gone = {"customer": {"S": "ann"}, "order_id": {"S": "o05"}, "total": {"N": "5.25"}, "count": {"N": "5"}}
    stand.deliver()
    stand.wait()
    stand.put("o06", total="6.25", count="600")
    stand.delete("o07")
    stand.put("o20", total="20")
    stand.deliver(lost=True)
    stand.wait()
    stand.put("o10", total="10.5")
    stand.deliver()
    lake = stand.lake
    lose_row(lake, "orders", stand.put("o02", total="2.25", count="2"))
    double_row(
        lake,
        "orders",
        {"customer": {"S": "ann"}, "order_id": {"S": "o03"}, "total": {"N": "3.25"}, "count": {"N": "3"}},
    )
    put_row(lake, "orders", old)
    put_row(lake, "orders", gone)
    put_row(
        lake, "orders", {"customer": {"S": "ann"}, "order_id": {"S": "o04"}, "total": {"N": "4.2"}, "count": {"N": "4"}}
    )
    assert newer["count"] != old["count"]
    stand.wait()
    stand.put("o11", total="11.5")
    return {
        "o01": "stale",
        "o02": "missing",
        "o03": "doubled",
        "o04": "wrong",
        "o05": "extra",
        "o06": "stale",
        "o07": "extra",
        "o20": "missing",
    }


def test_clean_lake_verifies_in_every_strength(stand: Stand) -> None:
    reports = [
        verify_counts(stand.lake, "orders"),
        verify_sample(stand.lake, "orders", ALL, read_rate=None),
        verify_scan(stand.lake, "orders", read_rate=None),
        verify_export(stand.lake, "orders", stand.export()),
    ]
    assert [(r.outcome, r.total) for r in reports] == [("equal", 0)] * 4


def test_export_names_exactly_the_keys_that_were_spoiled(stand: Stand) -> None:
    expected = spoil(stand)
    uri = stand.export()
    stand.put("o09", total="9.5")
    stand.wait()
    stand.put("o00", total="0.5")
    stand.deliver()
    report = verify_export(stand.lake, "orders", uri)
    assert at_fault(report) == expected
    assert (report.outcome, report.doubtful, report.explained) == ("different", 0, 2)
    result = repair_from_export(stand.lake, "orders", [found.key for found in report.differences], uri)
    assert (result.keys, result.present, result.absent, result.left) == (8, 6, 2, ())
    assert_lake_is_source(stand.lake, stand.sandbox)
    assert verify_export(stand.lake, "orders", stand.export()).outcome == "equal"


def test_source_names_the_keys_and_mends_them_while_writes_go_on(stand: Stand) -> None:
    expected = spoil(stand)
    stand.deliver()
    report = verify_scan(stand.lake, "orders", read_rate=None)
    assert at_fault(report) == expected
    sample = verify_sample(stand.lake, "orders", ALL, read_rate=None)
    assert at_fault(sample) == expected
    passed, said, figures = sample_matches_source(sample)
    assert (passed, figures["differences"], "ann" in f"{said} {figures}") == (False, 8, False)
    stand.put("o06", total="6.5")
    stand.delete("o04")
    result = repair_from_source(stand.lake, "orders", [found.key for found in report.differences], read_rate=None)
    assert (result.keys, result.present, result.absent, result.left) == (8, 5, 3, ())
    stand.put("o01", total="1.75")
    stand.deliver()
    assert_lake_is_source(stand.lake, stand.sandbox)
    assert verify_scan(stand.lake, "orders", read_rate=None).outcome == "equal"
