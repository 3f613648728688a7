"""Accepted findings of cdk-nag and checkov, each with its reason. Accepting a finding that does not occur fails the build."""

from __future__ import annotations

from aws_cdk import Acknowledgment, CfnResource, Validations
from constructs import Construct

from ddb_lake.infra.nag_findings import METADATA

RECORD_ONLY = "ddb-lake:record-acknowledgements"
"""The context key that records acknowledgements without applying them, so that every finding is reported."""


def acknowledge(construct: Construct, finding: str, reason: str) -> None:
    """Accept one finding on a construct and what is below it.

    `finding` is a rule's name, with `[…]` where the rule has several findings: never the rule alone for those.
    """
    if construct.node.try_get_context(RECORD_ONLY):
        construct.node.add_metadata(METADATA, {"id": finding, "reason": reason})
        return
    Validations.of(construct).acknowledge(Acknowledgment(id=finding, reason=reason))


def skip_checkov(resource: CfnResource, check: str, reason: str) -> None:
    """Skip one checkov check on one resource. Skipping a check that passes fails the build."""
    skips = (resource.get_metadata("checkov") or {}).get("skip", [])
    resource.add_metadata("checkov", {"skip": [*skips, {"id": check, "comment": reason}]})
