"""The delivery of a table's changes to the landing bucket: capture, transform function, delivery stream, alarms."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import aws_kms as kms
from constructs import Construct

from ddb_lake.infra.constructs.alarms import AlarmProps, capture_alarms, delivery_alarms
from ddb_lake.infra.constructs.delivery import DeliveryProps, delivery_stream
from ddb_lake.infra.constructs.functions import BuiltFunction, FunctionProps, function
from ddb_lake.infra.constructs.network import Network
from ddb_lake.infra.constructs.tables import capture
from ddb_lake.infra.deployment import Deployment, TableDeployment
from ddb_lake.infra.packaging import CodeSource


def transform_function(
    scope: Construct, deployment: Deployment, key: kms.IKey, vpc: Network, code: CodeSource
) -> BuiltFunction:
    """Create the function that stamps or flattens change records. It calls no service, and its policy allows none."""
    props = FunctionProps(
        handler="transform",
        name=f"{deployment.name}-transform",
        purpose="Stamps change records on their way to the landing bucket",
        settings=deployment.settings.functions,
        environment={
            "DDB_LAKE_MODE": deployment.settings.delivery.mode,
            **enrichment(deployment.settings.enrich.transform),
        },
        memory_mb=512,
        timeout_s=300,
        no_dead_letters="Firehose invokes it synchronously, retries, and puts failures below the error prefix",
    )
    return function(scope, "Transform", props, key, vpc, code)


def enrichment(function: str | None) -> dict[str, str]:
    """The variable that names a user's function; empty without one."""
    return {"DDB_LAKE_ENRICH": function} if function else {}


def firehose_role(deployment: Deployment, table: TableDeployment) -> str:
    """The name of a table's Firehose role. The policies of the other account's bucket and key also name it."""
    return f"{deployment.name}-{table.name}-firehose"


@dataclass(frozen=True, slots=True)
class LandingBucket:
    """The bucket that changes are delivered to. `key_arn`: None for a bucket of another account."""

    arn: str
    key_arn: str | None


def deliver_changes(
    scope: Construct,
    deployment: Deployment,
    table: TableDeployment,
    key: kms.IKey,
    transform: BuiltFunction,
    bucket: LandingBucket,
) -> list[AlarmProps]:
    """Capture a table's changes with Kinesis and deliver them with Firehose. Returns the alarms for both."""
    captured = capture(scope, deployment, table, key)
    name = f"{deployment.name}-{table.name}-delivery"
    props = DeliveryProps(
        name=name,
        role_name=firehose_role(deployment, table),
        landing=table.landing,
        errors=table.errors,
        prefix=table.delivery_prefix,
        error_prefix=table.error_prefix,
        bucket_arn=bucket.arn,
        bucket_key_arn=bucket.key_arn,
        transform=transform.function,
        stream=captured.stream,
        other_account=None if bucket.key_arn else deployment.consumer_account,
        other_key_arn=deployment.settings.adopt.key_account_arn,
    )
    delivery_stream(scope, f"{table.id}Delivery", deployment, props, key)
    limits = deployment.settings.alarms
    return [
        *capture_alarms(table.id, table.name, captured.stream_name, limits.behind_minutes),
        *delivery_alarms(table.id, name, limits.freshness_minutes, from_kinesis=True),
    ]
