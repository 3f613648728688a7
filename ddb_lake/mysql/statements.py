"""The SQL sent to MySQL-compatible databases, as text. Pure: `identifier` and `literal` quote all names and values.

The statements require the session settings of `connection`: strict mode, and no backslash escapes in literals.
SQLAlchemy Core is not used: decision 0013.

The target table
    `_key` BINARY(32), the primary key: SHA-256 of the key's exact text, so that keys that a collation compares as
    equal (case, accents, trailing spaces) stay different items; then columns of any type.

Steps: create a temporary staging table before the transaction begins, because DDL commits implicitly
(https://dev.mysql.com/doc/refman/8.0/en/implicit-commit.html); load a file into it; apply it to the target with
set-based statements. Staging has the target's column types, so the error of a value that does not fit names its record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from ddb_lake.errors import ConfigError

KEY: Final = "_key"
SEQUENCE: Final = "_seq"
EVENT: Final = "ddb_lake:event"
REMOVED: Final = "ddb_lake:removed"
RECORD: Final = "ddb_lake:record"
MALFORMED: Final = "ddb_lake:malformed"
"""Columns of the staging table beside the loaded ones. No column of a lake has a colon in its name."""

WHY: Final = "ddb_lake:why"
STAGING: Final = "ddb_lake_staging"
LEDGER: Final = "ddb_lake_ledger"
STATE: Final = "ddb_lake_state"
TOMBSTONES: Final = "_tombstones"
REJECTED: Final = "_rejected"
RAW: Final = "ddb_lake_raw"

SEQUENCE_TYPE: Final = "DECIMAL(40,0)"
MAX_NAME: Final = 64

_CSV: Final = "CHARACTER SET utf8mb4 FIELDS TERMINATED BY ',' ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY X'0A'"
_BINARY: Final = ("binary", "blob")
_TABLE: Final = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """A column of a target: its name, and its type as in a column definition, with character set and collation."""

    name: str
    type: str

    @property
    def is_binary(self) -> bool:
        """Whether the column has bytes, which are base64 in files."""
        return self.type.split("(")[0].split()[0].lower().endswith(_BINARY)


@dataclass(frozen=True, slots=True)
class Target:
    """A table of a database.

    Attributes:
        columns: the loaded columns in the files' order, without `_key` and `_seq`.
        key: the names of the columns that are the item's key.
    """

    database: str
    table: str
    columns: tuple[SqlColumn, ...] = ()
    key: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The quoted, qualified name."""
        return qualified(self.database, self.table)

    @property
    def tombstones(self) -> str:
        """The quoted, qualified name of the table of removed keys."""
        return qualified(self.database, self.table + TOMBSTONES)

    @property
    def rejected(self) -> str:
        """The quoted, qualified name of the table of records that the database rejected."""
        return qualified(self.database, self.rejected_table)

    @property
    def rejected_table(self) -> str:
        """The name of that table alone, at most 64 characters."""
        return shortened(self.table + REJECTED)

    def with_columns(self, columns: Sequence[SqlColumn]) -> Target:
        """The same table with other columns."""
        return replace(self, columns=tuple(columns))


# --- quoting


def identifier(name: str) -> str:
    """A quoted name. Raises ConfigError for a name that MySQL does not accept."""
    if not is_identifier(name):
        raise ConfigError(
            f"{name!r} is no name for MySQL: 1 to {MAX_NAME} characters of the Basic Multilingual Plane, without NUL and"
            " without white space at the end"
        )
    return "`" + name.replace("`", "``") + "`"


def is_identifier(name: str) -> bool:
    """Whether MySQL accepts the quoted name.

    https://dev.mysql.com/doc/refman/8.0/en/identifiers.html
    """
    in_plane = all(ord(c) <= 0xFFFF and not 0xD800 <= ord(c) <= 0xDFFF for c in name)
    return 0 < len(name) <= MAX_NAME and "\0" not in name and name[-1] not in " \t\n\v\f\r" and in_plane


