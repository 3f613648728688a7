"""The SQL sent to MySQL-compatible databases, as text. Pure: names and values go in through `identifier` and `literal` only.

The text rests on the session that `connection` sets up: strict, and without backslash escapes in literals.

The target table
    `_key` BINARY(32), the primary key: SHA-256 of the key's exact text, so that keys which a collation calls equal
    (case, accents, spaces at the end) stay different items; then columns of any type.

Order of work: files are loaded into a temporary staging table, which must be made before the transaction begins, because
DDL commits what is open. Staging has the target's column types, so that a value which does not fit is refused with its
place. From there set-based statements go to the target.
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
GONE: Final = "ddb_lake:gone"
RECORD: Final = "ddb_lake:record"
MALFORMED: Final = "ddb_lake:malformed"
"""Columns of the staging table in addition to the loaded ones. No column of a lake has a colon in its name."""

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
    """A column of a target: its name, and its type as it stands in a definition (character set and collation too)."""

    name: str
    type: str

    @property
    def is_binary(self) -> bool:
        """Whether it holds bytes, which stand in files as base64."""
        return self.type.split("(")[0].split()[0].lower().endswith(_BINARY)


@dataclass(frozen=True, slots=True)
class Target:
    """A table of a database.

    `columns`: those that are loaded, in the files' order, without `_key` and `_seq`. `key`: which of them are the key.
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
        """The name of that table alone, which MySQL's 64 characters hold."""
        return shortened(self.table + REJECTED)

    def with_columns(self, columns: Sequence[SqlColumn]) -> Target:
        """The same table with other columns."""
        return replace(self, columns=tuple(columns))


# --- quoting


def identifier(name: str) -> str:
    """A quoted name. Raises ConfigError for one that MySQL does not take."""
    if not is_identifier(name):
        raise ConfigError(
            f"{name!r} is no name for MySQL: 1 to {MAX_NAME} characters of the Basic Multilingual Plane, without NUL and"
            " without white space at the end"
        )
    return "`" + name.replace("`", "``") + "`"


def is_identifier(name: str) -> bool:
    """Whether MySQL takes the name, quoted: it refuses white space of ASCII at the end, and NUL anywhere."""
    in_plane = all(ord(c) <= 0xFFFF and not 0xD800 <= ord(c) <= 0xDFFF for c in name)
    return 0 < len(name) <= MAX_NAME and "\0" not in name and name[-1] not in " \t\n\v\f\r" and in_plane


def shortened(name: str) -> str:
    """A name, cut and with a mark of the whole where MySQL's 64 characters do not hold it."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 13]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def qualified(database: str, table: str) -> str:
    """A quoted name within a database."""
    return f"{identifier(database)}.{identifier(table)}"


def literal(text: str) -> str:
    """A string literal of a session without backslash escapes (NO_BACKSLASH_ESCAPES)."""
    if "\0" in text:
        raise ConfigError("a NUL character cannot stand in a name of a file")
    return "'" + text.replace("'", "''") + "'"


_EVENT, _GONE, _RECORD, _MALFORMED, _WHY = map(identifier, (EVENT, GONE, RECORD, MALFORMED, WHY))


# --- tables of ours


def create_ledger(database: str) -> str:
    """The ledger: one row a loaded version of an object, written in the transaction that loads it."""
    return (
        f"CREATE TABLE IF NOT EXISTS {qualified(database, LEDGER)} (target VARCHAR(64) NOT NULL,"
        " object_hash BINARY(32) NOT NULL, version VARBINARY(255) NOT NULL, object TEXT NOT NULL,"
        " records BIGINT NOT NULL, loaded_at DATETIME(6) NOT NULL, PRIMARY KEY (target, object_hash, version),"
        f" KEY (loaded_at)) {_TABLE}"
    )


def create_state(database: str) -> str:
    """One row a target: what one writer at a time locks, and where replication stands (a JSON document)."""
    return (
        f"CREATE TABLE IF NOT EXISTS {qualified(database, STATE)} (target VARCHAR(64) NOT NULL PRIMARY KEY,"
        f" position LONGTEXT NULL, changed_at DATETIME(6) NOT NULL) {_TABLE}"
    )


def create_tombstones(target: Target) -> str:
    """Removed keys and the versions that removed them: what a late record of such a key is compared with."""
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
    """The target itself. `indexed`: parts of an index for looking items up by their own key, as SQL."""
    parts = [f"{KEY} BINARY(32) NOT NULL PRIMARY KEY"]
    parts += [f"{SEQUENCE} {SEQUENCE_TYPE} NOT NULL"] if sequenced else []
    parts += [f"{identifier(column.name)} {column.type} NULL" for column in target.columns]
    parts += [f"KEY ({', '.join(indexed)})"] if indexed else []
    return f"CREATE TABLE IF NOT EXISTS {target.name} ({', '.join(parts)}) {_TABLE}"


def alter_target(
    target: Target, added: Sequence[SqlColumn], changed: Sequence[SqlColumn], dropped: Sequence[str] = ()
) -> str:
    """Drop, add and retype columns. A column that is dropped and added begins empty."""
    parts = [f"DROP COLUMN {identifier(name)}" for name in dropped]
    parts += [f"ADD COLUMN {identifier(column.name)} {column.type} NULL" for column in added]
    parts += [f"MODIFY COLUMN {identifier(column.name)} {column.type} NULL" for column in changed]
    return f"ALTER TABLE {target.name} {', '.join(parts)}"


# --- files into staging


def create_staging(target: Target, flags: Sequence[SqlColumn]) -> str:
    """The staging table of this session: `RECORD` counts the file's records from 1, `flags` come before the columns."""
    parts = [f"{_RECORD} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", f"{KEY} BINARY(32) NULL"]
    parts += [f"{identifier(column.name)} {column.type} NULL" for column in (*flags, *target.columns)]
    parts += [f"{_MALFORMED} BOOLEAN NULL", f"KEY ({KEY})"]
    return f"CREATE TEMPORARY TABLE {qualified(target.database, STAGING)} ({', '.join(parts)}) {_TABLE}"


