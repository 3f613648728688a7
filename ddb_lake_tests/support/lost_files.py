"""Every loss that `ddb-lake rebuild` restores."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path

from pyiceberg.table import Table

from ddb_lake.errors import DamagedError
from ddb_lake.lake.metadata_files import live_entries, snapshot_manifests
from ddb_lake.pipeline.open_lake import Lake

SUFFIXES = ("", "_changes", "_objects", "_quarantine")


def _tables(lake: Lake, name: str) -> list[Table]:
    found = []
    for suffix in SUFFIXES:
        with suppress(DamagedError):  # an earlier loss
            found.append(lake.catalog.table(name + suffix))
    return [table for table in found if table is not None]


def _any(lake: Lake, name: str, rnd: random.Random) -> Table:
    return rnd.choice([table for table in _tables(lake, name) if table.current_snapshot() is not None])


def _remove(uri: str) -> str:
    Path(uri.removeprefix("file://")).unlink()
    return uri


def drop_from_catalog(lake: Lake, name: str, rnd: random.Random) -> str:
    """The catalog loses one table."""
    table = rnd.choice(_tables(lake, name))
    lake.catalog.catalog.drop_table(table.name())
    return f"{table.name()} in the catalog"


def lose_catalog(lake: Lake, _name: str, _rnd: random.Random) -> str:
    """The file of the catalog is removed."""
    lake.catalog.close()
    return _remove(f"{lake.catalog.warehouse}/catalog.db")


def lose_branch(lake: Lake, name: str, rnd: random.Random) -> str:
    """Another engine drops the branch of an export."""
    table = lake.current(name)
    branches = sorted(ref for ref in table.metadata.refs if ref != "main") if table is not None else []
    if table is None or not branches:
        return "no branch is there"
    branch = rnd.choice(branches)
    with table.manage_snapshots() as manage:
        manage.remove_branch(branch)
    return branch


def lose_data_file(lake: Lake, name: str, rnd: random.Random) -> str:
    """A data file or a delete file of a snapshot or a branch is removed."""
    table = _any(lake, name, rnd)
    snapshot = rnd.choice(table.metadata.snapshots)
    entries = [
        entry
        for manifest in snapshot_manifests(table.io, snapshot, name)
        for entry in live_entries(table.io, manifest, name)
    ]
    return _remove(rnd.choice(entries).data_file.file_path) if entries else "no data file is there"


def lose_manifest(lake: Lake, name: str, rnd: random.Random) -> str:
    """A manifest or a manifest list of the newest snapshot is removed."""
    table = _any(lake, name, rnd)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifests = snapshot_manifests(table.io, snapshot, name)
    return _remove(rnd.choice([snapshot.manifest_list, *(manifest.manifest_path for manifest in manifests)]))


def damage_metadata(lake: Lake, name: str, rnd: random.Random) -> str:
    """The newest metadata file is removed, or cut short."""
    uri = rnd.choice(_tables(lake, name)).metadata_location
    path = Path(uri)
    if rnd.random() < 0.5:
        return _remove(uri)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return uri


def lose_folder(lake: Lake, name: str, rnd: random.Random) -> str:
    """All files of one table are removed; the catalog still has it."""
    table = rnd.choice(_tables(lake, name))
    shutil.rmtree(table.location())
    return table.location()


def roll_back(lake: Lake, name: str, rnd: random.Random) -> str:
    """Another engine rolls a table back to an earlier snapshot."""
    table = _any(lake, name, rnd)
    snapshot = table.current_snapshot()
    ancestors = []
    while snapshot is not None and snapshot.parent_snapshot_id is not None:
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id)
        if snapshot is not None:
            ancestors.append(snapshot.snapshot_id)
    if not ancestors:
        return "no earlier snapshot is there"
    with table.manage_snapshots() as manage:
        manage.set_current_snapshot(rnd.choice(ancestors))
    return f"{table.name()} rolled back"


Loss = Callable[[Lake, str, random.Random], str]


def _unless_lost(loss: Loss) -> Loss:
    """The loss; nothing if what it takes is lost already."""

    @wraps(loss)
    def tried(lake: Lake, name: str, rnd: random.Random) -> str:
        try:
            return loss(lake, name, rnd)
        except (DamagedError, FileNotFoundError, IndexError) as error:
            return f"{loss.__name__}: lost already: {error}"

    return tried


LOSSES: dict[str, Loss] = {
    loss.__name__: _unless_lost(loss)
    for loss in (
        drop_from_catalog,
        lose_catalog,
        lose_branch,
        lose_data_file,
        lose_manifest,
        damage_metadata,
        lose_folder,
        roll_back,
    )
}