def shortened(name: str) -> str:
    """A name of at most 64 characters: a longer one is cut and ends with a hash of the full name."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 13]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def qualified(database: str, table: str) -> str:
    """A quoted name within a database."""
    return f"{identifier(database)}.{identifier(table)}"


def literal(text: str) -> str:
    """A string literal of a session without backslash escapes (NO_BACKSLASH_ESCAPES)."""
    if "\0" in text:
        raise ConfigError("the name of a file contains a NUL character")
    return "'" + text.replace("'", "''") + "'"


_EVENT, _REMOVED, _RECORD, _MALFORMED, _WHY = map(identifier, (EVENT, REMOVED, RECORD, MALFORMED, WHY))


# --- our own tables


def create_ledger(database: str) -> str:
    """The ledger: one row for each loaded version of an object, inserted in the transaction that loads it."""
    return (
        f"CREATE TABLE IF NOT EXISTS {qualified(database, LEDGER)} (target VARCHAR(64) NOT NULL,"
        " object_hash BINARY(32) NOT NULL, version VARBINARY(255) NOT NULL, object TEXT NOT NULL,"
        " records BIGINT NOT NULL, loaded_at DATETIME(6) NOT NULL, PRIMARY KEY (target, object_hash, version),"
        f" KEY (loaded_at)) {_TABLE}"
    )


def create_state(database: str) -> str:
    """One row for each target: the lock of its writers, and the position of replication (a JSON document)."""
    return (
        f"CREATE TABLE IF NOT EXISTS {qualified(database, STATE)} (target VARCHAR(64) NOT NULL PRIMARY KEY,"
        f" position LONGTEXT NULL, changed_at DATETIME(6) NOT NULL) {_TABLE}"
    )


def create_tombstones(target: Target) -> str:
    """Removed keys and the versions that removed them. A late record of such a key is compared with its tombstone."""
    return (
        f"CREATE TABLE IF NOT EXISTS {target.tombstones} ({KEY} BINARY(32) NOT NULL PRIMARY KEY,"
        f" {SEQUENCE} {SEQUENCE_TYPE} NOT NULL, removed_at DATETIME(6) NOT NULL, KEY (removed_at)) {_TABLE}"
    )


def create_rejected(target: Target) -> str:
    """The table of records that the database rejected: fields as a JSON array, the reason, and the origin."""
    return (
        f"CREATE TABLE IF NOT EXISTS {target.rejected} (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,"
        f" object_hash BINARY(32) NOT NULL, version VARBINARY(255) NOT NULL, record BIGINT NOT NULL, object TEXT NOT NULL,"
        f" {KEY} BINARY(32) NULL, fields LONGTEXT NOT NULL, reason TEXT NOT NULL, rejected_at DATETIME(6) NOT NULL,"
        f" replayed_at DATETIME(6) NULL, UNIQUE KEY place (object_hash, version, record), KEY (replayed_at)) {_TABLE}"
    )


def create_target(target: Target, indexed: Sequence[str] = (), sequenced: bool = False) -> str:
    """The target. `indexed`: the parts of an index over the item's key, as SQL."""
    parts = [f"{KEY} BINARY(32) NOT NULL PRIMARY KEY"]
    parts += [f"{SEQUENCE} {SEQUENCE_TYPE} NOT NULL"] if sequenced else []
    parts += [f"{identifier(column.name)} {column.type} NULL" for column in target.columns]
    parts += [f"KEY ({', '.join(indexed)})"] if indexed else []
    return f"CREATE TABLE IF NOT EXISTS {target.name} ({', '.join(parts)}) {_TABLE}"


def alter_target(
    target: Target, added: Sequence[SqlColumn], changed: Sequence[SqlColumn], dropped: Sequence[str] = ()
) -> str:
    """Drop, add and retype columns. A column that is dropped and added is empty."""
    parts = [f"DROP COLUMN {identifier(name)}" for name in dropped]
    parts += [f"ADD COLUMN {identifier(column.name)} {column.type} NULL" for column in added]
    parts += [f"MODIFY COLUMN {identifier(column.name)} {column.type} NULL" for column in changed]
    return f"ALTER TABLE {target.name} {', '.join(parts)}"


