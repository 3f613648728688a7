"""A connection to a MySQL-compatible database, with the session settings that `statements` requires.

`Database` runs every statement and translates the driver's errors: TransientError for lost connections, deadlocks and
failovers, DatabaseError for the rest. A server quotes values in its messages (`Incorrect integer value: '…'`), so the
message is kept only for errors whose message has no values; for all others the error has the code and the record's number.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

import pymysql
from pymysql.constants import CR, ER
from pymysql.cursors import SSCursor

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import ConfigError, DatabaseError, DdbLakeError, TransientError

SQL_MODE: Final = (
    "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,"
    "NO_BACKSLASH_ESCAPES"
)
"""Strict: a value that does not fit is an error. Without backslash escapes: `statements.literal` relies on it."""

CONNECT_TIMEOUT_S: Final = 10
FETCH_ROWS: Final = 1_000
LOCK_WAIT_S: Final = 60
"""How long a writer waits for another writer of the same table."""

_ROW: Final = re.compile(r"for column .*?`?([^`'\s]+)['`]? at row (\d+)$|at row (\d+)$|^Row (\d+) ", re.DOTALL)
_TRANSIENT: Final = {
    *(
        CR.CR_SERVER_GONE_ERROR,
        CR.CR_SERVER_LOST,
        CR.CR_CONN_HOST_ERROR,
        CR.CR_CONNECTION_ERROR,
        CR.CR_SERVER_LOST_EXTENDED,
    ),
    *(ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.CON_COUNT_ERROR, ER.SERVER_SHUTDOWN, ER.OPTION_PREVENTS_STATEMENT),
    *(ER.QUERY_INTERRUPTED, ER.TOO_MANY_USER_CONNECTIONS, 1836, 1290),  # 1836, 1290: read-only, as in a failover
}
_MESSAGES_WITHOUT_VALUES: Final = {
    *(ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.BAD_DB_ERROR, ER.TABLEACCESS_DENIED_ERROR, ER.NO_SUCH_TABLE),
    *(ER.TOO_BIG_ROWSIZE, ER.TOO_MANY_FIELDS, ER.BAD_FIELD_ERROR, ER.NOT_ALLOWED_COMMAND, ER.DUP_FIELDNAME),
    *(ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.HOST_NOT_PRIVILEGED, ER.TOO_LONG_KEY, ER.COLUMNACCESS_DENIED_ERROR),
    *(ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.UNKNOWN_COLLATION, ER.TOO_LONG_IDENT, CR.CR_CONN_HOST_ERROR),
    *(ER.PARSE_ERROR, 3948, 1290, 1836, 63985, 63995),  # 3948: LOCAL is off; 63985 and on: Aurora's of LOAD FROM S3
}
_RECORD: Final = re.compile(r"record (\d+)(?:, |: )?")
MOST_WARNINGS: Final = 65_535

_ROW_ERRORS: Final = {
    *(ER.WARN_DATA_OUT_OF_RANGE, ER.WARN_DATA_TRUNCATED, ER.TRUNCATED_WRONG_VALUE, ER.TRUNCATED_WRONG_VALUE_FOR_FIELD),
    *(ER.DATA_TOO_LONG, ER.BAD_NULL_ERROR, ER.NO_DEFAULT_FOR_FIELD, ER.WARN_NULL_TO_NOTNULL, ER.DUP_ENTRY),
    *(ER.NO_REFERENCED_ROW, ER.NO_REFERENCED_ROW_2, ER.ROW_IS_REFERENCED, ER.ROW_IS_REFERENCED_2, 1644),
    *(ER.WARN_TOO_FEW_RECORDS, ER.WARN_TOO_MANY_RECORDS, 1526, ER.INVALID_CHARACTER_STRING),
    *(
        1416,
        1690,
        1977,
        3140,
        3141,
        3156,
        3819,
        3903,
        4025,
        4038,
    ),  # geometry, BIGINT, JSON, CHECK constraints; 1526: no partition; 1644: SIGNAL
}
"""Errors of the values of one record. Any other error stops the whole file."""

_ADVICE: Final = {
    ER.ACCESS_DENIED_ERROR: "check `user` and the password, secret or IAM authentication",
    ER.NOT_ALLOWED_COMMAND: "set local_infile=1 in the server's (cluster) parameter group",
    3948: "set local_infile=1 in the server's (cluster) parameter group",
    ER.TOO_BIG_ROWSIZE: "replicate fewer columns: name those you need in `mysql.columns`",
    ER.TOO_MANY_FIELDS: "replicate fewer columns: name those you need in `mysql.columns`",
    ER.BAD_DB_ERROR: "create the database, or correct `database`",
    CR.CR_CONN_HOST_ERROR: "check host, port, security groups, and that the server runs",
}


@dataclass(frozen=True, slots=True)
class Server:
    """The address of a database and the user.

    Args:
        tls: encrypt the connection; None: unless the host is this machine.
        tls_ca: a file of certificates to trust in place of the system's; for Aurora, the RDS bundle.
            https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.SSL.html
    """

    host: str
    database: str
    user: str
    port: int = 3306
    tls: bool | None = None
    tls_ca: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return not self.is_local if self.tls is None else self.tls

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"


@dataclass(slots=True)
class Database:
    """An open connection. Every method raises DatabaseError or TransientError."""

    server: Server
    driver: Any = field(repr=False)

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Run a statement. Returns its row count: for an upsert, 1 for an inserted row and 2 for a replaced one."""
        with self._errors(), self.driver.cursor() as cursor:
            count: int = cursor.execute(sql, arguments or None)
            return count

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._errors(), self.driver.cursor() as cursor:
            cursor.execute(sql, arguments or None)
            return list(cursor.fetchall())

    def value(self, sql: str, arguments: Sequence[Any] = ()) -> Any:
        """The first value of a query's first row, None without one."""
        found = self.rows(sql, arguments)
        return found[0][0] if found else None

    def stream(self, sql: str, arguments: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Stream the rows of a query in bounded memory. The caller reads them all before the next statement."""
        with self._errors(), self.driver.cursor(SSCursor) as cursor:
            cursor.execute(sql, arguments or None)
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield from rows

    def load(self, sql: str, what: str) -> int:
        """Run a LOAD DATA. Returns the number of records.

        With LOCAL, the server reports invalid data as a warning, and a rounded number as a note. Each of them is an error
        here: raises DatabaseError with the number of the first such record in `what`.
        """
        try:
            with self.driver.cursor() as cursor:
                count: int = cursor.execute(sql)
                warned = cursor._result.warning_count if cursor._result else 0
                cursor.execute("SHOW WARNINGS")
                warnings = list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise self._translate(error, what) from None
        if warnings or warned:
            _, code, message = warnings[0] if warnings else ("", 0, "")
            raise DatabaseError(
                f"{what}: {_place(int(code), str(message))}; nothing of it was applied", is_row_error=True
            )
        return count

    def load_leniently(self, sql: str, what: str) -> dict[int, str]:
        """Run a LOAD DATA that ignores faults. Returns the numbers of the records with a fault, and the fault of each."""
        self.execute(f"SET SESSION max_error_count = {MOST_WARNINGS}")
        with self._errors(), self.driver.cursor() as cursor:
            cursor.execute(sql)
            warned = cursor._result.warning_count if cursor._result else 0
            cursor.execute("SHOW WARNINGS")
            warnings = list(cursor.fetchall())
        self.execute("SET SESSION max_error_count = 64")
        faults: dict[int, str] = {}
        for _, code, message in warnings:
            place = _place(int(code), str(message))
            number = _RECORD.match(place)
            if number is None:
                raise DatabaseError(f"{what}: {place}; nothing of it was applied")
            faults.setdefault(int(number[1]), place[number.end() :])
        if warned > len(warnings) or warned >= MOST_WARNINGS:
            raise DatabaseError(
                f"{what}: {count_text(warned, 'record is', 'records are')} malformed; nothing of it was applied"
            )
        return faults

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: committed at the end of the block, rolled back if the block raises."""
        self.execute("START TRANSACTION")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        try:
            self.driver.rollback()
        except pymysql.MySQLError:  # the connection is lost, and with it what was not committed
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self.driver.open:
            self.driver.close()

    @property
    def alive(self) -> bool:
        """Whether the server responds. Does not reconnect."""
        try:
            self.driver.ping(reconnect=False)
        except pymysql.MySQLError:
            return False
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except pymysql.MySQLError as error:
            raise self._translate(error, str(self.server)) from None

    def _translate(self, error: pymysql.MySQLError, what: str) -> DdbLakeError:
        return translate_error(error, what)


@contextmanager
def connect(server: Server, password: str) -> Iterator[Database]:
    """A connection for a `with` block. Raises DatabaseError, TransientError or ConfigError."""
    database = open_database(server, password)
    try:
        yield database
    finally:
        database.close()


def open_database(server: Server, password: str) -> Database:
    """An open connection, to be closed by the caller."""
    try:
        driver = pymysql.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=password,
            database=server.database,
            charset="utf8mb4",
            autocommit=True,
            local_infile=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            ssl=_tls(server),
            init_command=(
                f"SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_WAIT_S},"
                " max_error_count = 64, sql_notes = 1, foreign_key_checks = 1"
            ),
        )
    except (pymysql.MySQLError, OSError) as error:
        raise translate_error(error, str(server)) from None
    database = Database(server, driver)
    # Each statement sees what was committed before it; writers of a table exclude each other by its row in ddb_lake_state.
    database.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    return database


