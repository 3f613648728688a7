"""State of the AWS resources that a lake needs, for `ddb-lake doctor` and `init`: only reads.

Calls time out within seconds, because a user waits for them. A refused or failed call is a TerminalError whose text is the
reason.
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
    """Who AWS takes us for. `clock_offset_s`: our clock minus theirs, to the second; None if they did not say."""

    account: str
    arn: str
    clock_offset_s: float | None


@dataclass(frozen=True, slots=True)
class KinesisDestination:
    """A Kinesis stream that a table's changes go to. `precision`: MICROSECOND or MILLISECOND."""

    stream_arn: str
    status: str
    precision: str


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as DescribeTable has it. `stream_view`: None without a DynamoDB stream."""

    key: tuple[str, ...]
    arn: str
    status: str
    items: int
    stream_view: str | None


def credentials_source() -> str | None:
    """Where the default credentials come from (`env`, `shared-credentials-file`, `iam-role`); None without any."""
    with _reasons():
        found = session().get_credentials()
    return None if found is None else str(found.method)


def identity(region: str | None = None) -> Identity:
    """Who the default credentials belong to. Raises TerminalError."""
    with _reasons():
        client = session(region).client("sts", config=_QUICK)
        found = client.get_caller_identity()
        client.close()
    date = found["ResponseMetadata"]["HTTPHeaders"].get("date")
    offset = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() if date else None
    return Identity(found["Account"], found["Arn"], offset)


def table_state(table: TableSettings) -> TableState:
    """What DescribeTable says of the source table. Raises TerminalError."""
    with _source(table) as client:
        found = client.describe_table(TableName=table.source_name)["Table"]
    roles = {entry["KeyType"]: entry["AttributeName"] for entry in found["KeySchema"]}
    stream = found.get("StreamSpecification") or {}
    return TableState(
        tuple(roles[role] for role in ("HASH", "RANGE") if role in roles),
        found["TableArn"],
        found["TableStatus"],
        found.get("ItemCount", 0),
        stream.get("StreamViewType") if stream.get("StreamEnabled") else None,
    )


def recovery_enabled(table: TableSettings) -> bool:
    """Whether point-in-time recovery is on, without which DynamoDB exports nothing. Raises TerminalError."""
    with _source(table) as client:
        found = client.describe_continuous_backups(TableName=table.source_name)["ContinuousBackupsDescription"]
    status: str = found.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus", "DISABLED")
    return status == "ENABLED"


def kinesis_destinations(table: TableSettings) -> list[KinesisDestination]:
    """The Kinesis streams that the table's changes go or went to. Raises TerminalError."""
    with _source(table) as client:
        found = client.describe_kinesis_streaming_destination(TableName=table.source_name)
    return [
        KinesisDestination(
            entry["StreamArn"],
            entry["DestinationStatus"],
            entry.get("ApproximateCreationDateTimePrecision", "MILLISECOND"),
        )
        for entry in found["KinesisDataStreamDestinations"]
    ]


def check_bucket(bucket: str, owner: str | None = None) -> None:
    """Ask whether the bucket is there and open to us. Raises TerminalError saying why not."""
    expected = {"ExpectedBucketOwner": owner} if owner else {}
    with _reasons(), _closing(session().client("s3", config=_QUICK)) as client:
        client.head_bucket(Bucket=bucket, **expected)


def owns_bucket(bucket: str, account: str) -> bool:
    """Whether the bucket belongs to the account. Raises TerminalError if AWS cannot be called."""
    check_bucket(bucket)
    try:
        check_bucket(bucket, account)
    except TerminalError:
        return False
    return True


def key_state(table: TableSettings) -> str:
    """The state of the KMS key that exports are encrypted with (`Enabled`), read as the exporting role. Raises TerminalError.

    A key named by its ARN is read in its own Region.
    """
    export, source = table.export, table.source
    assert export is not None and export.kms_key_id is not None, "the caller has looked"
    region = export.kms_key_id.split(":")[3] if export.kms_key_id.startswith("arn:") else source.region
    with _reasons():
        current = session(region, source.role_arn, source.external_id)
        with _closing(current.client("kms", config=_QUICK)) as client:
            state: str = client.describe_key(KeyId=export.kms_key_id)["KeyMetadata"]["KeyState"]
    return state


def waiting_messages(url: str) -> int:
    """About how many messages wait in a queue. Raises TerminalError."""
    with _reasons(), _closing(session().client("sqs", config=_QUICK)) as client:
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(found["Attributes"]["ApproximateNumberOfMessages"])


def has_objects(uri: str) -> bool:
    """Whether anything lies below an `s3://` prefix. Raises TerminalError."""
    bucket, key = split_s3(uri)
    with _reasons(), _closing(session().client("s3", config=_QUICK)) as client:
        return bool(client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("KeyCount"))


@contextmanager
def _source(table: TableSettings) -> Iterator[Any]:
    source = table.source
    with _reasons():
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
def _reasons() -> Iterator[None]:
    """AWS's errors as one-line reasons."""
    try:
        yield
    except NoRegionError as error:
        raise TerminalError("no AWS Region: set AWS_REGION, or `source.region` in the configuration") from error
    except ClientError as error:
        fault = error.response.get("Error", {})
        raise TerminalError(f"{fault.get('Code', 'refused')}: {fault.get('Message') or error}") from error
    except BotoCoreError as error:
        raise TerminalError(" ".join(str(error).split())) from error
