"""Files are removed only where it is proved that they are the table's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pyiceberg.serializers import FromInputFile, ToOutputFile
from sqlalchemy import create_engine, text

from ddb_lake.config import SnapshotSettings, parse_settings
from ddb_lake.core.layout.table_names import WAREHOUSE_FOLDERS
from ddb_lake.errors import DamagedError
from ddb_lake.executors import open_lake
from ddb_lake.lake import expiry
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain import compact
from ddb_lake.pipeline.maintain.compact import CompactResult, compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.export_files import full, item
from ddb_lake_tests.support.several_tables import dumped
from ddb_lake_tests.support.shared_folder import RestoredFolder

TABLES: list[dict[str, Any]] = [{"name": "orders", "key": ["id"]}, {"name": "users", "key": ["id"]}]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction keeps nothing back."""
    monkeypatch.setattr(expiry, "KEEP_SNAPSHOTS", 1)
    monkeypatch.setattr(SnapshotSettings, "keep_for_s", 0)
    monkeypatch.setattr(compact, "ORPHAN_GRACE", timedelta(seconds=-1))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RestoredFolder:
    """Two tables with an item each, and a file of a crashed writer beside the rows of `orders`."""

    def make(root: Path) -> None:
        with opened(root / "lake") as lake:
            for name in ("orders", "users"):
                load_export(lake, name, str(full([item(name)], table=name).write(root / "landing" / name)))
        (root / "lake/ddb_lake/orders/data/lost.parquet").touch()

    return RestoredFolder(tmp_path_factory.mktemp("owned"), make)


@pytest.fixture
def folder(made: RestoredFolder) -> Path:
    """The lake's folder, as it was made."""
    return made.restore() / "lake"


def opened(folder: Path) -> Any:
    return open_lake(parse_settings({"warehouse": str(folder), "tables": TABLES}, "test"))


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def compacted(folder: Path, name: str = "orders") -> CompactResult:
    """Compact; check that the items of all tables are still there."""
    with opened(folder) as lake:
        try:
            result = compact_table(lake, name)
        except DamagedError as error:
            assert "its location is that of" in str(error)  # compaction may refuse before it looks for orphans
            return CompactResult(name, True, "", orphans_left=("its metadata is another table's",))
        for table in TABLES:
            assert len(dumped(lake, table["name"])) == 1
    return result


def move(lake: Lake, name: str, location: str) -> None:
    """Register a table with another location, as `ALTER TABLE … SET LOCATION` of any engine does."""
    table = lake.current(name)
    assert table is not None
    metadata = table.metadata.model_copy(update={"location": location})
    target = table.metadata_location.replace(".metadata.json", "-moved.metadata.json")
    ToOutputFile.table_metadata(metadata, table.io.new_output(target))
    assert FromInputFile.table_metadata(table.io.new_input(target)).location == location
    engine = create_engine(f"sqlite:///{lake.catalog.warehouse}/catalog.db")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE iceberg_tables SET metadata_location = :m WHERE table_name = :n"), {"m": target, "n": name}
        )
    engine.dispose()


def test_orphan_is_removed_where_nothing_else_is(folder: Path) -> None:
    result = compacted(folder)
    assert (result.orphans_removed >= 1, result.orphans_left) == (True, ())
    assert not (folder / "ddb_lake/orders/data/lost.parquet").exists()


@pytest.mark.parametrize("is_ours", [True, False])
def test_creation_that_was_killed_leaves_an_orphan_and_no_claim(folder: Path, is_ours: bool) -> None:
    """The first metadata file is written before the catalog has the table, and the next creation has another UUID."""
    with opened(folder) as lake:
        orders = lake.current("orders")
        assert orders is not None
        update: dict[str, Any] = {"table_uuid": uuid4(), "snapshots": [], "metadata_log": [], "refs": {}}
        update |= {"current_snapshot_id": None, "snapshot_log": [], "statistics": []}
        if not is_ours:
            update["properties"] = {}
        stray = f"{orders.location()}/metadata/00000-{uuid4()}.metadata.json"
        ToOutputFile.table_metadata(orders.metadata.model_copy(update=update), orders.io.new_output(stray))
    result = compacted(folder)
    assert Path(stray.removeprefix("file://")).exists() != is_ours
    assert any("is the metadata of another table" in left for left in result.orphans_left) != is_ours


