"""An ECS service on Fargate that runs `ddb-lake follow`: one task in private subnets, its role, its logs and its alarms.

The image is the user's: `Dockerfile` beside this package has ddb-lake and the lake's configuration in it. While a deployment
replaces the task, two followers run; a lease keeps the new one idle until the old one has stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs

from ddb_lake.core.operations.metric_names import STEP_AGE
from ddb_lake.core.operations.policies import Statement
from ddb_lake.infra.constructs.acknowledgements import acknowledge, skip_checkov
from ddb_lake.infra.constructs.alarms import alarm_topic, create_alarms, follower_alarms
from ddb_lake.infra.constructs.delivery import finding
from ddb_lake.infra.constructs.keys import data_key
from ddb_lake.infra.constructs.lake_roles import Queues, attach_lake_role, estate
from ddb_lake.infra.constructs.logs import log_group
from ddb_lake.infra.constructs.network import Network, network
from ddb_lake.infra.constructs.roles import attach, own_account
from ddb_lake.infra.deployment import Deployment
from ddb_lake.infra.packaging import CodeSource

CONFIG = "/etc/ddb_lake.yaml"
"""Where the image has the lake's configuration."""

USER = "10001"
"""The user of the image that the process runs as."""

METRICS = "127.0.0.1:9464"
COMMAND = ("follow", "--config", CONFIG, "--json", "--emf", "--metrics", METRICS)
_STOP_SECONDS = 120
_STREAMS_VARIABLE = "AWS_ENDPOINT_URL_DYNAMODB_STREAMS"


def build(stack: cdk.Stack, deployment: Deployment, code: CodeSource, key_arns: Mapping[str, str]) -> str:  # noqa: ARG001
    """Fill the stack. `key_arns`: the keys of the buckets, as `landing` and `warehouse`. Gives the ARN of its own key."""
    key = data_key(stack, deployment, "follow", of="consumer")
    vpc = network(stack, deployment, key, list(_endpoints(deployment)), ("s3", "dynamodb"))
    if "s3" in vpc.gateways:
        vpc.gateways["s3"].add_to_policy(_image_layers(stack, vpc.vpc))
    group = log_group(stack, "Logs", f"/ecs/{deployment.name}-follow", key, logs.RetentionDays.THREE_MONTHS)
    task = iam.Role(
        stack,
        "Task",
        role_name=deployment.follow_role,
        assumed_by=own_account("ecs-tasks.amazonaws.com", stack),
        description="The follower: reads streams, lands, applies, compacts",
    )
    attach_lake_role(stack, task, "follower", estate(stack, deployment, key_arns, _queues(stack, deployment)))
    execution = _execution_role(stack, deployment, group)
    definition = _task_definition(stack, deployment, task, execution, _container(stack, deployment, vpc, group))
    _service(stack, deployment, vpc, definition)
    alarms = [
        alarm
        for table in deployment.tables
        for alarm in follower_alarms(table.id, table.lake_name, table.reads, deployment.settings.follow.lag_seconds)
    ]
    topic = alarm_topic(stack, key, f"{deployment.name}-follow-alarms")
    create_alarms(stack, topic, f"{deployment.name}-follow", alarms)
    return str(key.key_arn)


def health_check(stuck_s: int) -> str:
    """Python code that ends with an error if the process does not answer, or if its loop is stuck for longer than `stuck_s`."""
    pattern = rf"(?m)^{STEP_AGE}(?:{{.*}})? (\S+)$"
    return (
        "import re,sys,urllib.request as r;"
        f"t=r.urlopen('http://{METRICS}/metrics',timeout=5).read().decode();"
        f"sys.exit(float(re.search(r'{pattern}',t)[1])>{stuck_s})"
    )


