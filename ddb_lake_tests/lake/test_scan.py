"""Scans of a table's snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake.errors import DamagedError
from ddb_lake.lake.scan import scan_table
from ddb_lake_tests.support.iceberg_table import SCHEMA, catalog


def test_snapshot_that_the_table_does_not_have_is_an_error_and_not_empty(tmp_path: Path) -> None:
    with catalog(tmp_path) as opened:
        table = opened.create("t", SCHEMA)
        with pytest.raises(DamagedError, match="no snapshot 12345") as raised:
            scan_table(table, 12345)
    assert raised.value.table == table.name()[-1]


def test_table_without_a_snapshot_has_no_rows(tmp_path: Path) -> None:
    with catalog(tmp_path) as opened:
        scan = scan_table(opened.create("t", SCHEMA))
    assert (scan.paths, scan.deletes) == ((), ())
