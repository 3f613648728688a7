"""Landing and warehouse in S3, behind the SQL catalog and behind Glue: the same stages, the same exact items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.sandbox import Sandbox
from ddb_lake.stages.apply import apply_objects
from ddb_lake.stages.compact import compact_table
from ddb_lake.stages.dump import dump_items
from ddb_lake.stages.lake import open_lake
from ddb_lake.stages.load import load_export
from ddb_lake_tests.simulator import big_scenario

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


@pytest.mark.parametrize("catalog", ["sql", "glue"])
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
