"""What the strictest reviewers say: cdk-nag, cfn-lint, and no `*` where AWS allows better."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.errors import CheckFailed
from ddb_lake.infra.config import STACK_NAMES
from ddb_lake.infra.nag_findings import METADATA, checkov_outcome, compare
from ddb_lake_tests.support.templates import Template, as_list

BARE_RESOURCES = {
    "ec2:AssignPrivateIpAddresses": "Lambda checks for it on all resources before it places a function in a VPC",
    "ec2:CreateNetworkInterface": "as above",
    "ec2:DeleteNetworkInterface": "as above",
    "ec2:DescribeNetworkInterfaces": "AWS knows no resource for it",
    "ec2:DescribeSubnets": "AWS knows no resource for it",
    "ec2:UnassignPrivateIpAddresses": "Lambda checks for it on all resources before it places a function in a VPC",
    "xray:PutTelemetryRecords": "AWS knows no resource for it",
    "xray:PutTraceSegments": "AWS knows no resource for it",
    "dynamodb:ListStreams": "Lambda checks for it before it reads a stream; AWS grants it on no single stream",
    "ecr:GetAuthorizationToken": "AWS knows no resource for it",
    "cloudwatch:GetMetricData": "AWS knows no resource for it",
    "cloudwatch:GetMetricStatistics": "AWS knows no resource for it",
    "cloudwatch:ListMetrics": "AWS knows no resource for it",
}
"""Actions allowed on `*`, each with the reason that there is nothing better."""


def test_every_topology_is_synthesised(templates: dict[str, Template]) -> None:
    assert set(templates) == set(STACK_NAMES)


@pytest.mark.exhaustive
def test_nag_finds_nothing_but_what_is_acknowledged_and_no_acknowledgement_is_unused(recorded: Path) -> None:
    outcome = compare(recorded)
    assert (outcome.unacknowledged, outcome.unused) == ((), ())
    assert outcome.acknowledged > 0


def test_nag_reported_nothing_once_the_acknowledgements_are_applied(agnostic: Path) -> None:
    report = agnostic / "validation-report.json"
    found = json.loads(report.read_text())["pluginReports"] if report.exists() else []
    assert {one["pluginName"]: one["violations"] for one in found if one["violations"]} == {}


@pytest.mark.exhaustive
def test_every_acknowledgement_has_a_reason_and_names_one_finding(recorded: Path) -> None:
    for path in recorded.glob("*.metadata.json"):
        for entries in json.loads(path.read_text()).values():
            for given in (entry["data"] for entry in entries if entry["type"] == METADATA):
                assert len(given["reason"]) > 20
                assert given["id"] != "AwsSolutions-IAM5", "IAM5 has a finding for each wildcard: name it"


def test_finding_without_acknowledgement_and_acknowledgement_without_finding_are_reported(tmp_path: Path) -> None:
    construct = {"constructPath": "stack/bucket/Resource"}
    violation = {"ruleName": "AwsSolutions-S1", "violatingConstructs": [construct]}
    (tmp_path / "validation-report.json").write_text(json.dumps({"pluginReports": [{"violations": [violation]}]}))
    given = {"/stack/other": [{"type": METADATA, "data": {"id": "AwsSolutions-S1", "reason": "…"}}]}
    (tmp_path / "stack.metadata.json").write_text(json.dumps(given))
    outcome = compare(tmp_path)
    assert not outcome.clean
    assert outcome.unacknowledged == ("stack/bucket/Resource: AwsSolutions-S1",)
    assert outcome.unused == ("stack/other: AwsSolutions-S1",)


def test_synthesis_that_did_not_reach_the_checks_is_no_clean_outcome(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="synthesis failed"):
        compare(tmp_path)


def test_checkov_failures_and_skips_without_effect_are_reported(tmp_path: Path) -> None:
    metadata = {"checkov": {"skip": [{"id": "CKV_1", "comment": "…"}, {"id": "CKV_2", "comment": "…"}]}}
    template = {"Resources": {"One": {"Type": "T", "Metadata": metadata}}}
    (tmp_path / "s.template.json").write_text(json.dumps(template))

    def check(id: str) -> dict[str, str]:
        return {"file_path": "/s.template.json", "resource": "T.One", "check_id": id}

    results = {"failed_checks": [check("CKV_3")], "skipped_checks": [check("CKV_1")], "passed_checks": [check("CKV_4")]}
    (tmp_path / "report.json").write_text(json.dumps({"results": results}))
    found = checkov_outcome(tmp_path / "report.json", tmp_path)
    assert found == (("s.template.json: One: CKV_3",), ("s.template.json: One: CKV_2",), 1)


@pytest.mark.exhaustive
def test_cfn_lint_is_silent(agnostic: Path) -> None:
    """`make infra` runs it too, and `make test` on the plain templates as they are written."""
    linter = Path(sys.executable).with_name("cfn-lint")
    paths = [str(path) for path in agnostic.glob("*.template.json")]  # plain templates are linted as they are written
    done = subprocess.run([linter, "-i", "W3005", "--", *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_no_action_is_a_wildcard(templates: dict[str, Template]) -> None:
    found = [
        (template.name, id, action)
        for template in templates.values()
        for id, statement in template.statements()
        for action in as_list(statement["Action"])
        if "*" in action
    ]
    assert found == []


def test_every_bare_resource_is_listed_with_its_reason_and_every_listed_one_occurs(
    templates: dict[str, Template],
) -> None:
    found = {
        action
        for template in templates.values()
        for _, statement in template.statements()
        if statement["Effect"] == "Allow" and "*" in as_list(statement["Resource"])
        for action in as_list(statement["Action"])
    }
    assert found == set(BARE_RESOURCES)


def test_resource_policies_with_an_open_principal_have_a_condition(templates: dict[str, Template]) -> None:
    open_ones = [
        (template.name, id, statement.get("Sid"))
        for template in templates.values()
        for id, statement in template.resource_statements()
        if statement["Effect"] == "Allow" and _anyone(statement["Principal"]) and not statement.get("Condition")
    ]
    assert open_ones == []


def _anyone(principal: Any) -> bool:
    return principal == "*" or (isinstance(principal, dict) and "*" in as_list(principal.get("AWS", [])))
