"""The CDK app: which stacks a deployment has, and how they are synthesised. Plain functions; no `cdk.json` is needed.

`App()` outside CDK's command line reads no `cdk.json`, so that the recommended feature flags are committed
(`flags.json`) and passed on. The `cdk.json` of the repository runs the same command.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from cdk_nag import AwsSolutionsChecks, ServerlessChecks

from ddb_lake.infra.constructs.acknowledgements import RECORD_ONLY
from ddb_lake.infra.deployment import Deployment
from ddb_lake.infra.packaging import CodeSource, UserCode, build_package
from ddb_lake.infra.stacks import (
    catalog,
    consumer,
    follow,
    orchestration,
    producer,
    replica,
    replicate,
    same_account,
    streams_to_aurora,
)
from ddb_lake.infra.stacks.base import new_stack

_FLAGS = Path(__file__).with_name("flags.json")

TOPOLOGIES: dict[str, tuple[str, str, Callable[..., str]]] = {
    "same-account": ("producer", "Table to bucket in one account", same_account.build),
    "producer": ("producer", "Table to the bucket of another account", producer.build),
    "consumer": ("consumer", "Buckets that another account delivers into", consumer.build),
    "streams-to-aurora": ("producer", "DynamoDB Streams to Aurora MySQL", streams_to_aurora.build),
    "replicate-source": ("producer", "Kinesis to the table of another account", replicate.build_source),
    "replicate-target": ("consumer", "Table written by another account", replicate.build_target),
    "catalog": ("consumer", "Glue database and Athena workgroup", catalog.build),
    "replica": ("consumer", "Copy of the landing bucket in another Region", replica.build),
    "orchestration": ("consumer", "What running Dagster needs", orchestration.build),
    "follow": ("consumer", "A Fargate service that follows the tables", follow.build),
}
"""Name of each stack: whose account it belongs to, what it is, and what fills it."""

WITH_BUCKET_KEYS = ("orchestration", "follow")
"""Stacks whose tasks use buckets that other stacks make."""


def context(record_acknowledgements: bool = False) -> dict[str, Any]:
    """The app's context: CDK's recommended flags."""
    flags: dict[str, Any] = json.loads(_FLAGS.read_text(encoding="utf-8"))
    return {**flags, RECORD_ONLY: True} if record_acknowledgements else flags


def build_app(
    deployment: Deployment,
    outdir: Path,
    *,
    explicit_environment: bool,
    record_acknowledgements: bool = False,
    checks: bool = True,
) -> cdk.App:
    """The app with all stacks of the deployment, before synthesis.

    With `record_acknowledgements`, acknowledged findings are reported like all others, and what was acknowledged is in
    the assembly's metadata: how `check` finds acknowledgements that no finding answers to.
    """
    app = cdk.App(outdir=str(outdir), context=context(record_acknowledgements), analytics_reporting=False)
    code = packaged(outdir / "packages", deployment)
    key_arns: dict[str, str] = {}
    for name in deployment.settings.stack_names:
        whose, about, build = TOPOLOGIES[name]
        stack = new_stack(
            app,
            f"{deployment.name}-{name}",
            f"ddb-lake: {about}",
            _environment(deployment, name, whose, explicit_environment),
        )
        if name in WITH_BUCKET_KEYS:
            build = partial(build, key_arns=bucket_keys(stack, deployment))
        key_arns[name] = build(stack, deployment, code)
        cdk.Tags.of(stack).add("project", deployment.name)
    if checks:
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    return app


def packaged(folder: Path, deployment: Deployment) -> CodeSource:
    """Code from packages of the active environment, built once for each app."""
    packages: dict[str, Path] = {}

    def code(_stack: cdk.Stack, handler: str) -> lambda_.Code:
        if handler not in packages:
            packages[handler] = build_package(
                handler, folder, certificates_for(handler, deployment), user_code_for(handler, deployment)
            )
        return lambda_.Code.from_asset(str(packages[handler]))

    return code


def certificates_for(handler: str, deployment: Deployment) -> Path | None:
    """The certificates to package with a handler; None except for the Aurora loader."""
    return deployment.settings.aurora.certificates if handler == "load_aurora" else None


def user_code_for(handler: str, deployment: Deployment) -> UserCode | None:
    """The user's module to package with a handler; None for all but those whose `enrich` setting names a function."""
    enrich = deployment.settings.enrich
    function = {"transform": enrich.transform, "replicate": enrich.replicate}.get(handler)
    return UserCode(enrich.code, function) if function and enrich.code else None


def _environment(deployment: Deployment, name: str, whose: str, explicit: bool) -> cdk.Environment | None:
    replica = deployment.settings.replica_region if name == "replica" else None
    if not explicit:  # the landing bucket's stack names the replica's Region, so that this one is bound to it
        return cdk.Environment(region=replica) if replica else None
    region = replica or deployment.settings.region
    return cdk.Environment(
        account=deployment.producer_account if whose == "producer" else deployment.consumer_account, region=region
    )


def bucket_keys(stack: cdk.Stack, deployment: Deployment) -> dict[str, str]:
    """Parameters for the keys of the buckets that the task accesses, which other stacks create."""
    return {
        what: cdk.CfnParameter(
            stack,
            f"{what.capitalize()}KeyArn",
            type="String",
            allowed_pattern="^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$",
            description=f"Output KeyArn of the stack that made the {what} bucket of {deployment.name}",
        ).value_as_string
        for what in ("landing", "warehouse")
    }
