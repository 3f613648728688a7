"""A real MariaDB server for tests, from Debian's packages: started in a folder of its own, on a free port."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pymysql

from ddb_lake.errors import TransientError
from ddb_lake.mysql.connection import Database, Server, open_database
from ddb_lake_tests.support.free_ports import free_ports
from ddb_lake_tests.support.system_packages import PACKAGES, command, find_program

READY_WITHIN_S = 300
USER = "loader"
PASSWORD = 'it\'s a \\ "secret"'


class MariaDb:
    """A running server. `fresh()` gives the address of an empty database."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._made = 0

    def fresh(self) -> Server:
        """A new, empty database."""
        self._made += 1
        name = f"Demo{self._made}"
        self._as_root(f"CREATE DATABASE {name}")
        return Server("127.0.0.1", name, USER, self.port)

    def open(self, server: Server, password: str = PASSWORD) -> Database:
        """A connection to it."""
        return open_database(server, password)

    def drop(self, database: str, user: str) -> None:
        """Remove a database and a user that a test has created, if they exist."""
        self._as_root(f"DROP DATABASE IF EXISTS {database}", f"DROP USER IF EXISTS {user}@'127.0.0.1'")

    def _as_root(self, *statements: str) -> None:
        with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as driver, driver.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def add_user(self) -> None:
        """A user with what the guide says that it needs, and no more."""
        with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as driver, driver.cursor() as cursor:
            cursor.execute(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY %s", (PASSWORD,))
            cursor.execute(
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, CREATE TEMPORARY TABLES"
                f" ON *.* TO {USER}@'127.0.0.1'"
            )


class Dying(Database):
    """A connection that is lost before its nth statement."""

    __slots__ = ("left",)

    def __init__(self, database: Database, statements: int) -> None:
        super().__init__(database.server, database.driver)
        self.left = statements

    def _one(self) -> None:
        if self.left == 0:
            self.driver.close()
            raise TransientError("the connection is lost")
        self.left -= 1

    def execute(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        self._one()
        return super().execute(sql, arguments)

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        self._one()
        return super().rows(sql, arguments)

    def load(self, sql: str, what: str) -> int:
        self._one()
        return super().load(sql, what)


@contextmanager
def running() -> Iterator[MariaDb]:
    """A server for the length of a `with` block."""
    folder = Path(mkdtemp(prefix="ddb-lake-mariadb-"))  # a socket's path may have 107 bytes, pytest's folders are long
    process = None
    try:
        _install(folder)
        (port,) = free_ports(1)
        process = _start(folder, port)
        _wait(process, port, folder)
        server = MariaDb(port)
        server.add_user()
        yield server
    finally:
        if process is not None:
            process.terminate()
            process.wait(120)
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed: {command([PACKAGES['mariadb']])}")
    return found


def _install(folder: Path) -> None:
    arguments = [
        _program("mariadb-install-db"),
        "--no-defaults",
        f"--datadir={folder / 'data'}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
        f"--user={getpass.getuser()}",
    ]
    subprocess.run(arguments, check=True, capture_output=True, timeout=600)


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    arguments = [
        _program("mariadbd"),
        "--no-defaults",
        f"--user={getpass.getuser()}",
        f"--datadir={folder / 'data'}",
        f"--socket={folder / 's.sock'}",
        f"--pid-file={folder / 'pid'}",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        "--skip-name-resolve",
        "--local-infile=1",
        "--skip-log-bin",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=64M",
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            pymysql.connect(host="127.0.0.1", port=port, user="root").close()
        except pymysql.MySQLError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"mariadbd did not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")