def drop_staging(target: Target) -> str:
    """Drop the staging table of this session."""
    return f"DROP TEMPORARY TABLE IF EXISTS {qualified(target.database, STAGING)}"


CHANGE_FLAGS: Final = (SqlColumn(EVENT, "VARCHAR(16)"), SqlColumn(SEQUENCE, SEQUENCE_TYPE))
"""The leading fields of a file of changes (`mysql.csv_rows`)."""

ROW_FLAGS: Final = (SqlColumn(GONE, "BOOLEAN"),)
"""The leading field, after `_key`, of a file that replication writes."""


def from_s3(uri: str, region: str) -> str:
    """Where Aurora reads a file itself: `s3://bucket/key` in a Region."""
    return f"FROM S3 FILE {literal(f's3-{region}://' + uri.removeprefix('s3://'))}"


def from_client(path: str) -> str:
    """A file that the client sends."""
    return f"LOCAL INFILE {literal(path)}"


def load_changes(target: Target, source: str) -> str:
    """A file of changes into staging; `_key` is made of the key's columns. `source`: `from_s3` or `from_client`."""
    return _load(target, source, CHANGE_FLAGS, target.key)


def create_raw(target: Target) -> str:
    """A table of this session for the fields of a file's records as bytes. It accepts any content."""
    fields = ", ".join(f"f{number} LONGBLOB NULL" for number in range(_fields(target)))
    parts = f"{_RECORD} BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, {fields}"
    return f"CREATE TEMPORARY TABLE {qualified(target.database, RAW)} ({parts}) {_TABLE}"


def drop_raw(target: Target) -> str:
    """Drop the table of raw fields."""
    return f"DROP TEMPORARY TABLE IF EXISTS {qualified(target.database, RAW)}"


def load_raw(target: Target, source: str) -> str:
    """Load a file's records unchanged into the table of raw fields. A record with another number of fields gets a warning."""
    fields = ", ".join(f"f{number}" for number in range(_fields(target)))
    csv = _CSV.replace("utf8mb4", "binary", 1)
    raw = qualified(target.database, RAW)
    return f"LOAD DATA {source} IGNORE INTO TABLE {raw} {csv} ({fields})"


def insert_raw(target: Target) -> str:
    """Insert one record into the table of raw fields. The arguments are its number and its fields."""
    names = ", ".join([_RECORD, *(f"f{number}" for number in range(_fields(target)))])
    places = ", ".join(["%s"] * (_fields(target) + 1))
    return f"INSERT INTO {qualified(target.database, RAW)} ({names}) VALUES ({places})"


