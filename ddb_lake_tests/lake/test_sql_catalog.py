"""Metadata files are parsed once for the same bytes, and read each time."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyiceberg.table.metadata import TableMetadataUtil

from ddb_lake.errors import DamagedError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.commit import Delta
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
    found = opened.catalog.load_table(opened.identifier("packed"))
    assert found.metadata == table.metadata
