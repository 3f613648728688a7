"""Replaces all contents of a table with those of a working table, in one commit, and finds the metadata of lost tables.

Readers see the table before the commit or after it. The table keeps its entry in the catalog, and the grants on it. The commit
also removes its former snapshots and branches, because their files may be damaged. Compaction deletes these files after a
day, so a query that is running can still read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.exceptions import NoSuchTableError, ServerError, TableAlreadyExistsError, ValidationError
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    AddSchemaUpdate,
    RemovePropertiesUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    SetCurrentSchemaUpdate,
)

from ddb_lake.core.layout.locations import spelled
from ddb_lake.errors import CheckFailed, DamagedError
from ddb_lake.lake.catalog import WORKING, LakeCatalog, names_missing_file
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.metadata_files import live_entries, snapshot_manifests
from ddb_lake.lake.scan import live_files
from ddb_lake.lake.state import PREFIX

REBUILT_FROM = "ddb_lake.rebuilt-from"
"""A property of a table: the working table, and its snapshot, that last replaced the contents."""

EARLIER = "ddb_lake.registered-earlier"
"""A property of a table that was registered by an earlier metadata file, until a rebuild replaces its contents."""

PLACEHOLDER = "ddb_lake.placeholder"
"""A property of a table without contents that a rebuild created, until the rebuild replaces its contents."""

_METADATA = re.compile(r"(v?)(\d+)(?:-[^/]*|\.gz)?\.metadata\.json")


def replace_contents(table: Table, working: Table, summary: Mapping[str, str]) -> Table:
    """Replace rows, branches, columns and state of a table with those of a working table. Reads no file of the former contents.

    Args:
        table: the table. If another writer has committed since it was loaded, nothing is replaced.
        working: the working table, whose files are below the location of `table`.
        summary: properties of the new snapshot.

    Returns:
        The table after the commit. If `working` has already replaced its contents, there is no commit.

    Raises:
        CommitConflict: another writer committed first.
        CheckFailed: the tables have different partitions.
    """
    origin = _origin(working)
    if table.properties.get(REBUILT_FROM) == origin:
        return table
    if not table.spec().compatible_with(working.spec()):
        raise CheckFailed("its partitions are not those that this release writes", table=table.name()[-1])
    commit = Commit(table)
    _change_schema(commit, table, working)
    main = working.current_snapshot()
    commit.snapshot(_contents(working, main.snapshot_id if main else None, summary))
    branches = [name for name in working.metadata.refs if name != MAIN_BRANCH]
    for branch in branches:
        commit.snapshot(_contents(working, working.metadata.refs[branch].snapshot_id, summary), branch)
    forget_snapshots(commit, table, branches)
    own = {name: value for name, value in working.properties.items() if name.startswith(PREFIX) and name != WORKING}
    removed = [name for name in table.properties if name.startswith(PREFIX) and name not in own]
    if removed:
        commit.stage(RemovePropertiesUpdate(removals=removed))
    commit.set_properties({**own, REBUILT_FROM: origin})
    return commit.run()


def replace_rows(table: Table, added: Sequence[DataFile], properties: Mapping[str, str]) -> Table:
    """Replace the rows of a table without branches with those of some files, in one commit. Reads no file of the former contents.

    Raises CommitConflict if another writer committed first.
    """
    commit = Commit(table)
    commit.snapshot(Delta(added=added, replace_unread=True))
    forget_snapshots(commit, table)
    commit.set_properties(properties)
    return commit.run()


def forget_snapshots(commit: Commit, table: Table, branches: Sequence[str] = ()) -> None:
    """Remove the snapshots that a table had, and its branches and tags except `main` and `branches`."""
    former = table.metadata
    stale = [name for name in former.refs if name not in (MAIN_BRANCH, *branches)]
    commit.stage(*(RemoveSnapshotRefUpdate(ref_name=name) for name in stale))
    if former.snapshots:
        commit.stage(RemoveSnapshotsUpdate(snapshot_ids=[snapshot.snapshot_id for snapshot in former.snapshots]))


def _origin(working: Table) -> str:
    snapshot = working.current_snapshot()
    return f"{working.metadata.table_uuid}/{snapshot.snapshot_id if snapshot else 0}"


def _change_schema(commit: Commit, table: Table, working: Table) -> None:
    """Give the table the columns of the working table, with their field ids, because its files are read by field id."""
    wanted = working.schema()
    for schema in table.metadata.schemas:
        if schema.as_struct() == wanted.as_struct():
            if schema.schema_id != table.metadata.current_schema_id:
                commit.stage(SetCurrentSchemaUpdate(schema_id=schema.schema_id))
            return
    number = max(schema.schema_id for schema in table.metadata.schemas) + 1
    commit.stage(
        AddSchemaUpdate(schema=wanted.model_copy(update={"schema_id": number})), SetCurrentSchemaUpdate(schema_id=-1)
    )


def _contents(working: Table, snapshot_id: int | None, summary: Mapping[str, str]) -> Delta:
    live = live_files(working, snapshot_id)
    return Delta(added=live.data, deletes=live.deletes, replace_unread=True, summary=summary)


# --- the readable part of a damaged table


@dataclass(frozen=True, slots=True)
class ReadableFiles:
    """The data files of a snapshot that exist with the size that was written.

    Attributes:
        paths: these files.
        is_complete: whether they are all data files of the snapshot.
    """

    paths: tuple[str, ...]
    is_complete: bool


def readable_files(table: Table, listed: Mapping[str, int]) -> ReadableFiles:
    """The data files of the newest snapshot that exist and that a readable manifest names.

    Args:
        table: the table.
        listed: the size in bytes of every file at its location, by its `spelled` URI.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return ReadableFiles((), True)
    files: list[DataFile] = []
    complete, name = True, table.name()[-1]
    try:
        manifests = snapshot_manifests(table.io, snapshot, name)
    except DamagedError:
        return ReadableFiles((), False)
    for manifest in manifests:
        try:
            files += [entry.data_file for entry in live_entries(table.io, manifest, name)]
        except DamagedError:
            complete = False
    there = [f.file_path for f in files if listed.get(spelled(f.file_path)) == f.file_size_in_bytes]
    return ReadableFiles(tuple(there), complete and len(there) == len(files))


