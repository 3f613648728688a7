"""Removes rows from an Iceberg table so that no file of it has them: for erasures.

Each data file that has one of the rows is written again without it, in `main` and in each branch. A position delete hides a row
and leaves its values in the file, so rows that are deleted by position are removed too. The commit leaves no earlier snapshot, and
forgets the bounds of the columns of the replaced files, which are values.

Files that no snapshot names any more are deleted in a second step (`delete_unnamed`), because readers of the earlier snapshot and a
commit that is repeated need them until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType

from ddb_lake.config import SnapshotSettings
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literals
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.commit import Commit, Delta
from ddb_lake.lake.file_writer import FileWriter, rewrite
from ddb_lake.lake.maintenance import referenced
from ddb_lake.lake.metadata_files import OPERATION
from ddb_lake.lake.scan import TableScan, scan_table

_ONLY_HEADS = SnapshotSettings(keep=1)
"""Keeps the newest snapshot of `main` and the heads of branches and tags."""

ERASE = "erase"
"""The value of the snapshot's property `OPERATION`."""


@dataclass(frozen=True, slots=True)
class RowsToRemove:
    """The rows to remove from a branch.

    Attributes:
        condition: SQL that is true of them, over the columns of `lake.scan.TableScan.sql`.
        order: the columns by which the rows of a file are sorted, as SQL.
    """

    condition: str
    order: str


@dataclass(frozen=True, slots=True)
class RemovedRows:
    """What a commit removed.

    Attributes:
        rows: the number of living rows of `main`.
        stored: the number of rows in data files of `main` and of branches, those included that are deleted by position. A file that
            several branches have counts once.
        files: the number of data files that were written again.
        of_branches: the number of living rows by branch, without `main`.
        tags: tags whose snapshots have such rows. A snapshot never changes, so the rows are still there.
        before_id: the snapshot of `main` from which the rows were removed; None if the table did not have one.
        after_id: the snapshot of `main` that the commit made.
    """

    rows: int = 0
    stored: int = 0
    files: int = 0
    tags: tuple[str, ...] = ()
    of_branches: Mapping[str, int] = field(default_factory=dict)
    before_id: int | None = None
    after_id: int | None = None


@dataclass(slots=True)
class _Removal:
    """One attempt. `written`: the new files of each replaced file, if no delete file names a row of it."""

    session: Session
    table: Table
    commit: Commit
    stored: dict[str, int] = field(default_factory=dict)
    written: dict[tuple[str, int], list[DataFile]] = field(default_factory=dict)

    def delta(self, branch: str, wanted: RowsToRemove) -> tuple[Delta | None, int]:
        """The change of a branch, and the number of living rows that it removes. None if the branch has no such row."""
        scan, schema_id = _branch_scan(self.table, branch)
        found = dict(_files_with(self.session, scan, wanted.condition))
        if not found:
            return None, 0
        self.stored |= found
        paths = [path for path in scan.paths if path in found]
        condition = f"coalesce({wanted.condition}, false)"
        living: int = self.session.value(f"SELECT count(*) FROM {scan.sql(paths)} WHERE {condition}")
        metadata = _with_schema(self.commit.transaction.table_metadata, schema_id)
        writer = FileWriter.for_table(self.session.con, self.table, metadata)
        added: list[DataFile] = []
        for file in (file for file in scan.live.data if file.file_path in found):
            key = (file.file_path, schema_id)
            entries = self.written.get(key)
            if entries is None:
                names = rewrite(self.session, writer, scan, [file], wanted.order, f"NOT {condition}")
                entries = writer.entries(names, metadata)
                if not scan.deletes_of([file.file_path]):
                    self.written[key] = entries
            added += entries
        deletes: list[DataFile] = []
        if scan.deletes:
            kept = [path for path in scan.paths if path not in found]
            source = f"read_parquet({literals(scan.deletes)})"
            positions = (
                f"SELECT file_path, pos FROM {source} WHERE list_contains({literals(kept)}::VARCHAR[], file_path)"
            )
            self.session.keep("kept_positions", positions)
            deletes = writer.write_deletes_by_file("kept_positions")
        before = sum(file.record_count for file in scan.live.data if file.file_path in found)
        after = sum(file.record_count for file in added)
        deleted = scan.live.deleted_rows - sum(file.record_count for file in deletes)
        if before - deleted - living != after:
            raise CheckFailed(
                f"{count_text(before - deleted - living, 'row')} of the replaced files should stay, and {after} were written;"
                " nothing was committed",
                table=self.table.name()[-1],
            )
        removed = frozenset(found)
        delta = Delta(
            added=added, deletes=deletes, removed=removed, drop_deletes=bool(scan.deletes), schema_id=schema_id
        )
        return delta, living


