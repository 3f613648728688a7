"""Load files of changes (`mysql.csv_rows`) into a table, each version of a file once.

The table is a function of the set of rows loaded so far. For each key the row with the greatest `_seq` wins; among equal
ones a removal wins. A removal leaves a tombstone, so that a late row does not resurrect the key. Repeated and late files
therefore do no harm. Staging, upsert, tombstones and the ledger's row are one transaction. The ledger only saves work.

If the database rejects a record, the other records of its file are applied. The rejected record goes to `<table>_rejected`
with the reason, in the same transaction. `replay` applies it again after the table was changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import DatabaseError
from ddb_lake.mysql import statements as sql
from ddb_lake.mysql.bisection import Bisection
from ddb_lake.mysql.statements import KEY, LEDGER, SEQUENCE, STATE, SqlColumn, Target, qualified

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Database

REMOVALS: Final = ("REMOVE", "DELETE")
EVENTS: Final = ("INSERT", "MODIFY", "UPSERT", *REMOVALS)

REPLAY_ROWS: Final = 1_000

_UNUSABLE_REASONS: Final = {
    "event": f"its first field is none of {', '.join(EVENTS)}",
    "sequence": "it has no _seq",
    "key": "a column of the key is NULL",
    "base64": "a binary column's text is not base64, or a text is not UTF-8",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of loading one version of a file.

    Attributes:
        already_loaded: this version was loaded before, and nothing was done.
        rejected: the number of records that the database rejected; they are in `<table>_rejected`.
    """

    object: str
    version: str
    records: int = 0
    already_loaded: bool = False
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay: how many rejected records were applied, and how many are still rejected."""

    replayed: int = 0
    still_rejected: int = 0


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
            sql.create_rejected(self.target),
        ):
            database.execute(statement)
        found = table_columns(database, self.target)
        self._check(found, columns)
        self.target = self.target.with_columns([found[name] for name in columns])
        self._one_by_one = has_other_unique_index(database, self.target)
        ensure_state_row(database, self.target)

    def _check(self, found: dict[str, SqlColumn], columns: Sequence[str]) -> None:
        missing = [name for name in (SEQUENCE, *columns) if name not in found]
        unknown = [name for name in self.target.key if name not in columns]
        if missing or unknown or not self.target.key:
            raise DatabaseError(
                f"{self.target.name}: columns that the table lacks: {missing or 'none'}; columns of the key that files do"
                f" not have: {unknown or 'none'}; correct the table or the configured columns and key"
            )
        _check_key(self.target, found)

    def load(self, object_name: str, version: str, source: str) -> Loaded:
        """Load one version of a file, or do nothing if it was loaded before. Records that do not fit are rejected.

        Args:
            object_name: the file's name for the ledger, `s3://bucket/key`.
            version: the ETag or another text that changes when the file is rewritten.
            source: the source clause of LOAD DATA, from `statements.from_s3` or `from_client`.

        Raises:
            DatabaseError: the database refuses a statement, and nothing was applied.
            TransientError: the connection was lost, or another writer held a lock for too long.
        """
        if (before := self._in_ledger(object_name, version)) is not None:
            return Loaded(object_name, version, before, already_loaded=True)
        if not self._one_by_one:  # an upsert would put one item's values into the row of another
            try:
                return self._load_whole_file(object_name, version, source)
            except DatabaseError as error:
                if not error.is_row_error:
                    raise
        return self._load_by_bisection(object_name, version, source)

    def _load_whole_file(self, object_name: str, version: str, source: str) -> Loaded:
        """Load a file if all its records fit. Raises DatabaseError for the first record that does not."""
        self.database.execute(sql.drop_staging(self.target))
        self.database.execute(sql.create_staging(self.target, sql.CHANGE_FLAGS))
        with self.database.transaction():
            records = self.database.load(sql.load_changes(self.target, source), object_name)
            self._reject_unusable(object_name)
            locked_position(self.database, self.target)
            if (before := self._in_ledger(object_name, version)) is not None:
                return Loaded(object_name, version, before, already_loaded=True)
            self.database.execute(sql.insert_tombstones(self.target, REMOVALS))
            self.database.execute(sql.upsert_changes(self.target, REMOVALS))
            self.database.execute(sql.delete_tombstoned_rows(self.target))
            self._add_to_ledger(object_name, version, records)
        self.database.execute(sql.drop_staging(self.target))
        return Loaded(object_name, version, records)

    def _load_by_bisection(self, object_name: str, version: str, source: str) -> Loaded:
        """Load the records of a file that fit, and put the others into the table of rejected records."""
        self._create_staging_tables()
        with self.database.transaction():
            faults = self.database.load_leniently(sql.load_raw(self.target, source), object_name)
            records = self._last_raw_record()
            bisection = self._stage(object_name, faults, 1, records)
            locked_position(self.database, self.target)
            if (before := self._in_ledger(object_name, version)) is not None:
                return Loaded(object_name, version, before, already_loaded=True)
            bisection.apply(1, records)
            for record, reason in sorted(bisection.rejected.items()):
                self._reject(object_name, version, record, reason)
            self._add_to_ledger(object_name, version, records)
        self._drop_staging_tables()
        return Loaded(object_name, version, records, rejected=len(bisection.rejected))

    def replay(self) -> Replayed:
        """Apply the rejected records again, for instance after a column was widened. `_seq` decides as for any other record.

        A replayed record stays in the table of rejected records, with the time of the replay.
        """
        found = Replayed()
        after = 0
        while True:
            self._create_staging_tables()
            with self.database.transaction():
                locked_position(self.database, self.target)
                rows = self.database.rows(
                    f"SELECT id, fields FROM {self.target.rejected} WHERE replayed_at IS NULL AND id > %s ORDER BY id"
                    f" LIMIT {REPLAY_ROWS} FOR UPDATE",
                    (after,),
                )
                if not rows:
                    break
                faults = self._insert_raw(rows)
                first, after = rows[0][0], rows[-1][0]
                bisection = self._stage(self.target.rejected, faults, first, after)
                bisection.apply(first, after)
                for identifier, _ in rows:
                    self._record_replay(identifier, bisection.rejected.get(identifier))
            still = len(bisection.rejected)
            found = Replayed(found.replayed + len(rows) - still, found.still_rejected + still)
        self._drop_staging_tables()
        return found

    def _stage(self, what: str, faults: dict[int, str], first: int, last: int) -> Bisection:
        """Load raw records into staging, without unusable ones. `faults`: malformed records, with the reason of each."""
        bisection = Bisection(
            self.database,
            self.target,
            what,
            lambda start, end: self.database.load(sql.stage_raw(self.target, start, end), what),
            self._apply_staged,
            self._one_by_one,
            faults,
        )
        malformed = list(faults)
        bisection.stage(first, last)
        for record, why in self.database.rows(sql.unusable_changes(self.target, EVENTS)):
            bisection.rejected.setdefault(record, _UNUSABLE_REASONS[why])
            self.database.execute(sql.unstage(self.target, record, record))
        for record in malformed:
            self.database.execute(sql.unstage(self.target, record, record))
        return bisection

    def _apply_staged(self, first: int, last: int) -> int:
        """Apply staged records to the target. `_seq` decides, so their order is irrelevant."""
        self.database.execute(sql.insert_tombstones(self.target, REMOVALS, (first, last)))
        if self._one_by_one:
            self.database.execute(sql.update_change(self.target, REMOVALS, first))
            self.database.execute(sql.insert_change(self.target, REMOVALS, first))
        else:
            self.database.execute(sql.upsert_changes(self.target, REMOVALS, (first, last)))
        self.database.execute(sql.delete_tombstoned_rows(self.target, (first, last)))
        return last - first + 1

    def _create_staging_tables(self) -> None:
        self._drop_staging_tables()
        self.database.execute(sql.create_staging(self.target, sql.CHANGE_FLAGS))
        self.database.execute(sql.create_raw(self.target))

    def _drop_staging_tables(self) -> None:
        self.database.execute(sql.drop_staging(self.target))
        self.database.execute(sql.drop_raw(self.target))

    def _last_raw_record(self) -> int:
        raw = qualified(self.target.database, sql.RAW)
        return int(self.database.value(f"SELECT MAX({sql.identifier(sql.RECORD)}) FROM {raw}") or 0)

    def _insert_raw(self, rows: Sequence[tuple[Any, ...]]) -> dict[int, str]:
        """Insert rejected records as raw records. Returns those whose number of fields is not that of the present columns."""
        faults = {}
        wanted = len(sql.CHANGE_FLAGS) + len(self.target.columns)
        for identifier, text in rows:
            fields = [_from_json(field) for field in json.loads(text)]
            if len(fields) != wanted:
                faults[identifier] = (
                    f"the record has {count_text(len(fields), 'field')}, and the configured columns need {wanted}"
                )
            padded = [*fields, *[None] * wanted][:wanted]
            self.database.execute(sql.insert_raw(self.target), (identifier, *padded))
        return faults

    def _reject(self, object_name: str, version: str, record: int, reason: str) -> None:
        (fields,) = self.database.rows(sql.raw_record(self.target), (record,))
        self.database.execute(
            f"INSERT INTO {self.target.rejected} (object_hash, version, record, object, {KEY}, fields, reason, rejected_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, UTC_TIMESTAMP(6))",
            (
                *(_sha256(object_name), version.encode(), record, object_name, self._key_of(fields)),
                *(fields_json(fields), reason),
            ),
        )

    def _key_of(self, fields: Sequence[bytes | None]) -> bytes | None:
        """`_key` of a raw record; None if a part of the key is missing."""
        names = [column.name for column in self.target.columns]
        parts = [fields[len(sql.CHANGE_FLAGS) + names.index(name)] for name in self.target.key]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in known)).digest()

    def _record_replay(self, identifier: int, reason: str | None) -> None:
        if reason is None:
            change, arguments = "replayed_at = UTC_TIMESTAMP(6)", (identifier,)
        else:
            change, arguments = "reason = %s", (reason, identifier)  # type: ignore[assignment]
        self.database.execute(f"UPDATE {self.target.rejected} SET {change} WHERE id = %s", arguments)

    def _in_ledger(self, object_name: str, version: str) -> int | None:
        found: int | None = self.database.value(
            f"SELECT records FROM {qualified(self.target.database, LEDGER)}"
            " WHERE target = %s AND object_hash = %s AND version = %s",
            (self.target.table, _sha256(object_name), version.encode()),
        )
        return found

    def _add_to_ledger(self, object_name: str, version: str, records: int) -> None:
        self.database.execute(
            f"INSERT INTO {qualified(self.target.database, LEDGER)}"
            " (target, object_hash, version, object, records, loaded_at) VALUES (%s, %s, %s, %s, %s, UTC_TIMESTAMP(6))",
            (self.target.table, _sha256(object_name), version.encode(), object_name, records),
        )

    def _reject_unusable(self, object_name: str) -> None:
        found = self.database.rows(sql.unusable_changes(self.target, EVENTS, limit=1))
        if found:
            record, why = found[0]
            message = f"{object_name}: record {record}: {_UNUSABLE_REASONS[why]}; nothing of it was applied"
            raise DatabaseError(message, is_row_error=True)


def fields_json(fields: Sequence[bytes | None]) -> str:
    """A record's fields as a JSON array."""
    return json.dumps([_to_json(field) for field in fields], ensure_ascii=False)


