"""A merge into `current` by this process, in one DuckDB session.

The functions below `LocalMerge` are its steps. Replays and the tasks on Spark call them too.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from ddb_lake.config import TableSettings
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.engine.merge_plan import EXPIRY, REMOVAL, MergeCounts, MergeInput, plan_merge
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import SAMPLE_ROWS, SessionProjection, extend_schema, fit_schema, guess
from ddb_lake.engine.session import Session, with_memory
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.file_writer import FileWriter
from ddb_lake.lake.sidecar import TOMBSTONE_COLUMNS, Sidecar
from ddb_lake.pipeline.merge.inputs import Sources
from ddb_lake.pipeline.merge.rows import base_images

SAMPLE_BYTES = 32 * 1024 * 1024
"""The size of the items from which the first guess at the columns comes."""

ROW_COLUMNS = ("_changed_at", "_source", "_key_hash", "_expired_at")


class LocalMerge:
    """A merge (`pipeline.merge.inputs.Merge`) by this process, in one session."""

    def __init__(self, session: Session, settings: TableSettings) -> None:
        self._session, self._settings = session, settings
        self._rows = ""
        self.changed = 0

    def plan(self, sources: Sources) -> MergeCounts:
        """Decide what each key becomes."""
        session, base, given = self._session, sources.base, sources.given()
        counts = plan_merge(
            session,
            given,
            lambda keys: base_images(session, base.rows.sql, base.schema, keys) if base else {},
            lambda from_us: [keys.sql for keys in sources.shown(from_us)],
        )
        collect_outcome(session, given, self._settings.name)
        self.changed = session.value("SELECT count(*) FROM outcome")
        return counts

    def fit(self, schema: TableSchema, iceberg: Callable[[TableSchema], Schema]) -> TableSchema:  # noqa: ARG002
        """The columns for the rows; they need no field ids before they are written."""
        schema, self._rows = fit_rows(self._session, self._settings, schema)
        return schema

    def write(self, table: Table, metadata: TableMetadata) -> tuple[list[DataFile], list[DataFile]]:
        """The files of the new rows, and those that retire the rows they replace."""
        writer = FileWriter.for_table(self._session.con, table, metadata)
        size = item_bytes(self._session)
        added = with_memory(self._session, lambda: writer.write(self._rows, metadata, split=True, row_bytes=size))
        return added, writer.write_deletes(RETIRED)

    def bury(self, table: Table, tombstones: Sidecar) -> Sidecar:
        """Tombstones for removed keys; those of keys that live again are taken back."""
        query = numbered_graves(table, GRAVES)
        return tombstones.append(self._session.con, table, query, TOMBSTONE_COLUMNS, newest_by="batch")


RETIRED = "SELECT s.file_path, s.pos FROM standing s SEMI JOIN winners w ON w._key = s._key"
"""The rows of `current` that a planned merge replaces."""

GRAVES = (
    "SELECT o._key, o._key_hash, epoch_us(o._changed_at) AS changed_us, o.item IS NULL AS removed FROM outcome o"
    " WHERE o.item IS NULL OR EXISTS (SELECT 1 FROM buried b WHERE b._key = o._key AND b.removed)"
)
"""What changes among the tombstones."""


def numbered_graves(table: Table, graves: str) -> str:
    """Rows of `TOMBSTONE_COLUMNS`: the newest row of a key is the one that counts."""
    return f"SELECT *, {table.metadata.last_sequence_number + 1} AS batch FROM ({graves})"


def collect_outcome(session: Session, given: MergeInput, name: str) -> None:
    """Make `outcome`: what each key of `winners` becomes; `item` is NULL where it is removed."""
    undecided = session.value("SELECT count(*) FROM undecided")
    source = given.changelog if undecided else given.fresh
    expired = f"{'true' if given.keep_expired else 'false'} AND {EXPIRY}"
    session.keep(
        "outcome",
        "SELECT w._key, w._key_hash, c.changed_at AS _changed_at,"
        f" CASE WHEN w.gone THEN NULL WHEN NOT {REMOVAL} THEN c.new_image WHEN {expired} THEN c.old_image END AS item,"
        f" CASE WHEN NOT w.gone AND {expired} THEN c.changed_at END AS _expired_at,"
        " CASE WHEN c.kind = 'repair' THEN 'repair' ELSE 'change' END AS _source"
        f" FROM winners w JOIN {source} c ON c.record_id = w.record_id AND c.changed_at = w.changed_at AND c._key = w._key",
        text="item",
    )
    found, expected = session.rows("SELECT (SELECT count(*) FROM outcome), (SELECT count(*) FROM winners)")[0]
    unique = session.value("SELECT count(DISTINCT _key) FROM outcome")
    if not found == expected == unique:
        raise CheckFailed(f"{name}: {expected} keys have {found} winners, {unique} distinct; nothing was committed")


def fit_rows(session: Session, settings: TableSettings, schema: TableSchema) -> tuple[TableSchema, str]:
    """The columns for `outcome`'s items, and a query of their rows."""
    session.con.execute("CREATE OR REPLACE VIEW living AS SELECT * FROM outcome WHERE item IS NOT NULL")

    def project(projection: Projection) -> str:
        session.keep("projected", projection.select("living", ROW_COLUMNS))
        return "projected"

    projection = SessionProjection(session, settings.schema_options, project)
    if schema.columns:
        schema = extend_schema(schema, settings.schema_evolution, projection)
    else:
        rows = f"{sample_rows(session)} ROWS (reservoir, 7)"
        sample = session.con.execute(f"SELECT item FROM living USING SAMPLE {rows}").fetchall()
        keys = session.con.execute("SELECT item FROM outcome WHERE item IS NOT NULL LIMIT 1").fetchall()
        first, nulls = guess((orjson.loads(item) for (item,) in sample or keys), schema, settings.schema_options)
        schema = fit_schema(first, schema, nulls, projection)
    return schema, "SELECT * FROM projected"


def item_bytes(session: Session) -> int:
    """The average length of the text of an item of `outcome`."""
    some = "SELECT item FROM outcome WHERE item IS NOT NULL LIMIT 1000"
    return int(session.value(f"SELECT avg(strlen(item))::BIGINT FROM ({some})") or 0)


def sample_rows(session: Session) -> int:
    """The number of items of `outcome` from which the first guess at the columns comes."""
    return max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // max(1, item_bytes(session))))
