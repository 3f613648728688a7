"""What services do with a customer-managed key in the name of their caller. No recording shows it, so it is listed here.

By operation; `s3:PutObject` and the operations of an upload in parts are one action to IAM, and imply different things.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from ddb_lake_tests.support.iam_evaluation import Grant

Use: TypeAlias = tuple[str, str]
"""An action of KMS, and the service that it is done through."""

_DECRYPT, _DATA_KEY, _ENCRYPT = "kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt"

IMPLIED: Final[Mapping[str, tuple[Use, ...]]] = {
    # S3, "Protecting data with server-side encryption using AWS KMS": reading decrypts the object's data key, writing
    # asks for one; of an upload in parts each part is encrypted with the key of the first, which is decrypted for it.
    "s3:GetObject": ((_DECRYPT, "s3"),),
    "s3:GetObjectVersion": ((_DECRYPT, "s3"),),
    "s3:PutObject": ((_DATA_KEY, "s3"),),
    "s3:CreateMultipartUpload": ((_DATA_KEY, "s3"),),
    "s3:UploadPart": ((_DECRYPT, "s3"),),
    "s3:CompleteMultipartUpload": ((_DECRYPT, "s3"),),
    # S3, "Replicating encrypted objects": the key of the source, then that of the replica, whose bucket has a bucket key,
    # and so takes data keys and checks them.
    "s3:GetObjectVersionForReplication": ((_DECRYPT, "s3"),),
    "s3:ReplicateObject": ((_ENCRYPT, "s3"), (_DATA_KEY, "s3"), (_DECRYPT, "s3")),
    # DynamoDB, "How DynamoDB uses AWS KMS": the table key is decrypted in the name of the caller that reads or writes items,
    # reads the stream (which the key encrypts too), or requests an export.
    "dynamodb:Scan": ((_DECRYPT, "dynamodb"),),
    "dynamodb:BatchGetItem": ((_DECRYPT, "dynamodb"),),
    "dynamodb:BatchWriteItem": ((_DECRYPT, "dynamodb"),),
    "dynamodb:PutItem": ((_DECRYPT, "dynamodb"),),
    "dynamodb:GetRecords": ((_DECRYPT, "dynamodb"),),
    "dynamodb:ExportTableToPointInTime": ((_DECRYPT, "dynamodb"),),
    # Kinesis, "Permissions to use user-generated KMS keys": consumers decrypt.
    "kinesis:GetRecords": ((_DECRYPT, "kinesis"),),
    # SQS, "Key management": producers take data keys and check them, consumers decrypt.
    "sqs:SendMessage": ((_DATA_KEY, "sqs"), (_DECRYPT, "sqs")),
    "sqs:ReceiveMessage": ((_DECRYPT, "sqs"),),
    # Secrets Manager and Systems Manager decrypt in the name of the caller, if a key of the customer's encrypts the text.
    "secretsmanager:GetSecretValue": ((_DECRYPT, "secretsmanager"),),
    "ssm:GetParameter": ((_DECRYPT, "ssm"),),
    # Firehose, direct puts to an encrypted delivery stream: as a producer of Kinesis, and checked.
    "firehose:PutRecordBatch": ((_DATA_KEY, "firehose"), (_DECRYPT, "firehose")),
}

NOTHING: Final[Mapping[str, frozenset[str]]] = {
    "s3": frozenset(
        {
            *("ListBucket", "ListBucketMultipartUploads", "GetBucketLocation", "DeleteObject", "PutObjectAcl"),
            *("AbortMultipartUpload", "GetReplicationConfiguration", "GetObjectVersionAcl", "GetObjectVersionTagging"),
            *("ReplicateDelete", "ReplicateTags"),
        }
    ),
    "dynamodb": frozenset(
        {
            *("DescribeTable", "DescribeContinuousBackups", "DescribeKinesisStreamingDestination", "CreateTable"),
            *("ListExports", "DescribeExport", "ListStreams", "DescribeStream", "GetShardIterator"),
        }
    ),
    "kinesis": frozenset({"DescribeStream", "DescribeStreamSummary", "ListShards", "GetShardIterator"}),
    "sqs": frozenset({"DeleteMessage", "DeleteMessageBatch", "GetQueueAttributes"}),
}
"""Operations of the same services that touch no encrypted content."""

_KEEPING = frozenset({*NOTHING, "firehose", "secretsmanager"})
"""The services that keep what is encrypted for us. The others have nothing of ours under a key."""


def uses(operation: str) -> frozenset[Use]:
    """What the service does with the key of what the operation touches."""
    if operation in IMPLIED:
        return frozenset(IMPLIED[operation])
    service, _, name = operation.partition(":")
    assert service not in _KEEPING or name in NOTHING[service], f"what does {operation} do with a key?"
    return frozenset()


def uses_of(grants: Iterable[Grant]) -> frozenset[Use]:
    """What services do with keys for a role that does all it may."""
    return frozenset(use for operation in _operations(grants) for use in uses(operation))


def allowed_uses(grants: Iterable[Grant]) -> frozenset[Use]:
    """What a role's policy lets services do with keys."""
    return frozenset((g.action, service) for g in grants for service in g.through)


def _operations(grants: Iterable[Grant]) -> Iterator[str]:
    for grant in grants:
        if not grant.action.startswith("kms:"):
            yield grant.action
        if grant.action == "s3:AbortMultipartUpload":  # who may break one off uploads in parts
            yield "s3:UploadPart"
