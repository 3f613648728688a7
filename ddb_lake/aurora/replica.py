"""A table that is kept equal to a lake's: its definition, and files of whole rows into it with the position they bring.

A file's rows and the position are one transaction. The position is locked in it and compared with the one that the
file was made for, so that two writers cannot pass each other: the second plans again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddb_lake.aurora import statements as sql
from ddb_lake.aurora.columns import Replicated, key_index
from ddb_lake.aurora.loading import check_layout, described, is_aurora, locked_position, register
from ddb_lake.aurora.position import Position, write_position
from ddb_lake.aurora.statements import SqlColumn, Target
from ddb_lake.core.schema import TableSchema
from ddb_lake.errors import CommitConflict, DatabaseError

if TYPE_CHECKING:
    from ddb_lake.aurora.connection import Database


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a file of rows did: rows put (be they there already), rows removed."""

    upserted: int
    removed: int


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
    database: Database, target: Target, path: str, whole: bool, before: Position | None, after: Position
) -> Replaced:
    """Apply a file of rows (`statements.load_rows`), `whole`: all there are, and move the position, all or nothing.

    Raises:
        CommitConflict: another writer moved the position since `before` was read.
        DatabaseError: a value does not fit its column's type; nothing was applied.
    """
    database.execute(sql.drop_staging(target))
    database.execute(sql.create_staging(target, sql.ROW_FLAGS))
    with database.transaction():
        held = locked_position(database, target)
        if (Position.load(held) if held is not None else None) != before:
            raise CommitConflict(f"{target.name}: another writer replicated meanwhile")
        records = database.load(sql.load_rows(target, sql.from_client(path)), f"the rows for {target.name}")
        database.execute(sql.upsert_rows(target))
        gone: int = database.value(sql.count_gone(target))
        removed = database.execute(sql.remove_unstaged(target) if whole else sql.remove_gone(target))
        write_position(database, target, after)
    database.execute(sql.drop_staging(target))
    return Replaced(records - gone, removed)