LOCATIONS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "the warehouse": (lambda lake: lake, "is the warehouse"),
    "above the warehouse": (lambda lake: lake.parent, "is the warehouse, or contains it"),
    "the root": (lambda _: Path("/"), "is the warehouse, or contains it"),
    "another table's": (lambda lake: lake / "ddb_lake/users", "its metadata"),
    "above another table's": (lambda lake: lake / "ddb_lake", "is the metadata of another table"),
    "within another table's": (lambda lake: lake / "ddb_lake/users/data", "its metadata"),
    **{
        f"the folder {name}": (lambda lake, name=name: lake / name, "where the lake keeps other files")  # type: ignore[misc]
        for name in WAREHOUSE_FOLDERS
    },
    **{
        f"below the folder {name}": (lambda lake, name=name: lake / name / "orders", "where the lake keeps other files")  # type: ignore[misc]
        for name in WAREHOUSE_FOLDERS
    },
}


@pytest.mark.parametrize("location", LOCATIONS)
def test_table_with_a_location_that_is_not_its_own_loses_nothing(folder: Path, location: str) -> None:
    place, reason = LOCATIONS[location]
    for name in WAREHOUSE_FOLDERS:
        (folder / name / "orders").mkdir(parents=True)
        (folder / name / "orders" / "kept.parquet").touch()
    (folder / "ddb_lake/users/data/users.parquet").touch()
    with opened(folder) as lake:
        move(lake, "orders", str(place(folder)))
    before = files(folder.parent)
    result = compacted(folder)
    assert result.orphans_removed == 0
    assert files(folder.parent) >= before
    if result.orphans_left:
        assert reason in result.orphans_left[0]


def test_location_that_is_linked_to_another_tables_loses_nothing(folder: Path) -> None:
    moved = folder / "ddb_lake/users"
    for kind in ("data", "metadata", "sidecar"):  # both tables' files in one folder
        if (folder / "ddb_lake/orders" / kind).exists():
            shutil.copytree(folder / "ddb_lake/orders" / kind, moved / kind, dirs_exist_ok=True)
    shutil.rmtree(folder / "ddb_lake/orders")
    (folder / "ddb_lake/orders").symlink_to(moved)
    before = files(folder)
    result = compacted(folder)
    assert result.orphans_removed == 0
    assert "is the metadata of another table" in result.orphans_left[0]
    assert files(folder) >= before


def test_lake_that_moved_behind_a_link_loses_only_orphans(folder: Path, tmp_path: Path) -> None:
    """The metadata names files by the old path, which is a link now, and the listing by the new one."""
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    result = compacted(folder)
    assert result.orphans_left == ()
    assert not (tmp_path / "elsewhere/ddb_lake/orders/data/lost.parquet").exists()


def test_lake_that_moved_without_a_link_loses_nothing(folder: Path, tmp_path: Path) -> None:
    """Its metadata names files that are not there: the copy's files look as if nothing named them."""
    shutil.copytree(folder, tmp_path / "copy")
    before = files(tmp_path / "copy")
    with opened(tmp_path / "copy") as lake:
        compact_table(lake, "orders")
    assert files(tmp_path / "copy") >= before


def test_table_of_another_namespace_within_the_location_is_found(folder: Path) -> None:
    with opened(folder) as lake:
        users = lake.current("users")
        lake.catalog.catalog.create_namespace("others")
        inner = f"{folder}/ddb_lake/orders/data/users"
        lake.catalog.catalog.create_table(("others", "inner"), users.schema(), location=inner)
        shutil.rmtree(f"{inner}/metadata")  # it keeps its metadata elsewhere, say
    result = compacted(folder)
    assert result.orphans_removed == 0
    assert "cannot be compared" in result.orphans_left[0]


def test_nested_table_is_found_by_its_location(folder: Path) -> None:
    with opened(folder) as lake:
        orders = lake.current("orders")
        lake.catalog.catalog.create_namespace("others")
        properties = {"write.metadata.path": f"{folder}/apart"}
        lake.catalog.catalog.create_table(
            ("others", "inner"), orders.schema(), location=f"{folder}/ddb_lake/orders/data", properties=properties
        )
    result = compacted(folder)
    assert result.orphans_removed == 0
    assert "others.inner" in result.orphans_left[0] or "another table" in result.orphans_left[0]


@pytest.mark.parametrize("name", ["notes.txt", "2026/03/01/09/orders-1", "data/README.md", "target/run.parquet"])
def test_files_that_no_writer_of_tables_makes_stay(folder: Path, name: str) -> None:
    path = folder / "ddb_lake/orders" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    compacted(folder)
    assert path.exists()


def test_table_whose_file_is_missing_loses_no_other(folder: Path) -> None:
    with opened(folder) as lake:
        table = lake.current("orders")
        (path,) = [f.file_path for f in compact.live_files(table).data]
    Path(path).unlink()
    before = files(folder)
    with opened(folder) as lake, pytest.raises(DamagedError, match=r"part-0\.parquet: it is not there"):
        compact_table(lake, "orders")
    assert files(folder) == before
