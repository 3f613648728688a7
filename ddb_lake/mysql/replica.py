"""A table that is kept equal to a lake's: its definition, and files of whole rows into it with the position they bring.

A file's rows and the position are one transaction. The position is locked in it and compared with the one that the
file was made for, so that two writers cannot pass each other: the second plans again.
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
    described,
    fields_json,
    has_other_unique_index,
    is_aurora,
    locked_position,
    register,
)
from ddb_lake.mysql.columns import Replicated, key_index
from ddb_lake.mysql.position import Position, write_position
from ddb_lake.mysql.statements import SqlColumn, Target

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Database

MOST_REASONS: Final = 5
STAGED_KEYS: Final = 10_000
_REJECTED_COLUMNS: Final = {"object_hash", "version", "fields", "reason"}


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a file of rows did: rows put (be they there already), rows removed."""

    upserted: int
    removed: int


@dataclass(frozen=True, slots=True)
class Rejections:
    """Rows that the database rejected: how many, and the most frequent reasons with their counts."""

    count: int = 0
    reasons: tuple[tuple[str, int], ...] = ()


class Rows(Protocol):
    """The rows of a file by numbers from 1."""

    @property
    def count(self) -> int:
        """How many there are."""

    def portion(self, first: int, last: int) -> str:
        """A file of rows (inclusive) for `statements.load_rows` with numbers."""

    def key(self, record: int) -> bytes:
        """`_key` of one."""

    def gone(self, record: int) -> bool:
        """Whether it is of a key that is no more."""

    def fields(self, record: int) -> Sequence[str | None]:
        """The texts of its columns."""


def has_native_json(database: Database) -> bool:
    """Whether JSON is a type of its own (MySQL, Aurora), not a text with a check of 32 levels (MariaDB)."""
    return is_aurora(database) or "mariadb" not in str(database.value("SELECT VERSION()")).lower()


def ensure_state(database: Database, target: Target) -> None:
    """Make the table of positions, and the target's row in it."""
    database.execute(sql.create_state(target.database))
    register(database, target)


def ensure_table(
    database: Database, target: Target, schema: TableSchema, columns: list[Replicated], before: Position | None
) -> tuple[Target, tuple[str, ...]]:
    """Make the table, or add the columns that it lacks, change types that the lake has widened, and drop what is no
    longer replicated. Columns that are not the lake's stay.

    Gives the target with its columns as the database has them, and the names of those added. DDL commits by itself: a
    crash after it leaves columns without values, and the next run, whose position has not moved, fills them.
    """
    wanted = [one.sql for one in columns]
    database.execute(sql.create_target(target.with_columns(wanted), key_index(schema, columns)))
    check_layout(database, target)
    found = {name.lower(): column for name, column in described(database, target).items()}
    held = {one.sql.name: one.sql.type for one in before.layout} if before else {}
    added = [column for column in wanted if column.name.lower() not in found]
    changed = [column for column in wanted if column.name in held and held[column.name] != column.type]
    changed = [column for column in changed if column not in added]
    dropped = [name for name in held if name not in {column.name for column in wanted} and name.lower() in found]
    if added or changed or dropped:
        try:
            database.execute(sql.alter_target(target, added, changed, dropped))
        except DatabaseError:
            if not changed:
                raise
            # a stored value does not fit its column's new type: the column is made anew, and then all rows are sent
            gone = [*dropped, *(column.name for column in changed)]
            database.execute(sql.alter_target(target, [*added, *changed], [], gone))
        found = {name.lower(): column for name, column in described(database, target).items()}
    as_is = [SqlColumn(column.name, found[column.name.lower()].type) for column in wanted]
    return target.with_columns(as_is), tuple(column.name for column in added)


def replace_rows(
    database: Database,
    target: Target,
    path: str,
    whole: bool,
    before: Position | None,
    after: Position,
    numbered: Callable[[], Rows],
) -> Replaced:
    """Apply a file of rows (`statements.load_rows`), `whole`: all there are, and move the position, all or nothing.

    Rows that the database rejects go to `<table>_rejected` in the same transaction, and what the target has of their keys
    stays as it is. `numbered`: the file's rows by numbers, made only where the file cannot be applied at once.

    Raises:
        CommitConflict: another writer moved the position since `before` was read.
        DatabaseError: the database refuses something that is not about a row; nothing was applied.
    """
    if not has_other_unique_index(database, target):  # an upsert would put one item's values into the row of another
        try:
            return _replace_at_once(database, target, path, whole, before, after)
        except DatabaseError as error:
            if not error.of_a_row:
                raise
    return _replace_apart(database, target, numbered(), whole, before, after)


