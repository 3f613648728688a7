"""What is found at locations: tables, keys, prefixes, containers; and that only samples are opened."""

from __future__ import annotations

import gzip
from hashlib import sha256
from pathlib import Path

import pytest

from ddb_lake.aws.objects import ObjectStore
from ddb_lake.errors import UsageError
from ddb_lake.pipeline import discovery
from ddb_lake.pipeline.discovery import Discovery, discover, sample_rows
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export


def look(*places: Path) -> Discovery:
    return discover(ObjectStore(), [str(place) for place in places])


def test_export_and_landing_of_one_table_are_found_below_one_folder(tmp_path: Path) -> None:
    items = [order("ann", n, total={"N": "1"}) for n in range(3)]
    write_export(tmp_path / "exports", "orders", items)
    hour = tmp_path / "landing/orders/2024/05/14"
    write_changes(hour / "12/one", change(1, EXPORT_US + 1, order("bob", 1)))
    (hour / "13").mkdir(parents=True)
    packed = write_changes(tmp_path / "x", change(2, EXPORT_US + 2, order("bob", 2)), "garbage").read_bytes()
    (tmp_path / "x").unlink()
    (hour / "13/two.gz").write_bytes(gzip.compress(packed))

    (table,) = look(tmp_path).tables
    assert (table.name, table.region) == ("orders", "eu-west-1")
    assert table.key is not None
    assert table.key.names == ("customer", "order_id")
    assert list(table.items) == items
    (export,) = table.exports
    assert (export.location, export.container, export.fault) == (str(tmp_path / "exports"), "gzip", None)
    (landing,) = table.landings
    assert landing.uri == f"{tmp_path}/landing/orders/"
    assert landing.is_hourly
    assert landing.containers == {"gzip", "not compressed"}
    assert (landing.records, sum(landing.rejected.values())) == ({"orders": 2}, 1)


def test_tables_that_share_a_landing_are_found(tmp_path: Path) -> None:
    records = [change(n, EXPORT_US + n, order("ann", n), table=name) for n, name in enumerate(("a", "b", "b"))]
    write_changes(tmp_path / "all/one", *records)
    found = look(tmp_path / "all")
    assert [(table.name, table.landings[0].records[table.name]) for table in found.tables] == [("a", 1), ("b", 2)]
    assert not found.landings[0].is_hourly


def test_records_without_a_table_belong_to_the_only_one(tmp_path: Path) -> None:
    record = change(1, EXPORT_US + 1, order("ann", 1))
    del record["tableName"]
    write_changes(tmp_path / "landing/one", record)
    assert [table.name for table in look(tmp_path / "landing").tables] == [None]

    write_export(tmp_path / "exports", "orders", [order("ann", 2)])
    (table,) = look(tmp_path).tables
    assert (table.name, table.landings[0].records["orders"]) == ("orders", 1)


def test_few_objects_are_listed_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(20):
        write_changes(tmp_path / f"{n:02d}", change(n, EXPORT_US + n, order("ann", n)))
    monkeypatch.setattr(discovery, "MOST_LISTED", 12)
    found = look(tmp_path)
    assert found.cut == (str(tmp_path),)
    assert [Path(uri).name for uri in found.landings[0].opened] == ["00", "01", "11", "12"]


def test_beginning_of_a_large_data_file_is_read_to_its_last_complete_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [order("ann", n, note={"S": sha256(bytes([n])).hexdigest()}) for n in range(50)]
    write_export(tmp_path, "orders", items)
    for limit in ("EXPORT_BYTES", "MOST_CONTENT_BYTES"):
        with monkeypatch.context() as patched:
            patched.setattr(discovery, limit, 700)
            (table,) = look(tmp_path).tables
        assert table.exports[0].fault is None
        assert 0 < len(table.items) < 50
        assert list(table.items) == items[: len(table.items)]
    assert len(look(tmp_path).tables[0].items) == 50


@pytest.mark.parametrize("files", [1, 3, 9])
def test_sample_has_items_of_the_whole_export(tmp_path: Path, files: int) -> None:
    items = [order("ann", n, kind={"S": f"kind {n // 500}"}) for n in range(4500)]
    write_export(tmp_path, "orders", items, files)
    (table,) = look(tmp_path).tables
    kinds = {item["kind"]["S"] for item in table.items}
    assert len(table.items) <= discovery.MOST_ITEMS
    assert len(kinds) == (9 if files < 9 else discovery.EXPORT_FILES)


@pytest.mark.parametrize(("content", "message"), [(None, "neither"), ("what?", "no change record")])
def test_location_without_anything_is_an_error(tmp_path: Path, content: str | None, message: str) -> None:
    (tmp_path / "place").mkdir()
    if content is not None:
        (tmp_path / "place/x").write_text(content)
    with pytest.raises(UsageError, match=message):
        look(tmp_path / "place")
    with pytest.raises(UsageError, match="no such file"):
        look(tmp_path / "nowhere")


def test_rows_are_those_of_a_load(tmp_path: Path) -> None:
    items = [
        order("ann", 1, status={"S": "x"}, address={"M": {"city": {"S": "Oslo"}}}),
        order("bob", 2, status={"N": "7"}),
    ]
    columns, rows = sample_rows(items, ("customer", "order_id"), 5)
    assert columns == ["customer", "order_id", "address__city", "status", "status__n", "_rescued"]
    assert rows[1] == ["bob", "2", None, None, "7", None]
    assert len(sample_rows(items, (), 1)[1]) == 1
