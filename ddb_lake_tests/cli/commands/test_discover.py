"""`ddb-lake discover` in the sandbox, and the other commands with the tables that it found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from ddb_lake.aws.session import session
from ddb_lake.core.operations.policies import Estate, Searched, actions, statements
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.sandbox_steps import make_table

CONFIGURATION = """\
warehouse: warehouse
tables:
  - {name: mine, source: {table: prod-orders}, changes: {streams: true}}
  - match: "prod-{name}"
    match_tags: {lake: "yes"}
    match_except: "*-tmp"
    changes: {streams: true}
"""
TAGS = {"Tags": [{"Key": "lake", "Value": "yes"}, {"Key": "team", "Value": "shop"}]}
STREAM = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}


@pytest.fixture
def sandbox(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    (project / "ddb_lake.yaml").write_text(CONFIGURATION)
    with Sandbox() as served:
        for name, value in served.environment().items():
            monkeypatch.setenv(name, value)
        session.cache_clear()
        yield served
    session.cache_clear()


def states(run: Run) -> dict[str, bool]:
    """For each DynamoDB table of the list, whether it is missing."""
    document = json.loads(run("discover", "--json").stdout)
    return {one["table"]: one["missing_since"] is not None for one in document["tables"]}


def test_tables_are_found_by_name_and_tag_stay_if_they_disappear_and_work_with_every_command(
    run: Run, project: Path, sandbox: Sandbox
) -> None:
    before = run("status")
    assert before.exit_code != 0
    assert f"run `ddb-lake discover --config {project}/ddb_lake.yaml`" in before.stderr
    for number in range(101):  # ListTables returns 100 names at most
        boto3.client("dynamodb").create_table(
            TableName=f"a{number:03}",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    for name in ("prod-orders", "prod-users", "prod-carts", "prod-tmp", "prod-x-tmp"):
        make_table(sandbox, name, **TAGS, **STREAM)
    make_table(sandbox, "prod-untagged")

    found = run("discover")
    assert found.exit_code == 0, found.stderr
    assert f"3 tables found; written to {project}/ddb_lake.tables.json." in found.stdout
    (row,) = (line for line in found.stdout.splitlines() if line.startswith("prod-users"))
    assert row.split() == ["prod-users", "users", "pk", "(S),", "sk", "(N)", "NEW_AND_OLD_IMAGES", "on", "present"]
    document = json.loads((project / "ddb_lake.tables.json").read_text())
    assert [(one["table"], one["key"], one["tags"]) for one in document["tables"]] == [
        (f"prod-{name}", ["pk", "sk"], {"lake": "yes"}) for name in ("carts", "orders", "users")
    ]
    assert json.loads(run("discover", "--json").stdout)["changes"] == {}

    boto3.client("dynamodb").put_item(TableName="prod-users", Item={"pk": {"S": "u"}, "sk": {"N": "1"}})
    synced = run("sync")
    assert synced.exit_code == 0, synced.stdout + synced.stderr
    assert len(run("dump", "users").stdout.splitlines()) == 1
    assert [one["table"] for one in json.loads(run("status", "--json").stdout)["tables"]] == ["mine", "carts", "users"]

    boto3.client("dynamodb").delete_table(TableName="prod-users")
    boto3.client("dynamodb").untag_resource(
        ResourceArn=f"arn:aws:dynamodb:{sandbox.region}:123456789012:table/prod-carts", TagKeys=["lake"]
    )
    make_table(sandbox, "prod-later", **TAGS, **STREAM)
    changed = run("discover")
    assert "  prod-carts: missing\n  prod-later: added\n  prod-users: missing\n" in changed.stdout
    assert "`ddb-lake discover --forget prod-users` removes it from the list" in changed.stderr
    assert states(run) == {"prod-carts": True, "prod-later": False, "prod-orders": False, "prod-users": True}
    assert len(run("dump", "users").stdout.splitlines()) == 1
    after = run("sync")
    assert after.exit_code == 0, after.stdout + after.stderr
    status, doctor = run("status").stderr, run("doctor").stdout
    for name in ("users", "carts"):  # one was deleted, and one has lost its tag
        assert f"{name}: `ddb-lake discover` has not found its table since" in status
        assert f"`ddb-lake discover` has not found prod-{name} since" in doctor

    refused = run("discover", "--forget", "prod-later")
    assert refused.exit_code != 0
    assert "prod-later is a table that DynamoDB has; only missing tables can be forgotten" in refused.stderr
    assert "  prod-users: forgotten\n" in run("discover", "--forget", "prod-users").stdout
    assert states(run) == {"prod-carts": True, "prod-later": False, "prod-orders": False}
    boto3.client("dynamodb").tag_resource(
        ResourceArn=f"arn:aws:dynamodb:{sandbox.region}:123456789012:table/prod-carts", Tags=TAGS["Tags"]
    )
    assert "  prod-carts: found again\n" in run("discover").stdout


def test_list_stays_as_it_was_if_the_tables_collide_or_a_request_is_refused(
    run: Run, project: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(sandbox, "prod-users", **TAGS)
    assert run("discover").exit_code == 0
    written = (project / "ddb_lake.tables.json").read_bytes()
    make_table(sandbox, "prod-mine", **TAGS)
    collision = run("discover")
    assert collision.exit_code != 0
    assert "the DynamoDB table prod-mine" in collision.stderr and "the entry `name: mine`" in collision.stderr
    (project / "ddb_lake.yaml").write_text(CONFIGURATION.replace("{name}", "users"))
    for operation in ("ListTables", "DescribeTable", "DescribeContinuousBackups", "ListTagsOfResource"):
        sandbox.deny(operation, "AccessDeniedException", "not authorized")
        assert "`ddb-lake iam discoverer` prints the policy" in run("discover").stderr
        sandbox.allow()
    # a table that DescribeTable has is no table that was deleted since it was listed
    sandbox.deny("ListTagsOfResource", "ResourceNotFoundException", "it is not ACTIVE")
    unclear = run("discover")
    assert unclear.exit_code == 2 and "the list stays as it was" in unclear.stderr
    sandbox.allow()
    (project / "ddb_lake.yaml").write_text(CONFIGURATION)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    session.cache_clear()
    refused = run("discover")
    assert refused.exit_code != 0
    assert "could not be listed" in refused.stderr
    assert (project / "ddb_lake.tables.json").read_bytes() == written


def test_what_became_of_a_table_is_named_and_doctor_fails_if_its_key_is_not_that_of_the_lake(
    run: Run, project: Path, sandbox: Sandbox
) -> None:
    (project / "ddb_lake.yaml").write_text(CONFIGURATION + '  - match: "other-*"\n')
    for name in ("prod-users", "prod-carts", "prod-later"):
        make_table(sandbox, name, **TAGS, **STREAM)
    found = run("discover")
    assert "`match: other-*` has no table" in found.stderr and "`match: prod-{name}` has no table" not in found.stderr
    boto3.client("dynamodb").put_item(TableName="prod-users", Item={"pk": {"S": "u"}, "sk": {"N": "1"}})
    assert run("sync", "users").exit_code == 0
    for name in ("prod-users", "prod-carts"):
        boto3.client("dynamodb").delete_table(TableName=name)
    boto3.client("dynamodb").create_table(
        TableName="prod-users",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        **TAGS,
        **STREAM,
    )
    make_table(sandbox, "prod-carts", **TAGS, **STREAM)
    boto3.client("dynamodb").update_table(TableName="prod-later", StreamSpecification={"StreamEnabled": False})
    before = (project / "ddb_lake.tables.json").read_bytes()
    assert "`{name: OTHER, source: {table: prod-users}}` below `tables:`" in run("discover").stderr
    (project / "ddb_lake.tables.json").write_bytes(before)
    document = json.loads(run("discover", "--json").stdout)
    assert document["without_tables"] == ["other-*"]
    assert document["changes"]["prod-carts"] == "created again"
    assert document["changes"]["prod-later"] == "changed: stream"
    assert document["changes"]["prod-users"].startswith("created again; changed: key")
    (failed,) = (line for line in run("doctor").stdout.splitlines() if "the lake's key is" in line)
    assert failed.startswith("fail") and "['pk', 'sk'], the configuration says ['id']" in failed


def test_policy_of_the_discoverer_allows_what_is_called_and_no_more(run: Run, sandbox: Sandbox) -> None:
    policy = json.loads(run("iam", "discoverer", "--region", "eu-west-1").stdout)  # before a first discovery
    assert {statement["Sid"]: statement["Resource"] for statement in policy["Statement"]} == {
        "FindTables": ["*"],
        "DescribeTables": ["arn:aws:dynamodb:eu-west-1:111122223333:table/prod-*"],
    }
    make_table(sandbox, "prod-users", **TAGS)
    called: set[str] = set()
    calling = session(os.environ.get("AWS_REGION") or None, None, None)
    calling.events.register("before-call.dynamodb", lambda model, **_: called.add(f"dynamodb:{model.name}"))
    assert run("discover").exit_code == 0
    searched = Estate("eu-west-1", searched=(Searched("arn:aws:dynamodb:eu-west-1:111122223333:table/prod-*"),))
    assert called == actions(statements("discoverer", searched))