def _replace_at_once(
    database: Database, target: Target, path: str, whole: bool, before: Position | None, after: Position
) -> Replaced:
    """Apply a file all of whose rows fit. Raises DatabaseError for the first that does not."""
    has_rejected = has_rejected_table(database, target)
    database.execute(sql.drop_staging(target))
    database.execute(sql.create_staging(target, sql.ROW_FLAGS))
    with database.transaction():
        _lock(database, target, before)
        database.load(sql.load_rows(target, sql.from_client(path)), f"the rows for {target.name}")
        database.execute(sql.upsert_rows(target))
        upserted: int = database.value(sql.count_staged(target, gone=False))
        removed = database.execute(sql.remove_unstaged(target) if whole else sql.remove_gone(target))
        if has_rejected:
            database.execute(sql.settle_rejected(target, whole))
        write_position(database, target, after)
    database.execute(sql.drop_staging(target))
    return Replaced(upserted, removed)


def _replace_apart(
    database: Database, target: Target, rows: Rows, whole: bool, before: Position | None, after: Position
) -> Replaced:
    """Apply those rows that fit, and put the others into the table of rejected ones."""
    _make_rejected_table(database, target)
    database.execute(sql.drop_staging(target))
    database.execute(sql.create_staging(target, sql.ROW_FLAGS))
    what = f"the rows for {target.name}"

    def load(first: int, last: int) -> None:
        database.load(sql.load_rows(target, sql.from_client(rows.portion(first, last)), numbered=True), what)

    def put(first: int, last: int) -> int:
        removed = database.execute(sql.remove_gone(target, (first, last)))
        database.execute(sql.update_rows(target, (first, last)))
        database.execute(sql.insert_rows(target, (first, last)))
        return removed

    apart = Bisection(database, target, what, load, put)
    with database.transaction():
        _lock(database, target, before)
        apart.stage(1, rows.count)
        unusable = apart.rejected
        for record in unusable:
            database.execute(sql.stage_key(target, gone=None), (record, rows.key(record)))
        if whole:
            _stage_unstaged(database, target)
        apart.rejected = {}
        apart.apply(1, database.value(sql.last_staged(target)) or 0)
        apart.apply_again()
        upserted: int = database.value(sql.count_staged(target, gone=False))
        database.execute(sql.settle_rejected(target, whole))
        for record, reason in sorted((unusable | apart.rejected).items()):
            _reject(database, target, rows, record, reason)
            upserted -= record in apart.rejected and record <= rows.count and not rows.gone(record)
        write_position(database, target, after)
    database.execute(sql.drop_staging(target))
    return Replaced(upserted, apart.applied)


def _lock(database: Database, target: Target, before: Position | None) -> None:
    held = locked_position(database, target)
    if (Position.load(held) if held is not None else None) != before:
        raise CommitConflict("another writer replicated meanwhile", table=target.name)


def _stage_unstaged(database: Database, target: Target) -> None:
    """Stage the keys of the rows that are no more, as gone: a removal may be rejected too, by a foreign key."""
    while keys := database.rows(sql.unstaged(target, STAGED_KEYS)):
        for (key,) in keys:
            database.execute(sql.stage_key(target, gone=True), (None, key))


def _reject(database: Database, target: Target, rows: Rows, record: int, reason: str) -> None:
    if record > rows.count or rows.gone(record):
        key = database.value(sql.staged_key(target), (record,))
        fields, reason = "[]", f"removal: {reason}"
    else:
        key, fields = rows.key(record), fields_json([None if f is None else f.encode() for f in rows.fields(record)])
    database.execute(sql.insert_rejected(target), (key, key, fields, reason))


# --- the table of rejected rows


def has_rejected_table(database: Database, target: Target) -> bool:
    """Whether the target has a table of rejected rows. It is made with the first of them."""
    return described(database, replace(target, table=target.rejected_table)).keys() >= _REJECTED_COLUMNS


def _make_rejected_table(database: Database, target: Target) -> None:
    database.execute(sql.create_rejected(target))
    if not has_rejected_table(database, target):
        raise DatabaseError(
            f"{target.rejected} is needed for the rows that the database rejects, but it is another table; rename that one,"
            " or give the replica another name with `aurora.table`"
        )


def rejected_rows(database: Database, target: Target) -> Rejections:
    """What the database rejected and has not taken since."""
    if not has_rejected_table(database, target):
        return Rejections()
    count = database.value(sql.count_rejected(target))
    reasons = database.rows(sql.rejections(target, MOST_REASONS)) if count else []
    return Rejections(count, tuple((reason, number) for reason, number in reasons))


def rejected_keys(database: Database, target: Target) -> list[str]:
    """The hashes of the keys of those rows, in hexadecimal."""
    if not has_rejected_table(database, target):
        return []
    return [key for (key,) in database.rows(sql.rejected_keys(target))]


def rejected_reasons(database: Database, target: Target, keys: Sequence[str]) -> dict[str, str]:
    """Why the rows of some keys were rejected, by the key's hash in hexadecimal; only of those that were."""
    if not keys or not has_rejected_table(database, target):
        return {}
    return dict(database.rows(sql.rejected_reasons(target, len(keys)), list(keys)))