def raw_record(target: Target) -> str:
    """Select the fields of one raw record. The argument is its number."""
    fields = ", ".join(f"f{number}" for number in range(_fields(target)))
    return f"SELECT {fields} FROM {qualified(target.database, RAW)} WHERE {_RECORD} = %s"


def stage_raw(target: Target, first: int, last: int) -> str:
    """Insert raw records, by their numbers (inclusive), into staging, as `load_changes` does with a file."""
    names, values, doubts, texts = [_RECORD], [_RECORD], [], {}
    for number, column in enumerate((*CHANGE_FLAGS, *target.columns)):
        text = texts[column.name] = f"CONVERT(f{number} USING utf8mb4)"
        doubts.append(f"(f{number} IS NOT NULL AND NOT (CAST({text} AS BINARY) <=> f{number}))")
        if column.is_binary:
            doubts.append(f"({text} IS NOT NULL AND NOT {_is_base64(text)})")
            text = f"IF({_is_base64(text)}, FROM_BASE64({text}), NULL)"
        names.append(identifier(column.name))
        values.append(text)
    names += [KEY, _MALFORMED]
    values += [key_sql([texts[name] for name in target.key]), " OR ".join(doubts)]
    return (
        f"INSERT INTO {qualified(target.database, STAGING)} ({', '.join(names)}) SELECT {', '.join(values)}"
        f" FROM {qualified(target.database, RAW)} WHERE {_RECORD} BETWEEN {first} AND {last}"
    )


def unstage(target: Target, first: int, last: int) -> str:
    """Delete records from staging."""
    return f"DELETE FROM {qualified(target.database, STAGING)} WHERE {_RECORD} BETWEEN {first} AND {last}"


def _fields(target: Target) -> int:
    return len(CHANGE_FLAGS) + len(target.columns)


def load_rows(target: Target, source: str, numbered: bool = False) -> str:
    """A file of whole rows into staging: `_key` in hexadecimal, `GONE`, then the columns. `numbered`: `RECORD` first."""
    leading = (SqlColumn(KEY, ""), *ROW_FLAGS)
    return _load(target, source, (SqlColumn(RECORD, "BIGINT"), *leading) if numbered else leading, ())


def stage_key(target: Target, gone: bool | None) -> str:
    """A row of staging without values; its arguments are its number (None: the next) and `_key`. `gone` None: a key whose
    row in the target stays as it is."""
    flag = "NULL" if gone is None else str(gone).upper()
    staging = qualified(target.database, STAGING)
    return f"INSERT INTO {staging} ({_RECORD}, {KEY}, {_GONE}) VALUES (%s, %s, {flag})"


def _load(target: Target, source: str, leading: Sequence[SqlColumn], key: Sequence[str]) -> str:
    """Fields go to their columns, so that a record with too few of them is a fault; those of the key to variables, as
    its text is hashed before a column's type has touched it."""
    fields, sets, doubts = [], [], []
    places: dict[str, str] = {}
    for number, column in enumerate((*leading, *target.columns)):
        name = identifier(column.name)
        held = column.name in key or column.name == KEY
        place = places[column.name] = f"@f{number}" if held else name
        fields.append(place)
        if column.name == KEY:
            sets.append(f"{name} = UNHEX({place})")
        elif column.is_binary:
            doubts.append(f"({place} IS NOT NULL AND NOT {_is_base64(place)})")
            sets.append(f"{name} = IF({_is_base64(place)}, FROM_BASE64({place}), NULL)")
        elif held:
            sets.append(f"{name} = {place}")
    if key:
        sets.insert(0, f"{KEY} = {key_sql([places[name] for name in key])}")
    sets.insert(0, f"{_MALFORMED} = {' OR '.join(doubts) or 'FALSE'}")
    staging = qualified(target.database, STAGING)
    return f"LOAD DATA {source} INTO TABLE {staging} {_CSV} ({', '.join(fields)}) SET {', '.join(sets)}"


def _is_base64(place: str) -> str:
    """SQL of whether a text is base64: MariaDB stops without a place at one that is not, MySQL makes it NULL."""
    return f"({place} REGEXP '^[A-Za-z0-9+/]*={{0,2}}$' AND OCTET_LENGTH({place}) % 4 = 0)"


