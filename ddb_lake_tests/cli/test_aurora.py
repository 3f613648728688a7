from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ddb_lake_tests.aurora.lakes import PASSWORD_ENV, aurora
from ddb_lake_tests.cli.conftest import Run
from ddb_lake_tests.mariadb import PASSWORD, MariaDb


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
    assert run("sync").stdout == "Nothing is due.\n"
    run("apply", "orders", landing / "changes")

    replicated = run("aurora", "orders")
    assert replicated.exit_code == 0
    assert replicated.stdout.startswith(
        f"orders: 2 rows put into {server.database}.orders and 1 removed, it has 3 rows now"
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


def test_password_that_is_not_set_is_wrong_use(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_ENV, raising=False)
    settings = {"host": "h", "database": "d", "user": "u", "password_env": PASSWORD_ENV}
    tables = [{"name": "orders", "key": ["id"], "aurora": settings}]
    (project / "ddb_lake.yaml").write_text(yaml.safe_dump({"warehouse": "warehouse", "tables": tables}))

    result = run("aurora", "orders")

    assert result.exit_code == 2 and f"{PASSWORD_ENV} (password_env) is not set" in result.stderr
