"""Every kind of file of a lake, and every kind of damage to it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from pyiceberg.avro.file import AvroFile
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table

from ddb_lake.config import parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.lake.inventory import named_files
from ddb_lake.lake.metadata_files import _Bytes
from ddb_lake.lake.scan import live_files
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, item, land

CONFIGURATION = """\
type: ddb_lake.DynamoDBLakeComponent
attributes:
  warehouse: lake
  tables:
    - {name: orders, key: [id]}
    - {name: users, key: [id]}
"""


def make_lake(folder: Path) -> Path:
    """A lake of two tables with changes, deleted rows and a quarantine; gives the manifest of its export."""
    (folder / "ddb_lake.yaml").write_text(CONFIGURATION)
    tables = [{"name": "orders", "key": ["id"]}, {"name": "users", "key": ["id"]}]
    settings = parse_settings({"warehouse": str(folder / "lake"), "tables": tables}, "test")
    with open_lake(settings) as lake:
        for name, count in (("orders", 40), ("users", 7)):
            items = [item(f"{name}{number:02d}", v=number, text="x" * 20) for number in range(count)]
            manifest = full(items, table=name).write(folder / "landing/export" / name)
            load_export(lake, name, str(manifest))
        for batch in (1, 2):
            at_us = T0_US + batch * MINUTE_US
            records = [change(at_us + n, item(f"orders{n:02d}", v=100 * batch + n)) for n in range(5)]
            removed = change(at_us + 50, None, item(f"orders{30 + batch}"))
            uri = land(folder / f"landing/changes/2026/03/01/09/{batch}", *records, removed, {"nonsense": batch})
            apply_objects(lake, "orders", [uri])
        apply_objects(
            lake,
            "users",
            [land(folder / "landing/users/1", change(T0_US + MINUTE_US, item("users00", v=5), table="users"))],
        )
    return folder / "landing/export/orders"


def kinds(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """A kind of file, one of that kind that the newest state of `orders` needs, and one of another table's."""
    settings = parse_settings(
        {"warehouse": str(folder / "lake"), "tables": [{"name": n, "key": ["id"]} for n in ("orders", "users")]}, "test"
    )
    with open_lake(settings) as lake:
        orders, users = lake.current("orders"), lake.current("users")
        changes, others = lake.changes("orders"), lake.changes("users")
        assert orders is not None and users is not None and changes is not None and others is not None
        ledger, other_ledger = lake.ledger("orders"), lake.ledger("users")
        assert ledger is not None and other_ledger is not None
        pairs = (("", orders, users), ("changelog's ", changes, others), ("ledger's ", ledger, other_ledger))
        for name, table, other in pairs:
            yield f"{name}metadata", _path(table.metadata_location), _path(other.metadata_location)
            snapshot, foreign = table.current_snapshot(), other.current_snapshot()
            assert snapshot is not None and foreign is not None
            yield f"{name}manifest list", _path(snapshot.manifest_list), _path(foreign.manifest_list)
            for content in ManifestContent:
                found = [m for m in snapshot.manifests(table.io) if m.content == content]
                strange = foreign.manifests(other.io)[0]
                if found:
                    yield (
                        f"{name}{content.name.lower()} manifest",
                        _path(found[-1].manifest_path),
                        _path(strange.manifest_path),
                    )
            live, away = live_files(table), live_files(other)
            yield f"{name}data file", _path(live.data[0].file_path), _path(away.data[0].file_path)
            if live.deletes:
                yield f"{name}delete file", _path(live.deletes[0].file_path), _path(away.data[0].file_path)
    yield "catalog", folder / "lake/catalog.db", folder / "other.db"


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


Damage = Callable[[Path, Path], None]


def damages(path: Path) -> Iterator[tuple[str, Damage]]:
    """Every way to damage a file; truncations at each boundary that its format has."""
    size = path.stat().st_size
    yield "missing", lambda path, _: path.unlink()
    yield "empty", lambda path, _: path.write_bytes(b"") and None
    yield "a folder", _folder
    for length in sorted({1, size // 2, size - 1, *_boundaries(path)}):
        yield f"cut to {length} of {size} bytes", lambda path, _, length=length: _cut(path, length)  # type: ignore[misc]
    yield "replaced", lambda path, other: _replace(path, other)


def flips(path: Path, step: int) -> Iterator[tuple[str, Damage]]:
    """A bit flipped at every `step`-th byte."""
    for offset in range(0, path.stat().st_size, step):
        yield f"bit flipped at {offset}", lambda path, _, offset=offset: _flip(path, offset)  # type: ignore[misc]


def _boundaries(path: Path) -> Iterator[int]:
    """The ends of an Avro file's header and blocks."""
    if path.suffix != ".avro":
        return
    data = path.read_bytes()
    with AvroFile(_Bytes(str(path), data)) as opened:
        sync = opened.header.sync
    at = data.find(sync)
    while at >= 0:
        if at + len(sync) < len(data):
            yield at + len(sync)
        at = data.find(sync, at + 1)


def _folder(path: Path, _: Path) -> None:
    path.unlink()
    path.mkdir()


def _cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << (offset % 8)
    path.write_bytes(data)


def _replace(path: Path, other: Path) -> None:
    if other.suffix == ".db":  # of a lake that has other tables
        with closing(sqlite3.connect(other)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS notes (text VARCHAR)")
    shutil.copyfile(other, path)


def all_files(table: Table) -> set[str]:
    """What the table names."""
    return set(named_files(table))
