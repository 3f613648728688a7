"""The table in the database that is kept equal to a lake's: its definition, and files of complete rows into it.

A file's rows and the new position are one transaction. The transaction locks the position and compares it with the one that
the file was planned from. If another writer has moved it, the transaction is rolled back and the caller plans again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.errors import CommitConflict, DatabaseError
from ddb_lake.mysql import statements as sql
from ddb_lake.mysql.bisection import Bisection
from ddb_lake.mysql.change_files import (
    check_layout,
    ensure_state_row,
    fields_json,
    has_other_unique_index,
    is_aurora,
    locked_position,
    table_columns,
)
from ddb_lake.mysql.columns import Replicated, key_index
from ddb_lake.mysql.position import Position, write_position
from ddb_lake.mysql.statements import SqlColumn, Target

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Database

MAX_REASONS: Final = 5
REMOVED_KEYS_PER_STATEMENT: Final = 10_000
_REJECTED_COLUMNS: Final = {"object_hash", "version", "fields", "reason"}


@dataclass(frozen=True, slots=True)
class Replaced:
    """The numbers of rows inserted or updated, and of rows removed."""

    upserted: int
    removed: int


@dataclass(frozen=True, slots=True)
class Rejections:
    """The number of rows that the database rejected, and the most frequent reasons with their counts."""

    count: int = 0
    reasons: tuple[tuple[str, int], ...] = ()


class NumberedRows(Protocol):
    """The rows of a file by their numbers, from 1."""

    @property
    def count(self) -> int:
        """The number of rows."""

    def write_range(self, first: int, last: int) -> str:
        """Write rows (both ends inclusive) to a file for `statements.load_rows` with numbers. Returns its path."""

    def key(self, record: int) -> bytes:
        """`_key` of a row."""

    def is_removed(self, record: int) -> bool:
        """Whether the row's key is no longer in the lake."""

    def fields(self, record: int) -> Sequence[str | None]:
        """The texts of the row's columns."""


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows for `replace_rows`.

    Args:
        path: the file, in the format of `statements.load_rows`.
        is_full: whether it has all rows of the lake, so that rows with other keys are removed.
        number_rows: returns the file's rows by numbers; called only if the file cannot be applied at once.
    """

    path: str
    is_full: bool
    number_rows: Callable[[], NumberedRows]


def has_native_json(database: Database) -> bool:
    """Whether JSON is a type without a depth limit (MySQL, Aurora); MariaDB's JSON is text of at most 32 levels."""
    return is_aurora(database) or "mariadb" not in str(database.value("SELECT VERSION()")).lower()


def ensure_state(database: Database, target: Target) -> None:
    """Create the table of positions and the target's row in it, if they are missing."""
    database.execute(sql.create_state(target.database))
    ensure_state_row(database, target)


def ensure_table(
    database: Database, target: Target, schema: TableSchema, columns: list[Replicated], before: Position | None
) -> tuple[Target, tuple[str, ...]]:
    """Create the table, or add missing columns, widen types and drop columns that are no longer replicated.

    Columns that replication did not create are kept. DDL commits implicitly: a crash after it leaves columns without values,
    and the next run fills them, because its position has not moved.

    Returns:
        The target with its columns as the database has them, and the names of the added columns.
    """
    wanted = [one.sql for one in columns]
    database.execute(sql.create_target(target.with_columns(wanted), key_index(schema, columns)))
    check_layout(database, target)
    found = {name.lower(): column for name, column in table_columns(database, target).items()}
    known = {one.sql.name: one.sql.type for one in before.layout} if before else {}
    added = [column for column in wanted if column.name.lower() not in found]
    changed = [column for column in wanted if column.name in known and known[column.name] != column.type]
    changed = [column for column in changed if column not in added]
    dropped = [name for name in known if name not in {column.name for column in wanted} and name.lower() in found]
    if added or changed or dropped:
        try:
            database.execute(sql.alter_target(target, added, changed, dropped))
        except DatabaseError:
            if not changed:
                raise
            # A stored value does not fit the new type: create the column again. `before` differs, so all rows are sent.
            dropped = [*dropped, *(column.name for column in changed)]
            database.execute(sql.alter_target(target, [*added, *changed], [], dropped))
        found = {name.lower(): column for name, column in table_columns(database, target).items()}
    as_is = [SqlColumn(column.name, found[column.name.lower()].type) for column in wanted]
    return target.with_columns(as_is), tuple(column.name for column in added)


def replace_rows(
    database: Database,
    target: Target,
    file: RowFile,
    before: Position | None,
    after: Position,
) -> Replaced:
    """Apply a file of rows and move the position from `before` to `after`, in one transaction.

    Rows that the database rejects go to `<table>_rejected` in the same transaction; the target's rows of their keys stay
    unchanged.

    Raises:
        CommitConflict: another writer moved the position since `before` was read.
        DatabaseError: the database refuses a statement for a reason other than a row's values; nothing was applied.
    """
    if not has_other_unique_index(database, target):  # an upsert would put one item's values into the row of another
        try:
            return _replace_whole_file(database, target, file, before, after)
        except DatabaseError as error:
            if not error.is_row_error:
                raise
    return _replace_by_bisection(database, target, file, before, after)


