"""The relations that a merge reads: records of the changelog, rows of `current` with their keys, rows of an export.

Each is SQL text over data files, which `Relation` can divide among tasks. Nothing is read here but manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import orjson
import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.merge_plan import CHANGED_KEYS, NO_REMOVALS, MergeInput, MergeRules, version_us
from ddb_lake.engine.session import Session
from ddb_lake.lake.column_ranges import ColumnRanges
from ddb_lake.lake.scan import TableScan, data_files, scan_table
from ddb_lake.lake.state import LoadedExport, lost_branch

IN_CHANGED_KEYS = f"SEMI JOIN {CHANGED_KEYS} k ON k._key_hash = r._key_hash"
"""SQL that leaves the rows of a relation `r` that may have a changed key: hashes of different keys can be equal."""


@dataclass(frozen=True, slots=True)
class Relation:
    """The rows of some data files. `read` returns the SQL of the rows of some of the files, also of none."""

    files: tuple[str, ...]
    read: Callable[[Sequence[str]], str]

    @property
    def sql(self) -> str:
        """All rows."""
        return self.read(self.files)

    def parts(self, most: int) -> list[str]:
        """The rows in at most `most` parts, of about as many files each; no part if there is no file."""
        count = min(most, len(self.files))
        return [self.read(self.files[first::count]) for first in range(count)]


@dataclass(frozen=True, slots=True)
class ExportRows:
    """The rows of one full export alone, and the columns that they have."""

    scan: TableScan
    schema: TableSchema

    @property
    def rows(self) -> Relation:
        """As a relation."""
        return Relation(self.scan.paths, self.scan.sql)


@dataclass(frozen=True, slots=True)
class MergeSources:
    """What a merge reads: `engine.merge_plan.MergeInput` with relations that can be divided.

    Attributes:
        new_records: change records that are not applied yet.
        changelog: gives all records by which keys are decided. It is called only if a key is conflicting, because it may read the
            manifest entries of all files of the changelog.
        current: `current_rows`, or the rows of a new base.
        base: the rows of the newest full export; None without one.
        rules: what decides, apart from the records.
        exported_keys: `engine.merge_plan.ExportedKeys`, as relations (_key, _key_hash, exported_us).
        removals: `engine.merge_plan.Removals`, as a relation (_key, _key_hash, removed_us).
    """

    new_records: Relation
    changelog: Callable[[], Relation]
    current: Relation
    base: ExportRows | None
    rules: MergeRules
    exported_keys: Callable[[int], Sequence[Relation]] = lambda _from_us: ()
    removals: Callable[[int], Relation] = lambda _from_us: Relation((), lambda _files: NO_REMOVALS)

    def inputs(self, session: Session, table: str) -> MergeInput:
        """The undivided relations, for a merge in one session. `table`: the table's name."""
        base = self.base
        return MergeInput(
            table,
            self.new_records.sql,
            cache(lambda: self.changelog().sql),
            self.current.sql,
            self.rules,
            lambda from_us: self.removals(from_us).sql,
            partial(images_of, session, images_sql(base.rows.sql, base.schema)) if base else lambda _keys: {},
            lambda from_us: [keys.sql for keys in self.exported_keys(from_us)],
        )


# --- records of the changelog


def records_sql(changes: Table, after_us: int | None = None, after_batch: int | None = None) -> str:
    """The rows of `scan_records`, as SQL."""
    return scan_records(changes, after_us, after_batch).sql()


def scan_records(changes: Table, after_us: int | None = None, after_batch: int | None = None) -> TableScan:
    """The changelog's records: all, or a superset of those later than `after_us` or `after_batch` (exclusive).

    Files that cannot hold such records are left out. The caller filters rows.
    """

    def may_have_one(ranges: ColumnRanges) -> bool:
        if after_batch is not None and not ranges.overlaps("_batch", low=after_batch + 1):
            return False
        times = ("changed_at", "asserted_at")
        return after_us is None or any(ranges.overlaps(name, low=after_us + 1) for name in times)

    return TableScan(changes.schema(), tuple(file.file_path for file in data_files(changes, may_have_one)))


def applied_removals(changes: Table, applied_batch: int, from_us: int) -> Relation:
    """The removals that are applied to `current`, of a time or later, as (_key, _key_hash, removed_us).

    Removals of later batches are left out: a new removal is later than no applied one just because it is a removal.

    Args:
        changes: the changelog.
        applied_batch: the greatest batch that is applied (inclusive).
        from_us: the earliest time (inclusive), microseconds since the epoch.
    """

    def may_have_one(ranges: ColumnRanges) -> bool:
        return (
            ranges.overlaps("event_name", "REMOVE", "REMOVE")
            and ranges.overlaps("changed_at", low=from_us)
            and ranges.overlaps("_batch", high=applied_batch)
        )

    scan = TableScan(changes.schema(), tuple(file.file_path for file in data_files(changes, may_have_one)))
    condition = (
        f"event_name = 'REMOVE' AND _batch <= {applied_batch} AND changed_at >= make_timestamp({from_us}::BIGINT)"
    )
    return Relation(
        scan.paths,
        lambda files: (
            f"(SELECT _key, _key_hash, epoch_us(changed_at) AS removed_us FROM {scan.sql(files)} WHERE {condition})"
        ),
    )


