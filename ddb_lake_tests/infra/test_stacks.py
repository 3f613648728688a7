"""What each stack deploys, by `stacks.yaml`: resources, the identity of those with data, permissions and settings.

`test_security` has the rules that hold for every stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ddb_lake.infra.config import STACK_NAMES
from ddb_lake_tests.support.templates import Template, as_list

if TYPE_CHECKING:
    from aws_cdk import assertions

STACKS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "stacks.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def asserted(templates: dict[str, Template]) -> dict[str, assertions.Template]:
    """The templates for CDK's assertions."""
    from aws_cdk import assertions  # starts Node, which only these tests need

    return {name: assertions.Template.from_json(template.document) for name, template in templates.items()}


@pytest.mark.parametrize("name", STACK_NAMES)
def test_stack_has_these_resources_and_no_others(
    name: str, templates: dict[str, Template], asserted: dict[str, assertions.Template]
) -> None:
    expected = STACKS[name]["resources"]
    for kind, count in expected.items():
        asserted[name].resource_count_is(f"AWS::{kind}", count)
    assert len(templates[name].document["Resources"]) == sum(expected.values())


@pytest.mark.parametrize("name", STACK_NAMES)
def test_stack_has_these_parameters_and_no_others(name: str, templates: dict[str, Template]) -> None:
    parameters = templates[name].document.get("Parameters", {}).keys() - {"BootstrapVersion"}
    assert parameters == set(STACKS[name]["parameters"])


@pytest.mark.parametrize("name", STACK_NAMES)
def test_resources_with_data_keep_their_logical_ids(name: str, templates: dict[str, Template]) -> None:
    # CloudFormation replaces a resource whose logical id changes:
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/resources-section-structure.html
    ids = set(STACKS[name]["with_data"])
    kinds = {templates[name].whole(id)["Type"] for id in ids}
    assert {id for kind in kinds for id in templates[name].resources(kind)} == ids


@pytest.mark.parametrize("name", STACK_NAMES)
def test_policies_have_these_actions_and_no_others(name: str, templates: dict[str, Template]) -> None:
    actions: dict[str, set[str]] = {}
    for id, statement in templates[name].statements():
        denied = "!" if statement["Effect"] == "Deny" else ""
        actions.setdefault(id[:-8], set()).update(denied + action for action in as_list(statement["Action"]))
    assert {policy: " ".join(sorted(found)) for policy, found in actions.items()} == STACKS[name]["actions"]


def test_every_asserted_property_says_what_it_guards() -> None:
    asserted = {
        f"{s['type']}.{path}"
        for name in STACK_NAMES
        for s in STACKS[name]["settings"]
        for path in _paths(s["properties"])
    }
    assert asserted == set(STACKS["guards"])


def _paths(properties: dict[str, Any], parent: str = "") -> Iterator[str]:
    for name, value in properties.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{parent}{name}.")
        else:
            yield f"{parent}{name}"


@pytest.mark.parametrize("name", STACK_NAMES)
def test_resources_have_these_settings(name: str, asserted: dict[str, assertions.Template]) -> None:
    for setting in STACKS[name]["settings"]:
        asserted[name].has_resource_properties(f"AWS::{setting['type']}", setting["properties"])