# --- files into staging


def create_staging(target: Target, flags: Sequence[SqlColumn]) -> str:
    """The staging table of this session. `RECORD` numbers the file's records from 1; `flags` precede the columns."""
    parts = [f"{_RECORD} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", f"{KEY} BINARY(32) NULL"]
    parts += [f"{identifier(column.name)} {column.type} NULL" for column in (*flags, *target.columns)]
    parts += [f"{_MALFORMED} BOOLEAN NULL", f"KEY ({KEY})"]
    return f"CREATE TEMPORARY TABLE {qualified(target.database, STAGING)} ({', '.join(parts)}) {_TABLE}"


def drop_staging(target: Target) -> str:
    """Drop the staging table of this session."""
    return f"DROP TEMPORARY TABLE IF EXISTS {qualified(target.database, STAGING)}"


CHANGE_FLAGS: Final = (SqlColumn(EVENT, "VARCHAR(16)"), SqlColumn(SEQUENCE, SEQUENCE_TYPE))
"""The leading fields of a file of changes (`mysql.csv_rows`)."""

ROW_FLAGS: Final = (SqlColumn(REMOVED, "BOOLEAN"),)
"""The leading field, after `_key`, of a file that replication writes."""


def from_s3(uri: str, region: str) -> str:
    """The source clause for a file that Aurora reads from S3.

    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/AuroraMySQL.Integrating.LoadFromS3.html
    """
    return f"FROM S3 FILE {literal(f's3-{region}://' + uri.removeprefix('s3://'))}"


def from_client(path: str) -> str:
    """The source clause for a file that the client sends."""
    return f"LOCAL INFILE {literal(path)}"


def load_changes(target: Target, source: str) -> str:
    """Load a file of changes into staging, with `_key` computed from the key's columns. `source`: a source clause."""
    return _load(target, source, CHANGE_FLAGS, target.key)


def create_raw(target: Target) -> str:
    """A table of this session for the fields of a file's records as bytes. It accepts any content."""
    fields = ", ".join(f"f{number} LONGBLOB NULL" for number in range(_field_count(target)))
    parts = f"{_RECORD} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, {fields}"
    return f"CREATE TEMPORARY TABLE {qualified(target.database, RAW)} ({parts}) {_TABLE}"


def drop_raw(target: Target) -> str:
    """Drop the table of raw fields."""
    return f"DROP TEMPORARY TABLE IF EXISTS {qualified(target.database, RAW)}"


def load_raw(target: Target, source: str) -> str:
    """Load a file's records unchanged into the table of raw fields. A record with another number of fields gets a warning."""
    fields = ", ".join(f"f{number}" for number in range(_field_count(target)))
    csv = _CSV.replace("utf8mb4", "binary", 1)
    raw = qualified(target.database, RAW)
    return f"LOAD DATA {source} IGNORE INTO TABLE {raw} {csv} ({fields})"


def insert_raw(target: Target) -> str:
    """Insert one record into the table of raw fields. The arguments are its number and its fields."""
    names = ", ".join([_RECORD, *(f"f{number}" for number in range(_field_count(target)))])
    places = ", ".join(["%s"] * (_field_count(target) + 1))
    return f"INSERT INTO {qualified(target.database, RAW)} ({names}) VALUES ({places})"


def raw_record(target: Target) -> str:
    """Select the fields of one raw record. The argument is its number."""
    fields = ", ".join(f"f{number}" for number in range(_field_count(target)))
    return f"SELECT {fields} FROM {qualified(target.database, RAW)} WHERE {_RECORD} = %s"


