"""Tables are loaded without SQLAlchemy as pyiceberg's catalog loads them. A metadata file is parsed once for the same bytes."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadataUtil

from ddb_lake.errors import DamagedError, TransientError
from ddb_lake.lake import sql_catalog, sqlite_tables
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Delta
from ddb_lake.lake.sqlite_tables import metadata_location
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.iceberg_table import SCHEMA, catalog, commit, data_files, rows


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[LakeCatalog]:
    with catalog(tmp_path) as made:
        table = made.create("t", SCHEMA)
        commit(table, Delta(added=data_files(table, [(0, "x")])))
        yield made


def test_second_load_parses_nothing_and_a_commit_is_seen(opened: LakeCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened.table("t")
    assert first is not None

    def refused(*_: object) -> None:
        raise AssertionError("metadata was parsed again")

    with monkeypatch.context() as patched:
        patched.setattr(TableMetadataUtil, "parse_raw", refused)
        again = opened.table("t")
    assert again is not None
    assert again.metadata is first.metadata
    before = first.metadata.model_copy(deep=True)
    commit(again, Delta(added=data_files(again, [(1, "y")])), properties={"mark": "1"})
    assert first.metadata == before, "a commit changed metadata that another table shares"
    later = opened.table("t")
    assert later is not None
    assert (rows(later), later.properties["mark"]) == ([(0, "x"), (1, "y")], "1")


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_metadata_that_is_damaged_after_it_was_read_is_an_error(opened: LakeCatalog, damage: str) -> None:
    table = opened.table("t")
    assert table is not None
    path = Path(table.metadata_location)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedError):
        opened.table("t")


def test_compressed_metadata_is_read(opened: LakeCatalog) -> None:
    table = opened.table("t")
    assert table is not None
    packed = Path(table.metadata_location.replace(".metadata.json", ".gz.metadata.json"))
    packed.write_bytes(gzip.compress(Path(table.metadata_location).read_bytes()))
    opened.catalog.register_table(opened.identifier("packed"), str(packed))
    for found in (opened.catalog.load_table(opened.identifier("packed")), opened.table("packed")):
        assert found is not None
        assert found.metadata == table.metadata


# --- tables are loaded without SQLAlchemy

_TEXTS = st.sampled_from(["ddb_lake", "t", "T", "a.b", "a", "b", "it's", "%"])
_ROWS = st.dictionaries(
    st.tuples(_TEXTS, _TEXTS, _TEXTS),
    st.tuples(st.sampled_from([None, "TABLE", "VIEW"]), st.sampled_from([None, "a.metadata.json", "b.metadata.json"])),
)


class _Found(Exception):
    """Raised by a catalog that found a row, with its location."""


class _Locations(SqlCatalog):  # type: ignore[misc]
    """pyiceberg's catalog, which returns the metadata file instead of reading it."""

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        raise _Found(orm_table.metadata_location)


def _found_by_pyiceberg(catalog: SqlCatalog, identifier: tuple[str, str]) -> str | None:
    try:
        catalog.load_table(identifier)
    except _Found as found:
        location: str | None = found.args[0]
        return location
    except NoSuchTableError:
        return None
    raise AssertionError("neither found nor missing")


@given(_ROWS, st.booleans(), st.data())
@examples(40, 100, 400)
def test_row_is_found_as_by_pyiceberg(
    entries: dict[tuple[str, str, str], tuple[str | None, str | None]], has_types: bool, data: st.DataObject
) -> None:
    wanted = data.draw(
        st.one_of(st.tuples(_TEXTS, _TEXTS), *([st.sampled_from([k[1:] for k in entries])] if entries else []))
    )
    with TemporaryDirectory() as folder:
        database = Path(folder) / "catalog.db"
        found_by = _Locations("ddb_lake", uri=f"sqlite:///{database}")
        with closing(sqlite3.connect(database)) as connection, connection:
            made = {column[1] for column in connection.execute("PRAGMA table_info(iceberg_tables)")}
            if "iceberg_type" not in made:  # pyiceberg 0.11
                has_types = False
            elif not has_types:
                connection.execute("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type")
            kind = ", iceberg_type" if has_types else ""
            for (catalog_name, namespace, name), (of_type, location) in entries.items():
                values = (catalog_name, namespace, name, location, *([of_type] if has_types else []))
                columns = f"catalog_name, table_namespace, table_name, metadata_location{kind}"
                connection.execute(
                    f"INSERT INTO iceberg_tables ({columns}) VALUES ({', '.join('?' * len(values))})", values
                )
        found_by.engine.dispose()
        again = _Locations("ddb_lake", uri=f"sqlite:///{database}")
        expected = _found_by_pyiceberg(again, wanted)
        again.engine.dispose()
        assert metadata_location(database, "ddb_lake", wanted) == expected


@pytest.mark.parametrize(
    ("damage", "error"),
    [("no database", DamagedError), ("a folder", DamagedError), ("no tables", None), ("locked", TransientError)],
)
def test_fault_of_the_database_is_that_of_pyicebergs_catalog(
    opened: LakeCatalog, monkeypatch: pytest.MonkeyPatch, damage: str, error: type[Exception] | None
) -> None:
    monkeypatch.setattr(sqlite_tables, "SQLITE_WAIT_S", 0.01)
    monkeypatch.setattr(sql_catalog, "SQLITE_WAIT_S", 0.01)
    database = Path(opened.warehouse) / "catalog.db"
    with ExitStack() as stack:
        if damage == "locked":
            other = stack.enter_context(closing(sqlite3.connect(database, isolation_level=None)))
            other.execute("BEGIN EXCLUSIVE")
        else:
            database.unlink()
            if damage == "a folder":
                database.mkdir()
            else:
                database.write_bytes(b"" if damage == "no tables" else b"no database" * 500)
        with pytest.raises(sqlite3.Error):
            metadata_location(database, "ddb_lake", opened.identifier("t"))
        with catalog(Path(opened.warehouse)) as fresh, pytest.raises(error or DamagedError):
            fresh.table("t")


def test_table_opens_its_catalog_for_a_commit(opened: LakeCatalog) -> None:
    warehouse = Path(opened.warehouse)
    with catalog(warehouse) as fresh, mock.patch.object(fresh, "_open", wraps=fresh._open) as opening:
        table = fresh.table("t")
        assert table is not None
        assert (table.metadata, fresh.table("absent")) == (opened.catalog.load_table(table.name()).metadata, None)
        assert opening.call_count == 0
        commit(table, Delta(added=data_files(table, [(1, "y")])))
        assert opening.call_count == 1
        assert table.catalog is fresh.catalog
        again = fresh.table("t")
        assert again is not None
        assert rows(again) == rows(table.refresh()) == [(0, "x"), (1, "y")]
