"""Incremental exports that tasks read, here without Spark: the lakes and the errors of one machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.errors import DdbLakeError
from ddb_lake.pipeline.executor import ExecutorFactory
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.spark import snapshot_writer
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.increments import write_export
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.lake_contents import contents
from ddb_lake_tests.support.no_source import no_source as no_source

pytestmark = pytest.mark.usefixtures("no_source")

BAD = ((0, '{"no":"record"}'), (1, '{"Keys":'), (3, "not JSON"))


@pytest.fixture(autouse=True)
def small_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each task reads one data file."""
    monkeypatch.setattr(snapshot_writer, "LEAST_SHARE_BYTES", 1)


def loaded(folder: Path, export: str, executor: ExecutorFactory, key: tuple[str, ...], reject: bool) -> Any:
    """What a lake holds after the export was loaded, and what the second load of it returned; or the error."""
    with lake(folder, "orders", key) as opened:
        opened.executors = {"duckdb": executor}
        try:
            result = load_export(opened, "orders", export, reject=reject)
        except DdbLakeError as error:
            return type(error), str(error)
        again = load_export(opened, "orders", export, reject=reject)
        assert again.already_loaded
        assert [*folder.rglob("scratch/**/*.parquet")] == []
        return result.rows, result.quarantined, contents(opened, ["orders"])


@pytest.mark.parametrize(
    ("bad", "reject", "key", "settings"),
    [
        ((), False, ("id",), {}),
        (BAD, True, ("id",), {}),
        (BAD, False, ("id",), {}),
        ((), False, (), {}),
        ((), False, ("id",), {"counts": {2: 29}, "total": 119}),
        ((), False, ("id",), {"digests": {2: "1B2M2Y8AsgTpgAmY7PhCfg=="}}),
    ],
    ids=["valid", "rejected lines", "invalid lines", "key unknown", "another number of lines", "another checksum"],
)
def test_tasks_read_an_incremental_export_as_one_machine_does(
    tmp_path: Path, bad: tuple[tuple[int, str], ...], reject: bool, key: tuple[str, ...], settings: dict[str, Any]
) -> None:
    export = write_export(tmp_path / "exports", bad, **settings)
    carrier = InlineCarrier()
    alone = loaded(tmp_path / "one", export, LocalExecutor, key, reject)
    shared = loaded(tmp_path / "tasks", export, partial(SparkExecutor, carrier=carrier), key, reject)
    assert shared == alone
    assert carrier.tasks[0] == ("read_increment", 5 if key else 1)
