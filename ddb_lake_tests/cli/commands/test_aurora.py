from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.mariadb import PASSWORD, MariaDb
from ddb_lake_tests.support.mysql_lakes import PASSWORD_ENV, aurora


def test_table_is_replicated_compared_and_part_of_sync(
    run: Run, project: Path, landing: Path, mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    server = mariadb.fresh()
    tables = [{"name": "orders", "key": ["customer", "order_id"], "aurora": aurora(server)}]
    (project / "ddb_lake.yaml").write_text(yaml.safe_dump({"warehouse": "warehouse", "tables": tables}))
    assert run("aurora", "orders").exit_code == 2
    run("load", "orders", "--export", landing / "export")

    synced = run("sync", "--json")
    told = json.loads(synced.stdout)
    assert [(one["kind"], one["result"]["scope"]) for one in told["results"]] == [("replicate", "all")]
    assert json.loads(run("sync", "--json").stdout)["due"] == []
    run("apply", "orders", landing / "changes")

    replicated = run("aurora", "orders")
    assert replicated.exit_code == 0
    assert replicated.stdout.startswith(
        f"orders: 2 rows written to {server.database}.orders and 1 removed, it has 3 rows now"
    )
    checked = run("aurora", "orders", "--check", "all", "--json")
    document = json.loads(checked.stdout)
    assert (checked.exit_code, document["scope"], document["comparison"]["equal"]) == (0, "nothing", True)
    database = mariadb.open(server)
    database.execute("DELETE FROM orders LIMIT 1")
    database.close()
    differing = run("aurora", "orders", "--check", "sample")
    assert differing.exit_code == 1 and "1 missing, 0 extra, 0 different" in differing.stdout
    assert run("aurora", "orders", "--full", "--check", "all").exit_code == 0


def test_rejected_rows_are_reported_until_a_replay_takes_them(
    run: Run, project: Path, landing: Path, mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    server = mariadb.fresh()
    database = mariadb.open(server)
    database.execute("CREATE TABLE orders (_key BINARY(32) PRIMARY KEY, total DECIMAL(2,0))")
    tables = [{"name": "orders", "key": ["customer", "order_id"], "aurora": aurora(server)}]
    (project / "ddb_lake.yaml").write_text(yaml.safe_dump({"warehouse": "warehouse", "tables": tables}))
    run("load", "orders", "--export", landing / "export")

    synced = run("sync", "--json")
    again = run("aurora", "orders", "--check", "all", "--json")

    rejected = json.loads(again.stdout)
    assert 0 < rejected["rejected"] <= rejected["rows"]
    assert (synced.exit_code, again.exit_code) == (1, 1)
    assert len(json.loads(synced.stdout)["doubts"]) == 1
    assert rejected["comparison"]["rejected"] == rejected["rejected"] and not rejected["comparison"]["equal"]
    said = f"Error: orders: {server.database}.orders rejects {rejected['rejected']} of the rows (column total: error"
    assert said in " ".join(again.stderr.split()) and "`ddb-lake aurora orders --replay`" in again.stderr
    database.execute("ALTER TABLE orders MODIFY total LONGTEXT")
    database.close()
    replayed = run("aurora", "orders", "--replay", "--check", "all")
    assert (replayed.exit_code, replayed.stderr) == (0, "")
    assert ", 0 rejected." in replayed.stdout


def test_password_that_is_not_set_is_wrong_use(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_ENV, raising=False)
    settings = {"host": "h", "database": "d", "user": "u", "password_env": PASSWORD_ENV}
    tables = [{"name": "orders", "key": ["id"], "aurora": settings}]
    (project / "ddb_lake.yaml").write_text(yaml.safe_dump({"warehouse": "warehouse", "tables": tables}))

    result = run("aurora", "orders")

    assert result.exit_code == 2 and f"{PASSWORD_ENV} (password_env) is not set" in result.stderr
