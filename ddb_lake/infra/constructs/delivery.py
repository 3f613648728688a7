"""Amazon Data Firehose to S3: from a Kinesis stream or direct puts, through a function, by date, with an error prefix.

This uses the CloudFormation resource (`CfnDeliveryStream`) with a policy of its own: the policy of CDK's L2 construct lets the
role delete and list in the whole bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kinesis as kinesis
from aws_cdk import aws_kinesisfirehose as firehose
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from ddb_lake.core.operations.policies import Statement
from ddb_lake.infra.constructs.acknowledgements import acknowledge
from ddb_lake.infra.constructs.keys import endpoint_domain
from ddb_lake.infra.constructs.logs import log_group
from ddb_lake.infra.constructs.roles import attach, own_account, role
from ddb_lake.infra.deployment import DATED, Deployment, Location

_TRANSFORM_MEBIBYTES = "1"
_TRANSFORM_SECONDS = "60"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryProps:
    """The properties of one delivery stream.

    Args:
        bucket_key_arn: the key of a bucket in this account; None for a bucket of another account, whose default
            encryption applies.
        backup: where Firehose also writes the records as they came in, before the function.
        transform: the function that processes the records.
        stream: the Kinesis stream that it reads; None for direct puts.
    """

    name: str
    role_name: str
    landing: Location
    errors: Location
    prefix: str
    error_prefix: str
    bucket_arn: str
    bucket_key_arn: str | None
    transform: lambda_.IFunction
    stream: kinesis.IStream | None = None
    other_account: str | None = None
    other_key_arn: str | None = None
    backup: Location | None = None
    extension: str = ".json.gz"


def delivery_stream(
    scope: Construct,
    id: str,
    deployment: Deployment,
    props: DeliveryProps,
    key: kms.IKey,
) -> firehose.CfnDeliveryStream:
    """Create the delivery stream with its role, policy and error log."""
    stack, stream = cdk.Stack.of(scope), props.stream
    within = Construct(scope, id)
    logs = log_group(within, "Logs", f"/firehose/{props.name}", key)
    log_stream = logs.add_stream("Delivery", log_stream_name="delivery")
    writer = role(
        within,
        "Role",
        props.role_name,
        own_account("firehose.amazonaws.com", stack, external_id=True),
        f"Firehose stream {props.name}",
    )
    policy = attach(writer, _statements(stack, props, key, logs.log_group_arn))
    _acknowledge_findings(policy, props)
    source = (
        None
        if stream is None
        else firehose.CfnDeliveryStream.KinesisStreamSourceConfigurationProperty(
            kinesis_stream_arn=stream.stream_arn, role_arn=writer.role_arn
        )
    )
    encryption = (
        firehose.CfnDeliveryStream.DeliveryStreamEncryptionConfigurationInputProperty(
            key_type="CUSTOMER_MANAGED_CMK", key_arn=key.key_arn
        )
        if stream is None
        else None
    )
    built = firehose.CfnDeliveryStream(
        within,
        "Stream",
        delivery_stream_name=props.name,
        delivery_stream_type="DirectPut" if stream is None else "KinesisStreamAsSource",
        delivery_stream_encryption_configuration_input=encryption,
        kinesis_stream_source_configuration=source,
        extended_s3_destination_configuration=_destination(
            deployment, props, writer.role_arn, logs.log_group_name, log_stream.log_stream_name
        ),
    )
    built.node.add_dependency(policy)
    if stream is not None:
        acknowledge(
            built, "AwsSolutions-KDF1", "Its source is an encrypted Kinesis stream, which Firehose does not store"
        )
    return built


def _destination(
    deployment: Deployment, props: DeliveryProps, role_arn: str, group: str, stream: str
) -> firehose.CfnDeliveryStream.ExtendedS3DestinationConfigurationProperty:
    delivery = deployment.settings.delivery
    kinds = firehose.CfnDeliveryStream
    logging = kinds.CloudWatchLoggingOptionsProperty(enabled=True, log_group_name=group, log_stream_name=stream)
    buffering = kinds.BufferingHintsProperty(
        interval_in_seconds=delivery.buffer_seconds, size_in_m_bs=delivery.buffer_mebibytes
    )
    encryption = (
        kinds.EncryptionConfigurationProperty(
            kms_encryption_config=kinds.KMSEncryptionConfigProperty(awskms_key_arn=props.bucket_key_arn)
        )
        if props.bucket_key_arn
        else None
    )
    backup = (
        kinds.S3DestinationConfigurationProperty(
            bucket_arn=props.bucket_arn,
            role_arn=role_arn,
            prefix=f"{props.backup.prefix}{DATED}",
            error_output_prefix=props.error_prefix,
            compression_format="GZIP",
            buffering_hints=buffering,
            encryption_configuration=encryption,
            cloud_watch_logging_options=logging,
        )
        if props.backup
        else None
    )
    return kinds.ExtendedS3DestinationConfigurationProperty(
        bucket_arn=props.bucket_arn,
        role_arn=role_arn,
        prefix=props.prefix,
        error_output_prefix=props.error_prefix,
        compression_format="GZIP" if props.extension.endswith(".gz") else "UNCOMPRESSED",
        file_extension=props.extension,
        buffering_hints=buffering,
        encryption_configuration=encryption,
        cloud_watch_logging_options=logging,
        s3_backup_mode="Enabled" if backup else None,
        s3_backup_configuration=backup,
        processing_configuration=kinds.ProcessingConfigurationProperty(
            enabled=True, processors=[_processor(props.transform)]
        ),
    )


def _processor(transform: lambda_.IFunction) -> firehose.CfnDeliveryStream.ProcessorProperty:
    parameters = {
        "LambdaArn": f"{transform.function_arn}:$LATEST",
        "BufferSizeInMBs": _TRANSFORM_MEBIBYTES,
        "BufferIntervalInSeconds": _TRANSFORM_SECONDS,
        "NumberOfRetries": "3",
    }
    return firehose.CfnDeliveryStream.ProcessorProperty(
        type="Lambda",
        parameters=[
            firehose.CfnDeliveryStream.ProcessorParameterProperty(parameter_name=name, parameter_value=value)
            for name, value in parameters.items()
        ],
    )


def _statements(stack: cdk.Stack, props: DeliveryProps, key: kms.IKey, logs_arn: str) -> list[Statement]:
    prefixes = [props.landing.prefix, props.errors.prefix, *([props.backup.prefix] if props.backup else [])]
    objects = tuple(f"{props.bucket_arn}/{prefix}*" for prefix in prefixes)
    cross_account = ("s3:PutObjectAcl",) if props.other_account else ()
    always = [
        Statement("WriteObjects", ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", *cross_account), objects),
        Statement(
            "FindBucket",
            ("s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"),
            (props.bucket_arn,),
        ),
        _encrypt_objects(stack, props, objects),
        Statement(
            "Transform",
            ("lambda:InvokeFunction", "lambda:GetFunctionConfiguration"),
            (props.transform.function_arn, f"{props.transform.function_arn}:$LATEST"),
        ),
        Statement("LogErrors", ("logs:PutLogEvents",), (logs_arn,)),
    ]
    return [*always, *_stream_statements(stack, props.stream, key)]


def _stream_statements(stack: cdk.Stack, stream: kinesis.IStream | None, key: kms.IKey) -> list[Statement]:
    if stream is None:
        return []
    return [
        Statement(
            "ReadStream",
            ("kinesis:DescribeStream", "kinesis:GetShardIterator", "kinesis:GetRecords", "kinesis:ListShards"),
            (stream.stream_arn,),
        ),
        Statement(
            "DecryptStream",
            ("kms:Decrypt",),
            (key.key_arn,),
            {"StringEquals": {"kms:ViaService": f"kinesis.{endpoint_domain(stack)}"}},
        ),
    ]


def _encrypt_objects(stack: cdk.Stack, props: DeliveryProps, objects: tuple[str, ...]) -> Statement:
    """The use of the bucket's key. Without the ARN of another account's key, its encryption context limits the statement.

    With an S3 Bucket Key the encryption context is the bucket's ARN, else the object's: an adopted bucket may have none.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html
    """
    conditions: dict[str, dict[str, Any]] = {
        "StringEquals": {"kms:ViaService": f"s3.{endpoint_domain(stack)}"},
        "StringLike": {"kms:EncryptionContext:aws:s3:arn": [props.bucket_arn, *objects]},
    }
    key_arn = props.bucket_key_arn or props.other_key_arn or other_keys(stack, str(props.other_account))
    return Statement("EncryptObjects", ("kms:Decrypt", "kms:GenerateDataKey"), (key_arn,), conditions)


def _acknowledge_findings(policy: iam.Policy, props: DeliveryProps) -> None:
    stack = cdk.Stack.of(policy)
    places = [props.landing, props.errors, *([props.backup] if props.backup else [])]
    for place in places:
        acknowledge(
            policy,
            finding(stack, f"{props.bucket_arn}/{place.prefix}*"),
            f"{props.name}: Firehose chooses the objects' names below the prefix",
        )
    if props.other_account and not props.other_key_arn:
        keys = other_keys(stack, props.other_account)
        acknowledge(policy, finding(stack, keys), "The other account's key policy decides; its key may not exist yet")


def other_keys(stack: cdk.Stack, account: str) -> str:
    """All keys of another account, for when the ARN of its key is not configured."""
    return f"arn:{stack.partition}:kms:{stack.region}:{account}:key/*"


def finding(stack: cdk.Stack, arn: str) -> str:
    """cdk-nag's name for a wildcard in a resource."""
    return f"AwsSolutions-IAM5[Resource::{_nag_text(stack.resolve(arn))}]"


def _nag_text(value: Any) -> str:
    """A resolved value as cdk-nag writes it: references in angle brackets."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return str(separator).join(_nag_text(part) for part in parts)
    if "Fn::GetAtt" in value:
        return "<" + ".".join(value["Fn::GetAtt"]) + ">"
    return f"<{value['Ref']}>"