def stage_raw(target: Target, first: int, last: int) -> str:
    """Insert raw records, by their numbers (inclusive), into staging, as `load_changes` does with a file."""
    names, values, malformed, texts = [_RECORD], [_RECORD], [], {}
    for number, column in enumerate((*CHANGE_FLAGS, *target.columns)):
        text = texts[column.name] = f"CONVERT(f{number} USING utf8mb4)"
        malformed.append(f"(f{number} IS NOT NULL AND NOT (CAST({text} AS BINARY) <=> f{number}))")
        if column.is_binary:
            malformed.append(f"({text} IS NOT NULL AND NOT {_is_base64(text)})")
            text = f"IF({_is_base64(text)}, FROM_BASE64({text}), NULL)"
        names.append(identifier(column.name))
        values.append(text)
    names += [KEY, _MALFORMED]
    values += [key_sql([texts[name] for name in target.key]), " OR ".join(malformed)]
    return (
        f"INSERT INTO {qualified(target.database, STAGING)} ({', '.join(names)}) SELECT {', '.join(values)}"
        f" FROM {qualified(target.database, RAW)} WHERE {_RECORD} BETWEEN {first} AND {last}"
    )


def unstage(target: Target, first: int, last: int) -> str:
    """Delete records from staging."""
    return f"DELETE FROM {qualified(target.database, STAGING)} WHERE {_RECORD} BETWEEN {first} AND {last}"


def _field_count(target: Target) -> int:
    return len(CHANGE_FLAGS) + len(target.columns)


def load_rows(target: Target, source: str, numbered: bool = False) -> str:
    """Load a file of rows into staging: `_key` in hexadecimal, `REMOVED`, then the columns. `numbered`: `RECORD` first."""
    leading = (SqlColumn(KEY, ""), *ROW_FLAGS)
    return _load(target, source, (SqlColumn(RECORD, "BIGINT"), *leading) if numbered else leading, ())


def stage_key(target: Target, removed: bool | None) -> str:
    """Insert a row without values into staging. The arguments are its number (None: the next one) and `_key`.

    `removed`: None for a key whose row in the target stays unchanged.
    """
    flag = "NULL" if removed is None else str(removed).upper()
    staging = qualified(target.database, STAGING)
    return f"INSERT INTO {staging} ({_RECORD}, {KEY}, {_REMOVED}) VALUES (%s, %s, {flag})"


def _load(target: Target, source: str, leading: Sequence[SqlColumn], key: Sequence[str]) -> str:
    # A field is assigned to its column directly, so that the server reports a record with too few fields. The fields of the
    # key go to variables, because `_key` is the hash of their text before any conversion to the column's type.
    fields, sets, malformed = [], [], []
    places: dict[str, str] = {}
    for number, column in enumerate((*leading, *target.columns)):
        name = identifier(column.name)
        is_variable = column.name in key or column.name == KEY
        place = places[column.name] = f"@f{number}" if is_variable else name
        fields.append(place)
        if column.name == KEY:
            sets.append(f"{name} = UNHEX({place})")
        elif column.is_binary:
            malformed.append(f"({place} IS NOT NULL AND NOT {_is_base64(place)})")
            sets.append(f"{name} = IF({_is_base64(place)}, FROM_BASE64({place}), NULL)")
        elif is_variable:
            sets.append(f"{name} = {place}")
    if key:
        sets.insert(0, f"{KEY} = {key_sql([places[name] for name in key])}")
    sets.insert(0, f"{_MALFORMED} = {' OR '.join(malformed) or 'FALSE'}")
    staging = qualified(target.database, STAGING)
    return f"LOAD DATA {source} INTO TABLE {staging} {_CSV} ({', '.join(fields)}) SET {', '.join(sets)}"


def _is_base64(place: str) -> str:
    """SQL for whether a text is base64. FROM_BASE64 of another text is an error without a record number in MariaDB, and NULL in MySQL."""
    return f"({place} REGEXP '^[A-Za-z0-9+/]*={{0,2}}$' AND OCTET_LENGTH({place}) % 4 = 0)"