def remove_rows(
    session: Session,
    table: Table,
    rows_of: Callable[[str], RowsToRemove],
    properties: Callable[[RemovedRows], Mapping[str, str]] = lambda _removed: {},
) -> RemovedRows:
    """Remove rows from `main` and all branches in one commit, after which no earlier snapshot is left.

    The commit has a snapshot of `main` even if there is no such row: a concurrent writer that planned before conflicts with it.

    Args:
        session: a session for the work.
        table: the table, which has a snapshot.
        rows_of: the rows to remove, by the name of the branch.
        properties: the properties that are committed too.

    Raises:
        CheckFailed: the new files would not have all other rows. Nothing was committed.
        CommitConflict: another writer committed first.
    """
    commit = Commit(table, _ONLY_HEADS)
    removal = _Removal(session, table, commit)
    marked = partial(replace, forgets_bounds=True, summary={OPERATION: ERASE})
    main, living = removal.delta(MAIN_BRANCH, rows_of(MAIN_BRANCH))
    commit.snapshot(marked(main or Delta()))
    of_branches: dict[str, int] = {}
    for name, ref in table.metadata.refs.items():
        if name == MAIN_BRANCH or ref.snapshot_ref_type != SnapshotRefType.BRANCH:
            continue
        delta, of_branches[name] = removal.delta(name, rows_of(name))
        if delta is not None:
            commit.snapshot(marked(delta), branch=name)
    tags = tuple(
        name
        for name, ref in table.metadata.refs.items()
        if ref.snapshot_ref_type == SnapshotRefType.TAG
        and _files_with(session, scan_table(table, ref.snapshot_id), rows_of(MAIN_BRANCH).condition)
    )
    removed = RemovedRows(
        rows=living,
        stored=sum(removal.stored.values()),
        files=len(removal.stored),
        tags=tags,
        of_branches=of_branches,
    )
    commit.set_properties(properties(removed))
    before_id = table.metadata.current_snapshot_id
    return replace(removed, before_id=before_id, after_id=commit.run().metadata.current_snapshot_id)


def _branch_scan(table: Table, branch: str) -> tuple[TableScan, int]:
    """The scan of a branch, and the id of the schema by which its files are read and written again."""
    ref = table.metadata.refs[branch]
    if branch == MAIN_BRANCH:
        return scan_table(table), table.metadata.current_schema_id
    snapshot = table.snapshot_by_id(ref.snapshot_id)
    assert snapshot is not None, "a branch has a snapshot"
    known = snapshot.schema_id
    return scan_table(table, ref.snapshot_id), table.metadata.current_schema_id if known is None else known


def _files_with(session: Session, scan: TableScan, condition: str) -> list[tuple[str, int]]:
    """The data files that have rows of a condition, deleted by position or not, with the number of these rows."""
    stored = TableScan(scan.schema, scan.paths)
    return session.rows(f"SELECT _file_path, count(*) FROM {stored.sql(positions=True)} WHERE {condition} GROUP BY 1")


def _with_schema(metadata: TableMetadata, schema_id: int) -> TableMetadata:
    return metadata.model_copy(update={"current_schema_id": schema_id})


def delete_unnamed(table: Table, former: Iterable[str]) -> int:
    """Delete the files of earlier snapshots that no snapshot names now.

    Args:
        table: the table as it is now.
        former: files that the table named before, from `lake.maintenance.referenced`.

    Returns:
        The number of files that were deleted.
    """
    named = referenced(table)
    count = 0
    for path in sorted(set(former) - named):
        with suppress(FileNotFoundError):
            table.io.delete(path)
            count += 1
    return count
