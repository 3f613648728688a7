"""Commits to Iceberg tables. One commit can add files, delete rows by position, remove files, and change properties.

pyiceberg 0.12 reads position deletes but does not write them, and its snapshot producers are private classes. Only this
module extends them. `pyproject.toml` pins the version, and tests read every kind of commit with pyiceberg's scan and with
DuckDB's iceberg extension.

This module never retries a conflict. The positions to delete and the deduplication are planned against one snapshot and are
wrong for any other. So `Commit.run` raises CommitConflict, and `core.operations.retry_policy.retry_commit` makes the caller
plan again.

Each commit has a snapshot on `main`, even if it adds no file. Catalogs compare the snapshot of a branch, but not the
properties of a table; without a snapshot, a concurrent change of the state in the properties would not be a conflict.
https://iceberg.apache.org/spec/#optimistic-concurrency
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestListWriterV2,
    ManifestWriter,
    ManifestWriterV2,
)
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.table import Table, Transaction
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    SetDefaultSpecUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
    UpdatesAndRequirements,
    update_table_metadata,
)
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record

from ddb_lake.config import SnapshotSettings
from ddb_lake.core.layout.table_names import CHANGES, OBJECTS, QUARANTINE
from ddb_lake.core.operations.library_errors import translate_commit
from ddb_lake.errors import CommitConflict, DamagedError
from ddb_lake.lake.column_ranges import RANGES_HEADER, StoredRanges, ranges_of_files, to_header
from ddb_lake.lake.expiry import RemoveSnapshots, SharedList, snapshots_to_expire
from ddb_lake.lake.metadata_files import (
    FILE_PATH_ID,
    NO_DANGLING_DELETES,
    POS_ID,
    ListedManifest,
    has_no_dangling_deletes,
    listed_manifests,
    live_entries,
)
from ddb_lake.lake.schemas import CHANGES_RANGES
from ddb_lake.lake.size_tiers import groups_to_merge

FOREVER_MS = 2**63 - 1
"""The age to which each branch is kept. Without an age of its own, the table's `history.expire.max-ref-age-ms` limits it."""

COMMIT_ID = "ddb_lake.commit"
"""Property of a table, and of the snapshot of `main` that set it: the id of the newest commit of ours."""

EXPORT_BRANCH = "export-"
"""The beginning of the name of the branch that has the rows of one full export."""

_DATA_FILE_FIELDS = [field.name for field in DATA_FILE_TYPE[2].fields]
"""The names of the fields of a data file, in the order in which pyiceberg's record has their values."""

LARGE_MANIFEST_FILES = 512
"""A manifest with fewer files is small. A commit merges small manifests (`lake.size_tiers`), because a reader opens each one.

A merged manifest has at most this number of files, because a reader that needs one of them parses all of them.
"""


@dataclass(frozen=True, slots=True)
class Delta:
    """The changes of one snapshot.

    Attributes:
        added: data files to add.
        deletes: position delete files to add.
        removed: the paths of data files to remove.
        drop_deletes: whether to remove all delete files of the parent snapshot.
        replace_all: whether to remove all files of the parent snapshot.
        replace_unread: as `replace_all`, for a parent whose files may be damaged: nothing of it is read, and it is no parent of
            the new snapshot.
        forgets_bounds: whether the entries of removed files are written without the bounds of their columns, which are values.
        schema_id: the schema of the snapshot; None: the table's newest.
        summary: properties of the snapshot, in addition to those that Iceberg defines.
    """

    added: Sequence[DataFile] = ()
    deletes: Sequence[DataFile] = ()
    removed: frozenset[str] = frozenset()
    drop_deletes: bool = False
    replace_all: bool = False
    replace_unread: bool = False
    forgets_bounds: bool = False
    schema_id: int | None = None
    summary: Mapping[str, str] = field(default_factory=dict)

    @property
    def operation(self) -> Operation:
        """The Iceberg operation that describes the change."""
        replaces = self.replace_all or self.replace_unread
        pure_append = not (self.deletes or self.removed or self.drop_deletes or replaces)
        return Operation.APPEND if pure_append else Operation.OVERWRITE


