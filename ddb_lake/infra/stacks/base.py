"""The empty stack that every topology fills."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct


class ZonedStack(cdk.Stack):  # type: ignore[misc]  # CDK's types are not followed: jsii checks arguments at run time
    """A stack in the Region's first three availability zones, without their names.

    With an explicit environment, CDK looks the names up, or writes dummy names into the template if it cannot.
    """

    @property
    def availability_zones(self) -> list[str]:
        """Three zones, chosen by CloudFormation."""
        return [cdk.Fn.select(number, cdk.Fn.get_azs()) for number in range(3)]


def new_stack(
    scope: Construct,
    id: str,
    description: str,
    environment: cdk.Environment | None,
    synthesizer: cdk.IStackSynthesizer | None = None,
) -> cdk.Stack:
    """An empty stack. Without `environment`, it can be deployed to any account and Region."""
    return ZonedStack(
        scope,
        id,
        description=description,
        env=environment,
        synthesizer=synthesizer,
        analytics_reporting=False,
    )
