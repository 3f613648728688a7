"""What AWS refuses by size: a deployment of many tables keeps below the quotas of policies, queues and dashboards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.infra.config import InfraSettings
from ddb_lake.infra.deployment import resolve_deployment
from ddb_lake_tests.support.templates import Template, read_templates, text

TABLES = 13
"""More than the statements of a queue's policy and the alarms of a widget would hold, one or more for each table."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Template]:
    """The templates of a deployment of many tables in one account, without cdk-nag."""
    from ddb_lake.infra.app import build_app  # starts Node, which only these tests need

    names = [f"table_{number}" for number in range(TABLES)]
    tables = [
        {
            "name": name,
            "key": ["id"],
            "export": {"bucket": "landing", "prefix": "exports"},
            "changes": {"uri": f"s3://landing/{name}/"},
        }
        for name in names
    ]
    settings = InfraSettings.model_validate(
        {
            "lake": "lake.yaml",
            "producer_account": "111122223333",
            "consumer_account": "111122223333",
            "stacks": ["same-account", "orchestration"],
        }
    )
    deployment = resolve_deployment(settings, parse_settings({"warehouse": "s3://lake/w", "tables": tables}, "test"))
    folder = tmp_path_factory.mktemp("many")
    build_app(deployment, folder, explicit_environment=False, checks=False).synth()
    return read_templates(folder, "ddb-lake-")


def test_policies_of_queues_have_at_most_twenty_statements(many: dict[str, Template]) -> None:
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html"""
    policies = [p for template in many.values() for p in template.resources("AWS::SQS::QueuePolicy").values()]
    assert len(policies) == 3
    for policy in policies:
        assert len(policy["PolicyDocument"]["Statement"]) <= 20
        assert len(json.dumps(policy["PolicyDocument"])) <= 8192


def test_rules_of_every_table_may_send_to_the_queues(many: dict[str, Template]) -> None:
    """Guards arrivals and dead letters: the pattern of the queues' policies covers the name of each rule."""
    for template in many.values():
        rules = template.resources("AWS::Events::Rule").values()
        assert len(rules) >= TABLES
        for policy in template.resources("AWS::SQS::QueuePolicy").values():
            (allowed,) = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
            pattern = text(allowed["Condition"]["ArnLike"]["aws:SourceArn"])
            prefix = pattern.rpartition("rule/")[2].removesuffix("*")
            assert pattern.endswith("*") and prefix == "ddb-lake-"
            assert all(rule["Name"].startswith(prefix) for rule in rules)


def test_widgets_show_at_most_a_hundred_alarms_and_together_all(many: dict[str, Template]) -> None:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html"""
    template = many["same-account"]
    widgets = json.loads(text(template.only("AWS::CloudWatch::Dashboard")["DashboardBody"]))["widgets"]
    shown = [w["properties"]["alarms"] for w in widgets if w["type"] == "alarm"]
    assert max(map(len, shown)) <= 100
    assert sum(map(len, shown)) == len(template.resources("AWS::CloudWatch::Alarm")) > 100


def test_policies_of_roles_are_within_their_size(many: dict[str, Template]) -> None:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: 10,240 characters of a role's own policies."""
    for template in many.values():
        for id in template.resources("AWS::IAM::Role"):
            attached = [
                policy["PolicyDocument"]
                for policy in template.resources("AWS::IAM::Policy").values()
                if {"Ref": id} in policy["Roles"]
            ]
            assert sum(len(json.dumps(resolved(p), separators=(",", ":"))) for p in attached) <= 10_240, (
                template.name,
                id,
            )


def resolved(value: Any) -> Any:
    """A document with values as long as AWS's in place of references: 75 characters are the ARN of a key."""
    if isinstance(value, list):
        return [resolved(member) for member in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Join" in value:
        return "".join(resolved(part) for part in value["Fn::Join"][1])
    if "Ref" in value:
        return "x" * (14 if value["Ref"].startswith("AWS::") else 75)
    if "Fn::GetAtt" in value:
        return "x" * 75
    return {name: resolved(member) for name, member in value.items()}