def _endpoints(deployment: Deployment) -> Iterator[str]:
    """The services that the task calls, beside S3 and DynamoDB.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
    """
    yield from ("ecr.api", "ecr.dkr", "logs", "glue")
    if deployment.producer_account != deployment.consumer_account:
        yield "sts"
    streams = [table.stream for table in deployment.tables if table.stream]
    if any(stream.kinesis is None for stream in streams):
        yield "dynamodb-streams"
    if any(stream.kinesis is not None for stream in streams):
        yield "kinesis-streams"
    if deployment.queue_urls:
        yield "sqs"
    key = deployment.hash_key
    if key is not None and key.parameter is not None:
        yield "ssm"
    if (key is not None and key.secret is not None) or any(one.secret_arn for one in deployment.databases):
        yield "secretsmanager"


def _queues(stack: cdk.Stack, deployment: Deployment) -> Queues:
    """The queues of the lake's `notifications`, by their URLs: https://sqs.REGION.DOMAIN/ACCOUNT/NAME."""
    if not deployment.queue_urls:
        return Queues()
    key = cdk.CfnParameter(
        stack, "QueueKeyArn", type="String", description="Output KeyArn of the stack that made the queue of arrivals"
    )
    parts = [url.rstrip("/").split("/")[-3:] for url in deployment.queue_urls]
    arns = [f"arn:{stack.partition}:sqs:{host.split('.')[1]}:{account}:{name}" for host, account, name in parts]
    return Queues(tuple(arns), key.value_as_string)


def _image_layers(stack: cdk.Stack, vpc: ec2.IVpc) -> iam.PolicyStatement:
    """ECR keeps the layers of images in a bucket of AWS's, which the endpoint's own policy would refuse.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
    """
    return iam.PolicyStatement(
        sid="ImageLayers",
        principals=[iam.AnyPrincipal()],
        actions=["s3:GetObject"],
        resources=[f"arn:{stack.partition}:s3:::prod-{stack.region}-starport-layer-bucket/*"],
        conditions={"StringEquals": {"aws:SourceVpc": vpc.vpc_id}},
    )


def _execution_role(stack: cdk.Stack, deployment: Deployment, group: logs.LogGroup) -> iam.Role:
    """The role with which Fargate pulls the image and writes the log. The process in the container does not have it.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_execution_IAM_role.html
    """
    role = iam.Role(
        stack,
        "Execution",
        role_name=f"{deployment.name}-follow-execution",
        assumed_by=own_account("ecs-tasks.amazonaws.com", stack),
        description="Fargate: pulls the image and writes the log of the follower",
    )
    repository = deployment.settings.follow.repository
    policy = attach(
        role,
        [
            Statement("Authorize", ("ecr:GetAuthorizationToken",), ("*",)),
            Statement(
                "PullImage",
                ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"),
                (f"arn:{stack.partition}:ecr:{stack.region}:{stack.account}:repository/{repository}",),
            ),
            Statement("WriteLog", ("logs:CreateLogStream", "logs:PutLogEvents"), (group.log_group_arn,)),
        ],
    )
    acknowledge(policy, finding(stack, "*"), "ECR grants the authorization token on no single repository")
    return role


