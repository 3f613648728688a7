from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake_tests.support.mariadb import PASSWORD, MariaDb
from ddb_lake_tests.support.mysql_lakes import PASSWORD_ENV, Replicated
from ddb_lake_tests.support.mysql_pages import TABLE, Pages


@pytest.fixture
def pages(mariadb: MariaDb, tmp_path: Path) -> Iterator[Pages]:
    server = mariadb.fresh()
    database = mariadb.open(server)
    database.execute(f"CREATE TABLE Pages ({TABLE}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    yield Pages(server, database, tmp_path)
    database.close()


@pytest.fixture
def replicated(mariadb: MariaDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replicated:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Replicated(tmp_path, mariadb, mariadb.fresh())