def key_sql(values: Sequence[str]) -> str:
    """SQL for `_key`: SHA-256 over, for each value of the key, its length in bytes, ':' and its text."""
    texts = ", ".join(f"OCTET_LENGTH({value}), ':', {value}" for value in values)
    return f"UNHEX(SHA2(CONCAT({texts}), 256))"


# --- staging into the target


def unusable_changes(target: Target, events: Sequence[str], limit: int | None = None) -> str:
    """Select staged records with no key, no version, an unknown event or malformed base64: number and reason."""
    known = ", ".join(literal(event) for event in events)
    why = (
        f"CASE WHEN {_EVENT} IS NULL OR {_EVENT} NOT IN ({known}) THEN 'event' WHEN {SEQUENCE} IS NULL THEN 'sequence'"
        f" WHEN {KEY} IS NULL THEN 'key' WHEN {_MALFORMED} THEN 'base64' END"
    )
    staging = qualified(target.database, STAGING)
    return f"SELECT {_RECORD}, {why} AS {_WHY} FROM {staging} HAVING {_WHY} IS NOT NULL ORDER BY {_RECORD}" + (
        f" LIMIT {limit}" if limit else ""
    )


Records: TypeAlias = tuple[int, int] | None
"""The first and the last number of some staged records; None for all."""


def _in_range(records: Records) -> str:
    return "" if records is None else f" AND s.{_RECORD} BETWEEN {records[0]} AND {records[1]}"


def insert_tombstones(target: Target, removals: Sequence[str], records: Records = None) -> str:
    """Insert the tombstones of staged removals; of two for one key the later stays."""
    staging = qualified(target.database, STAGING)
    events = ", ".join(literal(event) for event in removals)
    return (
        f"INSERT INTO {target.tombstones} ({KEY}, {SEQUENCE}, removed_at) SELECT s.{KEY}, s.{SEQUENCE}, UTC_TIMESTAMP(6)"
        f" FROM {staging} s WHERE s.{_EVENT} IN ({events}){_in_range(records)} ORDER BY s.{KEY}"
        f" ON DUPLICATE KEY UPDATE removed_at = IF(VALUES({SEQUENCE}) > {target.tombstones}.{SEQUENCE},"
        f" VALUES(removed_at), {target.tombstones}.removed_at),"
        f" {SEQUENCE} = GREATEST({target.tombstones}.{SEQUENCE}, VALUES({SEQUENCE}))"
    )


def upsert_changes(target: Target, removals: Sequence[str], records: Records = None) -> str:
    """Upsert staged images that are later than the tombstone and the row of their key.

    `_seq` is assigned last, because the other assignments compare the stored `_seq`.
    """
    staging, t = qualified(target.database, STAGING), target.name
    events = ", ".join(literal(event) for event in removals)
    names = [identifier(column.name) for column in target.columns]
    columns = ", ".join([KEY, SEQUENCE, *names])
    picked = ", ".join(f"s.{name}" for name in (KEY, SEQUENCE, *names))
    later = f"VALUES({SEQUENCE}) > {t}.{SEQUENCE}"
    sets = [f"{name} = IF({later}, VALUES({name}), {t}.{name})" for name in names]
    sets.append(f"{SEQUENCE} = GREATEST({t}.{SEQUENCE}, VALUES({SEQUENCE}))")
    return (
        f"INSERT INTO {t} ({columns}) SELECT {picked} FROM {staging} s LEFT JOIN {target.tombstones} d"
        f" ON d.{KEY} = s.{KEY} WHERE s.{_EVENT} NOT IN ({events}) AND (d.{SEQUENCE} IS NULL"
        f" OR s.{SEQUENCE} > d.{SEQUENCE}){_in_range(records)} ORDER BY s.{KEY}, s.{_RECORD} ON DUPLICATE KEY UPDATE {', '.join(sets)}"
    )


