"""Every role of the templates may have services use keys for what its actions imply, and for nothing more."""

from __future__ import annotations

import pytest

from ddb_lake.infra.config import STACK_NAMES
from ddb_lake_tests.support.iam_evaluation import Grant, attached
from ddb_lake_tests.support.kms_uses import IMPLIED, NOTHING, allowed_uses, uses, uses_of
from ddb_lake_tests.support.templates import Template, text

ENVIRONMENT = {("kms:Decrypt", "lambda")}
"""Lambda decrypts a function's environment with the function's role."""


def roles_of(template: Template) -> dict[str, list[Grant]]:
    """The grants of each policy, by its logical id."""
    ids = dict.fromkeys(id for id, _ in template.statements())
    return {id: attached([s for other, s in template.statements() if other == id], text) for id in ids}


@pytest.mark.parametrize("name", STACK_NAMES)
def test_role_may_use_keys_for_what_its_actions_imply_and_nothing_else(
    name: str, templates: dict[str, Template]
) -> None:
    for id, grants in roles_of(templates[name]).items():
        its_environment = ENVIRONMENT if any(grant.sid == "DecryptEnvironment" for grant in grants) else set()
        assert allowed_uses(grants) == uses_of(grants) | its_environment, id


@pytest.mark.parametrize("name", STACK_NAMES)
def test_keys_are_used_through_a_service_or_described(name: str, templates: dict[str, Template]) -> None:
    for id, grants in roles_of(templates[name]).items():
        bare = {grant.action for grant in grants if grant.action.startswith("kms:") and not grant.through}
        assert bare <= {"kms:DescribeKey"}, id


def test_what_an_operation_implies_is_stated_once() -> None:
    nothing = {f"{service}:{name}" for service, names in NOTHING.items() for name in names}
    assert nothing & set(IMPLIED) == set()
    assert all(services for services in IMPLIED.values())


def test_operation_without_a_rule_is_an_error() -> None:
    with pytest.raises(AssertionError, match="what does s3:GetObjectTorrent do with a key"):
        uses("s3:GetObjectTorrent")
    assert uses("glue:GetTable") == frozenset()
