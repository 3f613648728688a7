"""A source in the sandbox and a lake beside it: opened, moved forward in time, and compared item by item."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.session import session
from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.sandbox import ExportOptions, Sandbox, create_orders_table
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.sandbox_steps import make_bucket, scan

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
BUCKET = "exports"


def point_at(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process's AWS clients meet the sandbox."""
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    session.cache_clear()


@contextmanager
def orders_source(monkeypatch: pytest.MonkeyPatch, exports: ExportOptions | None = None) -> Iterator[Sandbox]:
    """A sandbox with the table `orders`, recoverable, and a bucket for its exports."""
    with Sandbox(start=START, exports=exports or ExportOptions(seconds=0)) as sandbox:
        point_at(sandbox, monkeypatch)
        create_orders_table(sandbox.client("dynamodb"))
        make_bucket(sandbox, BUCKET)
        yield sandbox
    session.cache_clear()


@contextmanager
def orders_lake(sandbox: Sandbox, folder: Path, warehouse: str | None = None, **table: Any) -> Iterator[Lake]:
    """A lake of `orders` in `folder`, or in S3 with its catalog there, whose clock is the sandbox's."""
    orders = {"name": "orders", "export": {"bucket": BUCKET}, **table}
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db"} if warehouse else {}
    settings = parse_settings({"warehouse": warehouse or str(folder), "catalog": catalog, "tables": [orders]}, "test")
    with open_lake(settings) as lake:
        lake.now = sandbox.clock.now
        yield lake


def assert_lake_is_source(lake: Lake, sandbox: Sandbox, table: str = "orders") -> None:
    """Compare every item of the lake with the source's, attribute by attribute."""
    lake_items = sorted(canonical(json.loads(line)["Item"]) for line in dump_items(lake, table))
    source_items = scan(sandbox, table)
    differences = set(lake_items) ^ set(source_items)
    assert not differences, f"{len(differences)} items differ, such as {sorted(differences)[:4]}"
    assert len(lake_items) == len(source_items)