def update_change(target: Target, removals: Sequence[str], record: int) -> str:
    """Update the row of one staged image if the image is later. No other row changes, with any unique index."""
    t = target.name
    sets = [f"t.{name} = s.{name}" for name in (SEQUENCE, *(identifier(column.name) for column in target.columns))]
    return (
        f"UPDATE {t} t JOIN {qualified(target.database, STAGING)} s ON s.{KEY} = t.{KEY}{_in_range((record, record))}"
        f" SET {', '.join(sets)} WHERE {_is_image(removals)} AND s.{SEQUENCE} > t.{SEQUENCE}"
    )


def insert_change(target: Target, removals: Sequence[str], record: int) -> str:
    """Insert one staged image whose key has no row, unless the key was removed later."""
    t, names = target.name, [identifier(column.name) for column in target.columns]
    picked = ", ".join(f"s.{name}" for name in (KEY, SEQUENCE, *names))
    return (
        f"INSERT INTO {t} ({', '.join([KEY, SEQUENCE, *names])}) SELECT {picked}"
        f" FROM {qualified(target.database, STAGING)} s LEFT JOIN {t} t ON t.{KEY} = s.{KEY}"
        f" LEFT JOIN {target.tombstones} d ON d.{KEY} = s.{KEY} WHERE {_is_image(removals)} AND t.{KEY} IS NULL"
        f" AND (d.{SEQUENCE} IS NULL OR s.{SEQUENCE} > d.{SEQUENCE}){_in_range((record, record))}"
    )


def _is_image(removals: Sequence[str]) -> str:
    return f"s.{_EVENT} NOT IN ({', '.join(literal(event) for event in removals)})"


def delete_tombstoned_rows(target: Target, records: Records = None) -> str:
    """Delete rows of staged keys whose tombstone is not older than the row."""
    staging, t = qualified(target.database, STAGING), target.name
    return (
        f"DELETE t FROM {t} t JOIN {target.tombstones} d ON d.{KEY} = t.{KEY} AND d.{SEQUENCE} >= t.{SEQUENCE}"
        f" JOIN {staging} s ON s.{KEY} = t.{KEY}{_in_range(records)}"
    )


def upsert_rows(target: Target) -> str:
    """Upsert staged rows. The target must have no unique index besides its primary key."""
    names = [identifier(column.name) for column in target.columns]
    sets = ", ".join(f"{name} = VALUES({name})" for name in (KEY, *names))
    return f"{_insert_rows(target, '')} WHERE NOT s.{_REMOVED} ORDER BY s.{KEY} ON DUPLICATE KEY UPDATE {sets}"


def insert_rows(target: Target, records: Records) -> str:
    """Insert the staged rows whose key has no row."""
    absent = f" LEFT JOIN {target.name} t ON t.{KEY} = s.{KEY}"
    return f"{_insert_rows(target, absent)} WHERE NOT s.{_REMOVED} AND t.{KEY} IS NULL{_in_range(records)} ORDER BY s.{KEY}"


def _insert_rows(target: Target, joined: str) -> str:
    names = [KEY, *(identifier(column.name) for column in target.columns)]
    picked = ", ".join(f"s.{name}" for name in names)
    staging = qualified(target.database, STAGING)
    return f"INSERT INTO {target.name} ({', '.join(names)}) SELECT {picked} FROM {staging} s{joined}"


def update_rows(target: Target, records: Records) -> str:
    """Update the rows of staged keys. No other row changes, with any unique index."""
    names = [identifier(column.name) for column in target.columns]
    sets = ", ".join(f"t.{name} = s.{name}" for name in names)
    staging = qualified(target.database, STAGING)
    return f"UPDATE {target.name} t JOIN {staging} s ON s.{KEY} = t.{KEY}{_in_range(records)} SET {sets} WHERE NOT s.{_REMOVED}"


def delete_removed_rows(target: Target, records: Records = None) -> str:
    """Delete the rows whose staged key is removed."""
    staging = qualified(target.database, STAGING)
    return f"DELETE t FROM {target.name} t JOIN {staging} s ON s.{KEY} = t.{KEY}{_in_range(records)} WHERE s.{_REMOVED}"


