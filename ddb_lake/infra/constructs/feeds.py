"""A table's way to the landing bucket: capture, transform function, delivery stream, and what is watched of them."""

from __future__ import annotations

from aws_cdk import aws_kms as kms
from constructs import Construct

from ddb_lake.infra.constructs.delivery import DeliveryPlan, delivery_stream
from ddb_lake.infra.constructs.functions import BuiltFunction, FunctionPlan, function
from ddb_lake.infra.constructs.network import Network
from ddb_lake.infra.constructs.tables import capture
from ddb_lake.infra.constructs.watching import Watched, of_capture, of_delivery
from ddb_lake.infra.packaging import CodeSource
from ddb_lake.infra.plan import Plan, TablePlan


def transform_function(scope: Construct, plan: Plan, key: kms.IKey, vpc: Network, code: CodeSource) -> BuiltFunction:
    """The function that stamps (or flattens) change records. It calls no service, so its policy allows it none."""
    made = FunctionPlan(
        handler="transform",
        name=f"{plan.name}-transform",
        purpose="Stamps change records on their way to the landing bucket",
        environment={"DDB_LAKE_MODE": plan.settings.delivery.mode},
        memory_mb=512,
        timeout_s=300,
        concurrency=20,
        no_dead_letters="Firehose invokes it synchronously, retries, and puts failures below the error prefix",
    )
    return function(scope, "Transform", made, key, vpc, code)


def firehose_role(plan: Plan, table: TablePlan) -> str:
    """The name of a table's Firehose role, which the other account's bucket and key name as well."""
    return f"{plan.name}-{table.name}-firehose"


def watched_feed(
    scope: Construct,
    plan: Plan,
    table: TablePlan,
    key: kms.IKey,
    transform: BuiltFunction,
    bucket_arn: str,
    bucket_key_arn: str | None,
) -> list[Watched]:
    """Capture a table's changes and deliver them; `bucket_key_arn` is None for another account's bucket."""
    captured = capture(scope, plan, table, key)
    name = f"{plan.name}-{table.name}-delivery"
    made = DeliveryPlan(
        name=name,
        role_name=firehose_role(plan, table),
        landing=table.landing,
        errors=table.errors,
        prefix=table.delivery_prefix,
        error_prefix=table.error_prefix,
        bucket_arn=bucket_arn,
        bucket_key_arn=bucket_key_arn,
        other_account=None if bucket_key_arn else plan.consumer_account,
        other_key_arn=plan.settings.adopt.key_account_arn,
    )
    delivery_stream(scope, f"{table.id}Delivery", plan, made, key, transform.function, captured.stream)
    alarms = plan.settings.alarms
    return [
        *of_capture(table.id, table.name, captured.stream_name, alarms.behind_minutes),
        *of_delivery(table.id, name, alarms.freshness_minutes, from_kinesis=True),
    ]