def _replace_whole_file(
    database: Database, target: Target, file: RowFile, before: Position | None, after: Position
) -> Replaced:
    """Apply a file whose rows all fit. Raises DatabaseError for the first row that does not."""
    has_rejected = has_rejected_table(database, target)
    database.execute(sql.drop_staging(target))
    database.execute(sql.create_staging(target, sql.ROW_FLAGS))
    with database.transaction():
        _lock_position(database, target, before)
        database.load(sql.load_rows(target, sql.from_client(file.path)), f"the rows for {target.name}")
        database.execute(sql.upsert_rows(target))
        upserted: int = database.value(sql.count_staged(target, removed=False))
        removed = database.execute(
            sql.delete_unstaged_rows(target) if file.is_full else sql.delete_removed_rows(target)
        )
        if has_rejected:
            database.execute(sql.delete_rejected(target, file.is_full))
        write_position(database, target, after)
    database.execute(sql.drop_staging(target))
    return Replaced(upserted, removed)


def _replace_by_bisection(
    database: Database, target: Target, file: RowFile, before: Position | None, after: Position
) -> Replaced:
    """Apply the rows that fit, and insert the others into the table of rejected rows."""
    rows = file.number_rows()
    _create_rejected_table(database, target)
    database.execute(sql.drop_staging(target))
    database.execute(sql.create_staging(target, sql.ROW_FLAGS))
    what = f"the rows for {target.name}"

    def load(first: int, last: int) -> None:
        database.load(sql.load_rows(target, sql.from_client(rows.write_range(first, last)), numbered=True), what)

    def put(first: int, last: int) -> int:
        removed = database.execute(sql.delete_removed_rows(target, (first, last)))
        database.execute(sql.update_rows(target, (first, last)))
        database.execute(sql.insert_rows(target, (first, last)))
        return removed

    bisection = Bisection(database, target, what, load, put)
    with database.transaction():
        _lock_position(database, target, before)
        bisection.stage(1, rows.count)
        unusable = bisection.rejected
        for record in unusable:
            database.execute(sql.stage_key(target, removed=None), (record, rows.key(record)))
        if file.is_full:
            _stage_removed_keys(database, target)
        bisection.rejected = {}
        bisection.apply(1, database.value(sql.last_staged(target)) or 0)
        bisection.retry_rejected()
        upserted: int = database.value(sql.count_staged(target, removed=False))
        database.execute(sql.delete_rejected(target, file.is_full))
        for record, reason in sorted((unusable | bisection.rejected).items()):
            _reject(database, target, rows, record, reason)
            upserted -= record in bisection.rejected and record <= rows.count and not rows.is_removed(record)
        write_position(database, target, after)
    database.execute(sql.drop_staging(target))
    return Replaced(upserted, bisection.applied)


def _lock_position(database: Database, target: Target, before: Position | None) -> None:
    stored = locked_position(database, target)
    if (Position.load(stored) if stored is not None else None) != before:
        raise CommitConflict("another writer moved the position", table=target.name)


def _stage_removed_keys(database: Database, target: Target) -> None:
    """Stage the keys that the lake no longer has as removed, one by one: a foreign key may reject a removal."""
    while keys := database.rows(sql.unstaged_keys(target, REMOVED_KEYS_PER_STATEMENT)):
        for (key,) in keys:
            database.execute(sql.stage_key(target, removed=True), (None, key))


def _reject(database: Database, target: Target, rows: NumberedRows, record: int, reason: str) -> None:
    if record > rows.count or rows.is_removed(record):
        key = database.value(sql.staged_key(target), (record,))
        fields, reason = "[]", f"removal: {reason}"
    else:
        key, fields = rows.key(record), fields_json([None if f is None else f.encode() for f in rows.fields(record)])
    database.execute(sql.insert_rejected(target), (key, key, fields, reason))


# --- the table of rejected rows


def has_rejected_table(database: Database, target: Target) -> bool:
    """Whether the target has a table of rejected rows, which is created with the first of them."""
    return table_columns(database, replace(target, table=target.rejected_table)).keys() >= _REJECTED_COLUMNS


def _create_rejected_table(database: Database, target: Target) -> None:
    database.execute(sql.create_rejected(target))
    if not has_rejected_table(database, target):
        raise DatabaseError(
            f"{target.rejected} is needed for the rows that the database rejects, but it is another table; rename that one,"
            " or give the replica another name with `aurora.table`"
        )


def rejected_rows(database: Database, target: Target) -> Rejections:
    """The rows that the database rejected and has not accepted since."""
    if not has_rejected_table(database, target):
        return Rejections()
    count = database.value(sql.count_rejected(target))
    reasons = database.rows(sql.rejections(target, MAX_REASONS)) if count else []
    return Rejections(count, tuple((reason, number) for reason, number in reasons))


def rejected_keys(database: Database, target: Target) -> list[str]:
    """The hashes of the keys of the rejected rows, in hexadecimal."""
    if not has_rejected_table(database, target):
        return []
    return [key for (key,) in database.rows(sql.rejected_keys(target))]


def rejected_reasons(database: Database, target: Target, keys: Sequence[str]) -> dict[str, str]:
    """The reasons of rejected rows by the key's hash in hexadecimal; keys without a rejected row are left out."""
    if not keys or not has_rejected_table(database, target):
        return {}
    return dict(database.rows(sql.rejected_reasons(target, len(keys)), list(keys)))