def key_sql(values: Sequence[str]) -> str:
    """SQL of `_key` from the texts of the key's values: SHA-256 of each one's length in bytes, ':' and itself."""
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


def _among(records: Records) -> str:
    return "" if records is None else f" AND s.{_RECORD} BETWEEN {records[0]} AND {records[1]}"


def bury(target: Target, removals: Sequence[str], records: Records = None) -> str:
    """Tombstones of the staged removals; of two of one key the later stays."""
    staging = qualified(target.database, STAGING)
    events = ", ".join(literal(event) for event in removals)
    return (
        f"INSERT INTO {target.tombstones} ({KEY}, {SEQUENCE}, removed_at) SELECT s.{KEY}, s.{SEQUENCE}, UTC_TIMESTAMP(6)"
        f" FROM {staging} s WHERE s.{_EVENT} IN ({events}){_among(records)} ORDER BY s.{KEY}"
        f" ON DUPLICATE KEY UPDATE removed_at = IF(VALUES({SEQUENCE}) > {target.tombstones}.{SEQUENCE},"
        f" VALUES(removed_at), {target.tombstones}.removed_at),"
        f" {SEQUENCE} = GREATEST({target.tombstones}.{SEQUENCE}, VALUES({SEQUENCE}))"
    )


def upsert_changes(target: Target, removals: Sequence[str], records: Records = None) -> str:
    """Staged images that are later than their key's tombstone and row; the guard is assigned last, as it reads itself."""
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
        f" OR s.{SEQUENCE} > d.{SEQUENCE}){_among(records)} ORDER BY s.{KEY}, s.{_RECORD} ON DUPLICATE KEY UPDATE {', '.join(sets)}"
    )


def update_change(target: Target, removals: Sequence[str], record: int) -> str:
    """Update the row of one staged image if the image is later. No other row changes, with any unique index."""
    t = target.name
    sets = [f"t.{name} = s.{name}" for name in (SEQUENCE, *(identifier(column.name) for column in target.columns))]
    return (
        f"UPDATE {t} t JOIN {qualified(target.database, STAGING)} s ON s.{KEY} = t.{KEY}{_among((record, record))}"
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
        f" AND (d.{SEQUENCE} IS NULL OR s.{SEQUENCE} > d.{SEQUENCE}){_among((record, record))}"
    )


def _is_image(removals: Sequence[str]) -> str:
    return f"s.{_EVENT} NOT IN ({', '.join(literal(event) for event in removals)})"


def remove_buried(target: Target, records: Records = None) -> str:
    """Rows of staged keys that their tombstone is not older than."""
    staging, t = qualified(target.database, STAGING), target.name
    return (
        f"DELETE t FROM {t} t JOIN {target.tombstones} d ON d.{KEY} = t.{KEY} AND d.{SEQUENCE} >= t.{SEQUENCE}"
        f" JOIN {staging} s ON s.{KEY} = t.{KEY}{_among(records)}"
    )


def upsert_rows(target: Target) -> str:
    """Staged rows as they are. The target must have no unique index besides its primary key."""
    names = [identifier(column.name) for column in target.columns]
    sets = ", ".join(f"{name} = VALUES({name})" for name in (KEY, *names))
    return f"{_insert_rows(target, '')} WHERE NOT s.{_GONE} ORDER BY s.{KEY} ON DUPLICATE KEY UPDATE {sets}"


def insert_rows(target: Target, records: Records) -> str:
    """Those of the staged rows whose key has no row."""
    absent = f" LEFT JOIN {target.name} t ON t.{KEY} = s.{KEY}"
    return f"{_insert_rows(target, absent)} WHERE NOT s.{_GONE} AND t.{KEY} IS NULL{_among(records)} ORDER BY s.{KEY}"


def _insert_rows(target: Target, joined: str) -> str:
    names = [KEY, *(identifier(column.name) for column in target.columns)]
    picked = ", ".join(f"s.{name}" for name in names)
    staging = qualified(target.database, STAGING)
    return f"INSERT INTO {target.name} ({', '.join(names)}) SELECT {picked} FROM {staging} s{joined}"


