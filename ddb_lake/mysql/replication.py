"""Replicate `current` into a MySQL-compatible database, incrementally. Each run is one transaction there.

The keys that have changed since the last replicated state are those of the changelog's batches applied since. This is
complete if every snapshot since then came from applying batches, or from a compaction that left the rows unchanged.
Otherwise (the first run, a new base, other columns, an expired history) all rows are sent. The position moves in the rows'
transaction, so a crash leaves the state before or the state after.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.aws.session import client
from ddb_lake.config import AuroraSettings, TableSettings
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.retry_policy import COMMIT
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import identifier, literal
from ddb_lake.errors import CommitConflict, ConfigError, UsageError
from ddb_lake.lake.metadata_files import COMPACTION, OPERATION
from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.lake.state import CurrentState
from ddb_lake.mysql.columns import Replicated, replicated_columns
from ddb_lake.mysql.credentials import Login
from ddb_lake.mysql.position import Position, read_position
from ddb_lake.mysql.replica_table import (
    RowFile,
    ensure_state,
    ensure_table,
    has_native_json,
    rejected_keys,
    rejected_rows,
    replace_rows,
)
from ddb_lake.mysql.statements import Target
from ddb_lake.pipeline.merge.sources import records_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.work import WorkKind

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Database

Scope = Literal["nothing", "changes", "all"]


@dataclass(frozen=True, slots=True)
class ReplicateResult:
    """The result of a replication.

    Attributes:
        scope: whether nothing, the changed keys or all rows were sent.
        reason: the reason of the scope.
        upserted: the number of rows sent.
        removed: the number of rows removed.
        rows: the live rows of the lake's table; also the target's, unless some are rejected.
        columns_added: the columns that the target got.
        snapshot_id: the replicated snapshot of the lake's table.
        seconds: the duration.
        rejected: the rows that the database rejected, now or before, and has not accepted since.
        rejections: the most frequent reasons with their counts.
    """

    table: str
    target: str
    scope: Scope
    reason: str
    upserted: int = 0
    removed: int = 0
    rows: int = 0
    columns_added: tuple[str, ...] = ()
    snapshot_id: int | None = None
    seconds: float = 0.0
    rejected: int = 0
    rejections: tuple[tuple[str, int], ...] = ()


def replicate(lake: Lake, name: str, full: bool = False, replay: bool = False) -> ReplicateResult:
    """Make the database's table equal to `current`, apart from rows that the database rejects.

    Args:
        full: send all rows, even if only some have changed.
        replay: also send the rejected rows again, with the values that the lake has now.

    Raises:
        UsageError: the table has no `aurora` settings, or the lake has no rows of it yet.
        DatabaseError: the database refuses a statement for a reason other than a row's values; nothing was applied.
        TransientError: the database cannot be reached, or another writer keeps moving the position.
    """
    started = time.monotonic()
    settings = aurora_settings(lake.table(name))
    with connect_replica(settings) as database:
        result = COMMIT.call(
            lambda: _replicate_once(lake, name, settings, database, full, replay),
            lambda error: isinstance(error, CommitConflict),
        )
        rejections = rejected_rows(database, target_of(name, settings))
    seconds = time.monotonic() - started
    return replace(result, seconds=seconds, rejected=rejections.count, rejections=rejections.reasons)


def rejected_text(result: ReplicateResult) -> str | None:
    """A message about the rejected rows: count, reasons and the next step, without a final full stop; None without any."""
    if not result.rejected:
        return None
    target = result.target.replace("`", "")
    explained = sum(count for _, count in result.rejections)
    reasons = [f"{reason}: {count:,}" for reason, count in result.rejections]
    reasons += [f"other reasons: {result.rejected - explained:,}"] if explained < result.rejected else []
    return (
        f"{result.table}: {target} rejects {result.rejected:,} of the rows ({'; '.join(reasons)}). They are in"
        f" {target}_rejected; what {target} has of their keys is older. Change the table, as by a wider column, then"
        f" `ddb-lake aurora {result.table} --replay`"
    )


def aurora_settings(table: TableSettings) -> AuroraSettings:
    """The table's `aurora` settings. Raises UsageError if it has none."""
    if table.aurora is None:
        raise UsageError(
            f"table {table.name} has no `aurora:` settings: add host, database, user and a password's source"
        )
    return table.aurora