def _container(
    stack: cdk.Stack, deployment: Deployment, vpc: Network, group: logs.LogGroup
) -> ecs.CfnTaskDefinition.ContainerDefinitionProperty:
    settings = deployment.settings.follow
    tag = cdk.CfnParameter(
        stack,
        "ImageTag",
        type="String",
        allowed_pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$",
        description=f"Tag of the image in the ECR repository {settings.repository}",
    )
    property_of = ecs.CfnTaskDefinition
    environment = {"AWS_DEFAULT_REGION": stack.region, "TMPDIR": "/tmp"}
    if "dynamodb-streams" in vpc.interfaces:
        entry = cdk.Fn.select(0, vpc.interfaces["dynamodb-streams"].vpc_endpoint_dns_entries)
        environment[_STREAMS_VARIABLE] = f"https://{cdk.Fn.select(1, cdk.Fn.split(':', entry))}"
    return property_of.ContainerDefinitionProperty(
        name="follow",
        image=f"{stack.account}.dkr.ecr.{stack.region}.{stack.url_suffix}/{settings.repository}:{tag.value_as_string}",
        command=list(COMMAND),
        essential=True,
        user=USER,
        readonly_root_filesystem=True,
        mount_points=[property_of.MountPointProperty(container_path="/tmp", source_volume="scratch", read_only=False)],
        linux_parameters=property_of.LinuxParametersProperty(init_process_enabled=True),
        stop_timeout=_STOP_SECONDS,
        environment=[property_of.KeyValuePairProperty(name=n, value=v) for n, v in environment.items()],
        health_check=property_of.HealthCheckProperty(
            command=["CMD", "python", "-c", health_check(settings.stuck_minutes * 60)],
            interval=60,
            timeout=15,
            retries=3,
            start_period=300,
        ),
        log_configuration=property_of.LogConfigurationProperty(
            log_driver="awslogs",
            options={
                "awslogs-group": group.log_group_name,
                "awslogs-region": stack.region,
                "awslogs-stream-prefix": "follow",
            },
        ),
    )


def _task_definition(
    stack: cdk.Stack,
    deployment: Deployment,
    task: iam.Role,
    execution: iam.Role,
    container: ecs.CfnTaskDefinition.ContainerDefinitionProperty,
) -> ecs.CfnTaskDefinition:
    settings = deployment.settings.follow
    definition = ecs.CfnTaskDefinition(
        stack,
        "Definition",
        family=f"{deployment.name}-follow",
        requires_compatibilities=["FARGATE"],
        network_mode="awsvpc",
        cpu=str(settings.cpu_units),
        memory=str(settings.memory_mebibytes),
        runtime_platform=ecs.CfnTaskDefinition.RuntimePlatformProperty(
            cpu_architecture=settings.architecture, operating_system_family="LINUX"
        ),
        task_role_arn=task.role_arn,
        execution_role_arn=execution.role_arn,
        container_definitions=[container],
        volumes=[ecs.CfnTaskDefinition.VolumeProperty(name="scratch")],
    )
    acknowledge(definition, "AwsSolutions-ECS2", "The variables are a Region, a folder and an endpoint: no secret")
    return definition


def _service(stack: cdk.Stack, deployment: Deployment, vpc: Network, definition: ecs.CfnTaskDefinition) -> None:
    cluster = ecs.CfnCluster(stack, "Cluster", cluster_name=f"{deployment.name}-follow")
    reason = "The follower prints its own metrics, and the processor and memory of a service are free metrics of ECS"
    acknowledge(cluster, "AwsSolutions-ECS4", reason)
    skip_checkov(cluster, "CKV_AWS_65", reason)
    group = vpc.client_group(stack, "Group", "The follower", ("s3", "dynamodb"))
    service = ecs.CfnService(
        stack,
        "Service",
        service_name=f"{deployment.name}-follow",
        cluster=cluster.ref,
        task_definition=definition.ref,
        desired_count=1,
        launch_type="FARGATE",
        platform_version="LATEST",
        propagate_tags="SERVICE",
        enable_execute_command=False,
        deployment_configuration=ecs.CfnService.DeploymentConfigurationProperty(
            minimum_healthy_percent=100,
            maximum_percent=200,
            deployment_circuit_breaker=ecs.CfnService.DeploymentCircuitBreakerProperty(enable=True, rollback=True),
        ),
        network_configuration=ecs.CfnService.NetworkConfigurationProperty(
            awsvpc_configuration=ecs.CfnService.AwsVpcConfigurationProperty(
                assign_public_ip="DISABLED",
                subnets=vpc.vpc.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED).subnet_ids,
                security_groups=[group.security_group_id],
            )
        ),
    )
    for role in ("Task", "Execution"):
        service.node.add_dependency(stack.node.find_child(role))  # with its policy: the first task needs both
