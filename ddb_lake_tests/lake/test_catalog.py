"""The local catalog: where it lies, what opening it makes, and how it bears other processes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.errors import DamagedError, TransientError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Delta
from ddb_lake_tests.support.iceberg_table import SCHEMA, catalog, commit, data_files, rows


@pytest.mark.parametrize("name", ("a b", "it's", "a%20b", "a?b", "a#b", "a*[1]", "ünï", '"q"', "a:b&c=d"))
def test_warehouse_may_have_any_name(tmp_path: Path, name: str) -> None:
    with catalog(tmp_path / name) as opened:
        table = opened.create("t", SCHEMA)
        commit(table, Delta(added=data_files(table, [(1, "a")])))
    with catalog(tmp_path / name) as again:
        found = again.table("t")
        assert found is not None
        assert rows(found) == [(1, "a")]
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_looking_for_a_table_makes_nothing(tmp_path: Path) -> None:
    with catalog(tmp_path / "lake") as opened:
        assert opened.table("t") is None
    assert list(tmp_path.iterdir()) == []


def test_table_made_twice_is_made_once(tmp_path: Path) -> None:
    with catalog(tmp_path) as first, catalog(tmp_path) as second:
        made = first.create("t", SCHEMA, properties={"by": "first"})
        assert second.create("t", SCHEMA, properties={"by": "second"}).properties["by"] == "first"
        assert made.properties["commit.retry.num-retries"] == "0"


@pytest.mark.parametrize(
    "spoil", [lambda text: text[: len(text) // 2], lambda text: b"\xff" + text, lambda _text: b"{}"]
)
def test_metadata_that_came_in_half_is_reported_with_the_next_step(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    with catalog(tmp_path / "lake") as opened:
        path = Path(opened.create("t", SCHEMA).metadata_location.removeprefix("file://"))
        whole = path.read_bytes()
        path.write_bytes(spoil(whole))
        with pytest.raises(
            DamagedError, match=f"t: .*{path.name}: it is damaged .* Waiting does not help. Put the file back"
        ):
            opened.table("t")
        path.write_bytes(whole)
        assert opened.table("t") is not None


def test_catalog_opened_first_by_several_at_once_is_made_once(tmp_path: Path) -> None:
    barrier = threading.Barrier(6)

    def make(number: int) -> str:
        with catalog(tmp_path / "lake") as opened:
            barrier.wait(300)
            return opened.create("t", SCHEMA, properties={"by": str(number)}).properties["by"]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(make, range(6)))) == 1


def test_catalog_that_stays_locked_is_a_matter_of_time(tmp_path: Path) -> None:
    with catalog(tmp_path) as opened:
        opened.create("t", SCHEMA)
    uri = f"sqlite:///{tmp_path}/catalog.db?timeout=0"
    settings = parse_settings({"warehouse": str(tmp_path), "catalog": {"uri": uri}, "tables": []}, "test")
    connection = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with LakeCatalog(settings) as opened:
            for call in (lambda: opened.table("t"), lambda: opened.create("u", SCHEMA)):
                with pytest.raises(TransientError, match="database is locked"):
                    call()
    finally:
        connection.close()
    with LakeCatalog(settings) as opened:
        assert opened.table("t") is not None


def test_a_file_uri_is_the_path_it_names(tmp_path: Path) -> None:
    settings = parse_settings({"warehouse": f"file://{tmp_path}/lake", "tables": []}, "test")
    with LakeCatalog(settings) as opened:
        assert (opened.warehouse, opened.is_local, opened.kind) == (f"{tmp_path}/lake", True, "sql")
        assert opened.create("t", SCHEMA).location() == f"{tmp_path}/lake/ddb_lake/t"


def test_glue_gets_names_that_it_knows(tmp_path: Path) -> None:
    settings = parse_settings({"warehouse": "s3://bucket/lake/", "tables": []}, "test")
    opened = LakeCatalog(settings)
    assert opened.kind == "glue"
    assert opened.identifier("Orders.v2-eu_changes") == ("ddb_lake", "orders_v2_eu_changes")
