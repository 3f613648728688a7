"""Least-privilege IAM policies, one a role: what the code calls, and nothing else.

Belongs here: which actions each role needs on which resources, as documents; `ddb-lake iam` prints them and the CDK
stacks attach them. Promises: a policy allows exactly the calls that the code makes (a test records them), and `*` stands
alone as a resource only where AWS knows no other (`UNSCOPED_ACTIONS`). ARNs may be CDK tokens: they are put together
here and never taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ddb_lake.core.operations.policies.estate import (
    DNS_SUFFIXES,
    Database,
    Estate,
    HashKey,
    Place,
    Searched,
    Source,
    Statement,
    database_user_arn,
    parameter_key,
    partition_of,
    secret_key,
)
from ddb_lake.core.operations.policies.parts import key_use
from ddb_lake.core.operations.policies.roles import describe, role_names, statements

__all__ = [
    "DNS_SUFFIXES",
    "UNSCOPED_ACTIONS",
    "Database",
    "Estate",
    "HashKey",
    "Place",
    "Searched",
    "Source",
    "Statement",
    "actions",
    "database_user_arn",
    "describe",
    "document",
    "key_use",
    "parameter_key",
    "partition_of",
    "role_names",
    "secret_key",
    "statements",
]

UNSCOPED_ACTIONS: Mapping[str, str] = {
    "cloudwatch:GetMetricData": "CloudWatch has no resource-level permissions for reading metrics",
    "cloudwatch:GetMetricStatistics": "CloudWatch has no resource-level permissions for reading metrics",
    "cloudwatch:ListMetrics": "CloudWatch has no resource-level permissions for reading metrics",
    "dynamodb:ListTables": "AWS grants the listing of tables on no single one",
    "dynamodb:ListStreams": "AWS grants the listing of streams on no single one",
}
"""Actions that AWS grants on `*` only, with the reason."""


def document(found: Iterable[Statement]) -> dict[str, Any]:
    """A policy document of statements."""
    return {"Version": "2012-10-17", "Statement": [statement.document() for statement in found]}


def actions(found: Iterable[Statement]) -> frozenset[str]:
    """Every action that the statements allow."""
    return frozenset(action for statement in found for action in statement.actions)