def update_rows(target: Target, records: Records) -> str:
    """The rows of staged keys become the staged ones; no other row does, whatever unique indexes the table has."""
    names = [identifier(column.name) for column in target.columns]
    sets = ", ".join(f"t.{name} = s.{name}" for name in names)
    staging = qualified(target.database, STAGING)
    return (
        f"UPDATE {target.name} t JOIN {staging} s ON s.{KEY} = t.{KEY}{_among(records)} SET {sets} WHERE NOT s.{_GONE}"
    )


def remove_gone(target: Target, records: Records = None) -> str:
    """Rows whose staged key is gone."""
    staging = qualified(target.database, STAGING)
    return f"DELETE t FROM {target.name} t JOIN {staging} s ON s.{KEY} = t.{KEY}{_among(records)} WHERE s.{_GONE}"


def count_staged(target: Target, gone: bool) -> str:
    """How many staged keys are gone, or are not."""
    return f"SELECT COUNT(*) FROM {qualified(target.database, STAGING)} WHERE {'' if gone else 'NOT '}{_GONE}"


def staged_key(target: Target) -> str:
    """`_key` of a staged record; its argument is its number."""
    return f"SELECT {KEY} FROM {qualified(target.database, STAGING)} WHERE {_RECORD} = %s"


def last_staged(target: Target) -> str:
    """The greatest number of a staged record; NULL without one."""
    return f"SELECT MAX({_RECORD}) FROM {qualified(target.database, STAGING)}"


def remove_unstaged(target: Target) -> str:
    """Rows whose key is not staged: after a whole table was staged, those that are no more."""
    return f"DELETE t {_unstaged(target)}"


def unstaged(target: Target, limit: int) -> str:
    """Keys of such rows, `limit` of them."""
    return f"SELECT t.{KEY} {_unstaged(target)} LIMIT {limit}"


def _unstaged(target: Target) -> str:
    staging = qualified(target.database, STAGING)
    return f"FROM {target.name} t LEFT JOIN {staging} s ON s.{KEY} = t.{KEY} WHERE s.{KEY} IS NULL"


# --- rows that the database rejected


ROWS: Final = "current"
"""The `object` of a rejected row of the lake's `current`; its `version` is its `_key`, so that a key has one at most."""

_OF_ROWS: Final = f"r.object_hash = UNHEX(SHA2({literal(ROWS)}, 256))"


def count_rejected(target: Target) -> str:
    """How many rows of `current` are rejected."""
    return f"SELECT COUNT(*) FROM {target.rejected} r WHERE {_OF_ROWS}"


def rejections(target: Target, limit: int) -> str:
    """The most frequent reasons, and the number of rows that each one applies to."""
    return f"SELECT r.reason, COUNT(*) AS n FROM {target.rejected} r WHERE {_OF_ROWS} GROUP BY r.reason ORDER BY n DESC, 1 LIMIT {limit}"


def rejected_keys(target: Target) -> str:
    """The hashes of the keys of rejected rows, in hexadecimal."""
    return f"SELECT LOWER(HEX(r.{KEY})) FROM {target.rejected} r WHERE {_OF_ROWS}"


def rejected_reasons(target: Target, keys: int) -> str:
    """Why the rows of some keys were rejected; the arguments are the hashes of `keys` of them, in hexadecimal."""
    places = ", ".join(["UNHEX(%s)"] * keys)
    return f"SELECT LOWER(HEX(r.{KEY})), r.reason FROM {target.rejected} r WHERE {_OF_ROWS} AND r.version IN ({places})"


def settle_rejected(target: Target, whole: bool) -> str:
    """Take out the rejected rows whose keys are staged (`whole`: all); those that are rejected again are put in after."""
    if whole:
        return f"DELETE r FROM {target.rejected} r WHERE {_OF_ROWS}"
    staging = qualified(target.database, STAGING)
    return f"DELETE r FROM {target.rejected} r JOIN {staging} s ON s.{KEY} = r.{KEY} WHERE {_OF_ROWS}"


def insert_rejected(target: Target) -> str:
    """Put a rejected row in; the arguments are `_key` twice, the fields and the reason."""
    return (
        f"INSERT INTO {target.rejected} (object_hash, object, version, record, {KEY}, fields, reason, rejected_at)"
        f" VALUES (UNHEX(SHA2({literal(ROWS)}, 256)), {literal(ROWS)}, %s, 0, %s, %s, %s, UTC_TIMESTAMP(6))"
    )
