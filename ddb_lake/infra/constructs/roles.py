"""Roles whose policies are the documents of `core.operations.policies`, and the statements that AWS services need besides."""

from __future__ import annotations

from collections.abc import Iterable

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from ddb_lake.core.operations.policies import Statement


def role(scope: Construct, id: str, name: str, principal: iam.IPrincipal, description: str) -> iam.Role:
    """A role of a fixed name: other accounts' policies refer to it before it exists."""
    return iam.Role(scope, id, role_name=name, assumed_by=principal, description=description)


def attach(holder: iam.Role, statements: Iterable[Statement], id: str = "Policy") -> iam.Policy:
    """Give a role a policy of exactly these statements, and nothing that CDK would add by itself."""
    return iam.Policy(
        holder,
        id,
        roles=[holder],
        statements=[
            iam.PolicyStatement.from_json(statement.document()) for statement in statements if statement.resources
        ],
    )


def own_account(service: str, stack: cdk.Stack, external_id: bool = False) -> iam.IPrincipal:
    """A service acting for this account only (the confused deputy's remedy)."""
    condition = {"sts:ExternalId": stack.account} if external_id else {"aws:SourceAccount": stack.account}
    return iam.ServicePrincipal(service, conditions={"StringEquals": condition})
