"""The CDK app: which stacks a deployment has, and how they are synthesised. Plain functions; no `cdk.json` is needed.

`App()` outside CDK's command line reads no `cdk.json`, so that the recommended feature flags are committed
(`flags.json`) and passed on.
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
from ddb_lake.infra.packaging import CodeSource, build_package
from ddb_lake.infra.plan import Plan
from ddb_lake.infra.stacks import catalog, consumer, orchestration, producer, replicate, same_account, streams_to_aurora
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
    "replica": ("consumer", "Copy of the warehouse in another Region", catalog.build_replica),
    "orchestration": ("consumer", "What running Dagster needs", orchestration.build),
}
"""Name of each stack: whose account it belongs to, what it is, and what fills it."""


def context(record_acknowledgements: bool = False) -> dict[str, Any]:
    """The app's context: CDK's recommended flags."""
    flags: dict[str, Any] = json.loads(_FLAGS.read_text(encoding="utf-8"))
    return {**flags, RECORD_ONLY: True} if record_acknowledgements else flags


def build_app(
    plan: Plan, outdir: Path, *, explicit_environment: bool, record_acknowledgements: bool = False, checks: bool = True
) -> cdk.App:
    """The app with every stack of the deployment, not yet synthesised.

    With `record_acknowledgements`, acknowledged findings are reported like all others, and what was acknowledged is in
    the assembly's metadata: how `check` finds acknowledgements that no finding answers to.
    """
    app = cdk.App(outdir=str(outdir), context=context(record_acknowledgements), analytics_reporting=False)
    code = packaged(outdir / "packages", plan)
    key_arns: dict[str, str] = {}
    for name in stack_names(plan):
        whose, about, build = TOPOLOGIES[name]
        stack = new_stack(
            app, f"{plan.name}-{name}", f"ddb-lake: {about}", _environment(plan, name, whose, explicit_environment)
        )
        if name == "orchestration":
            build = partial(build, key_arns=bucket_keys(stack, plan))
        key_arns[name] = build(stack, plan, code)
        cdk.Tags.of(stack).add("project", plan.name)
    if checks:
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    return app


def stack_names(plan: Plan) -> list[str]:
    """The stacks of a deployment: the replica only where a Region is given."""
    return [name for name in TOPOLOGIES if name != "replica" or plan.settings.catalog.replica_region]


def packaged(folder: Path, plan: Plan) -> CodeSource:
    """Code from packages made of the active environment, each once an app."""
    made: dict[str, Path] = {}

    def code(_stack: cdk.Stack, handler: str) -> lambda_.Code:
        if handler not in made:
            made[handler] = build_package(handler, folder, certificates_for(handler, plan))
        return lambda_.Code.from_asset(str(made[handler]))

    return code


def certificates_for(handler: str, plan: Plan) -> Path | None:
    """The certificates to pack with a handler: only the loader meets a database."""
    return plan.settings.aurora.certificates if handler == "load_aurora" else None


def _environment(plan: Plan, name: str, whose: str, explicit: bool) -> cdk.Environment | None:
    if not explicit:
        return None
    region = plan.settings.catalog.replica_region if name == "replica" else plan.settings.region
    return cdk.Environment(
        account=plan.producer_account if whose == "producer" else plan.consumer_account, region=region
    )


def bucket_keys(stack: cdk.Stack, plan: Plan) -> dict[str, str]:
    """The keys of the buckets that the task reads and writes: parameters, as other stacks or templates made them."""
    return {
        what: cdk.CfnParameter(
            stack,
            f"{what.capitalize()}KeyArn",
            type="String",
            allowed_pattern="^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$",
            description=f"Output KeyArn of the stack that made the {what} bucket of {plan.name}",
        ).value_as_string
        for what in ("landing", "warehouse")
    }