# --- lost tables


@dataclass(frozen=True, slots=True)
class FoundMetadata:
    """The newest readable metadata file of a table that the catalog lost.

    Attributes:
        uri: the file.
        is_earlier: whether a damaged metadata file exists that may be later. Then the last commits may be missing.
    """

    uri: str
    is_earlier: bool


def newest_metadata(io: FileIO, found: Mapping[str, int]) -> FoundMetadata | None:
    """The newest metadata file of a table that can be read; None if there is none.

    Catalogs number metadata files in one of two ways, `00007-<id>.metadata.json` or `v7.metadata.json`. A catalog in which a
    file of the other way is registered begins again at 0, and so does a table that is created where another one was. So the file
    with the greatest number of each way, and the one that was modified last, are compared by their contents.

    Args:
        io: access to the files.
        found: the URIs of the files below `metadata/` of the table's location, with their times of modification.
    """
    files = [file for file in map(_numbered, found) if file is not None]
    orders = [
        sorted((file for file in files if file.is_plain == is_plain), key=lambda file: file.number, reverse=True)
        for is_plain in (True, False)
    ]
    orders.append(sorted(files, key=lambda file: found[file.uri], reverse=True))
    damaged: set[str] = set()
    first = [_first_readable(io, order, damaged) for order in orders]
    read = [one for one in first if one is not None]
    if not read:
        return None
    newest_uuid = max(read, key=lambda one: one[1].last_updated_ms)[1].table_uuid
    versions = [one for one in read if one[1].table_uuid == newest_uuid]
    uri, _ = max(versions, key=lambda one: (one[1].last_sequence_number, one[1].last_updated_ms))
    return FoundMetadata(uri, bool(damaged))


@dataclass(frozen=True, slots=True)
class _MetadataFile:
    """A metadata file by its name. `is_plain`: whether its name is `v7.metadata.json`, without an id."""

    uri: str
    number: int
    is_plain: bool


def _numbered(uri: str) -> _MetadataFile | None:
    match = _METADATA.fullmatch(uri.rpartition("/")[2])
    return _MetadataFile(uri, int(match[2]), bool(match[1])) if match else None


def _first_readable(io: FileIO, files: Sequence[_MetadataFile], damaged: set[str]) -> tuple[str, TableMetadata] | None:
    """The first file that can be read and is not of a working table. Files before it that cannot be read are added to `damaged`."""
    for file in files:
        try:
            metadata = FromInputFile.table_metadata(io.new_input(file.uri))
        except (OSError, ValueError, ValidationError):  # the one before it lacks only the last commit
            damaged.add(file.uri)
            continue
        if WORKING not in metadata.properties:
            return file.uri, metadata
    return None


def register(catalog: LakeCatalog, name: str, metadata_location: str, is_earlier: bool) -> None:
    """Register a table by a metadata file. An entry of the catalog that names another file is replaced.

    Args:
        catalog: the catalog.
        name: the table's name in the lake, with its suffix.
        metadata_location: the metadata file.
        is_earlier: whether a later metadata file existed. The table then has the property `EARLIER`.
    """
    pyiceberg, identifier = catalog.catalog, catalog.identifier(name)
    pyiceberg.create_namespace_if_not_exists(catalog.settings.catalog.namespace)
    try:
        table = pyiceberg.register_table(identifier, metadata_location)
    except (TableAlreadyExistsError, ServerError) as error:
        if isinstance(error, ServerError) and not names_missing_file(error):
            raise
        forget(catalog, name)  # Iceberg's Java library reads the metadata that the entry names before it refuses
        table = pyiceberg.register_table(identifier, metadata_location)
    if is_earlier:
        with table.transaction() as transaction:
            transaction.set_properties({EARLIER: "true"})


def forget(catalog: LakeCatalog, name: str) -> None:
    """Remove a table from the catalog, if it is there. Its files stay."""
    try:
        catalog.catalog.drop_table(catalog.identifier(name))
    except NoSuchTableError:
        return
