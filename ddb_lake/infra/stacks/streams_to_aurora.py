"""DynamoDB Streams → forward → Firehose with the validate function → S3 → load function → Aurora MySQL."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_

from ddb_lake.core.operations.policies import Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.aurora import Cluster, cluster
from ddb_lake.infra.constructs.buckets import landing_buckets
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.forwarding import Around, failed_batches, forwarded
from ddb_lake.infra.constructs.functions import BuiltFunction, FunctionPlan, function
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.queues import arrivals_to_queue, arrivals_to_topic, dead_letters, work_queue
from ddb_lake.infra.constructs.tables import source_table
from ddb_lake.infra.constructs.watching import Watched, alarm_topic, of_error_prefix, of_function, of_queue, watch
from ddb_lake.infra.packaging import CERTIFICATES, CodeSource
from ddb_lake.infra.plan import Location, Plan, TablePlan

ENDPOINTS = ("kinesis-firehose",)
_LOAD_TIMEOUT_S = 300


def build(stack: cdk.Stack, plan: Plan, code: CodeSource) -> str:
    """Fill the stack. Gives the ARN of the key its bucket is under."""
    key = data_key(stack, plan, "streams-to-aurora")
    vpc = network(stack, plan, key, ENDPOINTS, ("s3",))
    topic = alarm_topic(stack, key, f"{plan.name}-aurora-alarms")
    failures = dead_letters(stack, "Undelivered", f"{plan.name}-aurora-undelivered", key, of_a_queue=True)
    buckets = landing_buckets(stack, plan, key)
    first = plan.tables[0].landing
    arns = [f"{buckets[t.landing.bucket].bucket_arn}/{files_of(t).prefix}*" for t in plan.tables]
    database = cluster(stack, plan, key, vpc, arns, buckets[first.bucket].bucket_arn)
    watched = of_queue("Undelivered", f"{plan.name}-aurora-undelivered", dead_letters=True)
    for table in plan.tables:
        around = Around(key, vpc, failures, buckets[table.landing.bucket], code)
        watched += _pipeline(stack, plan, table, around, database)
        rule = f"{plan.name}-{table.name}-aurora-failed"
        arrivals_to_topic(stack, f"{table.id}Failed", rule, [table.errors, failed_batches(table)], topic, failures)
        watched += of_error_prefix(table.id, rule)
    watch(stack, topic, f"{plan.name}-streams-to-aurora", watched)
    cdk.CfnOutput(stack, "AuroraArn", value=database.arn, description="For `aws rds-data execute-statement`")
    cdk.CfnOutput(stack, "AuroraSecretArn", value=database.resource.attr_master_user_secret_secret_arn)
    return str(key.key_arn)


def files_of(table: TablePlan) -> Location:
    """Where the CSV files for Aurora go. The records as they came in land where the lake looks for them."""
    return Location(table.landing.bucket, f"{table.landing.prefix.rstrip('/')}-csv/")


def _pipeline(stack: cdk.Stack, plan: Plan, table: TablePlan, around: Around, database: Cluster) -> list[Watched]:
    source = source_table(stack, table, around.key, stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)
    validate = _validate(stack, plan, table, around)
    watched = [
        *forwarded(stack, plan, table, source, validate.function, around, files_of(table), ".csv"),
        *of_function(f"{table.id}Validate", f"{plan.name}-{table.name}-validate"),
    ]
    name = f"{plan.name}-{table.name}-load"
    queue = work_queue(stack, f"{table.id}Files", name, around.key, around.failures, 6 * _LOAD_TIMEOUT_S)
    rule = f"{plan.name}-{table.name}-files"
    arrivals_to_queue(stack, f"{table.id}Arrived", rule, [files_of(table)], queue, around.failures)
    load = _load(stack, plan, table, around, database, queue.queue_arn)
    mapping = lambda_.CfnEventSourceMapping(
        stack,
        f"{table.id}FilesMapping",
        function_name=load.function.function_name,
        event_source_arn=queue.queue_arn,
        batch_size=10,
        function_response_types=["ReportBatchItemFailures"],
        scaling_config=lambda_.CfnEventSourceMapping.ScalingConfigProperty(maximum_concurrency=2),
    )
    mapping.node.add_dependency(load.policy)
    rule_name = "Serverless-LambdaEventSourceMappingDestination"
    acknowledge(
        mapping, rule_name, "A queue's mapping has no destination: failures go to the queue's dead-letter queue"
    )
    return [*watched, *of_function(f"{table.id}Load", name), *of_queue(f"{table.id}Files", name, dead_letters=False)]


def _validate(stack: cdk.Stack, plan: Plan, table: TablePlan, around: Around) -> BuiltFunction:
    made = FunctionPlan(
        handler="validate",
        name=f"{plan.name}-{table.name}-validate",
        purpose="Validates change records and makes CSV of them",
        environment=_validate_environment(table),
        memory_mb=512,
        timeout_s=300,
        no_dead_letters="Firehose invokes it synchronously, retries, and puts failures below the error prefix",
    )
    return function(stack, f"{table.id}Validate", made, around.key, around.vpc, around.code)


def _validate_environment(table: TablePlan) -> dict[str, str]:
    schemas = {"DDB_LAKE_SCHEMAS": table.schemas_json} if table.schemas_json else {}
    return {"DDB_LAKE_OUTPUT": "csv", "DDB_LAKE_COLUMNS": table.columns_json, **schemas}


def _load(
    stack: cdk.Stack, plan: Plan, table: TablePlan, around: Around, database: Cluster, queue_arn: str
) -> BuiltFunction:
    settings = plan.settings.aurora
    files = files_of(table).prefix
    objects = f"{around.bucket.bucket_arn}/{files}*"
    made = FunctionPlan(
        handler="load_aurora",
        name=f"{plan.name}-{table.name}-load",
        purpose="Loads arriving files into Aurora",
        environment={
            "DDB_LAKE_AURORA_HOST": database.resource.attr_endpoint_address,
            "DDB_LAKE_AURORA_PORT": str(settings.port),
            "DDB_LAKE_AURORA_DATABASE": settings.database,
            "DDB_LAKE_AURORA_USER": settings.user,
            "DDB_LAKE_AURORA_TABLE": table.name,
            "DDB_LAKE_AURORA_IAM_AUTH": "true",
            "DDB_LAKE_COLUMNS": table.columns_json,
            "DDB_LAKE_AURORA_KEY": table.key_names,
            "DDB_LAKE_AURORA_LOAD": "s3",
            "DDB_LAKE_AURORA_PREFIX": files,
            **({"DDB_LAKE_AURORA_TLS_CA": f"/var/task/{CERTIFICATES}"} if settings.certificates else {}),
        },
        calls=_load_calls(stack, plan, around, database, objects),
        service_calls=[
            Statement(
                "ReceiveFiles",
                ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
                (queue_arn,),
            ),
            key_use("DecryptMessages", ("kms:Decrypt",), str(around.key.key_arn), "sqs", stack.region),
        ],
        gateways=("s3",),
        timeout_s=_LOAD_TIMEOUT_S,
        concurrency=5,
        no_dead_letters="fed from a queue, which has a dead-letter queue",
    )
    built = function(stack, f"{table.id}Load", made, around.key, around.vpc, around.code)
    acknowledge(built.policy, finding(stack, objects), "Firehose chooses the names of the files below the prefix")
    port = ec2.Port.tcp(settings.port)
    built.group.add_egress_rule(database.group, port, "Aurora")
    database.group.add_ingress_rule(built.group, port, "The load function")
    return built


def _load_calls(stack: cdk.Stack, plan: Plan, around: Around, database: Cluster, objects: str) -> list[Statement]:
    user = f"dbuser:{database.resource.attr_db_cluster_resource_id}/{plan.settings.aurora.user}"
    return [
        Statement(
            "LogIn", ("rds-db:connect",), (f"arn:{stack.partition}:rds-db:{stack.region}:{stack.account}:{user}",)
        ),
        Statement("ReadFileVersion", ("s3:GetObject",), (objects,)),
        key_use("DecryptFileVersion", ("kms:Decrypt",), str(around.key.key_arn), "s3", stack.region),
    ]
