"""The full load of seed 002: a table of one account, exported by a role of its own into a bucket of another.

The lake's own account is the sandbox's; the table is in the producer's. What is commonly misconfigured is put wrong on
purpose, and each time the error has to name the next step, which then works.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from ddb_lake.aws.session import session
from ddb_lake.cli.app import cli
from ddb_lake.errors import ExportError
from ddb_lake.pipeline.load.request_export import export_increments
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.sync import sync
from ddb_lake.sandbox import ExportOptions, Sandbox, Traffic, create_orders_table
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.sandbox_lake import START, orders_lake, point_at
from ddb_lake_tests.support.sandbox_steps import make_bucket, scan

PRODUCER, CONSUMER = "444455556666", "123456789012"
ROLE = f"arn:aws:iam::{PRODUCER}:role/lake-reader"
SOURCE = {"region": "eu-west-1", "role_arn": ROLE, "external_id": "lake"}
EXPORT = {"bucket": "exports", "prefix": "orders", "bucket_owner": CONSUMER}


class Producer:
    """The account that has the table."""

    region = "eu-west-1"

    def __init__(self, sandbox: Sandbox) -> None:
        found = sandbox.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="owner")["Credentials"]
        self._session = boto3.Session(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        self._endpoint = sandbox.endpoint_url
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        if service not in self._clients:
            made = self._session.client(service, region_name=self.region, endpoint_url=self._endpoint)
            self._clients[service] = made
        return self._clients[service]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(start=START, exports=ExportOptions(seconds=0)) as sandbox:
        point_at(sandbox, monkeypatch)
        make_bucket(sandbox, "exports")
        yield sandbox
    session.cache_clear()


@pytest.fixture
def producer(sandbox: Sandbox) -> Iterator[Producer]:
    producer = Producer(sandbox)
    create_orders_table(producer.client("dynamodb"))
    Traffic(producer.client("dynamodb"), seed=2, now=sandbox.clock.now).insert(10)
    sandbox.clock.advance(timedelta(minutes=2))
    yield producer
    producer.close()


def assert_lake_is_producers(lake: Lake, producer: Producer) -> None:
    items = sorted(canonical(json.loads(line)["Item"]) for line in dump_items(lake, "orders"))
    assert items == scan(producer, "orders")  # type: ignore[arg-type]  # it asks for a client alone
    assert items


def run(folder: Path, *arguments: str, **table: Any) -> tuple[int, str, str]:
    """A command on a configuration of its own; status, stdout and stderr."""
    orders = {"name": "orders", "source": SOURCE, "export": EXPORT, **table}
    orders = {name: value for name, value in orders.items() if value is not None}
    (folder / "lake.yaml").write_text(json.dumps({"warehouse": str(folder / "lake"), "tables": [orders]}))
    result = CliRunner().invoke(cli, ["--config", str(folder / "lake.yaml"), *arguments], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def doctor(folder: Path, **table: Any) -> dict[str, dict[str, Any]]:
    _, out, _ = run(folder, "doctor", "--json", **table)
    return {check["check"]: check for check in json.loads(out)["checks"]}


def assert_export_works(folder: Path, **table: Any) -> None:
    status, _, said = run(folder, "export", "orders", **table)
    assert status == 0, said


def test_table_of_another_account_is_loaded_and_kept_up_to_date(
    sandbox: Sandbox, producer: Producer, tmp_path: Path
) -> None:
    key = producer.client("kms").create_key()["KeyMetadata"]["Arn"]
    export, changes = {**EXPORT, "kms_key_id": key}, {"incremental_exports": {}}
    assert_export_works(tmp_path, export=export)
    with orders_lake(sandbox, tmp_path / "lake", source=SOURCE, export=export, changes=changes) as lake:
        assert_lake_is_producers(lake, producer)
        Traffic(producer.client("dynamodb"), seed=3, now=sandbox.clock.now).insert(6)
        sandbox.clock.advance(timedelta(minutes=20))
        export_increments(lake, "orders")
        assert_lake_is_producers(lake, producer)
        sync(lake)
    found = doctor(tmp_path, export=export)
    wanted = ("source", "point-in-time recovery", "export bucket owner", "export key", "last export")
    assert {found[f"orders: {one}"]["state"] for one in wanted} == {"ok"}


def test_recovery_that_is_off_names_the_command(sandbox: Sandbox, producer: Producer, tmp_path: Path) -> None:
    recovery = {"PointInTimeRecoveryEnabled": False}
    client = producer.client("dynamodb")
    client.update_continuous_backups(TableName="orders", PointInTimeRecoverySpecification=recovery)
    status, _, said = run(tmp_path, "export", "orders")
    assert status == 1
    assert "aws dynamodb update-continuous-backups --table-name orders" in said
    assert doctor(tmp_path)["orders: point-in-time recovery"]["state"] == "fail"
    recovery = {"PointInTimeRecoveryEnabled": True}
    client.update_continuous_backups(TableName="orders", PointInTimeRecoverySpecification=recovery)
    assert_export_works(tmp_path)


@pytest.mark.parametrize("owner", [None, "111122223333"])
def test_missing_or_wrong_bucket_owner_fails_later_and_says_which_setting(
    sandbox: Sandbox, producer: Producer, tmp_path: Path, owner: str | None
) -> None:
    export = {name: value for name, value in {**EXPORT, "bucket_owner": owner}.items() if value is not None}
    before = doctor(tmp_path, export=export)["orders: export bucket owner"]
    assert before["state"] == "fail" and "`export.bucket_owner`" in before["next_step"]
    status, _, said = run(tmp_path, "export", "orders", export=export)
    assert status == 1
    assert "S3AccessDenied" in said and "`export.bucket_owner`" in said
    after = doctor(tmp_path, export=export)["orders: last export"]
    assert after["state"] == "fail" and "`export.bucket_owner`" in after["next_step"]
    assert_export_works(tmp_path)
    assert doctor(tmp_path)["orders: last export"]["state"] == "ok"


def test_key_that_is_not_there_or_denied_says_how_a_key_of_another_account_is_named(
    sandbox: Sandbox, producer: Producer, tmp_path: Path
) -> None:
    mine = sandbox.client("kms").create_key()["KeyMetadata"]  # by its id alone it is looked for in the table's account
    export = {**EXPORT, "kms_key_id": mine["KeyId"]}
    status, _, said = run(tmp_path, "export", "orders", export=export)
    assert status == 1
    assert "KmsNotFoundException" in said and "named by its whole ARN" in said
    assert "named by its whole ARN" in doctor(tmp_path, export=export)["orders: export key"]["next_step"]
    sandbox.fail_export("KMSAccessDenied", "The ciphertext refers to a key that you may not use")
    status, _, said = run(tmp_path, "export", "orders", export={**EXPORT, "kms_key_id": mine["Arn"]})
    assert status == 1
    assert "kms:GenerateDataKey and kms:Decrypt" in said
    assert_export_works(tmp_path, export={**EXPORT, "kms_key_id": mine["Arn"]})


def test_bucket_that_is_not_there_or_denied_is_reported_when_the_export_has_failed(
    sandbox: Sandbox, producer: Producer, tmp_path: Path
) -> None:
    status, _, said = run(tmp_path, "export", "orders", export={**EXPORT, "bucket": "nowhere"})
    assert (status, "S3NoSuchBucket" in said, "create the bucket nowhere" in said) == (1, True, True)
    sandbox.fail_export("S3AccessDenied", "Access denied")
    status, _, said = run(tmp_path, "export", "orders")
    assert status == 1
    assert "s3:PutObject, s3:PutObjectAcl and s3:AbortMultipartUpload" in said
    assert_export_works(tmp_path)


def test_misleading_describe_table_error_of_the_seed_asks_for_the_role(
    sandbox: Sandbox, producer: Producer, tmp_path: Path
) -> None:
    caller = f"arn:aws:sts::{CONSUMER}:assumed-role/ddb-cross-account-full-load-glue-job-role/GlueJobRunnerSession"
    table = f"arn:aws:dynamodb:eu-west-1:{CONSUMER}:table/orders"
    message = (
        f"User: {caller} is not authorized to perform: dynamodb:DescribeTable on resource: {table} because no"
        " identity-based policy allows the dynamodb:DescribeTable action"
    )
    sandbox.deny("DescribeTable", "AccessDeniedException", message)
    without = {"source": {"region": "eu-west-1"}}
    status, _, said = run(tmp_path, "export", "orders", **without)
    assert status == 2
    assert f"account {CONSUMER}" in said and "set `source.role_arn`" in said
    assert "set `source.role_arn`" in doctor(tmp_path, **without)["orders: source"]["next_step"]
    sandbox.allow()
    status, _, said = run(
        tmp_path, "export", "orders", **without
    )  # with permission to describe tables, the error says that there is none
    assert status == 2
    assert "ResourceNotFoundException" in said and "set `source.role_arn` if the table is in another account" in said
    assert_export_works(tmp_path)


def test_role_that_cannot_be_assumed_names_both_policies(sandbox: Sandbox, producer: Producer, tmp_path: Path) -> None:
    message = (
        f"User: arn:aws:iam::{CONSUMER}:user/lake is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
    )
    sandbox.deny("AssumeRole", "AccessDenied", message)
    status, _, said = run(tmp_path, "export", "orders")
    assert status == 2
    assert f"let arn:aws:iam::{CONSUMER}:user/lake assume {ROLE}" in said and "sts:ExternalId" in said
    assert "trust policy" in doctor(tmp_path)["orders: source"]["next_step"]
    sandbox.allow()
    assert_export_works(tmp_path)


def test_denied_export_lists_what_the_role_needs(sandbox: Sandbox, producer: Producer, tmp_path: Path) -> None:
    table = f"arn:aws:dynamodb:eu-west-1:{PRODUCER}:table/orders"
    caller = f"arn:aws:sts::{PRODUCER}:assumed-role/lake-reader/ddb-lake"
    message = f"User: {caller} is not authorized to perform: dynamodb:ExportTableToPointInTime on resource: {table}"
    sandbox.deny("ExportTableToPointInTime", "AccessDeniedException", message)
    status, _, said = run(tmp_path, "export", "orders")
    assert status == 1
    assert f"allow dynamodb:ExportTableToPointInTime on {table} to {caller}, in account {PRODUCER}" in said
    sandbox.allow()
    assert_export_works(tmp_path)


def test_fault_of_an_incremental_export_has_its_next_step_too(
    sandbox: Sandbox, producer: Producer, tmp_path: Path
) -> None:
    assert_export_works(tmp_path)
    with orders_lake(sandbox, tmp_path / "lake", source=SOURCE, export=EXPORT) as lake:
        sandbox.clock.advance(timedelta(minutes=20))
        sandbox.fail_export("S3AccessDenied", "Access denied")
        with pytest.raises(ExportError, match="s3:PutObjectAcl"):
            export_increments(lake, "orders")
        export_increments(lake, "orders")
        assert_lake_is_producers(lake, producer)


def test_credentials_of_the_lake_are_not_those_of_the_role(sandbox: Sandbox, producer: Producer) -> None:
    assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
    assert sandbox.client("dynamodb").list_tables()["TableNames"] == []
    assert producer.client("dynamodb").list_tables()["TableNames"] == ["orders"]