def target_of(name: str, settings: AuroraSettings) -> Target:
    """The table in the database."""
    return Target(settings.database, settings.table or name)


@contextmanager
def connect_replica(settings: AuroraSettings) -> Iterator[Database]:
    """A connection to the database of the settings. Raises ConfigError if PyMySQL is not installed."""
    try:  # imported here: the driver is an optional dependency
        from ddb_lake.mysql.connection import Server, connect
    except ModuleNotFoundError as error:
        raise ConfigError(
            "replicating to MySQL-compatible databases needs PyMySQL: pip install '.[aurora]' in a checkout"
        ) from error
    server = Server(
        settings.host, settings.database, settings.user, settings.port, tls=settings.tls, tls_ca=settings.tls_ca
    )
    login = Login(settings.password_env, settings.secret_arn, settings.iam_auth)
    password = login.password(server, os.environ, lambda service: client(service, settings.region))
    with connect(server, password.text) as database:
        yield database


def replication_due(lake: Lake, table: TableSettings) -> str | None:
    """The reason to replicate; None if the database has the lake's rows, or none is configured.

    Raises DatabaseError or TransientError if the position cannot be read.
    """
    current = lake.current(table.name) if table.aurora is not None else None
    if table.aurora is None or current is None or current.current_snapshot() is None:
        return None
    target = target_of(table.name, table.aurora)
    with connect_replica(table.aurora) as database:
        ensure_state(database, target)
        before = read_position(database, target)
        plan = _plan(current, table.aurora, before, has_native_json(database))
    pending = plan.scope == "all" or before is None or plan.after.applied_batch != before.applied_batch
    return plan.reason if pending else None


REPLICATION: Final = WorkKind(
    name="replicate",
    target="the database",
    is_configured=lambda table: table.aurora is not None,
    due=replication_due,
    run=replicate,
)
"""What the shells add to the pipeline's own kinds of work."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """A planned replication: which rows to send, the reason, the columns, and the position after it."""

    scope: Scope
    reason: str
    columns: list[Replicated]
    after: Position


def _plan(table: Table, settings: AuroraSettings, before: Position | None, native_json: bool) -> _Plan:
    state = CurrentState.of(table)
    snapshot = table.current_snapshot()
    assert snapshot is not None, "the caller checks it"
    expired = any(field.name == "_expired_at" for field in table.schema().fields)
    columns = replicated_columns(state.schema, expired, settings.columns, settings.types, native_json)
    after = Position(
        snapshot.snapshot_id,
        state.applied_batch,
        state.base.export_id if state.base else None,
        state.snapshot_cutoff_us,
        state.schema,
        tuple(columns),
        live_files(table).rows,
    )
    if before == after:
        return _Plan("nothing", "the database has this state", columns, after)
    reason = _full_reason(table, before, after)
    if reason is not None or before is None:
        return _Plan("all", reason or "", columns, after)
    return _Plan(
        "changes",
        f"{count_text(after.applied_batch - before.applied_batch, 'batch', 'batches')} of changes",
        columns,
        after,
    )


def _full_reason(table: Table, before: Position | None, after: Position) -> str | None:
    """The reason to send all rows; None if the keys of the batches since `before` are all that differs."""
    if before is None:
        return "the database has nothing of it yet"
    if before.base != after.base:
        return f"export {after.base} is the new base"
    if before.snapshot_cutoff_us != after.snapshot_cutoff_us:
        return "the base's snapshot cutoff moved"
    known = before.columns.columns
    if before.columns.key != after.columns.key or after.columns.columns[: len(known)] != known:
        return "columns of the lake changed their types"
    fresh = {column.name for column in after.columns.columns[len(known) :]}
    if before.layout != tuple(one for one in after.layout if one.name not in fresh):
        return "other columns or types are configured"
    return _other_change_reason(table, before.snapshot_id)


def _other_change_reason(table: Table, since: int) -> str | None:
    """A change of the lake's rows since a snapshot that did not come from a batch of changes; None without one."""
    known = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
    at = table.current_snapshot()
    while at is not None and at.snapshot_id != since:
        parent = known.get(at.parent_snapshot_id) if at.parent_snapshot_id is not None else None
        marks = at.summary.additional_properties if at.summary is not None else {}
        compacted = marks.get(OPERATION) == COMPACTION
        if compacted and parent is not None and parent.schema_id != at.schema_id:
            return "rows were rewritten to other columns"
        if "ddb_lake.older-export" in marks:
            return f"export {marks['ddb_lake.older-export']} has items that were kept as expired"
        if not compacted and not {"ddb_lake.applied-batch", "ddb_lake.export"} & set(marks):
            return "rows were changed by something other than the changelog"
        at = parent
    return None if at is not None else "the state that the database has is no longer in the lake's history"


