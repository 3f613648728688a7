"""DynamoDB Streams → forward → Firehose with the validate function → S3 → load function → Aurora MySQL."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_

from ddb_lake.core.operations.policies import Statement, key_use
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.alarms import (
    AlarmProps,
    alarm_topic,
    create_alarms,
    function_alarms,
    queue_alarms,
)
from ddb_lake.infra.constructs.aurora import Cluster, cluster
from ddb_lake.infra.constructs.buckets import landing_buckets
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.forwarding import StackResources, TransformedFiles, failed_batches, forward_stream
from ddb_lake.infra.constructs.functions import BuiltFunction, FunctionProps, function
from ddb_lake.infra.constructs.keys import data_key, endpoint_domain
from ddb_lake.infra.constructs.network import network
from ddb_lake.infra.constructs.ordering import start_last
from ddb_lake.infra.constructs.queues import (
    Arrivals,
    arrivals_to_queue,
    dead_letters,
    notify_of_failed_objects,
    work_queue,
)
from ddb_lake.infra.constructs.tables import source_table
from ddb_lake.infra.deployment import Deployment, Location, TableDeployment
from ddb_lake.infra.packaging import CERTIFICATES, CodeSource

ENDPOINTS = ("kinesis-firehose",)
_LOAD_TIMEOUT_S = 300


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource) -> str:
    """Fill the stack. Gives the ARN of the key its bucket is under."""
    key = data_key(stack, deployment, "streams-to-aurora", of="producer")
    vpc = network(stack, deployment, key, ENDPOINTS, ("s3",))
    topic = alarm_topic(stack, key, f"{deployment.name}-aurora-alarms")
    failures = dead_letters(stack, "Undelivered", f"{deployment.name}-aurora-undelivered", key, of_a_queue=True)
    buckets = landing_buckets(stack, deployment, key, deployment.producer_account)
    first = deployment.tables[0].landing
    arns = [f"{buckets[t.landing.bucket].bucket_arn}/{aurora_files(t).prefix}*" for t in deployment.tables]
    database = cluster(stack, deployment, key, vpc, arns, buckets[first.bucket].bucket_arn)
    alarms = queue_alarms("Undelivered", f"{deployment.name}-aurora-undelivered", dead_letters=True)
    for table in deployment.tables:
        resources = StackResources(deployment, key, vpc, failures, buckets[table.landing.bucket], code)
        alarms += _pipeline(stack, deployment, table, resources, database)
        rule = f"{deployment.name}-{table.name}-aurora-failed"
        failed = Arrivals(rule, [table.errors, failed_batches(table)])
        alarms += notify_of_failed_objects(stack, deployment, table, failed, topic, failures)
    create_alarms(stack, topic, f"{deployment.name}-streams-to-aurora", alarms)
    start_last(stack)
    cdk.CfnOutput(stack, "AuroraArn", value=database.arn, description="For `aws rds-data execute-statement`")
    cdk.CfnOutput(stack, "AuroraSecretArn", value=database.resource.attr_master_user_secret_secret_arn)
    return str(key.key_arn)


def aurora_files(table: TableDeployment) -> Location:
    """The location of the CSV files for Aurora, outside the landing prefix, which gets the records as they came in."""
    return Location(table.landing.bucket, f"{table.landing.prefix.rstrip('/')}-csv/")


def _pipeline(
    stack: cdk.Stack, deployment: Deployment, table: TableDeployment, resources: StackResources, database: Cluster
) -> list[AlarmProps]:
    source = source_table(stack, table, resources.key, stream=dynamodb.StreamViewType.NEW_AND_OLD_IMAGES)
    validate = _validate(stack, deployment, table, resources)
    alarms = [
        *forward_stream(
            stack, table, source, validate.function, resources, TransformedFiles(aurora_files(table), ".csv")
        ),
        *function_alarms(f"{table.id}Validate", f"{deployment.name}-{table.name}-validate"),
    ]
    name = f"{deployment.name}-{table.name}-load"
    queue = work_queue(stack, f"{table.id}Files", name, resources.key, resources.failures, 6 * _LOAD_TIMEOUT_S)
    rule = f"{deployment.name}-{table.name}-files"
    arrivals_to_queue(
        stack, f"{table.id}Arrived", deployment, Arrivals(rule, [aurora_files(table)]), queue, resources.failures
    )
    load = _load(stack, deployment, table, resources, database, queue.queue_arn)
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
    return [
        *alarms,
        *function_alarms(f"{table.id}Load", name),
        *queue_alarms(f"{table.id}Files", name, dead_letters=False),
    ]


def _validate(
    stack: cdk.Stack, deployment: Deployment, table: TableDeployment, resources: StackResources
) -> BuiltFunction:
    props = FunctionProps(
        handler="validate",
        name=f"{deployment.name}-{table.name}-validate",
        purpose="Validates change records and makes CSV of them",
        settings=deployment.settings.functions,
        environment=_validate_environment(table),
        memory_mb=512,
        timeout_s=300,
        no_dead_letters="Firehose invokes it synchronously, retries, and puts failures below the error prefix",
    )
    return function(stack, f"{table.id}Validate", props, resources.key, resources.vpc, resources.code)


def _validate_environment(table: TableDeployment) -> dict[str, str]:
    schemas = {"DDB_LAKE_SCHEMAS": table.schemas_json} if table.schemas_json else {}
    return {"DDB_LAKE_OUTPUT": "csv", "DDB_LAKE_COLUMNS": table.columns_json, **schemas}


def _load(
    stack: cdk.Stack,
    deployment: Deployment,
    table: TableDeployment,
    resources: StackResources,
    database: Cluster,
    queue_arn: str,
) -> BuiltFunction:
    settings = deployment.settings.aurora
    files = aurora_files(table).prefix
    objects = f"{resources.bucket.bucket_arn}/{files}*"
    props = FunctionProps(
        handler="load_aurora",
        name=f"{deployment.name}-{table.name}-load",
        purpose="Loads arriving files into Aurora",
        settings=deployment.settings.functions,
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
            "DDB_LAKE_BUCKET_OWNER": stack.account,
            **({"DDB_LAKE_AURORA_TLS_CA": f"/var/task/{CERTIFICATES}"} if settings.certificates else {}),
        },
        calls=_load_calls(stack, deployment, resources, database, objects),
        service_calls=[
            Statement(
                "ReceiveFiles",
                ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),
                (queue_arn,),
            ),
            key_use("DecryptMessages", ("kms:Decrypt",), str(resources.key.key_arn), "sqs", endpoint_domain(stack)),
        ],
        gateways=("s3",),
        timeout_s=_LOAD_TIMEOUT_S,
        no_dead_letters="fed from a queue, which has a dead-letter queue",
    )
    built = function(stack, f"{table.id}Load", props, resources.key, resources.vpc, resources.code)
    acknowledge(built.policy, finding(stack, objects), "Firehose chooses the names of the files below the prefix")
    port = ec2.Port.tcp(settings.port)
    built.group.add_egress_rule(database.group, port, "Aurora")
    database.group.add_ingress_rule(built.group, port, "The load function")
    return built


def _load_calls(
    stack: cdk.Stack, deployment: Deployment, resources: StackResources, database: Cluster, objects: str
) -> list[Statement]:
    user = f"dbuser:{database.resource.attr_db_cluster_resource_id}/{deployment.settings.aurora.user}"
    return [
        Statement(
            "LogIn", ("rds-db:connect",), (f"arn:{stack.partition}:rds-db:{stack.region}:{stack.account}:{user}",)
        ),
        Statement("ReadFileVersion", ("s3:GetObject",), (objects,)),
        key_use("DecryptFileVersion", ("kms:Decrypt",), str(resources.key.key_arn), "s3", endpoint_domain(stack)),
    ]