def _to_json(field: bytes | None) -> str | dict[str, str] | None:
    """A field as JSON: text, or base64 if its bytes are not UTF-8."""
    if field is None:
        return None
    try:
        return field.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(field).decode()}


def _from_json(field: str | dict[str, str] | None) -> bytes | None:
    """The inverse of `_to_json`."""
    if isinstance(field, dict):
        return base64.b64decode(field["base64"])
    return None if field is None else field.encode()


def has_other_unique_index(database: Database, target: Target) -> bool:
    """Whether the table has a unique index besides its primary key."""
    found = database.rows(
        "SELECT 1 FROM information_schema.statistics WHERE table_schema = %s AND table_name = %s AND non_unique = 0"
        " AND index_name <> 'PRIMARY' LIMIT 1",
        (target.database, target.table),
    )
    return bool(found)


def table_columns(database: Database, target: Target) -> dict[str, SqlColumn]:
    """The columns of a table in the database, by name; empty if there is no such table."""
    found = database.rows(
        "SELECT column_name, column_type, character_set_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (target.database, target.table),
    )
    return {name: SqlColumn(name, _full_type(kind, charset, collation)) for name, kind, charset, collation in found}


def _full_type(kind: str | bytes, charset: str | None, collation: str | None) -> str:
    text = kind.decode() if isinstance(kind, bytes) else kind
    return f"{text} CHARACTER SET {charset} COLLATE {collation}" if charset else text


