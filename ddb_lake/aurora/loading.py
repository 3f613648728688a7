"""Files of changes (`core.csvrows`) into a table: each version of a file once, late and repeated ones harmlessly.

What a file does is a function of the set of rows loaded so far: of the rows of a key the one with the greatest `_seq`
wins, a removal among those with equal ones; a removal leaves a tombstone, so that a row that comes late does not
resurrect the key. Staging, upsert, tombstones and the ledger's row are one transaction. The ledger spares work; that
nothing is applied wrongly does not rest on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ddb_lake.aurora import statements as sql
from ddb_lake.aurora.statements import KEY, LEDGER, SEQUENCE, STATE, SqlColumn, Target, qualified
from ddb_lake.errors import DatabaseError

if TYPE_CHECKING:
    from ddb_lake.aurora.connection import Database

REMOVALS: Final = ("REMOVE", "DELETE")
EVENTS: Final = ("INSERT", "MODIFY", "UPSERT", *REMOVALS)

_WHY: Final = {
    "event": f"its first field is none of {', '.join(EVENTS)}",
    "sequence": "it has no _seq",
    "key": "a column of the key is NULL",
    "base64": "a binary column's text is not base64",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading a file did. `already_loaded`: this version of it was loaded before, so nothing was done."""

    object: str
    version: str
    records: int = 0
    already_loaded: bool = False


class ChangeLoader:
    """Loads files into one table over one connection.

    Args:
        target: the table; the types of its columns are read from the database.
        columns: the names of a file's columns after `_event` and `_seq`, in their order.
    """

    def __init__(self, database: Database, table: str, columns: Sequence[str], key: Sequence[str]) -> None:
        self.database = database
        self.target = Target(database.server.database, table, key=tuple(key))
        for statement in (
            sql.create_ledger(self.target.database),
            sql.create_state(self.target.database),
            sql.create_tombstones(self.target),
        ):
            database.execute(statement)
        found = described(database, self.target)
        self._check(found, columns)
        self.target = self.target.with_columns([found[name] for name in columns])
        register(database, self.target)

    def _check(self, found: dict[str, SqlColumn], columns: Sequence[str]) -> None:
        missing = [name for name in (SEQUENCE, *columns) if name not in found]
        unknown = [name for name in self.target.key if name not in columns]
        if missing or unknown or not self.target.key:
            raise DatabaseError(
                f"{self.target.name}: columns that the table lacks: {missing or 'none'}; columns of the key that files do"
                f" not have: {unknown or 'none'}; mend the table or the configured columns and key"
            )
        _check_key(self.target, found)

    def load(self, object_name: str, version: str, source: str) -> Loaded:
        """Load one version of a file, or do nothing if it was loaded before.

        Args:
            object_name: the file's name for the ledger, `s3://bucket/key`.
            version: what tells a rewritten file from this one.
            source: where the server gets it, by `statements.from_s3` or `from_client`.

        Raises:
            DatabaseError: a row does not fit; the message names its number in the file, and nothing was applied.
            TransientError: the connection was lost, or another writer was in the way.
        """
        if (before := self._in_ledger(object_name, version)) is not None:
            return Loaded(object_name, version, before, already_loaded=True)
        self.database.execute(sql.drop_staging(self.target))
        self.database.execute(sql.create_staging(self.target, sql.CHANGE_FLAGS))
        with self.database.transaction():
            records = self.database.load(sql.load_changes(self.target, source), object_name)
            self._refuse_unusable(object_name)
            locked_position(self.database, self.target)
            if (before := self._in_ledger(object_name, version)) is not None:
                return Loaded(object_name, version, before, already_loaded=True)
            self.database.execute(sql.bury(self.target, REMOVALS))
            self.database.execute(sql.upsert_changes(self.target, REMOVALS))
            self.database.execute(sql.remove_buried(self.target))
            self._note(object_name, version, records)
        self.database.execute(sql.drop_staging(self.target))
        return Loaded(object_name, version, records)

    def _in_ledger(self, object_name: str, version: str) -> int | None:
        found: int | None = self.database.value(
            f"SELECT records FROM {qualified(self.target.database, LEDGER)}"
            " WHERE target = %s AND object_hash = %s AND version = %s",
            (self.target.table, _digest(object_name), version.encode()),
        )
        return found

    def _note(self, object_name: str, version: str, records: int) -> None:
        self.database.execute(
            f"INSERT INTO {qualified(self.target.database, LEDGER)}"
            " (target, object_hash, version, object, records, loaded_at) VALUES (%s, %s, %s, %s, %s, UTC_TIMESTAMP(6))",
            (self.target.table, _digest(object_name), version.encode(), object_name, records),
        )

    def _refuse_unusable(self, object_name: str) -> None:
        found = self.database.rows(sql.unusable_change(self.target, EVENTS))
        if found:
            record, why = found[0]
            raise DatabaseError(f"{object_name}: record {record}: {_WHY[why]}; nothing of it was applied")


def described(database: Database, target: Target) -> dict[str, SqlColumn]:
    """The columns of a table as it is, by name, with their types; empty if there is no such table."""
    found = database.rows(
        "SELECT column_name, column_type, character_set_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (target.database, target.table),
    )
    return {name: SqlColumn(name, _type(kind, charset, collation)) for name, kind, charset, collation in found}


def _type(kind: str | bytes, charset: str | None, collation: str | None) -> str:
    text = kind.decode() if isinstance(kind, bytes) else kind
    return f"{text} CHARACTER SET {charset} COLLATE {collation}" if charset else text


def _check_key(target: Target, found: dict[str, SqlColumn]) -> None:
    if KEY not in found or found[KEY].type.lower() != "binary(32)":
        raise DatabaseError(
            f"{target.name}: expected a column {KEY} BINARY(32) as primary key, found"
            f" {found[KEY].type if KEY in found else 'none'}; create the table as the guide on Aurora shows"
        )


def check_layout(database: Database, target: Target) -> None:
    """Refuse a table whose primary key is not `_key` alone. Raises DatabaseError."""
    _check_key(target, described(database, target))
    found = database.rows(
        "SELECT column_name FROM information_schema.statistics WHERE table_schema = %s AND table_name = %s"
        " AND index_name = 'PRIMARY'",
        (target.database, target.table),
    )
    if [name for (name,) in found] != [KEY]:
        raise DatabaseError(f"{target.name}: the primary key must be {KEY} alone")


def register(database: Database, target: Target) -> None:
    """See to it that the table has its row in `ddb_lake_state`, which writers lock."""
    state = qualified(target.database, STATE)
    if not database.rows(f"SELECT 1 FROM {state} WHERE target = %s", (target.table,)):
        database.execute(
            f"INSERT INTO {state} (target, changed_at) VALUES (%s, UTC_TIMESTAMP(6))"
            " ON DUPLICATE KEY UPDATE target = VALUES(target)",
            (target.table,),
        )


def locked_position(database: Database, target: Target) -> str | None:
    """Where replication into the table stands, its row locked until the transaction ends: writers take turns."""
    found: str | None = database.value(
        f"SELECT position FROM {qualified(target.database, STATE)} WHERE target = %s FOR UPDATE", (target.table,)
    )
    return found


def is_aurora(database: Database) -> bool:
    """Whether the server is Aurora, which reads files from S3 itself."""
    return bool(database.rows("SHOW VARIABLES LIKE 'aurora_version'"))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