def count_staged(target: Target, removed: bool) -> str:
    """Count the staged keys that are removed, or those that are not."""
    return f"SELECT COUNT(*) FROM {qualified(target.database, STAGING)} WHERE {'' if removed else 'NOT '}{_REMOVED}"


def staged_key(target: Target) -> str:
    """Select `_key` of a staged record. The argument is its number."""
    return f"SELECT {KEY} FROM {qualified(target.database, STAGING)} WHERE {_RECORD} = %s"


def last_staged(target: Target) -> str:
    """Select the greatest number of a staged record; NULL without one."""
    return f"SELECT MAX({_RECORD}) FROM {qualified(target.database, STAGING)}"


def delete_unstaged_rows(target: Target) -> str:
    """Delete the rows whose key is not staged, after a full file was staged."""
    return f"DELETE t {_unstaged_rows(target)}"


def unstaged_keys(target: Target, limit: int) -> str:
    """Select at most `limit` keys of such rows."""
    return f"SELECT t.{KEY} {_unstaged_rows(target)} LIMIT {limit}"


def _unstaged_rows(target: Target) -> str:
    staging = qualified(target.database, STAGING)
    return f"FROM {target.name} t LEFT JOIN {staging} s ON s.{KEY} = t.{KEY} WHERE s.{KEY} IS NULL"


# --- rows that the database rejected


ROWS: Final = "current"
"""The `object` of a rejected row of the lake's `current`. Its `version` is its `_key`: at most one row for each key."""

_OF_ROWS: Final = f"r.object_hash = UNHEX(SHA2({literal(ROWS)}, 256))"


def count_rejected(target: Target) -> str:
    """Count the rejected rows of `current`."""
    return f"SELECT COUNT(*) FROM {target.rejected} r WHERE {_OF_ROWS}"


def rejections(target: Target, limit: int) -> str:
    """Select the most frequent reasons with their numbers of rows."""
    return f"SELECT r.reason, COUNT(*) AS n FROM {target.rejected} r WHERE {_OF_ROWS} GROUP BY r.reason ORDER BY n DESC, 1 LIMIT {limit}"


def rejected_keys(target: Target) -> str:
    """Select the hashes of the keys of rejected rows, in hexadecimal."""
    return f"SELECT LOWER(HEX(r.{KEY})) FROM {target.rejected} r WHERE {_OF_ROWS}"


def rejected_reasons(target: Target, keys: int) -> str:
    """Select the reasons of rejected rows. The arguments are the hashes of `keys` keys, in hexadecimal."""
    places = ", ".join(["UNHEX(%s)"] * keys)
    return f"SELECT LOWER(HEX(r.{KEY})), r.reason FROM {target.rejected} r WHERE {_OF_ROWS} AND r.version IN ({places})"


def delete_keys(table: str, keys: int) -> str:
    """Delete the rows of some keys. `table`: its name in SQL. `keys`: how many there are; they are the parameters."""
    return f"DELETE FROM {table} WHERE {KEY} IN ({', '.join(['%s'] * keys)})"


def delete_rejected(target: Target, is_full: bool) -> str:
    """Delete the rejected rows whose keys are staged; with `is_full`, all of them."""
    if is_full:
        return f"DELETE r FROM {target.rejected} r WHERE {_OF_ROWS}"
    staging = qualified(target.database, STAGING)
    return f"DELETE r FROM {target.rejected} r JOIN {staging} s ON s.{KEY} = r.{KEY} WHERE {_OF_ROWS}"


def insert_rejected(target: Target) -> str:
    """Insert a rejected row. The arguments are `_key` twice, the fields and the reason."""
    return (
        f"INSERT INTO {target.rejected} (object_hash, object, version, record, {KEY}, fields, reason, rejected_at)"
        f" VALUES (UNHEX(SHA2({literal(ROWS)}, 256)), {literal(ROWS)}, %s, 0, %s, %s, %s, UTC_TIMESTAMP(6))"
    )