def known_records(changes: Table, snapshot_cutoff_us: int | None, keep_expired: bool) -> Relation:
    """The records by which keys are decided: those after the snapshot cutoff, or all if expired items are kept."""
    scan = scan_records(changes, after_us=None if keep_expired else snapshot_cutoff_us)
    return Relation(scan.paths, scan.sql)


def naming_records(known: Relation, snapshot_cutoff_us: int | None, clock_skew_us: int, keep_expired: bool) -> Relation:
    """Those of `known_records` that name a key whose row may differ from the base's.

    If expired items are kept, each key that Time to Live removed at any time is such a key.
    """
    if not keep_expired or snapshot_cutoff_us is None:
        return known
    condition = f"{version_us(clock_skew_us)} > {snapshot_cutoff_us} OR ttl"
    return Relation(known.files, lambda files: f"(SELECT * FROM {known.read(files)} WHERE {condition})")


# --- rows of `current`


NO_CURRENT_ROWS = (
    "(SELECT NULL::VARCHAR AS file_path, NULL::BIGINT AS pos, NULL::VARCHAR AS _key,"
    " NULL::TIMESTAMP AS _changed_at, NULL::VARCHAR AS _source WHERE false)"
)


def current_rows(table: Table | None, schema: TableSchema) -> Relation:
    """The living rows of `current` as a merge reads them (`engine.merge_plan.MergeInput.current`)."""
    return Relation((), lambda _files: NO_CURRENT_ROWS) if table is None else keyed_rows(scan_table(table), schema)


def keyed_rows(scan: TableScan, schema: TableSchema) -> Relation:
    """Rows of a scan of `current` that may have a changed key, with `_key`.

    They are found by `_key_hash`, so the text of a key is made for few rows.
    """
    columns = f"_file_path AS file_path, _pos AS pos, _changed_at, _source, {key_text_sql(schema)} AS _key"
    return Relation(
        scan.paths,
        lambda paths: (
            f"(SELECT {columns} FROM (SELECT r.* FROM {scan.sql(paths, positions=True)} r {IN_CHANGED_KEYS}))"
        ),
    )


# --- rows of exports


def export_rows(current: Table, export: LoadedExport) -> ExportRows:
    """The rows of a loaded export, from its branch. Raises DamagedError if the branch was dropped."""
    snapshot = current.snapshot_by_name(export.branch)
    if snapshot is None:
        raise lost_branch(current, export)
    return ExportRows(scan_table(current, snapshot.snapshot_id), export.schema)


def exported_keys(current: Table | None, exports: Iterable[LoadedExport], from_us: int) -> list[Relation]:
    """The changed keys that are in each export of an instant or later (`engine.merge_plan.ExportedKeys`)."""
    if current is None:
        return []
    return [keys_of_export(one.export_us, export_rows(current, one)) for one in exports if one.export_us >= from_us]


def keys_of_export(export_us: int, rows: ExportRows) -> Relation:
    """The changed keys that are in an export: (_key, _key_hash, exported_us)."""
    columns = f"{key_text_sql(rows.schema)} AS _key, _key_hash, {export_us}::BIGINT AS exported_us"
    return Relation(
        rows.scan.paths,
        lambda paths: f"(SELECT {columns} FROM (SELECT r.* FROM {rows.scan.sql(paths)} r {IN_CHANGED_KEYS}))",
    )


def images_sql(rows: str, schema: TableSchema) -> str:
    """The rows of an export as (_key, _key_hash, item, _rescued)."""
    return f"(SELECT {key_text_sql(schema)} AS _key, _key_hash, {item_sql(schema)} AS item, _rescued FROM {rows})"


def images_of(session: Session, images: str, keys: Iterable[str]) -> dict[str, bytes]:
    """Canonical images of some keys, from a relation of `images_sql`; keys that it does not have are missing."""
    session.con.register("wanted_keys", pa.table({"k": list(keys)}))
    try:
        rows = session.rows(f"SELECT _key, item, _rescued FROM {images} SEMI JOIN wanted_keys ON k = _key")
    finally:
        session.con.unregister("wanted_keys")
    return {key: canonical_json(orjson.loads(complete(item, rescued))) for key, item, rescued in rows}
