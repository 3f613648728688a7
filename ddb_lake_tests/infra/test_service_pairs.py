"""Which service acts on which, under which conditions: the templates against the table of the guide."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import ddb_lake
from ddb_lake_tests.support.service_pairs import Pair, service_pairs
from ddb_lake_tests.support.templates import Template, as_list

Templates = dict[str, Template]
_ONE_PARTITION = r"(^|\.[a-z]{2}(-[a-z]+)+-\d)\.amazonaws\.com|^arn:aws:"
GUIDE = Path(ddb_lake.__file__).parent / "docs" / "guides" / "deploy" / "service-pairs.md"


def table() -> dict[Pair, tuple[frozenset[str], str, str]]:
    """The rows of the guide: condition keys, page, and whether it was read."""
    found: dict[Pair, tuple[frozenset[str], str, str]] = {}
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            source, target, by, keys, page, read, _ = [cell.strip() for cell in line.strip("|").split("|")]
            pair = Pair(source.strip("`"), target.strip("`"), by)
            assert pair not in found, f"two rows of {pair}"
            found[pair] = frozenset(re.findall(r"`([^`]+)`", keys)), page, read
    return found


def test_every_pair_of_a_template_has_a_row_and_every_row_a_pair(templates: Templates, adopting: Templates) -> None:
    found = service_pairs([*templates.values(), *adopting.values()])  # two accounts, and one
    assert found == {pair: keys for pair, (keys, _, _) in table().items()}


def test_every_row_names_a_page_of_aws_and_says_whether_it_was_read() -> None:
    for pair, (_, page, read) in table().items():
        assert re.fullmatch(r"\[[^\]]+\]\(https://docs\.aws\.amazon\.com/[^)]+\.html\)", page), pair
        assert read in ("yes", "no"), pair


def statements(document: dict[str, Any], service: str) -> list[dict[str, Any]]:
    """The statements of a policy that allow a service something."""
    found = [s for s in document["Statement"] if s["Effect"] == "Allow" and isinstance(s["Principal"], dict)]
    return [s for s in found if f"{service}.amazonaws.com" in as_list(s["Principal"].get("Service", []))]


def test_events_reach_encrypted_topics_without_a_condition_on_their_source(templates: Templates) -> None:
    """Guards the notices of failed deliveries: with a condition EventBridge does not fill in, they are lost."""
    reached = [t for t in templates.values() if any("Ref" in target["Arn"] for target in _targets(t))]  # a topic's ARN
    assert reached
    for template in reached:
        policy = template.only("AWS::SNS::TopicPolicy")["PolicyDocument"]
        assert [s.get("Condition") for s in statements(policy, "events")] == [None], template.name
        for key in template.resources("AWS::KMS::Key").values():
            conditions = [set(_keys(s)) for s in statements(key["KeyPolicy"], "events")]
            assert {"kms:EncryptionContext:aws:sns:topicArn"} in conditions, template.name


def test_events_reach_encrypted_queues_by_the_rules_arn(templates: Templates) -> None:
    """Guards arrivals and dead letters: SQS's page lists EventBridge among the services that send `aws:SourceArn`."""
    for template in (t for t in templates.values() if t.resources("AWS::SQS::QueuePolicy")):
        for key in template.resources("AWS::KMS::Key").values():
            conditions = [set(_keys(s)) for s in statements(key["KeyPolicy"], "events")]
            assert {"aws:SourceArn"} in conditions, template.name


def test_targets_of_rules_have_no_role(templates: Templates) -> None:
    """Guards delivery to encrypted topics and queues, which may fail with a role."""
    targets = [target for t in templates.values() for target in _targets(t)]
    assert targets
    assert [target for target in targets if "RoleArn" in target] == []


@pytest.mark.parametrize("member", ["KeyPolicy", "PolicyDocument", "AssumeRolePolicyDocument"])
def test_no_domain_is_that_of_one_partition(member: str, templates: Templates) -> None:
    """Guards deployments in China: domains there are `AWS::URLSuffix`; principals of services are global, but for Logs.

    CDK writes the partition of the replica's stack out, which is bound to its Region.
    """
    for template in (template for name, template in templates.items() if name != "replica"):
        for id, resource in template.document["Resources"].items():
            document = resource.get("Properties", {}).get(member)
            for literal in _literals(document):
                assert not re.search(_ONE_PARTITION, literal), (template.name, id, literal)


def _targets(template: Template) -> list[dict[str, Any]]:
    return [target for rule in template.resources("AWS::Events::Rule").values() for target in rule["Targets"]]


def _keys(statement: dict[str, Any]) -> list[str]:
    return [key for pairs in statement.get("Condition", {}).values() for key in pairs]


def _literals(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [literal for member in members for literal in _literals(member)]
