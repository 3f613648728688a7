"""A real PostgreSQL server for tests, from Debian's packages: started in a folder of its own, on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import psycopg

from ddb_lake_tests.support.free_ports import free_ports
from ddb_lake_tests.support.system_packages import PACKAGES, command, find_postgresql

READY_WITHIN_S: Final = 300
USER: Final = "lake"
PASSWORD: Final = "p@ss/w:rd"
SYSTEM_USER: Final = "postgres"
"""Debian's user for it: the server refuses to run as root."""


class PostgreSql:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._made = 0

    def fresh(self) -> str:
        """Create an empty database; its name."""
        self._made += 1
        name = f"lake{self._made}"
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name


@contextmanager
def running_postgresql() -> Iterator[PostgreSql]:
    """A server for the length of a `with` block."""
    folder = Path(
        mkdtemp(prefix="ddb-lake-postgresql-")
    )  # a socket's path may have 107 bytes, pytest's folders are long
    process = None
    try:
        _initialize(folder)
        (port,) = free_ports(1)
        process = _start(folder, port)
        _wait(process, port, folder)
        yield PostgreSql(port)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # ends the connections; SIGTERM would wait for their ends
            process.wait(120)
        shutil.rmtree(folder, ignore_errors=True)


def _as_user() -> dict[str, Any]:
    """Popen's arguments for a user that is not root."""
    return {"user": SYSTEM_USER, "group": SYSTEM_USER, "extra_groups": []} if os.geteuid() == 0 else {}


def _program(name: str) -> str:
    found = find_postgresql()
    if found is None:
        raise RuntimeError(f"PostgreSQL is not installed: {command([PACKAGES['postgresql']])}")
    return str(Path(found).with_name(name))


def _initialize(folder: Path) -> None:
    password = folder / "password"
    password.write_text(PASSWORD)
    if os.geteuid() == 0:
        shutil.chown(folder, SYSTEM_USER)
        shutil.chown(password, SYSTEM_USER)
    arguments = [
        _program("initdb"),
        f"--pgdata={folder / 'data'}",
        f"--username={USER}",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]
    subprocess.run(arguments, check=True, capture_output=True, timeout=600, cwd=folder, **_as_user())


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    settings: Sequence[str] = (
        "listen_addresses=127.0.0.1",
        f"port={port}",
        f"unix_socket_directories={folder}",
        "fsync=off",
        "shared_buffers=32MB",
    )
    arguments = [
        _program("postgres"),
        "-D",
        str(folder / "data"),
        *(part for each in settings for part in ("-c", each)),
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, cwd=folder, **_as_user())


def _wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"postgres did not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")