def _replicate_once(
    lake: Lake, name: str, settings: AuroraSettings, database: Database, full: bool, replay: bool
) -> ReplicateResult:
    table = lake.current(name)
    if table is None or table.current_snapshot() is None:
        raise UsageError("the lake has no rows of it yet", table=name, hint="load an export or apply changes first")
    target = target_of(name, settings)
    ensure_state(database, target)
    before = read_position(database, target)
    plan = _plan(table, settings, before, has_native_json(database))
    if full:
        plan = replace(plan, scope="all", reason="requested")
    retried = rejected_keys(database, target) if replay and plan.scope != "all" else []
    if retried:
        plan = replace(plan, scope="changes", reason=f"{len(retried)} rejected rows are sent again")
    result = ReplicateResult(
        name, target.name, plan.scope, plan.reason, rows=plan.after.rows, snapshot_id=plan.after.snapshot_id
    )
    if plan.scope == "nothing":
        return result
    target, added = ensure_table(database, target, plan.after.columns, plan.columns, before)
    with lake.session() as session:
        query = (
            _all_rows_sql(table, plan)
            if plan.scope == "all"
            else _changed_rows_sql(lake, session, name, table, plan, before)
        )
        if retried:
            query = _with_rejected_rows_sql(session, query, table, plan, retried)
        path = session.folder / "rows.csv"
        _write_csv(session, query, path)
        file = RowFile(str(path), plan.scope == "all", lambda: _NumberedRows(session, query))
        done = replace_rows(database, target, file, before, plan.after)
    return replace(result, upserted=done.upserted, removed=done.removed, columns_added=added)


def _all_rows_sql(table: Table, plan: _Plan) -> str:
    """A query of all live rows: the key's hash `k`, `removed` (0), and the columns' texts."""
    return f"SELECT sha256(k) AS k, '0' AS removed, {_text_names(plan)} FROM {rows_as_text_sql(table, plan.after, plan.columns)}"


def _changed_rows_sql(
    lake: Lake, session: Session, name: str, table: Table, plan: _Plan, before: Position | None
) -> str:
    """A query of the rows of the keys in batches since `before`. `removed` is 1 for keys without a live row."""
    assert before is not None, "without a position, all rows are sent"
    changes = lake.changes(name)
    if changes is None or before.applied_batch == plan.after.applied_batch:
        return f"{_all_rows_sql(table, plan)} WHERE false"
    session.con.execute(
        "CREATE OR REPLACE TABLE changed AS SELECT _key, any_value(_key_hash) AS _key_hash"
        f" FROM {records_sql(changes, after_batch=before.applied_batch)}"
        f" WHERE _batch > {before.applied_batch} AND _batch <= {plan.after.applied_batch} GROUP BY _key"
    )
    live = rows_as_text_sql(table, plan.after, plan.columns, among="changed")
    return (
        f"SELECT sha256(c._key) AS k, CASE WHEN l.k IS NULL THEN '1' ELSE '0' END AS removed, {_text_names(plan)}"
        f" FROM changed c LEFT JOIN {live} l ON l.k = c._key"
    )


