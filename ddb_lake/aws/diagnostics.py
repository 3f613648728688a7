"""Read-only look-ups of AWS resources for `ddb-lake doctor` and `init`: identity, tables, buckets, keys, queues.

Time-outs are a few seconds, because a person waits. An error of AWS is a TerminalError with its code and message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from ddb_lake.aws.objects import split_s3
from ddb_lake.aws.session import session
from ddb_lake.config import TableSettings
from ddb_lake.errors import TerminalError

_QUICK = Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=3, read_timeout=10)


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller's identity. `clock_offset_s`: this machine's clock minus that of AWS; None if the response has no date."""

    account: str
    arn: str
    clock_offset_s: float | None


@dataclass(frozen=True, slots=True)
class KinesisDestination:
    """A Kinesis stream that receives a table's changes. `precision` of their times: MICROSECOND or MILLISECOND.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_KinesisDataStreamDestination.html
    """

    stream_arn: str
    status: str
    precision: str


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as DescribeTable returns it. `stream_view`: None without a DynamoDB stream."""

    key: tuple[str, ...]
    arn: str
    status: str
    items: int
    stream_view: str | None


def credentials_source() -> str | None:
    """The source of the default credentials (`env`, `shared-credentials-file`, `iam-role`); None without any."""
    with _aws_errors():
        credentials = session().get_credentials()
    return None if credentials is None else str(credentials.method)


def identity(region: str | None = None) -> Identity:
    """The identity of the default credentials. Raises TerminalError."""
    with _aws_errors():
        client = session(region).client("sts", config=_QUICK)
        caller = client.get_caller_identity()
        client.close()
    date = caller["ResponseMetadata"]["HTTPHeaders"].get("date")
    offset = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() if date else None
    return Identity(caller["Account"], caller["Arn"], offset)


def table_state(table: TableSettings) -> TableState:
    """The source table, by DescribeTable. Raises TerminalError."""
    with _source(table) as client:
        description = client.describe_table(TableName=table.source_name)["Table"]
    roles = {entry["KeyType"]: entry["AttributeName"] for entry in description["KeySchema"]}
    stream = description.get("StreamSpecification") or {}
    return TableState(
        tuple(roles[role] for role in ("HASH", "RANGE") if role in roles),
        description["TableArn"],
        description["TableStatus"],
        description.get("ItemCount", 0),
        stream.get("StreamViewType") if stream.get("StreamEnabled") else None,
    )


def recovery_enabled(table: TableSettings) -> bool:
    """Whether point-in-time recovery is on, which exports require. Raises TerminalError."""
    with _source(table) as client:
        backups = client.describe_continuous_backups(TableName=table.source_name)["ContinuousBackupsDescription"]
    status: str = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus", "DISABLED")
    return status == "ENABLED"


def kinesis_destinations(table: TableSettings) -> list[KinesisDestination]:
    """The Kinesis streams that receive, or received, the table's changes. Raises TerminalError."""
    with _source(table) as client:
        response = client.describe_kinesis_streaming_destination(TableName=table.source_name)
    return [
        KinesisDestination(
            entry["StreamArn"],
            entry["DestinationStatus"],
            entry.get("ApproximateCreationDateTimePrecision", "MILLISECOND"),
        )
        for entry in response["KinesisDataStreamDestinations"]
    ]


def check_bucket(bucket: str, owner: str | None = None) -> None:
    """Check that the bucket exists and that this identity may list it. Raises TerminalError with the reason.

    Args:
        owner: account that must own the bucket; None: any.
    """
    expected = {"ExpectedBucketOwner": owner} if owner else {}
    with _aws_errors(), _closing(session().client("s3", config=_QUICK)) as client:
        client.head_bucket(Bucket=bucket, **expected)


def owns_bucket(bucket: str, account: str) -> bool:
    """Whether the bucket belongs to the account. Raises TerminalError if the bucket cannot be listed."""
    check_bucket(bucket)
    try:
        check_bucket(bucket, account)
    except TerminalError:
        return False
    return True


def key_state(table: TableSettings) -> str:
    """The state of the KMS key of exports, such as `Enabled`, as the exporting identity reads it. Raises TerminalError.

    A key with an ARN is described in its own Region.
    """
    export, source = table.export, table.source
    assert export is not None and export.kms_key_id is not None, "the caller checked it"
    region = export.kms_key_id.split(":")[3] if export.kms_key_id.startswith("arn:") else source.region
    with _aws_errors():
        current = session(region, source.role_arn, source.external_id)
        with _closing(current.client("kms", config=_QUICK)) as client:
            state: str = client.describe_key(KeyId=export.kms_key_id)["KeyMetadata"]["KeyState"]
    return state


def waiting_messages(url: str) -> int:
    """The approximate number of messages in a queue. Raises TerminalError."""
    with _aws_errors(), _closing(session().client("sqs", config=_QUICK)) as client:
        response = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(response["Attributes"]["ApproximateNumberOfMessages"])


def has_objects(uri: str) -> bool:
    """Whether there is an object below an `s3://` prefix. Raises TerminalError."""
    bucket, key = split_s3(uri)
    with _aws_errors(), _closing(session().client("s3", config=_QUICK)) as client:
        return bool(client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("KeyCount"))


@contextmanager
def _source(table: TableSettings) -> Iterator[Any]:
    source = table.source
    with _aws_errors():
        current = session(source.region, source.role_arn, source.external_id)
        with _closing(current.client("dynamodb", config=_QUICK)) as client:
            yield client


@contextmanager
def _closing(client: Any) -> Iterator[Any]:
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _aws_errors() -> Iterator[None]:
    """Translate errors of AWS to TerminalError, with code and message in one line."""
    try:
        yield
    except NoRegionError as error:
        raise TerminalError("no AWS Region: set AWS_REGION, or `source.region` in the configuration") from error
    except ClientError as error:
        fault = error.response.get("Error", {})
        raise TerminalError(f"{fault.get('Code', 'refused')}: {fault.get('Message') or error}") from error
    except BotoCoreError as error:
        raise TerminalError(" ".join(str(error).split())) from error
