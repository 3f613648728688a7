"""A VPC without a route to the internet: private subnets, endpoints, flow logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from ddb_lake.core.operations.policies import Statement
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.logs import log_group
from ddb_lake.infra.constructs.roles import attach, own_account
from ddb_lake.infra.deployment import Deployment

HTTPS = ec2.Port.tcp(443)
WITHOUT_PRIVATE_DNS = frozenset({"dynamodb-streams"})
"""Services whose clients have to name the endpoint.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/privatelink-streams.html
"""
_GATEWAYS = {
    "s3": ec2.GatewayVpcEndpointAwsService.S3,
    "dynamodb": ec2.GatewayVpcEndpointAwsService.DYNAMODB,
}


@dataclass(frozen=True, slots=True)
class Network:
    """The VPC, the security group of its interface endpoints (None: it has none), and its endpoints by service."""

    vpc: ec2.IVpc
    endpoints: ec2.SecurityGroup | None
    subnets: ec2.SubnetSelection
    gateways: Mapping[str, ec2.GatewayVpcEndpoint] = field(default_factory=dict)
    interfaces: Mapping[str, ec2.InterfaceVpcEndpoint] = field(default_factory=dict)

    def client_group(self, scope: Construct, id: str, purpose: str, gateways: Sequence[str] = ()) -> ec2.SecurityGroup:
        """A security group without ingress. Its egress is limited to the endpoints on port 443 and to `gateways`."""
        group = ec2.SecurityGroup(
            scope, id, vpc=self.vpc, description=purpose, allow_all_outbound=False, disable_inline_rules=True
        )
        if self.endpoints is not None:
            group.add_egress_rule(self.endpoints, HTTPS, "Interface endpoints")
            self.endpoints.add_ingress_rule(group, HTTPS, purpose)
        for service in gateways:
            peer = ec2.Peer.prefix_list(_prefix_list(cdk.Stack.of(scope), service).value_as_string)
            group.add_egress_rule(peer, HTTPS, f"Gateway endpoint of {service}")
        return group


def network(
    scope: Construct, deployment: Deployment, key: kms.IKey, endpoints: Sequence[str], gateways: Sequence[str]
) -> Network:
    """Create the stack's VPC, or use the adopted one, which must have the endpoints."""
    adopted = deployment.settings.adopt
    isolated = ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
    if adopted.vpc_id:
        vpc = ec2.Vpc.from_vpc_attributes(
            scope,
            "Vpc",
            vpc_id=adopted.vpc_id,
            availability_zones=list(adopted.availability_zones),
            isolated_subnet_ids=list(adopted.private_subnet_ids),
        )
        acknowledge(
            vpc, "Annotation::@aws-cdk/aws-ec2:noSubnetRouteTableId", "The routes of an adopted VPC are not ours"
        )
        group = ec2.SecurityGroup(
            scope,
            "EndpointGroup",
            vpc=vpc,
            description="Add this group to the interface endpoints of the adopted VPC",
            allow_all_outbound=False,
            disable_inline_rules=True,
        )
        return Network(vpc, group, isolated)
    vpc = ec2.Vpc(
        scope,
        "Vpc",
        vpc_name=f"{deployment.name}-vpc",
        ip_addresses=ec2.IpAddresses.cidr(deployment.settings.network.cidr),
        max_azs=deployment.settings.network.zones,
        nat_gateways=0,
        create_internet_gateway=False,
        restrict_default_security_group=False,  # else a custom resource with a function of its own
        subnet_configuration=[
            ec2.SubnetConfiguration(name="private", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED, cidr_mask=24)
        ],
    )
    _flow_log(scope, deployment, vpc, key)
    wanted = endpoints if deployment.settings.network.endpoints is None else deployment.settings.network.endpoints
    made = {
        service: vpc.add_gateway_endpoint(f"{service.capitalize()}Gateway", service=_GATEWAYS[service])
        for service in gateways
    }
    for endpoint in made.values():
        endpoint.add_to_policy(_within_accounts(deployment))
    if not wanted:
        return Network(vpc, None, isolated, made)
    group, interfaces = _interface_endpoints(scope, deployment, vpc, wanted)
    return Network(vpc, group, isolated, made, interfaces)


def _interface_endpoints(
    scope: Construct, deployment: Deployment, vpc: ec2.Vpc, services: Sequence[str]
) -> tuple[ec2.SecurityGroup, dict[str, ec2.InterfaceVpcEndpoint]]:
    group = ec2.SecurityGroup(
        scope,
        "EndpointGroup",
        vpc=vpc,
        description="Interface endpoints: reached on 443 by named groups only",
        allow_all_outbound=False,
        disable_inline_rules=True,
    )
    made = {}
    for service in services:
        endpoint = vpc.add_interface_endpoint(
            "".join(part.capitalize() for part in service.split("-")) + "Endpoint",
            service=ec2.InterfaceVpcEndpointAwsService(service),
            security_groups=[group],
            open=False,
            private_dns_enabled=service not in WITHOUT_PRIVATE_DNS,
        )
        endpoint.add_to_policy(_within_accounts(deployment))
        made[service] = endpoint
    return group, made


def _within_accounts(deployment: Deployment) -> iam.PolicyStatement:
    """An endpoint's policy: our own accounts' identities on our own accounts' resources."""
    accounts = list(dict.fromkeys((deployment.producer_account, deployment.consumer_account)))
    condition: dict[str, Any] = {"aws:PrincipalAccount": accounts, "aws:ResourceAccount": accounts}
    return iam.PolicyStatement(
        sid="OwnAccounts",
        principals=[iam.AnyPrincipal()],
        actions=["*"],
        resources=["*"],
        conditions={"StringEquals": condition},
    )


def _flow_log(scope: Construct, deployment: Deployment, vpc: ec2.Vpc, key: kms.IKey) -> None:
    stack = cdk.Stack.of(scope)
    group = log_group(
        scope, "FlowLogs", f"/vpc/{deployment.name}-{stack.node.id}", key, logs.RetentionDays.THREE_MONTHS
    )
    writer = iam.Role(
        scope,
        "FlowLogRole",
        assumed_by=own_account("vpc-flow-logs.amazonaws.com", stack),
        description="Writes the flow logs of the VPC",
    )
    attach(
        writer,
        [
            Statement(
                "WriteFlowLogs",
                ("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"),
                (group.log_group_arn,),
            )
        ],
    )
    ec2.CfnFlowLog(
        scope,
        "FlowLog",
        resource_id=vpc.vpc_id,
        resource_type="VPC",
        traffic_type="ALL",
        deliver_logs_permission_arn=writer.role_arn,
        log_group_name=group.log_group_name,
        max_aggregation_interval=600,
    )


def _prefix_list(stack: cdk.Stack, service: str) -> cdk.CfnParameter:
    """A parameter for the Region's prefix list of a gateway endpoint, which CloudFormation cannot look up.

    https://docs.aws.amazon.com/vpc/latest/userguide/working-with-aws-managed-prefix-lists.html
    """
    id = f"{'S3' if service == 's3' else 'DynamoDb'}PrefixListId"
    found = stack.node.try_find_child(id)
    return (
        found
        if isinstance(found, cdk.CfnParameter)
        else cdk.CfnParameter(
            stack,
            id,
            type="String",
            allowed_pattern="^pl-[0-9a-f]{8,17}$",
            description=f"aws ec2 describe-managed-prefix-lists --filters Name=prefix-list-name,"
            f"Values=com.amazonaws.REGION.{service} --query PrefixLists[0].PrefixListId --output text",
        )
    )
