"""Names are decided once, from the lake's own configuration; what does not fit is an error that says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ddb_lake.config import parse_settings
from ddb_lake.errors import ConfigError
from ddb_lake.infra.config import STACK_NAMES, InfraSettings, load_infra
from ddb_lake.infra.deployment import Deployment, Location, resolve_deployment
from ddb_lake_tests.support.synthesis import EXAMPLE

LAKE: dict[str, Any] = {
    "warehouse": "s3://lake/warehouse",
    "tables": [
        {
            "name": "orders",
            "key": ["id"],
            "export": {"bucket": "landing", "prefix": "exports"},
            "changes": {"uri": "s3://landing/orders"},
        }
    ],
}
DEPLOYMENT: dict[str, Any] = {
    "lake": "lake.yaml",
    "producer_account": "111122223333",
    "consumer_account": "444455556666",
    "stacks": ["same-account"],
}


def planned(table: dict[str, Any] | None = None, **deployment: Any) -> Deployment:
    lake = {**LAKE, "tables": [{**LAKE["tables"][0], **(table or {})}]}
    return resolve_deployment(InfraSettings.model_validate({**DEPLOYMENT, **deployment}), parse_settings(lake, "test"))


def test_names_are_those_of_the_lakes_configuration() -> None:
    deployment = planned({"source": {"table": "Orders", "role_arn": "arn:aws:iam::111122223333:role/reader"}})
    (table,) = deployment.tables
    assert (table.name, table.key, table.source_role) == ("Orders", (("id", "S"),), "reader")
    assert (table.landing, table.errors) == (Location("landing", "orders/"), Location("landing", "orders-failed/"))
    assert (table.exports, deployment.warehouse) == (Location("landing", "exports/"), Location("lake", "warehouse/"))
    assert deployment.landing_buckets == ("landing",)


@pytest.mark.parametrize(
    ("table", "deployment", "message"),
    [
        ({"key": []}, {}, "its `key` is needed"),
        ({"changes": None}, {}, "`changes.uri` and `export.bucket`"),
        ({"changes": {"uri": "landing/orders"}}, {}, "give an s3:// URI"),
        ({}, {"tables": {"others": {}}}, "'others'"),
        ({}, {"tables": {"orders": {"key_types": {"price": "N"}}}}, "not in its key"),
        ({}, {"tables": {"orders": {"columns": {"price": "/price"}}}}, "lacks the key's"),
        ({"name": "o" * 60}, {}, "IAM takes 64"),
        ({}, {"stacks": None}, "`aurora.certificates` is not set, and the stack `streams-to-aurora` needs it"),
        ({}, {"stacks": ["streams-to-aurora"], "aurora": {"certificates": "none.pem"}}, "cannot be read"),
        ({}, {"stacks": ["streams-to-aurora"], "aurora": {"certificates": __file__}}, "no certificate in PEM format"),
        ({}, {"replica_region": "eu-central-1", "adopt": {"buckets": ["landing"]}}, "landing is adopted"),
        ({}, {"replica_region": "eu-central-1"}, "the landing bucket of same-account is in `producer_account`"),
        ({"changes": {"uri": "s3://landing"}}, {}, "a whole bucket"),
        ({"changes": {"uri": "s3://Landing/orders"}}, {}, "'Landing' is no name of a bucket"),
        ({"export": {"bucket": "l", "prefix": "exports"}}, {}, "'l' is no name of a bucket"),
        ({"changes": {"uri": "s3://landing/orders", "errors_uri": "s3://other/failed"}}, {}, "errors_uri` is in other"),
        ({"source": {"region": "us-east-1"}}, {}, "`source.region` is us-east-1, and the deployment's is eu-west-1"),
        ({"source": {"account": "444455556666"}}, {}, "`source.account` is 444455556666"),
        ({"source": {"role_arn": "arn:aws:iam::444455556666:role/x"}}, {}, "the role that the stacks make is"),
        ({"source": {"role_arn": "arn:aws:iam::111122223333:role/path/x"}}, {}, "the role that the stacks make is"),
        (
            {"export": {"bucket": "landing", "bucket_owner": "000000000000"}},
            {},
            "`export.bucket_owner` is 000000000000",
        ),
        ({"source": {"table": "my.orders"}}, {"stacks": ["replicate-source"]}, "its name has a dot"),
        (
            {},
            {"tables": {"orders": {"adopt": True}}, "stacks": ["replicate-target"]},
            "which `stream_arn` does not name",
        ),
    ],
)
def test_what_cannot_be_deployed_is_an_error(table: dict[str, Any], deployment: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(table, **deployment)


def test_stacks_are_all_or_those_named_and_the_replica_needs_its_region() -> None:
    every = planned(stacks=None, aurora={"certificates": str(EXAMPLE.with_name("example_certificates.pem"))})
    assert set(every.settings.stack_names) == set(STACK_NAMES) - {"replica"}
    chosen = planned(stacks=["replica", "consumer"], replica_region="eu-central-1").settings
    assert chosen.stack_names == ("consumer", "replica")


KEY = "arn:aws:kms:eu-west-1:444455556666:key/0f0e0d0c-1111-2222-3333-444455556666"


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        ({"stacks": []}, "at least 1 item"),
        ({"stacks": ["replica"]}, "which needs `replica_region`"),
        ({"replica_region": "eu-west-1"}, "name another"),
        ({"replica_region": "cn-north-1"}, "S3 does not replicate from eu-west-1 to cn-north-1"),
        ({"name": "lake-"}, "name"),
        ({"name": "my--lake"}, "name"),
        ({"name": "l" * 22}, "at most 21 characters"),
        ({"adopt": {"key_arn": KEY.replace("eu-west-1", "eu-central-1")}}, "not the ARN of a key in eu-west-1"),
        ({"adopt": {"key_arn": KEY.replace("444455556666:", "000000000000:")}}, "which has none of the stacks"),
        (
            {"adopt": {"vpc_id": "vpc-1", "private_subnet_ids": ["a"], "availability_zones": ["x", "y"]}},
            "one subnet for each zone",
        ),
        ({"network": {"cidr": "10.0.0.0/24"}}, "2 zones need a /24 each"),
        ({"network": {"cidr": "10.0.0.0/12"}}, "at most a /16"),
        ({"network": {"cidr": "10.0.0.1/20"}}, "no range of addresses"),
        ({"producer_account": "1111222233334"}, "producer_account"),
    ],
)
def test_settings_that_aws_would_refuse_are_refused_before(deployment: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InfraSettings.model_validate({**DEPLOYMENT, **deployment})


def test_adopted_key_is_used_in_its_account_alone() -> None:
    """Guards deployments in two accounts: a table or a stream cannot be under a key that its account may not use."""
    settings = planned(adopt={"key_arn": KEY}).settings
    assert (settings.adopted_key("consumer"), settings.adopted_key("producer")) == (KEY, None)


def test_names_with_dots_are_taken_where_nothing_forbids_them() -> None:
    assert planned({"source": {"table": "my.orders"}}).tables[0].name == "my.orders"


def test_stacks_of_a_deployment_are_those_that_the_app_knows_in_the_same_order() -> None:
    from ddb_lake.infra.app import TOPOLOGIES  # starts Node, which only this test of the module needs

    assert list(STACK_NAMES) == list(TOPOLOGIES)


def test_concurrency_is_reserved_for_known_handlers_only() -> None:
    assert planned().settings.functions.reserved_concurrency == {}
    for wrong in ({"transfrom": 1}, {"transform": 0}):
        with pytest.raises(ValueError, match="reserved_concurrency"):
            planned(functions={"reserved_concurrency": wrong})


def test_stacks_of_a_region_in_china_are_bound() -> None:
    assert [planned(region=region).settings.is_bound for region in ("eu-west-1", "us-gov-west-1", "cn-north-1")] == [
        False,
        False,
        True,
    ]


def test_schema_is_packed_into_the_environment_and_a_large_one_refused(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    feed = {"json_schema": str(schema), "schema_attribute": "payload"}
    (table,) = planned(tables={"orders": feed}).tables
    assert table.schemas_json == '{"orders":{"schema":{"type":"object"},"attribute":"payload"}}'
    schema.write_text('{"description": "' + "x" * 4000 + '"}')
    with pytest.raises(ConfigError, match="holds 3000"):
        planned(tables={"orders": feed})
    schema.write_text("{")
    with pytest.raises(ConfigError, match=r"schema\.json"):
        planned(tables={"orders": feed})


def test_example_is_read_and_its_lake_found_beside_it() -> None:
    settings = load_infra(EXAMPLE)
    assert settings.lake == EXAMPLE.parent / "example_lake.yaml"


def test_unknown_setting_and_half_an_adopted_vpc_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "infra.yaml"
    for extra, message in (({"shard": 1}, "shard"), ({"adopt": {"vpc_id": "vpc-1"}}, "private_subnet_ids")):
        path.write_text(yaml.safe_dump({**DEPLOYMENT, **extra}))
        with pytest.raises(ConfigError, match=message):
            load_infra(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_infra(tmp_path / "none.yaml")