def _check_key(target: Target, found: dict[str, SqlColumn]) -> None:
    if KEY not in found or found[KEY].type.lower() != "binary(32)":
        raise DatabaseError(
            f"{target.name}: expected a column {KEY} BINARY(32) as primary key, found"
            f" {found[KEY].type if KEY in found else 'none'}; create the table as the guide on Aurora shows"
        )


def check_layout(database: Database, target: Target) -> None:
    """Raise DatabaseError unless `_key` alone is the primary key."""
    _check_key(target, table_columns(database, target))
    found = database.rows(
        "SELECT column_name FROM information_schema.statistics WHERE table_schema = %s AND table_name = %s"
        " AND index_name = 'PRIMARY'",
        (target.database, target.table),
    )
    if [name for (name,) in found] != [KEY]:
        raise DatabaseError(f"{target.name}: the primary key must be {KEY} alone")


def ensure_state_row(database: Database, target: Target) -> None:
    """Insert the table's row into `ddb_lake_state`, which writers lock, if it is missing."""
    state = qualified(target.database, STATE)
    if not database.rows(f"SELECT 1 FROM {state} WHERE target = %s", (target.table,)):
        database.execute(
            f"INSERT INTO {state} (target, changed_at) VALUES (%s, UTC_TIMESTAMP(6))"
            " ON DUPLICATE KEY UPDATE target = VALUES(target)",
            (target.table,),
        )


def locked_position(database: Database, target: Target) -> str | None:
    """Lock the table's row in `ddb_lake_state` until the transaction ends, and return the position of replication."""
    found: str | None = database.value(
        f"SELECT position FROM {qualified(target.database, STATE)} WHERE target = %s FOR UPDATE", (target.table,)
    )
    return found


def is_aurora(database: Database) -> bool:
    """Whether the server is Aurora, which can load files from S3.

    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Integrating.LoadFromS3.html
    """
    return bool(database.rows("SHOW VARIABLES LIKE 'aurora_version'"))


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
