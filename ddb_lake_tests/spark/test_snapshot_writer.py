"""The data files of an export divided among tasks, here without Spark."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.layout.export_manifest import DataFile, ExportSummary
from ddb_lake.errors import DdbLakeError
from ddb_lake.pipeline.executor import ExecutorFactory
from ddb_lake.pipeline.load.export_files import Export
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.spark import snapshot_writer
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake.spark.snapshot_writer import LEAST_SHARE_BYTES, MOST_SHARES, SHARE_BYTES, shares_of
from ddb_lake_tests.support.export_files import Export as FilesOfExport
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.lake_contents import contents, stray_files

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


def loaded(folder: Path, manifest: Path, executor: ExecutorFactory, key: str, reject: bool) -> Any:
    """What a lake holds after the export was loaded; or the error."""
    with lake(folder, "orders", (key,)) as opened:
        opened.executors = {"duckdb": executor}
        try:
            result = load_export(opened, "orders", str(manifest), reject=reject)
        except DdbLakeError as error:
            assert stray_files(opened, ["orders"]) == set()
            return type(error), str(error)
        assert stray_files(opened, ["orders"]) == set()
        return result.rows, result.quarantined, contents(opened, ["orders"])


@pytest.mark.parametrize(("key", "reject"), (("id", True), ("id", False), ("nowhere", True)))
def test_tasks_treat_lines_without_a_key_as_one_machine_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, reject: bool
) -> None:
    monkeypatch.setattr(snapshot_writer, "LEAST_SHARE_BYTES", 1)
    files = [['{"Item":{"id":{"S":"a"}}}', "{oops"], ['{"Item":{"v":{"N":"1"}}}', '{"Item":{"id":{"S":"b"}}}']]
    manifest = FilesOfExport(files).write(tmp_path / "exports")
    alone = loaded(tmp_path / "one", manifest, LocalExecutor, key, reject)
    shared = loaded(tmp_path / "tasks", manifest, partial(SparkExecutor, carrier=InlineCarrier()), key, reject)
    assert shared == alone
    assert (alone[:2] == (2, 2)) == (key == "id" and reject)


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
