"""Commands that need AWS, against the embedded emulator: export, doctor, init, and the emulator's own command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.session import session
from ddb_lake.config import load_settings
from ddb_lake.sandbox import ExportOptions, Sandbox, create_orders_table
from ddb_lake_tests.support.command_line import Run

CONFIGURATION = """\
warehouse: warehouse
tables:
  - name: orders
    key: [customer, order_id]
    export: {bucket: exports, prefix: daily}
    changes: {uri: s3://landing/orders/}
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(exports=ExportOptions(seconds=0.1)) as served:
        served.client("s3").create_bucket(
            Bucket="exports", CreateBucketConfiguration={"LocationConstraint": served.region}
        )
        served.client("s3").create_bucket(
            Bucket="landing", CreateBucketConfiguration={"LocationConstraint": served.region}
        )
        create_orders_table(served.client("dynamodb"))
        for number in range(3):
            item = {"customer": {"S": "ann"}, "order_id": {"S": str(number)}}
            served.client("dynamodb").put_item(TableName="orders", Item=item)
        session.cache_clear()
        yield served
        session.cache_clear()


@pytest.fixture
def account(sandbox: Sandbox, project: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The emulator, whose endpoint is in the environment, and a configuration of its table."""
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    (project / "ddb_lake.yaml").write_text(CONFIGURATION)
    return sandbox


def test_export_waits_and_loads(run: Run, account: Sandbox) -> None:
    result = run("export", "orders", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["status"] == "COMPLETED"
    assert (document["load"]["items"], document["load"]["rows"]) == (3, 3)
    assert "Ctrl-C leaves it to `ddb-lake sync`" in result.stderr
    assert len(run("dump", "orders").stdout.splitlines()) == 3


def test_export_that_is_not_waited_for_is_loaded_by_sync(run: Run, account: Sandbox) -> None:
    started = run("export", "orders", "--no-wait")
    assert started.exit_code == 0
    arn = started.stdout.strip()
    account.client("dynamodb").get_waiter("export_completed").wait(ExportArn=arn, WaiterConfig={"Delay": 1})
    result = run("sync", "orders", "--json")
    kinds = {one["kind"] for one in json.loads(result.stdout)["results"]}
    assert kinds == {"load"}
    assert json.loads(run("status", "orders", "--json").stdout)["rows"] == 3


def test_scan_states_its_cost_and_loads(run: Run, account: Sandbox) -> None:
    result = run("load", "orders", "--scan", "--read-rate", "50", "--segments", "2", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["items"], document["rows"], document["files"]) == (3, 3, 2)
    assert document["scan_until_us"] > document["export_us"]
    assert (
        "the scan reads about" in result.stderr and "read units into s3://exports/daily/AWSDynamoDB/" in result.stderr
    )
    assert len(run("dump", "orders").stdout.splitlines()) == 3
    status = run("status", "orders").stdout
    assert "catching up" in status
    assert json.loads(run("status", "orders", "--json").stdout)["catching_up"] is True


def test_athena_table_has_the_columns_of_the_lake(run: Run, account: Sandbox) -> None:
    statement = run("athena-ddl", "orders", "--since", "2025-06-01").stdout
    first, column, *_, last = statement.splitlines()
    assert first == "CREATE EXTERNAL TABLE IF NOT EXISTS `ddb_lake`.`orders_landing` ("
    assert (column, last) == ("  `record` string", ");")
    assert "'projection.datehour.range' = '2025/06/01/00,NOW'" in statement
    assert "'storage.location.template' = 's3://landing/orders/${datehour}/'" in statement
    document = json.loads(run("athena-ddl", "orders", "--form", "flatten", "--json").stdout)
    columns = [column["Name"] for column in document["StorageDescriptor"]["Columns"]]
    assert columns == ["event", "ingestion_timestamp", "_ddb_lake", "customer", "order_id"]


def test_options_of_a_scan_need_it(run: Run, account: Sandbox) -> None:
    assert run("load", "orders").exit_code == 2
    assert run("load", "orders", "--scan", "--export", "x").exit_code == 2
    assert run("load", "orders", "--export", "x", "--restart").exit_code == 2


def test_export_without_a_bucket_is_wrong_use(run: Run, project: Path) -> None:
    result = run("export", "orders")
    assert result.exit_code == 2
    assert "add `export: {bucket: ...}`" in result.stderr


def test_export_into_a_missing_bucket_says_why(run: Run, account: Sandbox, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text(CONFIGURATION.replace("bucket: exports", "bucket: nowhere"))
    result = run("export", "orders")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "S3NoSuchBucket" in result.stderr


def test_doctor_examines_the_source_and_its_exports(run: Run, account: Sandbox) -> None:
    checks = _checks(run)
    assert checks["aws identity"]["state"] == "ok"
    assert checks["clock"]["state"] == "ok"
    assert checks["orders: export bucket"]["state"] == "ok"
    assert checks["orders: source"]["state"] == "ok"
    assert checks["orders: point-in-time recovery"]["state"] == "ok"
    assert checks["orders: changes"]["state"] == "warn"
    assert checks["orders: kinesis destination"]["state"] == "warn"


def test_doctor_recommends_microseconds(run: Run, account: Sandbox) -> None:
    account.client("kinesis").create_stream(StreamName="orders", ShardCount=1)
    stream = account.client("kinesis").describe_stream(StreamName="orders")["StreamDescription"]["StreamARN"]
    account.client("dynamodb").enable_kinesis_streaming_destination(TableName="orders", StreamArn=stream)
    found = _checks(run)["orders: kinesis destination"]
    assert found["state"] == "warn"
    assert "MILLISECOND" in found["found"] and "MICROSECOND" in found["next_step"]


def test_doctor_finds_recovery_off_and_a_wrong_key(run: Run, account: Sandbox, project: Path) -> None:
    account.client("dynamodb").create_table(
        TableName="bare",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    tables = "[{name: bare, key: [other], export: {bucket: nowhere}}]"
    (project / "ddb_lake.yaml").write_text(f"warehouse: warehouse\ntables: {tables}\n")
    checks = _checks(run, 1)
    assert checks["bare: source"]["next_step"].startswith("set `key: [id]`")
    assert checks["bare: point-in-time recovery"]["state"] == "fail"
    assert checks["bare: export bucket"]["state"] == "fail"


def test_doctor_finds_a_missing_table(run: Run, account: Sandbox, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: w\ntables: [{name: nowhere, source: {region: eu-west-1}}]\n")
    assert "ResourceNotFoundException" in _checks(run, 1)["nowhere: source"]["found"]


def test_doctor_of_a_lake_on_s3(run: Run, account: Sandbox, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: s3://landing/lake\ntables: [{name: orders}]\n")
    checks = _checks(run)
    assert checks["warehouse"]["state"] == "ok"
    assert checks["catalog"]["found"] == "glue answers: 0 tables in ddb_lake, the glue catalog"


def test_init_asks_dynamodb_for_the_key(run: Run, account: Sandbox) -> None:
    assert run("init", "new.yaml", "--table", "orders").exit_code == 0
    assert "key: [customer, order_id]" in Path("new.yaml").read_text()


def test_init_and_doctor_open_what_lies_on_s3(run: Run, account: Sandbox, project: Path, landing: Path) -> None:
    assert run("export", "orders").exit_code == 0
    record = (landing / "changes/2024/05/14/12/one").read_bytes()
    key = "orders/2024/05/14/12/orders-1-2024-05-14-12-00-00-11111111-2222-3333-4444-555555555555"
    account.client("s3").put_object(Bucket="landing", Key=key, Body=record)

    result = run("init", "found.yaml", "s3://exports/daily", "s3://landing/orders")
    assert result.exit_code == 0, result.stderr
    (table,) = load_settings(project / "found.yaml").tables
    assert (table.name, table.key, table.source.region) == ("orders", ("customer", "order_id"), account.region)
    assert table.export and (table.export.bucket, table.export.prefix) == ("exports", "daily")
    assert table.changes and table.changes.uri == "s3://landing/orders/"
    assert "as DescribeTable returns it" in (project / "found.yaml").read_text()

    checks = _checks(run)
    assert checks["orders: export contents"]["state"] == "ok"
    assert "3 items" in checks["orders: export contents"]["found"]
    assert key in checks["orders: landed records"]["found"]
    assert checks["orders: landed records"]["state"] == "ok"
    account.client("s3").delete_object(Bucket="landing", Key=key)


def test_init_says_so_when_dynamodb_does_not_know_the_table(run: Run, account: Sandbox) -> None:
    result = run("init", "new.yaml", "--table", "unknown")
    assert result.exit_code == 0
    assert "ResourceNotFoundException" in result.stderr


def test_sandbox_prints_its_environment_and_ends_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ddb_lake.cli", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        lines = [process.stdout.readline() for _ in range(5)]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(120) == 0
        assert "Traceback" not in process.stderr.read()
    names = [line.removeprefix("export ").partition("=")[0] for line in lines]
    assert "AWS_ENDPOINT_URL" in names and "AWS_REGION" in names


def _checks(run: Run, status: int = 0) -> dict[str, dict[str, Any]]:
    result = run("doctor", "--json")
    assert result.exit_code == status, result.stdout
    return {check["check"]: check for check in json.loads(result.stdout)["checks"]}


def test_incremental_export_of_a_window_and_of_what_is_due(run: Run, account: Sandbox, project: Path) -> None:
    wanted = CONFIGURATION.replace("changes:", "changes: {incremental_exports: {every: 15m}}\n    #")
    (project / "ddb_lake.yaml").write_text(wanted)
    early = run("export", "orders", "--incremental")
    assert (early.exit_code, "none is loaded" in early.stderr) == (1, True)
    assert run("export", "orders").exit_code == 0
    assert "no window is due" in run("export", "orders", "--incremental").stdout
    late = run("export", "orders", "--incremental", "--from", "2099-01-01")
    assert (late.exit_code, "ends at least 60 s ago" in late.stderr) == (2, True)
    assert run("export", "orders", "--from", "2024-01-01").exit_code == 2
    assert run("export", "orders", "--incremental", "--to", "2024-01-01").exit_code == 2
