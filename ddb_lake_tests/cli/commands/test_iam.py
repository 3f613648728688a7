"""`ddb-lake iam`: what it prints is a policy for the configured lake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddb_lake.core.operations.policies import role_names
from ddb_lake_tests.support.command_line import Run

LAKE = """\
warehouse: s3://lake/warehouse
tables:
  - name: orders
    key: [id]
    source: {region: eu-west-1, table: Orders}
    export: {bucket: landing, prefix: exports}
    changes: {uri: s3://landing/orders/}
"""


SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:shop-a1B2c3"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    path = tmp_path / "lake.yaml"
    path.write_text(LAKE)
    return path


def test_without_a_role_lists_the_roles(run: Run) -> None:
    listed = run("iam").output.splitlines()
    assert [line.split()[0] for line in listed[2:]] == list(role_names())


def test_role_prints_its_policy_for_the_configured_lake(run: Run, lake: Path) -> None:
    result = run("iam", "exporter", "--config", lake, "--account", "444455556666")
    found = {s["Sid"]: s for s in json.loads(result.stdout)["Statement"]}
    assert found["StartExport"]["Resource"] == ["arn:aws:dynamodb:eu-west-1:444455556666:table/Orders"]
    assert found["WriteExport"]["Resource"] == ["arn:aws:s3:::landing/exports/AWSDynamoDB/*"]


@pytest.mark.parametrize(
    ("region", "partition", "domain"),
    [
        ("eu-west-1", "aws", "eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "aws-us-gov", "us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "aws-cn", "cn-north-1.amazonaws.com.cn"),
    ],
)
def test_arns_and_services_follow_the_partition_of_the_region(
    run: Run, lake: Path, region: str, partition: str, domain: str
) -> None:
    key = f"arn:{partition}:kms:{region}:111122223333:key/0"
    printed = json.loads(run("iam", "--json", "--config", lake, "--region", region, "--kms-key-arn", key).stdout)
    statements = [s for policy in printed.values() for s in policy["Statement"]]
    assert {r.split(":")[1] for s in statements for r in s["Resource"] if r != "*"} == {partition}
    services = {s["Condition"]["StringEquals"]["kms:ViaService"] for s in statements if "kms:Decrypt" in s["Action"]}
    assert services == {f"s3.{domain}"}


def test_json_without_a_role_prints_every_policy(run: Run, lake: Path) -> None:
    printed = json.loads(run("iam", "--json", "--config", lake).stdout)
    assert list(printed) == list(role_names())
    applier = {s["Sid"]: s for s in printed["applier"]["Statement"]}
    assert "arn:aws:glue:us-east-1:111122223333:database/ddb_lake" in applier["WriteCatalog"]["Resource"]


def test_local_lake_needs_no_warehouse_permissions(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "local.yaml"
    path.write_text("warehouse: here\ntables:\n  - {name: orders, key: [id]}\n")
    assert json.loads(run("iam", "reader", "--config", path).stdout)["Statement"] == []


def test_placeholder_of_the_account_is_named(run: Run, lake: Path, tmp_path: Path) -> None:
    assert "name your account with --account" in run("iam", "exporter", "--config", lake).stderr
    assert run("iam", "exporter", "--config", lake, "--account", "444455556666").stderr == ""
    local = tmp_path / "local.yaml"
    local.write_text("warehouse: here\ntables:\n  - {name: orders, key: [id]}\n")
    assert run("iam", "reader", "--config", local).stderr == ""


def test_unknown_role_is_wrong_use(run: Run, lake: Path) -> None:
    result = run("iam", "owner", "--config", lake)
    assert result.exit_code == 2
    assert "the roles are dagster-task" in result.stderr


KEY = "arn:aws:kms:eu-west-1:444455556666:key/11111111-2222-3333-4444-555555555555"


def test_a_tables_own_key_is_what_reading_the_table_uses(run: Run, lake: Path) -> None:
    printed = run("iam", "verifier", "--config", lake, "--table-key", f"orders={KEY}").output
    assert KEY in printed
    assert KEY not in run("iam", "verifier", "--config", lake).output


@pytest.mark.parametrize("pair", ["orders=alias/x", f"others={KEY}", KEY])
def test_a_key_of_no_table_or_without_its_arn_is_wrong_use(run: Run, lake: Path, pair: str) -> None:
    result = run("iam", "verifier", "--config", lake, "--table-key", pair)
    assert result.exit_code == 2
    assert "the ARN of a key" in result.stderr


def test_stream_reader_writes_only_where_what_it_reads_lands(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(LAKE.replace("{uri: s3://landing/orders/}", "{uri: s3://landing/orders/, streams: true}"))
    found = json.loads(run("iam", "stream-reader", "--config", path).stdout)["Statement"]
    written = [s["Resource"] for s in found if "s3:PutObject" in s["Action"]]
    assert written == [["arn:aws:s3:::lake/warehouse/landing/orders/*"]]


@pytest.mark.parametrize(
    ("login", "action", "resource"),
    [
        (f"secret_arn: '{SECRET}'", "secretsmanager:GetSecretValue", SECRET),
        (
            "iam_auth: true, region: eu-west-1",
            "rds-db:connect",
            "arn:aws:rds-db:eu-west-1:111122223333:dbuser:*/writer",
        ),
        ("password_env: PASSWORD", None, None),
    ],
)
def test_roles_that_replicate_may_log_into_the_database_and_others_may_not(
    run: Run, tmp_path: Path, login: str, action: str | None, resource: str | None
) -> None:
    path = tmp_path / "lake.yaml"
    path.write_text(LAKE + f"    aurora: {{host: db, database: shop, user: writer, {login}}}\n")
    printed = json.loads(run("iam", "--json", "--config", path, "--secret-kms-arn", KEY).stdout)
    database = ("secretsmanager:GetSecretValue", "rds-db:connect")
    found = {
        role: [(s["Action"], s["Resource"]) for s in policy["Statement"] if set(s["Action"]) & set(database)]
        for role, policy in printed.items()
    }
    expected = [] if action is None else [([action], [resource])]
    assert {role: granted for role, granted in found.items() if granted} == (
        dict.fromkeys(("dagster-task", "applier", "follower"), expected) if expected else {}
    )
    decrypting = {
        (role, *s["Resource"], *s["Condition"]["StringEquals"].values())
        for role, policy in printed.items()
        for s in policy["Statement"]
        if s["Sid"] == "DecryptDatabaseLogin"
    }
    through = "secretsmanager.us-east-1.amazonaws.com"
    assert decrypting == (
        {(role, KEY, through) for role in found if found[role]} if login.startswith("secret") else set()
    )


PLACES = {
    "secret: lake/key": (
        "secretsmanager:GetSecretValue",
        ["arn:aws:secretsmanager:us-east-1:111122223333:secret:lake/key-??????"],
    ),
    "secret: 'arn:aws:secretsmanager:eu-west-1:1:secret:k-a1B2c3'": (
        "secretsmanager:GetSecretValue",
        [f"arn:aws:secretsmanager:eu-west-1:1:secret:k-a1B2c3{suffix}" for suffix in ("", "-??????")],
    ),
    "parameter: /lake/key": ("ssm:GetParameter", ["arn:aws:ssm:us-east-1:111122223333:parameter/lake/key"]),
    "parameter: key": ("ssm:GetParameter", ["arn:aws:ssm:us-east-1:111122223333:parameter/key"]),
}


@pytest.mark.parametrize("place", PLACES)
def test_roles_that_read_items_and_no_others_read_the_key_of_hashes(run: Run, tmp_path: Path, place: str) -> None:
    """Guards lakes with hashes: without it every apply ends with an error. The source's account never sees the key."""
    path = tmp_path / "lake.yaml"
    path.write_text(f"hash_key: {{{place}}}\n" + LAKE)
    action, arns = PLACES[place]
    printed = json.loads(run("iam", "--json", "--config", path, "--hash-kms-arn", KEY).stdout)
    found = {role: {s["Sid"]: s for s in policy["Statement"]} for role, policy in printed.items()}
    having = {role for role, statements in found.items() if any(action in s["Action"] for s in statements.values())}
    assert having == {"dagster-task", "applier", "stream-reader", "follower", "verifier", "doctor"}
    for statements in (found[role] for role in having):
        assert (statements["ReadHashKey"]["Action"], statements["ReadHashKey"]["Resource"]) == ([action], arns)
        (through,) = statements["DecryptHashKey"]["Condition"]["StringEquals"].values()
        assert (statements["DecryptHashKey"]["Resource"], through.split(".")[0]) == ([KEY], action.split(":")[0])


def test_key_of_hashes_in_the_environment_needs_no_permission(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "lake.yaml"
    path.write_text("hash_key: {env: LAKE_KEY}\n" + LAKE)
    assert "HashKey" not in run("iam", "--json", "--config", path).output
