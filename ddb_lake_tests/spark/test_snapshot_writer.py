"""The data files of an export divided among tasks, here without Spark."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.layout.export_manifest import DataFile, ExportSummary
from ddb_lake.pipeline.load.export_files import Export
from ddb_lake.spark.snapshot_writer import LEAST_SHARE_BYTES, MOST_SHARES, SHARE_BYTES, shares_of

SUMMARY = ExportSummary(
    export_arn="arn:aws:dynamodb:us-east-1:111122223333:table/orders/export/01715685260608-c488b4e1",
    table_arn="arn:aws:dynamodb:us-east-1:111122223333:table/orders",
    table_id="t",
    export_type="FULL",
    start_time_us=0,
    bucket="b",
    prefix=None,
    manifest_files_key="m",
    item_count=0,
)


@given(
    items=st.lists(st.integers(0, 1000), max_size=40),
    size=st.integers(0, 200 * LEAST_SHARE_BYTES),
    cores=st.integers(1, 5),
)
def test_shares_of_an_export_have_all_files_once_in_order(items: list[int], size: int, cores: int) -> None:
    files = tuple((DataFile(str(number), count, ""), f"s3://b/{number}") for number, count in enumerate(items))
    export = Export("s3://b/m", replace(SUMMARY, item_count=sum(items), billed_size_bytes=size), files)
    shares = shares_of(export, cores)
    assert [file for share in shares for file in share.files] == [*files]
    assert all(share.files for share in shares)
    whole = max(size, sum(items) * 100)
    if whole <= LEAST_SHARE_BYTES:
        assert len(shares) <= 1 or not sum(items), "a small export is one task"
    limit = ceil(sum(items) / max(1, min(ceil(whole / SHARE_BYTES), MOST_SHARES)))
    for share in shares:
        assert len(share.files) == 1 or sum(file.item_count for file, _ in share.files) <= max(1, limit)
