"""Roles that work on the lake: the resources they access, and the statements that `ddb-lake iam` prints for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_iam as iam

from ddb_lake.core.operations.policies import (
    UNSCOPED_ACTIONS,
    Database,
    Estate,
    HashKey,
    Place,
    Source,
    database_user_arn,
    parameter_key,
    secret_key,
    statements,
)
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.roles import attach
from ddb_lake.infra.constructs.tables import kinesis_arn, table_arn
from ddb_lake.infra.deployment import Deployment, Location, TableDeployment


@dataclass(frozen=True, slots=True)
class Queues:
    """Queues with notifications of landed objects, and the key that they are under."""

    arns: tuple[str, ...] = ()
    key_arn: str | None = None


def estate(stack: cdk.Stack, deployment: Deployment, key_arns: Mapping[str, str], queues: Queues) -> Estate:
    """The resources that a role accesses. Tables of another account are accessed through their role.

    `key_arns`: the keys of the buckets, as `landing` and `warehouse`.
    """
    catalog = f"arn:{stack.partition}:glue:{stack.region}:{stack.account}"
    landing = [_place(stack, p, key_arns["landing"]) for t in deployment.tables for p in (t.landing, t.errors)]
    streams = [place for t in deployment.tables if (place := _stream_landing(stack, deployment, t, key_arns))]
    return Estate(
        region=stack.region,
        dns_suffix=stack.url_suffix,
        sources=tuple(_source(stack, deployment, table, key_arns) for table in deployment.tables),
        landing=tuple(dict.fromkeys((*landing, *streams))),
        warehouse=_place(stack, deployment.warehouse, key_arns["warehouse"]),
        glue=(
            f"{catalog}:catalog",
            f"{catalog}:database/{deployment.namespace}",
            f"{catalog}:table/{deployment.namespace}/*",
        ),
        queue_arns=queues.arns,
        queue_key_arn=queues.key_arn,
        hash_key=_hash_key(stack, deployment),
        databases=tuple(
            Database(
                one.secret_arn,
                database_user_arn(stack.partition, f"{one.region or stack.region}:{stack.account}", one.user)
                if one.iam_auth
                else None,
            )
            for one in deployment.databases
        ),
    )


def _source(stack: cdk.Stack, deployment: Deployment, table: TableDeployment, key_arns: Mapping[str, str]) -> Source:
    here = deployment.producer_account == deployment.consumer_account
    role = f"arn:{stack.partition}:iam::{deployment.producer_account}:role/{table.source_role}"
    return Source(
        table_arn(stack, table.name, deployment.producer_account),
        None if here else role,
        key_arns["landing"] if here else None,
        _place(stack, table.exports, key_arns["landing"]),
        table.stream is not None,
        _stream_landing(stack, deployment, table, key_arns),
        kinesis_arn(stack, table, deployment.producer_account),
        table.stream.fan_out if table.stream else None,
    )


def _stream_landing(
    stack: cdk.Stack, deployment: Deployment, table: TableDeployment, key_arns: Mapping[str, str]
) -> Place | None:
    """Where records of a stream land: in the warehouse's bucket unless `changes.landing` names another one."""
    if table.stream is None:
        return None
    beside = table.stream.landing.bucket == deployment.warehouse.bucket
    return _place(stack, table.stream.landing, key_arns["warehouse" if beside else "landing"])


def _hash_key(stack: cdk.Stack, deployment: Deployment) -> HashKey | None:
    place, kms_arn = deployment.hash_key, deployment.settings.adopt.hash_kms_arn
    where = f"{stack.region}:{stack.account}"
    if place is not None and place.secret is not None:
        return secret_key(place.secret, f"arn:{stack.partition}:secretsmanager:{where}", kms_arn)
    if place is not None and place.parameter is not None:
        return parameter_key(place.parameter, f"arn:{stack.partition}:ssm:{where}", kms_arn)
    return None


def _place(stack: cdk.Stack, where: Location, key_arn: str) -> Place:
    return Place(f"arn:{stack.partition}:s3:::{where.bucket}", where.prefix, key_arn)


def attach_lake_role(stack: cdk.Stack, role: iam.Role, name: str, found: Estate) -> None:
    """Attach the policy that `ddb-lake iam NAME` prints."""
    allowed = statements(name, found)
    policy = attach(role, allowed)
    reasons = {arn: _reason(arn, statement.actions) for statement in allowed for arn in statement.resources}
    for arn, reason in reasons.items():
        if "*" in arn:
            acknowledge(policy, finding(stack, arn), reason)


def _reason(arn: str, actions: tuple[str, ...]) -> str:
    if arn == "*":
        return UNSCOPED_ACTIONS[actions[0]]
    return "Names below it are chosen by DynamoDB, Firehose, or the lake's writer"