def _tls(server: Server) -> ssl.SSLContext | None:
    if not server.uses_tls:
        return None
    try:
        return ssl.create_default_context(cafile=server.tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"aurora: tls_ca {server.tls_ca}: {error.strerror or 'no certificates in it'}") from error


def translate_error(error: BaseException, what: str) -> DdbLakeError:
    """Translate an error of the driver. Its message is left out if it may quote an item's values."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    message = str(error.args[1]) if len(error.args) > 1 else type(error).__name__
    advice = f"; {_ADVICE[code]}" if code in _ADVICE else ""
    text = f"{what}: {_place(code, message)}{advice}"
    lost = isinstance(error, pymysql.err.InterfaceError | OSError)
    return TransientError(text) if code in _TRANSIENT or lost else DatabaseError(text, code in _ROW_ERRORS)


def _place(code: int, message: str) -> str:
    """The record and column of an error or warning, and its message if that has no values."""
    if code in _MESSAGES_WITHOUT_VALUES:
        return f"{' '.join(message.split())} (error {code})"
    name = next((n for n, number in sorted(vars(ER).items()) if number == code), "")
    kind = f"error {code}" + (f" ({name.lower().replace('_', ' ')})" if name else "")
    found = _ROW.search(message)
    if found is None:
        return kind
    column, *rows = found.groups()
    row = next(r for r in rows if r)
    return f"record {row}" + (f", column {column}" if column else "") + f": {kind}"
