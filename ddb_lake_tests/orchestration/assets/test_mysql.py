"""`aurora/<table>` in Dagster: it follows `current` in the same run, and is made up for where that failed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from ddb_lake.checks.check import Subject
from ddb_lake.checks.mysql import content_matches_lake, rows_match_lake
from ddb_lake.config import LakeSettings
from ddb_lake.errors import DatabaseError, TransientError
from ddb_lake.mysql.connection import Server
from ddb_lake.mysql.replication import REPLICATION
from ddb_lake.orchestration import sensor
from ddb_lake.orchestration.assets import mysql as replicating
from ddb_lake.orchestration.run_requests import Requests
from ddb_lake.orchestration.specs import LakeAsset, base_spec, table_assets
from ddb_lake_tests.support.dagster_folders import FolderLake, check, inserted
from ddb_lake_tests.support.landed_files import order
from ddb_lake_tests.support.mariadb import PASSWORD, MariaDb
from ddb_lake_tests.support.memory_store import Steps
from ddb_lake_tests.support.mysql_lakes import PASSWORD_ENV, aurora

CHECKS = ("rows_match_lake", "content_matches_lake")


@pytest.fixture
def server(mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    return mariadb.fresh()


def customers(mariadb: MariaDb, server: Server) -> set[Any]:
    database = mariadb.open(server)
    try:
        return {customer for (customer,) in database.rows("SELECT customer FROM orders")}
    finally:
        database.close()


def test_sensor_brings_lake_and_database_up_to_date_in_one_run(
    folder_lake: Callable[..., FolderLake], mariadb: MariaDb, server: Server
) -> None:
    lake = folder_lake(orders={"aurora": aurora(server)})
    lake.export(order("ann", 1), order("bob", 2))
    lake.land("2025/02/03/04/a", inserted(3, "cec"))

    runs = lake.settle()

    assert all(run.success for run in runs)
    assert customers(mariadb, server) == {"ann", "bob", "cec"}
    last = runs[-1]
    assert {name for name, _ in last.materialized} >= {"current/orders", "aurora/orders"}
    assert all(check(last, "aurora/orders", name).passed for name in CHECKS)
    told = last.metadata["aurora/orders"]
    assert (told["dagster/row_count"], told["dagster/table_name"]) == (3, f"{server.database}.orders")
    assert lake.ticker.tick().skipped is not None


def test_run_that_failed_on_the_database_alone_is_made_up_for(
    folder_lake: Callable[..., FolderLake],
    mariadb: MariaDb,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = folder_lake(orders={"aurora": aurora(server), "export": None})
    lake.land("2025/02/03/04/a", inserted(1))

    def refuses(*arguments: Any, **options: Any) -> None:
        raise DatabaseError("the database refuses")

    with monkeypatch.context() as broken:
        broken.setattr(replicating, "replicate", refuses)
        broken.setattr(sensor, "WORK_KINDS", ())
        runs = lake.settle()
        assert [run.success for run in runs] == [False]
        assert ("current/orders", None) in runs[0].materialized and len(lake.items()) == 1

    run = lake.run("aurora/orders")

    assert run.success and customers(mariadb, server) == {"ann"}


def test_planner_asks_for_what_the_database_lacks_once_in_a_while(
    steps: Callable[..., Steps],
) -> None:
    lake = steps({"name": "orders", "key": ["customer", "order_id"], "aurora": aurora(Server("h", "d", "u"))})
    reasons: list[str | None] = ["2 batches of changes", "2 batches of changes", None]
    kinds = [replace(REPLICATION, due=lambda *_: reasons.pop(0))]

    first, at_once = lake.tick(kinds=kinds), lake.tick(kinds=kinds)
    lake.now += timedelta(minutes=11)
    later = lake.tick(kinds=kinds)

    assert [(work.kind, work.reason) for work in first.work] == [("replicate", "2 batches of changes")]
    assert at_once.work == [] and not any(plan.failed for plan in (first, at_once, later))
    (request,) = Requests("lake", {"orders": table_assets(lake.lake.table("orders"), spec_of)}).requests(first.work)
    assert request.asset_selection == [dg.AssetKey(["aurora", "orders"])]


def test_database_that_is_away_keeps_no_other_work_waiting(
    steps: Callable[..., Steps], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = steps(
        {
            "name": "orders",
            "key": ["customer", "order_id"],
            "changes": {"uri": "s3://landing/"},
            "aurora": aurora(Server("127.0.0.1", "d", "u", 1)),
        }
    )
    lake.store.put("s3://landing/2026/03/04/12/a", json.dumps(inserted(1)).encode())
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    plan = lake.tick(kinds=[REPLICATION])
    lake.apply(plan)
    lake.now += timedelta(minutes=11)
    lake.store.put("s3://landing/2026/03/04/12/b", json.dumps(inserted(2)).encode())

    later = lake.tick(kinds=[REPLICATION])

    assert [work.kind for work in later.work] == ["apply"]
    assert isinstance(later.failed["orders"], TransientError)


def spec_of(asset: LakeAsset) -> dg.AssetSpec:
    return base_spec(asset, LakeSettings(warehouse="lake", tables=(asset.table,)))


def test_checks_are_red_while_rows_are_rejected_and_a_replay_takes_them(
    folder_lake: Callable[..., FolderLake], mariadb: MariaDb, server: Server
) -> None:
    database = mariadb.open(server)
    database.execute("CREATE TABLE orders (_key BINARY(32) PRIMARY KEY, customer VARCHAR(5) CHARSET utf8mb4)")
    lake = folder_lake(orders={"aurora": aurora(server), "export": None})
    lake.land("2025/02/03/04/a", inserted(1, "ann"), inserted(2, "4711-secret"))

    runs = lake.settle()

    assert all(run.success for run in runs) and customers(mariadb, server) == {"ann"}
    assert runs[-1].metadata["aurora/orders"]["rejected"] == 1
    with lake.opened() as opened:
        subject = Subject(opened, opened.table("orders"))
        rows, content = rows_match_lake(subject), content_matches_lake(subject)
    assert (rows.state, content.state) == ("fail", "fail")
    assert rows.figures["rejected"] == content.figures["rejected"] == 1
    assert "as the database rejected it: column customer: error" in content.text
    assert "--replay" in rows.text + content.text
    assert "4711" not in rows.text + content.text
    database.execute("ALTER TABLE orders MODIFY customer VARCHAR(50) CHARSET utf8mb4")
    database.close()
    run = lake.run("aurora/orders", config={"ops": {f"{lake.name}__aurora__orders": {"config": {"replay": True}}}})
    assert run.success and all(check(run, "aurora/orders", name).passed for name in CHECKS)


def test_checks_go_red_when_the_database_differs(
    folder_lake: Callable[..., FolderLake], mariadb: MariaDb, server: Server
) -> None:
    lake = folder_lake(orders={"aurora": aurora(server), "export": None})
    lake.land("2025/02/03/04/a", inserted(1, "ann"), inserted(2, "4711-secret"))
    lake.settle()
    database = mariadb.open(server)
    database.execute("DELETE FROM orders WHERE customer = 'ann'")
    database.close()

    with lake.opened() as opened:
        subject = Subject(opened, opened.table("orders"))
        rows, content = rows_match_lake(subject), content_matches_lake(subject)

    assert (rows.state, content.state) == ("fail", "fail")
    assert "1 row in" in rows.text and "1 not in the database" in content.text
    assert "4711" not in content.text
    run = lake.run("aurora/orders", config={"ops": {f"{lake.name}__aurora__orders": {"config": {"full": True}}}})
    assert run.success and all(check(run, "aurora/orders", name).passed for name in CHECKS)


def test_table_without_a_database_has_no_such_asset(folder_lake: Callable[..., FolderLake]) -> None:
    lake = folder_lake()

    assert not [key for key in lake.defs.resolve_asset_graph().get_all_asset_keys() if key.path[0] == "aurora"]
