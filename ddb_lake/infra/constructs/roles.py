"""Roles whose policies are the documents of `core.operations.policies`, and the statements that AWS services need besides."""

from __future__ import annotations

from collections.abc import Iterable

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from ddb_lake.core.operations.policies import Statement


def role(scope: Construct, id: str, name: str, principal: iam.IPrincipal, description: str) -> iam.Role:
    """A role with a fixed name, so that other accounts' policies can refer to it before it exists."""
    return iam.Role(scope, id, role_name=name, assumed_by=principal, description=description)


def attach(holder: iam.Role, statements: Iterable[Statement], id: str = "Policy") -> iam.Policy:
    """Attach a policy with these statements to a role. CDK adds nothing to it."""
    return iam.Policy(
        holder,
        id,
        roles=[holder],
        statements=[
            iam.PolicyStatement.from_json(statement.document()) for statement in statements if statement.resources
        ],
    )


def own_account(service: str, stack: cdk.Stack, external_id: bool = False) -> iam.IPrincipal:
    """A service principal limited to requests for this account, against the confused deputy problem.

    Use it only for services whose documentation has the condition key in a trust policy: a condition on a key that the
    service does not send never matches. Other services get a plain principal, as AWS's own pages show. They can get a role
    of this account only from an identity of this account that may pass it.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
    """
    condition = {"sts:ExternalId": stack.account} if external_id else {"aws:SourceAccount": stack.account}
    return iam.ServicePrincipal(service, conditions={"StringEquals": condition})
