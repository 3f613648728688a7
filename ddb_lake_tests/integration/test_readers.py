"""Readers that others made return the same rows and figures after each kind of commit, or a minimal case shows their fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import StaticTable, Table

from ddb_lake_tests.support import readers_matrix
from ddb_lake_tests.support.catalogs import catalog_settings
from ddb_lake_tests.support.iceberg_spark import IcebergSpark
from ddb_lake_tests.support.readers_matrix import KINDS, compare, locked_versions, page, readers
from ddb_lake_tests.support.table_readers import OTHERS, QUICK, Reader, read_figures, read_rows

__all__ = ["catalog_settings"]

BY_NAME = {reader.name: reader for reader in (*QUICK, *OTHERS)}


def test_readers_that_start_at_once_agree(tmp_path: Path) -> None:
    quick = ("load of an export", "apply of changes", "removals")
    compared = compare(tmp_path, QUICK[1:], quick)
    assert list(compared) == []


@pytest.mark.exhaustive
@pytest.mark.needs("java")
def test_all_readers_agree_after_each_kind_of_commit(tmp_path: Path, iceberg_spark: IcebergSpark) -> None:
    chosen = readers(iceberg_spark)
    found = list(compare(tmp_path, chosen))
    assert found == []
    write = f"`python -m {readers_matrix.__name__} --write` rewrites it"
    assert readers_matrix.PAGE.read_text(encoding="utf-8") == page(chosen, found), write


@pytest.mark.exhaustive
@pytest.mark.needs("java")
@pytest.mark.parametrize("catalog_settings", ["java rest"], indirect=True)
def test_readers_agree_on_tables_whose_metadata_a_rest_server_writes(
    catalog_settings: dict[str, Any], tmp_path: Path, iceberg_spark: IcebergSpark
) -> None:
    """Iceberg's Java library makes each commit and writes its metadata file. DataFusion opens such tables by that file alone."""
    chosen = [reader for reader in readers(iceberg_spark) if reader.name != "DataFusion"]
    assert list(compare(tmp_path, chosen, catalog=catalog_settings["catalog"])) == []


def test_the_page_has_all_readers_kinds_and_locked_versions() -> None:
    text = readers_matrix.PAGE.read_text(encoding="utf-8")
    locked = locked_versions()
    missing = [package for r in BY_NAME.values() for package in r.packages if locked[package] not in text]
    assert missing == [], f"`python -m {readers_matrix.__name__} --write` rewrites the page"
    assert [name for name in (*BY_NAME, "Spark") if name not in text] == []
    assert [kind for kind in KINDS if f"| {kind} |" not in text] == []


def test_a_reader_that_differs_is_found(tmp_path: Path) -> None:
    """The comparison can fail: by rows, by figures, and by errors."""

    def fail(table: Table) -> Any:
        raise OSError("it cannot")

    honest = QUICK[0]
    liars = [
        Reader("rows", (), lambda table: honest.rows(table)[1:], honest.figures),
        Reader("figures", (), honest.rows, lambda table: [None, *honest.figures(table)[1:]]),
        Reader("error", (), fail, fail),
    ]
    found = list(compare(tmp_path, [honest, *liars], ["load of an export"]))
    assert {difference.reader for difference in found} == {liar.name for liar in liars}


# --- what the readers themselves do, on tables that pyiceberg alone wrote


def written_by_pyiceberg(root: str, folder: Path, columns: Mapping[str, pa.Array]) -> Table:
    """A table at `root` that no code of ours wrote."""
    folder.mkdir(exist_ok=True)
    catalog = load_catalog("own", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=root)
    return written_to(catalog, root, columns)


def written_to(catalog: Catalog, root: str, columns: Mapping[str, pa.Array]) -> Table:
    """A table of a catalog, at `root`."""
    catalog.create_namespace("ns")
    rows = pa.table(dict(columns))
    table = catalog.create_table("ns.t", rows.schema, location=f"{root}/ns/t")
    table.append(rows)
    return table


@pytest.mark.exhaustive
def test_clickhouse_reads_an_empty_list_where_a_list_is_null(tmp_path: Path) -> None:
    columns = {"id": pa.array([1, 2]), "tags": pa.array([None, ["a"]], pa.list_(pa.string()))}
    table = written_by_pyiceberg(f"file://{tmp_path}/lake", tmp_path, columns)
    clickhouse = BY_NAME["chdb"]
    assert not clickhouse.null_lists
    assert sorted(clickhouse.rows(table)) == [(1, []), (2, [b"a"])]
    assert read_rows(QUICK[0], table) == ["('1', None)", "('2', ['a'])"]
    assert read_rows(clickhouse, table, null_lists=False) == read_rows(QUICK[0], table, null_lists=False)


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_datafusion_needs_a_location_with_a_scheme(tmp_path: Path, scheme: str) -> None:
    table = written_by_pyiceberg(f"{scheme}{tmp_path}/lake", tmp_path, {"id": pa.array([1, 2])})
    datafusion = BY_NAME["DataFusion"]
    if scheme:
        assert read_figures(datafusion, table) == read_figures(QUICK[0], table)
    else:
        with pytest.raises(RuntimeError, match="relative URL without a base"):
            datafusion.rows(table)


@pytest.mark.exhaustive
@pytest.mark.needs("java")
def test_datafusion_opens_a_table_of_a_rest_catalog_by_its_metadata_file(tmp_path: Path, iceberg_rest: str) -> None:
    """pyiceberg passes an object among the properties of such a table, and pyiceberg-core takes texts only."""
    catalog = load_catalog("own", type="rest", uri=iceberg_rest)
    table = written_to(catalog, f"file://{tmp_path}/lake", {"id": pa.array([1, 2])})
    datafusion = BY_NAME["DataFusion"]
    with pytest.raises(ImportError, match="Incompatible libraries"):
        datafusion.rows(table)
    opened = StaticTable.from_metadata(f"file://{table.metadata_location.removeprefix('file://')}")
    assert sorted(datafusion.rows(opened)) == [(1,), (2,)]