def _with_rejected_rows_sql(session: Session, query: str, table: Table, plan: _Plan, hashes: list[str]) -> str:
    """A query of the rows of `query` and of the rejected keys, with the values that the lake has now."""
    session.con.register("rejected_keys", pa.table({"h": pa.array(hashes, pa.string())}))
    live = f"(SELECT sha256(k) AS h, * FROM {rows_as_text_sql(table, plan.after, plan.columns)})"
    return (
        f"WITH sent AS MATERIALIZED ({query}) SELECT * FROM sent UNION ALL"
        f" SELECT r.h AS k, CASE WHEN l.k IS NULL THEN '1' ELSE '0' END AS removed, {_text_names(plan)}"
        f" FROM rejected_keys r LEFT JOIN {live} l ON l.h = r.h WHERE r.h NOT IN (SELECT k FROM sent)"
    )


class _NumberedRows:
    """The rows of a query by numbers from 1, in a DuckDB table, which spills to disk beyond `memory`."""

    def __init__(self, session: Session, query: str) -> None:
        self._session = session
        self._path = session.folder / "rows-range.csv"
        session.con.execute(
            f"CREATE OR REPLACE TABLE numbered AS SELECT row_number() OVER () AS record, * FROM ({query})"
        )
        self.count: int = session.value("SELECT count(*) FROM numbered")

    def write_range(self, first: int, last: int) -> str:
        """Write rows (both ends inclusive) with their numbers to a file. Returns its path."""
        _write_csv(self._session, f"SELECT * FROM numbered WHERE record BETWEEN {first} AND {last}", self._path)
        return str(self._path)

    def key(self, record: int) -> bytes:
        """The hash of a row's key."""
        return bytes.fromhex(self._row(record)[0])

    def is_removed(self, record: int) -> bool:
        """Whether a row's key is no longer in the lake."""
        return bool(self._row(record)[1] == "1")

    def fields(self, record: int) -> Sequence[str | None]:
        """The texts of a row's columns."""
        return self._row(record)[2:]

    def _row(self, record: int) -> tuple[Any, ...]:
        (row,) = self._session.rows(f"SELECT * EXCLUDE (record) FROM numbered WHERE record = {record}")
        return row


def _text_names(plan: _Plan) -> str:
    return ", ".join(identifier(f"c{number}") for number in range(len(plan.columns)))


def rows_as_text_sql(
    table: Table,
    position: Position,
    columns: Sequence[Replicated],
    among: str | None = None,
) -> str:
    """A query of the live rows of a position's snapshot: the key's text `k`, the columns' texts `c0`, `c1`, ….

    `among`: a relation with `_key_hash`; only rows with these hashes are returned.
    """
    rows = scan_table(table, position.snapshot_id).sql()
    if among is not None:
        rows = f"(SELECT r.* FROM {rows} r SEMI JOIN {among} h ON h._key_hash = r._key_hash)"
    texts = ", ".join(f"{one.text} AS c{number}" for number, one in enumerate(columns))
    return f"(SELECT {key_text_sql(position.columns)} AS k, {texts} FROM {rows})"


def _write_csv(session: Session, query: str, path: Path) -> None:
    """Write the rows of a query as CSV, in the format of `mysql.csv_rows`. DuckDB streams them."""
    session.con.execute(
        f"COPY ({query}) TO {literal(str(path))}"
        " (FORMAT csv, HEADER false, DELIMITER ',', QUOTE '\"', ESCAPE '\"', FORCE_QUOTE *, NULLSTR 'NULL')"
    )
