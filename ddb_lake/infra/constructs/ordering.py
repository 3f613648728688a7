"""The order in which CloudFormation makes a stack: what carries records and notices exists before the first record flows.

Firehose reads a Kinesis stream from its newest record (`LATEST`), and EventBridge has no event from before a rule: what is
written before they exist never arrives. https://docs.aws.amazon.com/firehose/latest/dev/writing-with-kinesis-streams.html
CloudFormation makes resources that do not refer to each other at the same time.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-dependson.html
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs

_CARRIERS = (firehose.CfnDeliveryStream, events.CfnRule, sns.CfnTopicPolicy, sqs.CfnQueuePolicy)


def start_last(stack: cdk.Stack) -> None:
    """Make the starters of a filled stack depend on all of its carriers.

    Starters are tables that send their changes to Kinesis, and functions' readers of streams. A queue's reader starts
    nothing: the queue keeps its messages for days.
    """
    found = [node for node in stack.node.find_all() if isinstance(node, cdk.CfnResource)]
    carriers = [node for node in found if isinstance(node, _CARRIERS)]
    for starter in filter(_starts, found):
        for carrier in carriers:
            starter.add_resource_dependency(carrier)


def _starts(node: cdk.CfnResource) -> bool:
    if isinstance(node, dynamodb.CfnTable):
        return node.kinesis_stream_specification is not None
    return isinstance(node, lambda_.CfnEventSourceMapping) and node.starting_position is not None
