"""Templates, read: resources by type, statements of policies, references made readable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Template:
    name: str
    document: dict[str, Any]

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties of the resources of a type, by logical id."""
        found = self.document["Resources"].items()
        return {id: one.get("Properties", {}) for id, one in found if one["Type"] == kind}

    def only(self, kind: str) -> dict[str, Any]:
        (found,) = self.resources(kind).values()
        return found

    def one(self, kind: str, start: str) -> dict[str, Any]:
        (found,) = [p for id, p in self.resources(kind).items() if id.startswith(start)]
        return found

    def whole(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.document["Resources"][id]
        return found

    def statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every statement of every identity policy, with the logical id of the policy or role."""
        for id, properties in self.resources("AWS::IAM::Policy").items():
            yield from ((id, statement) for statement in properties["PolicyDocument"]["Statement"])
        for id, properties in self.resources("AWS::IAM::Role").items():
            for policy in properties.get("Policies", ()):
                yield from ((id, statement) for statement in policy["PolicyDocument"]["Statement"])

    def resource_statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every statement of the policies of buckets, keys, queues, topics and endpoints."""
        for id, resource in self.document["Resources"].items():
            properties = resource.get("Properties", {})
            for member in ("PolicyDocument", "KeyPolicy"):
                if resource["Type"] != "AWS::IAM::Policy" and member in properties:
                    yield from ((id, statement) for statement in properties[member]["Statement"])

    def policy_of(self, start: str) -> list[dict[str, Any]]:
        """The statements of the one policy whose logical id starts so."""
        ids = {id for id, _ in self.statements() if id.startswith(start)}
        assert len(ids) == 1, ids
        return [statement for id, statement in self.statements() if id in ids]


def read_templates(folder: Path, prefix: str = "") -> dict[str, Template]:
    found = {}
    for path in sorted(folder.glob("*.template.json")):
        name = path.name.removesuffix(".template.json").removeprefix(prefix)
        found[name] = Template(name, json.loads(path.read_text()))
    return found


def environments(template: Template) -> dict[str, list[dict[str, str]]]:
    """The environments of the functions of each handler, references written out."""
    found: dict[str, list[dict[str, str]]] = {}
    for function in template.resources("AWS::Lambda::Function").values():
        variables = function.get("Environment", {}).get("Variables", {})
        handler = function["Handler"].split(".")[-2]
        found.setdefault(handler, []).append({name: text(value) for name, value in variables.items()})
    return found


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def text(value: Any) -> str:
    """A value with references written as `${…}`."""
    if isinstance(value, str | int | float):
        return str(value)
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(text(part) for part in parts)
    if "Fn::GetAtt" in value:
        return "${" + ".".join(value["Fn::GetAtt"]) + "}"
    if "Ref" in value:
        return "${" + str(value["Ref"]) + "}"
    return json.dumps(value, sort_keys=True)


def actions(statements: list[dict[str, Any]]) -> set[str]:
    return {
        action for statement in statements if statement["Effect"] == "Allow" for action in as_list(statement["Action"])
    }
