"""Pairs of services (actor and target), read from templates, with the permission and its conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ddb_lake_tests.support.templates import Template, as_list, text

_POLICIES: Final[Mapping[str, tuple[str, str]]] = {
    "AWS::KMS::Key": ("KeyPolicy", "key policy"),
    "AWS::S3::BucketPolicy": ("PolicyDocument", "bucket policy"),
    "AWS::SNS::TopicPolicy": ("PolicyDocument", "topic policy"),
    "AWS::SQS::QueuePolicy": ("PolicyDocument", "queue policy"),
    "AWS::EC2::VPCEndpoint": ("PolicyDocument", "endpoint policy"),
}
"""The types of resources with a policy: the property, and the policy's name."""

_REGIONAL: Final = re.compile(r"\.(\$\{AWS::Region\}|[a-z]{2}(-[a-z]+)+-\d)\.\$\{AWS::URLSuffix\}$")
"""What follows the name of a service whose principal is regional; the replica's stack is bound to its Region."""

_NAMES: Final = {"kinesisfirehose": "firehose", "emrserverless": "emr-serverless"}
"""Services whose name in resource types differs from that in IAM."""


@dataclass(frozen=True, order=True, slots=True)
class Pair:
    """`source` acts on `target`. `by`: the kind of policy that allows it, or the setting of a resource that starts it."""

    source: str
    target: str
    by: str


def service_pairs(templates: Iterable[Template]) -> dict[Pair, frozenset[str]]:
    """The pairs of the templates, each with the condition keys of all its statements that allow something."""
    found: dict[Pair, set[str]] = {}
    for template in templates:
        for pair, keys in (*_of_policies(template), *_of_roles(template), *_of_settings(template)):
            found.setdefault(pair, set()).update(keys)
    return {pair: frozenset(keys) for pair, keys in found.items()}


def _of_policies(template: Template) -> Iterator[tuple[Pair, set[str]]]:
    for kind, (member, name) in _POLICIES.items():
        for resource in template.resources(kind).values():
            for statement in _allowing(resource[member]):
                for source in _principals(statement):
                    yield Pair(source, _service(kind), name), _keys(statement)


def _of_roles(template: Template) -> Iterator[tuple[Pair, set[str]]]:
    trusts: dict[str, list[dict[str, Any]]] = {
        id: list(_allowing(role["AssumeRolePolicyDocument"]))
        for id, role in template.resources("AWS::IAM::Role").items()
    }
    for id, trust in trusts.items():
        yield from ((Pair(who, "sts", "trust policy"), _keys(s)) for s in trust for who in _principals(s))
        for statement in (s for s in _statements_of(template, id) if s["Effect"] == "Allow"):
            for action in as_list(statement["Action"]):
                for who in (who for s in trust for who in _principals(s)):
                    yield Pair(who, action.partition(":")[0], "role"), _keys(statement)


def _of_settings(template: Template) -> Iterator[tuple[Pair, set[str]]]:
    """References between resources: an alarm's topic, a rule's queue, a table's stream, whatever is under a key."""
    resources = template.document["Resources"]
    for resource in resources.values():
        kind = resource["Type"]
        if (kind in _POLICIES and kind != "AWS::KMS::Key") or kind.startswith(
            ("AWS::IAM::", "AWS::EC2::", "AWS::CDK::")
        ):
            continue
        for name, value in resource.get("Properties", {}).items():
            if (kind, name) == ("AWS::KMS::Key", "KeyPolicy"):
                continue
            for id in _references(value):
                target = _service(resources[id]["Type"]) if id in resources else ""
                if target and target not in ("iam", _service(kind)):
                    yield Pair(_service(kind), target, f"setting {name}"), set()
            if name == "NotificationConfiguration":
                yield Pair("s3", "events", f"setting {name}"), set()


def _statements_of(template: Template, role: str) -> Iterator[dict[str, Any]]:
    for policy in template.resources("AWS::IAM::Policy").values():
        if {"Ref": role} in policy["Roles"]:
            yield from policy["PolicyDocument"]["Statement"]
    yield from (statement for id, statement in template.statements() if id == role)


def _allowing(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (statement for statement in document["Statement"] if statement["Effect"] == "Allow")


def _principals(statement: dict[str, Any]) -> Iterator[str]:
    """Service names without their domain; `account` for this account, `other account`, `anyone`."""
    principal = statement["Principal"]
    if principal == "*":
        yield "anyone"
        return
    for name in as_list(principal.get("Service", [])):
        named = text(name).removesuffix(".amazonaws.com")
        yield _REGIONAL.sub("", named)
    for arn in as_list(principal.get("AWS", [])):
        yield "anyone" if arn == "*" else "account" if "AWS::AccountId" in text(arn) else "other account"


def _keys(statement: dict[str, Any]) -> set[str]:
    return {key for pairs in statement.get("Condition", {}).values() for key in pairs}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _references(one)
    elif isinstance(value, dict):
        if "Ref" in value:
            yield str(value["Ref"])
        elif "Fn::GetAtt" in value:
            yield str(value["Fn::GetAtt"][0])
        else:
            yield from _references(list(value.values()))


def _service(kind: str) -> str:
    service = kind.split("::")[1].lower()
    return _NAMES.get(service, service)