class _DeleteManifestWriter(ManifestWriterV2):  # type: ignore[misc]  # pyiceberg is untyped to mypy here
    """Writes a manifest of delete files; pyiceberg's own writer writes manifests of data files only."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _ManifestListWriter(ManifestListWriterV2):  # type: ignore[misc]  # see above
    """Writes a manifest list with more properties in its header."""

    def __init__(self, header: Mapping[str, str], *args: Any) -> None:
        super().__init__(*args)
        self._meta.update(header)


class _DeltaProducer(_FastAppendFiles):  # type: ignore[misc]  # see above
    """Produces the snapshot of a `Delta`. Methods that override pyiceberg's have no docstring."""

    def __init__(self, transaction: Transaction, io: FileIO, delta: Delta, branch: str) -> None:
        super().__init__(delta.operation, transaction, io, None, dict(delta.summary), branch)
        if delta.replace_unread:
            self._parent_snapshot_id = None  # the head of the branch is still what a commit compares
        self._delta = delta
        self._name = transaction._table.name()[-1]
        self._added_data_files = list(delta.added)
        self._ranged = [
            field
            for field in transaction.table_metadata.schema().fields
            if self._name.endswith(CHANGES) and field.name in CHANGES_RANGES
        ]
        self._ranges: dict[str, StoredRanges] = {}
        self._kept: list[ManifestFile] = []
        self._removed: list[ManifestEntry] = []
        self._removed_deletes: list[ManifestEntry] = []
        self._rewritten: list[tuple[int, list[ManifestEntry]]] = []
        self._divide_parent_files()
        if self._has_no_dangling_deletes():
            self.snapshot_properties[NO_DANGLING_DELETES] = "true"

    def _has_no_dangling_deletes(self) -> bool:
        if not any(manifest.content == ManifestContent.DELETES for manifest in self._kept):
            return True  # the added deletes were planned against the files that stay
        parent = self._transaction.table_metadata.snapshot_by_id(self._parent_snapshot_id)
        return not self._removed and parent is not None and has_no_dangling_deletes(parent)

    def _divide_parent_files(self) -> None:
        """Divide the files of the parent snapshot into files to keep, in unchanged manifests if possible, and to remove."""
        for listed in self._parent_manifests():
            manifest = listed.file
            if listed.ranges:
                self._ranges[manifest.manifest_path] = listed.ranges
            if manifest.content == ManifestContent.DELETES:
                if self._delta.drop_deletes or self._delta.replace_all:
                    self._removed_deletes += self._live(manifest)
                else:
                    self._kept.append(manifest)
            elif self._delta.replace_all:
                self._removed += self._live(manifest)
            elif self._delta.removed:
                self._split(manifest)
            else:
                self._kept.append(manifest)
        missing = self._delta.removed - {entry.data_file.file_path for entry in self._removed}
        if missing:  # before a manifest is written, so that a conflict leaves no file
            raise CommitConflict(
                f"files to remove are no longer in the table: {', '.join(sorted(missing)[:3])} ({len(missing)} in all)",
                table=self._name,
                hint="plan again from its new state",
            )
        data = ManifestContent.DATA
        self._kept += [self._write_manifest(data, spec, entries) for spec, entries in self._rewritten]
        self._kept = [*self._merge_small(self._kept)]
        self._deleted_data_files = {entry.data_file for entry in (*self._removed, *self._removed_deletes)}

    def _parent_manifests(self) -> list[ListedManifest]:
        if self._parent_snapshot_id is None:
            return []
        parent = self._transaction.table_metadata.snapshot_by_id(self._parent_snapshot_id)
        assert parent is not None, "a branch has a snapshot"
        manifests = listed_manifests(self._io, parent, self._name)
        return [m for m in manifests if m.file.has_added_files() or m.file.has_existing_files()]

    def _live(self, manifest: ManifestFile) -> list[ManifestEntry]:
        return live_entries(self._io, manifest, self._name)

    def _split(self, manifest: ManifestFile) -> None:
        entries = self._live(manifest)
        removed = [entry for entry in entries if entry.data_file.file_path in self._delta.removed]
        if not removed:
            self._kept.append(manifest)
            return
        self._removed += removed
        remaining = [entry for entry in entries if entry.data_file.file_path not in self._delta.removed]
        if remaining:
            self._rewritten.append((manifest.partition_spec_id, remaining))

    def _write_manifest(self, content: ManifestContent, spec: int, entries: Sequence[ManifestEntry]) -> ManifestFile:
        """Write a manifest of files that are in the table already. They keep their sequence numbers."""
        with self._manifest_writer(content, spec) as writer:
            for entry in entries:
                writer.add_entry(_with_status(entry, ManifestEntryStatus.EXISTING, entry.snapshot_id))
        manifest: ManifestFile = writer.to_manifest_file()
        if content == ManifestContent.DATA:
            self._ranges[manifest.manifest_path] = self._ranges_of([entry.data_file for entry in entries])
        return manifest

    def _manifest_writer(self, content: ManifestContent, spec: int) -> ManifestWriter:
        if content == ManifestContent.DATA:
            return self.new_manifest_writer(self.spec(spec))
        output = self.new_manifest_output()
        return _DeleteManifestWriter(
            self.spec(spec), self._transaction.table_metadata.schema(), output, self._snapshot_id, self._compression
        )

    def _merge_small(self, manifests: list[ManifestFile]) -> Iterator[ManifestFile]:
        """Yield the manifests. Small ones of the same content and partition spec are merged if there are too many."""
        small: dict[tuple[ManifestContent, int], list[ManifestFile]] = defaultdict(list)
        for manifest in manifests:
            if _files(manifest) < LARGE_MANIFEST_FILES:
                small[manifest.content, manifest.partition_spec_id].append(manifest)
            else:
                yield manifest
        for (content, spec), alike in small.items():
            for group in groups_to_merge(alike, _files):
                if len(group) == 1:
                    yield from group
                    continue
                entries = [entry for manifest in group for entry in self._live(manifest)]
                for first in range(0, len(entries), LARGE_MANIFEST_FILES):
                    yield self._write_manifest(content, spec, entries[first : first + LARGE_MANIFEST_FILES])

    def _existing_manifests(self) -> list[ManifestFile]:
        return self._kept

    def _deleted_entries(self) -> list[ManifestEntry]:
        return [self._deleted(entry) for entry in self._removed]

    def _deleted(self, entry: ManifestEntry) -> ManifestEntry:
        deleted = _with_status(entry, ManifestEntryStatus.DELETED, self._snapshot_id)
        return _without_bounds(deleted) if self._delta.forgets_bounds else deleted

    def _manifests(self) -> list[ManifestFile]:
        manifests: list[ManifestFile] = super()._manifests()
        return manifests + self._delete_manifests()

    def _delete_manifests(self) -> list[ManifestFile]:
        if not self._delta.deletes and not self._removed_deletes:
            return []
        spec = self._transaction.table_metadata.default_spec_id
        writer = self._manifest_writer(ManifestContent.DELETES, spec)
        with writer:
            for entry in self._removed_deletes:
                writer.add_entry(self._deleted(entry))
            for file in self._delta.deletes:
                writer.add_entry(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self._snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
        return [writer.to_manifest_file()]

    def _summary(self, snapshot_properties: dict[str, str] | None = None) -> Summary:
        data_files = self._added_data_files
        self._added_data_files = [*data_files, *self._delta.deletes]
        try:
            return super()._summary(snapshot_properties or {})
        finally:
            self._added_data_files = data_files

    def _commit(self) -> UpdatesAndRequirements:
        """As pyiceberg's, with the ranges of columns in the header of the manifest list."""
        manifests, metadata = self._manifests(), self._transaction.table_metadata
        name = f"snap-{self._snapshot_id}-0-{self.commit_uuid}.avro"
        path = self._transaction._table.location_provider().new_metadata_location(name)
        getattr(self, "_written_manifest_lists", []).append(path)  # 0.12 removes them if the commit fails
        snapshot = Snapshot(
            snapshot_id=self._snapshot_id,
            parent_snapshot_id=self._parent_snapshot_id,
            sequence_number=metadata.next_sequence_number(),
            manifest_list=path,
            summary=self._summary(self.snapshot_properties),
            schema_id=metadata.current_schema_id if self._delta.schema_id is None else self._delta.schema_id,
        )
        with _ManifestListWriter(
            self._header(manifests),
            self._io.new_output(path),
            snapshot.snapshot_id,
            snapshot.parent_snapshot_id,
            snapshot.sequence_number,
            self._compression,
        ) as writer:
            writer.add_manifests(manifests)
        branch = self._target_branch
        head = metadata.refs.get(branch)
        reference = SetSnapshotRefUpdate(
            ref_name=branch,
            type=SnapshotRefType.BRANCH,
            snapshot_id=snapshot.snapshot_id,
            max_ref_age_ms=None if branch == MAIN_BRANCH else FOREVER_MS,
        )
        expected = AssertRefSnapshotId(ref=branch, snapshot_id=head.snapshot_id if head is not None else None)
        return (AddSnapshotUpdate(snapshot=snapshot), reference), (expected,)

    def _header(self, manifests: Sequence[ManifestFile]) -> dict[str, str]:
        if not self._ranged:
            return {}
        return {RANGES_HEADER: to_header(self._ranged, [self._manifest_ranges(manifest) for manifest in manifests])}

    def _manifest_ranges(self, manifest: ManifestFile) -> StoredRanges:
        """The ranges of a manifest. It is read if another tool or an earlier release wrote the manifest list before."""
        known = self._ranges.get(manifest.manifest_path)
        if known is not None or manifest.content == ManifestContent.DELETES:
            return known or {}
        if manifest.added_snapshot_id == self._snapshot_id:  # it has the added files, or removed files only
            return self._ranges_of(self._added_data_files if manifest.has_added_files() else [])
        return self._ranges_of([entry.data_file for entry in self._live(manifest)])

    def _ranges_of(self, files: Sequence[DataFile]) -> StoredRanges:
        return ranges_of_files(files, self._ranged)

    def _build_delete_files_partition_predicate(self) -> None:
        """Do nothing: the predicate is for the checks of concurrent changes, and nests once for each partition of a removed file."""

    def _refresh_for_retry(self) -> None:
        raise CommitFailedException("planned against a snapshot that is no longer the newest")


def _files(manifest: ManifestFile) -> int:
    """The number of files of a manifest; at least 1, also if it is not stated."""
    return max(1, (manifest.added_files_count or 0) + (manifest.existing_files_count or 0))


def _with_status(entry: ManifestEntry, status: ManifestEntryStatus, snapshot_id: int | None) -> ManifestEntry:
    return ManifestEntry.from_args(
        status=status,
        snapshot_id=snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=entry.data_file,
    )


def _without_bounds(entry: ManifestEntry) -> ManifestEntry:
    """The entry of a file without the bounds of its columns. Other readers share the entry that was read, so it is copied."""
    file = copy(entry.data_file)
    file._data = [*entry.data_file._data]
    for name in ("lower_bounds", "upper_bounds"):
        file[_DATA_FILE_FIELDS.index(name)] = None
    return ManifestEntry.from_args(
        status=entry.status,
        snapshot_id=entry.snapshot_id,
        sequence_number=entry.sequence_number,
        file_sequence_number=entry.file_sequence_number,
        data_file=file,
    )


_IMMUTABLE_LISTS = ("snapshots", "snapshot_log", "metadata_log", "schemas", "partition_specs", "sort_orders")
"""Lists of a table's metadata whose elements never change."""


class _Transaction(Transaction):  # type: ignore[misc]  # see above
    """A transaction that derives the table's metadata once for each staged step, and does not copy snapshots and schemas.

    pyiceberg 0.12 copies all of the metadata, with all snapshots, each time that it is read, which is about 15 times a commit.
    """

    _derived: tuple[tuple[TableUpdate, ...], TableMetadata, TableMetadata] | None = None
    """The updates and the base that the last metadata was derived from, and that metadata."""

    @property
    def table_metadata(self) -> TableMetadata:
        base = self._table.metadata
        if self._derived is None or self._derived[0] is not self._updates or self._derived[1] is not base:
            lists = {name: SharedList(getattr(base, name)) for name in _IMMUTABLE_LISTS}
            derived = update_table_metadata(base.model_copy(update=lists), self._updates)
            self._derived = (self._updates, base, derived)
        return self._derived[2]


class Commit:
    """One commit: stage schema changes, then snapshots and properties, then call `run`.

    The catalog applies all of it or nothing. Old snapshots expire in the same commit (`lake.expiry`). Stage `main` before other
    branches: pyiceberg keeps only the first requirement of each type, so the catalog compares the snapshot of the first staged
    branch only, and writers compete for `main`.

    Args:
        table: the table as it was when the commit was planned.
        retention: how many snapshots are kept; by default, as many as without a configuration.

    Example:
        commit = Commit(table)
        commit.snapshot(Delta(added=writer.write(query, table.metadata)))
        commit.set_properties(state.properties())
        table = commit.run()
    """

    def __init__(self, table: Table, retention: SnapshotSettings | None = None) -> None:
        self._table = table
        self._retention = retention or SnapshotSettings()
        self._id = uuid.uuid4().hex
        self.transaction = _Transaction(table)
        self._staged_main = False

    def change_schema(self, change: Callable[[Any], None]) -> None:
        """Apply `change` to pyiceberg's UpdateSchema. Files that are written afterwards use the new field ids."""
        with self.transaction.update_schema(allow_incompatible_changes=True) as update:
            change(update)

    def change_partitioning(self, spec: PartitionSpec) -> None:
        """Stage another partition spec for files that are written afterwards. The present files keep theirs.

        https://iceberg.apache.org/spec/#partition-evolution
        """
        metadata = self.transaction.table_metadata
        number = max(known.spec_id for known in metadata.partition_specs) + 1
        field_id = metadata.last_partition_id or PARTITION_FIELD_ID_START - 1
        fields = [
            PartitionField(field.source_id, field_id + position, field.transform, field.name)
            for position, field in enumerate(spec.fields, start=1)
        ]
        self.stage(
            AddPartitionSpecUpdate(spec=PartitionSpec(*fields, spec_id=number)), SetDefaultSpecUpdate(spec_id=-1)
        )

    def snapshot(self, delta: Delta, branch: str = "main") -> None:
        """Stage one snapshot.

        Raises:
            CommitConflict: a file to remove is no longer in the table.
            DamagedError: another tool rolled the table back, and the commit would hide this. A commit that replaces all rows is the
                cure. Ledger and quarantine may be rolled back: their properties state nothing of their rows.
        """
        assert self._staged_main or branch == "main", "stage main first"
        self._staged_main = True
        if branch == MAIN_BRANCH:
            if not (delta.replace_all or delta.replace_unread) and not self._table.name()[-1].endswith(
                (OBJECTS, QUARANTINE)
            ):
                check_newest_commit(self._table)
            self._keep_branches()
            delta = replace(delta, summary={**delta.summary, COMMIT_ID: self._id})
        _DeltaProducer(self.transaction, self._table.io, delta, branch).commit()

    def _keep_branches(self) -> None:
        """Give an age of their own to branches of exports that an earlier release made without one."""
        for name, ref in self._table.metadata.refs.items():
            if name.startswith(EXPORT_BRANCH) and ref.max_ref_age_ms is None:
                update = SetSnapshotRefUpdate(
                    ref_name=name, type=ref.snapshot_ref_type, snapshot_id=ref.snapshot_id, max_ref_age_ms=FOREVER_MS
                )
                self.stage(update)

    def set_properties(self, properties: Mapping[str, str]) -> None:
        """Stage table properties. They are committed with the snapshots."""
        if properties:
            self.transaction.set_properties(dict(properties))

    def stage(self, *updates: TableUpdate) -> None:
        """Stage updates of the table's metadata, which the catalog applies in the order in which they are staged."""
        if updates:
            self.transaction._apply(updates)

    def run(self) -> Table:
        """Commit what is staged.

        Returns:
            The table with the new snapshots.

        Raises:
            CommitConflict: another writer committed first. Nothing was committed; plan again.
            TransientError: the catalog stayed locked. Nothing was committed; plan again.
            CommitStateUnknown: the catalog did not report whether it committed. Load the table again to find out.
        """
        assert self._staged_main, "concurrent writers do not notice a commit without a snapshot on main"
        name = self._table.name()[-1]
        self.set_properties({COMMIT_ID: self._id})
        metadata = self.transaction.table_metadata
        expired = snapshots_to_expire(metadata, self._retention, metadata.last_updated_ms)
        if expired:
            self.transaction._apply((RemoveSnapshots(snapshot_ids=expired),))
        try:
            self.transaction.commit_transaction()
        except Exception as error:
            found = translate_commit(error, name)
            if found is None:
                raise
            raise found from error
        return self._table


def commit_delta(
    table: Table, delta: Delta, properties: Mapping[str, str], retention: SnapshotSettings | None = None
) -> Table:
    """A commit of one snapshot on `main` and table properties. Arguments, result and errors are those of `Commit`."""
    commit = Commit(table, retention)
    commit.snapshot(delta)
    commit.set_properties(properties)
    return commit.run()


def check_newest_commit(table: Table) -> None:
    """Raise DamagedError if `main` does not have the newest commit of ours, because another tool moved it to an earlier snapshot.

    The properties of the table would then state more than its rows have. Commits of other tools after ours are no fault. If the
    snapshots of all commits of ours have expired, nothing can be compared.
    """
    expected = table.properties.get(COMMIT_ID)
    snapshot, found = table.current_snapshot(), None
    while expected is not None and snapshot is not None and found is None:
        found = snapshot.summary[COMMIT_ID] if snapshot.summary is not None else None
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    if expected is None or found == expected:
        return
    kept = (s.summary[COMMIT_ID] for s in table.snapshots() if s.summary is not None)
    if found is None and expected not in kept:
        return
    name = table.name()[-1]
    raise DamagedError(
        "its rows are those of an earlier commit, and its properties those of a later one: another tool rolled it back",
        uri=table.metadata_location,
        table=name,
        hint="Move its branch `main` to the newest snapshot again, or build the table again: `ddb-lake rebuild"
        f" {name.removesuffix(CHANGES).removesuffix(OBJECTS).removesuffix(QUARANTINE)}`",
    )


def position_delete_file(path: str, size_bytes: int, rows: int, first_path: str, last_path: str) -> DataFile:
    """The manifest entry of a Parquet file of (file_path, pos), sorted by both.

    https://iceberg.apache.org/spec/#position-delete-files
    """
    return DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows,
        file_size_in_bytes=size_bytes,
        column_sizes={},
        value_counts={FILE_PATH_ID: rows, POS_ID: rows},
        null_value_counts={FILE_PATH_ID: 0, POS_ID: 0},
        nan_value_counts={},
        lower_bounds={FILE_PATH_ID: first_path.encode()},
        upper_bounds={FILE_PATH_ID: last_path.encode()},
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
        spec_id=0,
    )
