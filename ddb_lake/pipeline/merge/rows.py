"""The relations that several stages read: the changelog's records, `current`'s rows with their keys, an export's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.merge_plan import version_us
from ddb_lake.engine.session import Session
from ddb_lake.lake.scan import TableScan, column_bounds, live_files, scan_table
from ddb_lake.lake.state import LoadedExport
from ddb_lake.pipeline.merge.inputs import BaseRows, Relation


def records_sql(changes: Table, after_us: int | None = None, after_batch: int | None = None) -> str:
    """Records of the changelog, all of them or a superset of those later than `after_us` or `after_batch` (exclusive).

    Files that cannot hold such records are left out; the caller filters rows.
    """
    return scan_records(changes, after_us, after_batch).sql()


def scan_records(changes: Table, after_us: int | None = None, after_batch: int | None = None) -> TableScan:
    """The scan of `records_sql`."""
    files = (f.file_path for f in live_files(changes).data if _reaches(f, changes, after_us, after_batch))
    return TableScan(changes.schema(), tuple(files))


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
    wanted = f"{version_us(clock_skew_us)} > {snapshot_cutoff_us} OR ttl"
    return Relation(known.files, lambda files: f"(SELECT * FROM {known.read(files)} WHERE {wanted})")


def _reaches(file: DataFile, changes: Table, after_us: int | None, after_batch: int | None) -> bool:
    if after_batch is not None:
        bounds = column_bounds(file, changes.schema(), "_batch")
        if bounds is not None and bounds[1] <= after_batch:
            return False
    if after_us is not None:
        times = [column_bounds(file, changes.schema(), name) for name in ("changed_at", "asserted_at")]
        known = [bounds[1] for bounds in times if bounds is not None]
        return not known or max(known) > after_us
    return True


def keyed_rows_sql(scan: TableScan, schema: TableSchema, paths: Sequence[str]) -> str:
    """Living rows of some files of a scan of `current` that may have one of the merge's `touched` keys, with their `_key`.

    Found by `_key_hash`, so that the text of the key is made for those rows only.
    """
    rows = scan.sql(paths, positions=True)
    found = f"(SELECT r.* FROM {rows} r SEMI JOIN touched h ON h._key_hash = r._key_hash)"
    shown = "_file_path AS file_path, _pos AS pos, _changed_at, _source"
    return f"(SELECT {shown}, {key_text_sql(schema)} AS _key FROM {found})"


def living_rows(scan: TableScan, schema: TableSchema) -> Relation:
    """`keyed_rows_sql` as a relation that can be divided by files."""
    return Relation(scan.paths, lambda paths: keyed_rows_sql(scan, schema, paths))


def all_rows(table: Table | None, schema: TableSchema) -> Relation:
    """The rows of the table, as the merge reads them (`engine.merge_plan.MergeInput.current`)."""
    if table is None:
        return Relation((), lambda _files: NO_ROWS)
    return living_rows(scan_table(table), schema)


NO_ROWS = (
    "(SELECT NULL::VARCHAR AS file_path, NULL::BIGINT AS pos, NULL::VARCHAR AS _key,"
    " NULL::TIMESTAMP AS _changed_at, NULL::VARCHAR AS _source WHERE false)"
)


def export_rows(current: Table, export: LoadedExport) -> BaseRows:
    """An export's rows alone."""
    snapshot = current.snapshot_by_name(export.branch)
    assert snapshot is not None, f"the branch {export.branch} belongs to the export"
    return BaseRows(scan_table(current, snapshot.snapshot_id), export.schema)


def shown_keys(current: Table | None, exports: Iterable[LoadedExport], from_us: int) -> list[Relation]:
    """The keys of the items in exports of an instant or later (`engine.merge_plan.ShownKeys`)."""
    if current is None:
        return []
    return [shown_by(one.export_us, export_rows(current, one)) for one in exports if one.export_us >= from_us]


def shown_by(export_us: int, rows: BaseRows) -> Relation:
    """The keys of an export's items that are in the table `touched`: (_key, _key_hash, shown_us)."""

    def read(files: Sequence[str]) -> str:
        found = f"(SELECT r.* FROM {rows.scan.sql(files)} r SEMI JOIN touched h ON h._key_hash = r._key_hash)"
        return f"(SELECT {key_text_sql(rows.schema)} AS _key, _key_hash, {export_us}::BIGINT AS shown_us FROM {found})"

    return Relation(rows.scan.paths, read)


def base_images(session: Session, rows: str, schema: TableSchema, keys: Iterable[str]) -> dict[str, bytes]:
    """Canonical images that a snapshot's `rows` have of some keys; those it has not are missing."""
    return images_among(session, images_sql(rows, schema), keys)


def images_sql(rows: str, schema: TableSchema) -> str:
    """A snapshot's rows as (_key, _key_hash, item, _rescued)."""
    columns = f"{key_text_sql(schema)} AS _key, _key_hash, {item_sql(schema)} AS item, _rescued"
    return f"(SELECT {columns} FROM {rows})"


def images_among(session: Session, images: str, keys: Iterable[str]) -> dict[str, bytes]:
    """Canonical images of some keys, of those that `images_sql` gives."""
    session.con.register("asked_keys", pa.table({"k": list(keys)}))
    try:
        found = session.rows(f"SELECT _key, item, _rescued FROM {images} SEMI JOIN asked_keys ON k = _key")
    finally:
        session.con.unregister("asked_keys")
    return {key: canonical_json(orjson.loads(complete(item, rescued))) for key, item, rescued in found}
