"""Every damage to rows is found, exactly the wrong keys are named, and they are repaired while writes continue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.checks.verification import sample_outcome
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify.compare import Reading
from ddb_lake.pipeline.verify.daily_sample import DailySample
from ddb_lake.pipeline.verify.full import verify_counts, verify_export, verify_scan
from ddb_lake.pipeline.verify.repair import repair_from_export, repair_from_source
from ddb_lake.pipeline.verify.sample import KeysRead, verify_sample
from ddb_lake_tests.support.corruptions import double_row, lose_row, put_row
from ddb_lake_tests.support.sandbox_lake import assert_lake_is_source, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import Stand, at_fault

ALL = 1_000


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


def test_source_names_the_keys_and_repairs_them_while_writes_go_on(stand: Stand) -> None:
    expected = spoil(stand)
    stand.deliver()
    report = verify_scan(stand.lake, "orders", read_rate=None)
    assert at_fault(report) == expected
    sample = verify_sample(stand.lake, "orders", ALL, read_rate=None)
    assert at_fault(sample) == expected
    found = sample_outcome(DailySample(0, 0, sample, KeysRead(sample, Reading(0, 0), {})))
    assert (found.state, found.figures["differences"], "ann" in f"{found.text} {found.figures}") == ("fail", 8, False)
    stand.put("o06", total="6.5")
    stand.delete("o04")
    result = repair_from_source(stand.lake, "orders", [found.key for found in report.differences], read_rate=None)
    assert (result.keys, result.present, result.absent, result.left) == (8, 5, 3, ())
    stand.put("o01", total="1.75")
    stand.deliver()
    assert_lake_is_source(stand.lake, stand.sandbox)
    assert verify_scan(stand.lake, "orders", read_rate=None).outcome == "equal"
