"""A small scenario on S3 behind a proxy that injects faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from ddb_lake.aws.session import session
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.fault_proxy import Way
from ddb_lake_tests.support.lake_contents import small_scenario

SCENARIO = small_scenario(seed=6, keys=6, writes=24, objects=4)

EXPORTS = {export.kind: number for number, export in enumerate(SCENARIO.exports)}

IMPATIENT = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=1, read_timeout=1)


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    """A sandbox behind a way that may fail; landing has the scenario's objects and exports."""
    with pytest.MonkeyPatch.context() as patch, Sandbox() as sandbox:
        client = sandbox.client("s3")
        for bucket in ("lake", "landing"):
            where = {"LocationConstraint": sandbox.environment()["AWS_REGION"]}
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        for key, content in SCENARIO.objects.items():
            client.put_object(Bucket="landing", Key=f"changes/{key}", Body=content)
        for number, export in enumerate(SCENARIO.exports):
            for path, content in export.files.items():
                client.put_object(Bucket="landing", Key=f"exports/{number}/{path}", Body=content)
        found = Way(sandbox.environment()["AWS_ENDPOINT_URL"])
        with found.served() as url:
            for name, value in {**sandbox.environment(), "AWS_ENDPOINT_URL": url}.items():
                patch.setenv(name, value)
            patch.setattr("ddb_lake.aws.session._config", lambda: IMPATIENT)
            session.cache_clear()
            yield found
    session.cache_clear()


def opened(folder: Path, warehouse: str | None = None) -> Any:
    """A lake in `folder`, or in S3 with its catalog in `folder`."""
    table = {"name": SCENARIO.table, "key": list(SCENARIO.key_names)}
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db"} if warehouse else {}
    settings = {"warehouse": warehouse or str(folder / "lake"), "catalog": catalog, "tables": [table]}
    return open_lake(parse_settings(settings, "test"))


def load(lake: Lake, kind: str) -> Any:
    return load_export(lake, SCENARIO.table, f"s3://landing/exports/{EXPORTS[kind]}/")


def apply(lake: Lake) -> Any:
    return apply_objects(lake, SCENARIO.table, ["s3://landing/changes/"])
