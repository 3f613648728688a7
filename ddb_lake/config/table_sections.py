"""The sections of a table's settings: source, exports, changes, checks, daily snapshots, Aurora, validation."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Duration, Location, Settings, Texts, seconds, with_whole_characters
from ddb_lake.core.capture.export_windows import LONGEST_S, SHORTEST_S
from ddb_lake.core.values.json_schema import Rule, Validator
from ddb_lake.errors import ConfigError

PLACEHOLDER = "{name}"
"""Is replaced by the name of the lake table in an entry of `tables` with `match`."""
_SQL_TYPE = re.compile(r"[A-Za-z]+( [A-Za-z]+)?(\(\d+(, ?\d+)?\))?( [A-Za-z0-9_ ]+)?")


class SourceSettings(Settings):
    """The source table: its name, Region and account, and the role to reach it."""

    table: str | None = Field(None, description="Name of the DynamoDB table; default: the name of the lake table.")
    region: str | None = Field(None, description="AWS Region; default: the standard AWS variables.")
    account: str | None = Field(
        None, pattern=r"^\d{12}$", description="Account of the source table; default: that of `role_arn`, if given."
    )
    role_arn: str | None = Field(
        None, description="Role to assume for access to the table, for example in another account."
    )
    external_id: str | None = Field(None, description="External id that the role's trust policy requires.")
    missing_since: datetime | None = Field(
        None,
        description="Since when `ddb-lake discover` does not find the table: its data stays, and is shown as that of a missing table."
        " `discover` sets it for the tables of `match`.",
    )


class ExportSettings(Settings):
    """The destination of exports, and the schedule of full ones."""

    bucket: str = Field(description="Bucket that DynamoDB writes exports to.")
    prefix: str = Field("", description="Prefix of the keys, before `AWSDynamoDB/`.")
    schedule: str | None = Field(None, description="Cron expression (UTC) for new full exports.")
    bucket_owner: str | None = Field(
        None, description="Account that owns the bucket, if it is not the account of the table."
    )
    kms_key_id: str | None = Field(
        None, description="KMS key that encrypts the exported objects; the ARN for a key of another account."
    )

    @property
    def location(self) -> str:
        """The URI below which the exports lie: `s3://bucket/prefix`, or a folder if `bucket` is one."""
        root = f"{self.bucket}/{self.prefix}".rstrip("/")
        return root if "://" in root or root.startswith("/") else f"s3://{root}"

    @field_validator("bucket")
    @classmethod
    def _valid_bucket(cls, bucket: str) -> str:
        if "!{" in bucket or re.match(r"arn:|https?://|s3:/", bucket):
            name = re.sub(r"^(arn:aws[a-z\-]*:s3:::|s3:/+|https?://)", "", bucket).partition("/")[0]
            raise ValueError(f"{bucket!r} is no bucket's name; write `bucket: {name}`, and what follows it as `prefix`")
        return bucket

    @field_validator("prefix")
    @classmethod
    def _valid_prefix(cls, prefix: str) -> str:
        if "!{" in prefix or "://" in prefix:
            raise ValueError(
                f"{prefix!r}: the part of the keys before `AWSDynamoDB/`, without `!{{...}}` and without the bucket"
            )
        return prefix


class IncrementalExportSettings(Settings):
    """Changes by incremental exports, without a stream. Their destination is that of `export`."""

    every: Duration = Field("15m", description="Length of an exported window: 15m to 24h.")
    view: Literal["NEW_AND_OLD_IMAGES", "NEW_IMAGE"] = Field(
        "NEW_AND_OLD_IMAGES", description="Images of a line; NEW_IMAGE costs less and has no old images."
    )

    @field_validator("every")
    @classmethod
    def _valid_length(cls, text: str) -> str:
        if not SHORTEST_S <= seconds(text) <= LONGEST_S:
            raise ValueError("DynamoDB exports windows of 15m to 24h")
        return text


class PartitionsSettings(Settings):
    """The partitions of `changes/<table>` in Dagster. They do not affect how the changelog is stored."""

    every: Literal["day", "hour"] = Field(
        "day", description="Length of a partition (UTC): objects that landed in a `day`, or in an `hour`."
    )
    start: date = Field(
        date(2025, 1, 1),
        description="The first day with partitions, `2026-03-01`: the day on which the first change landed. Objects that landed earlier"
        " are applied too, without a partition of their own.",
    )

    @property
    def first_hour(self) -> datetime:
        """The first arrival hour that is in a partition."""
        return datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)

    @field_validator("start")
    @classmethod
    def _valid_start(cls, start: date) -> date:
        if start > datetime.now(UTC).date():
            raise ValueError(f"{start} is in the future (UTC): the present day needs a partition, for what lands today")
        return start


class ChangesSettings(Settings):
    """The location and the source of landed change objects."""

    uri: Location | None = Field(
        None,
        description="Firehose's prefix, without `!{...}`: a folder, file:// or s3:// prefix. If it has no final"
        " slash, keys that continue it with yyyy/MM/dd/HH/ are read too.",
    )
    errors_uri: Location | None = Field(None, description="Firehose's error prefix, if it is outside `uri`.")
    layout: Literal["auto", "hourly", "flat"] = Field(
        "auto",
        description="`hourly`: keys below `uri` start with yyyy/MM/dd/HH/; `flat`: every listing lists everything; `auto`: each listing"
        " detects which.",
    )
    lookback: Duration = Field("48h", description="How far back the sensor lists hours for late objects.")
    delivery_stream: str | None = Field(
        None, description="Firehose stream that delivers to `uri`; a check reads its data freshness."
    )
    streams: bool = Field(False, description="Read changes from the DynamoDB stream directly.")
    kinesis: str | None = Field(
        None,
        min_length=1,
        description="Name or ARN of the Kinesis data stream to read changes from directly, without Firehose. Name a stream that"
        " several tables share at one of them.",
    )
    fan_out: str | None = Field(
        None,
        description="Name of the consumer with which `ddb-lake follow` reads the Kinesis stream by enhanced fan-out; it is"
        " registered if need be, and AWS charges for it. Default: `follow` shares the limits of GetRecords.",
    )
    landing: Location | None = Field(
        None,
        description="Where records of a stream that is read directly land; default: `landing/<table>/` below the warehouse.",
    )
    incremental_exports: IncrementalExportSettings | None = Field(
        None, description="Read changes from incremental exports, with the destination of `export`."
    )
    partitions: PartitionsSettings = Field(default_factory=lambda: PartitionsSettings())
    notifications: str | None = Field(
        None, description="URL of an SQS queue with S3 notifications; landed objects are found sooner."
    )

    @field_validator("kinesis")
    @classmethod
    def _valid_stream(cls, stream: str | None) -> str | None:
        if stream is not None and not re.fullmatch(
            r"(arn:[^:]+:kinesis:[^:]+:\d{12}:stream/)?[A-Za-z0-9_.-]{1,128}", stream.replace(PLACEHOLDER, "x")
        ):
            raise ValueError(f"{stream!r} is neither the name nor the ARN of a Kinesis data stream")
        return stream

    @field_validator("fan_out")
    @classmethod
    def _valid_consumer(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name.replace(PLACEHOLDER, "x")):
            raise ValueError(
                f"{name!r} is no name of a consumer of a Kinesis data stream: A-Z, a-z, 0-9, _, . and - alone"
            )
        return name

    @model_validator(mode="after")
    def _one_stream(self) -> Self:
        if self.fan_out is not None and self.kinesis is None:
            raise ValueError("`fan_out` is a way of reading a Kinesis stream: name the stream as `kinesis`")
        if self.streams and self.kinesis is not None:
            raise ValueError(
                "read one of the two directly, the DynamoDB stream or the Kinesis stream: remove one setting"
            )
        return self

    @property
    def reads_stream(self) -> bool:
        """Whether a stream is read directly, of DynamoDB or of Kinesis."""
        return self.streams or self.kinesis is not None

    @property
    def source(self) -> Literal["streams", "kinesis", "landed"]:
        """What is read: the DynamoDB stream, the Kinesis stream, or landed objects alone."""
        return "streams" if self.streams else "kinesis" if self.kinesis is not None else "landed"

    @field_validator("notifications")
    @classmethod
    def _valid_queue(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/]+/.+", url):
            raise ValueError("an SQS queue is named by its URL, https://sqs.<region>.amazonaws.com/<account>/<name>")
        return url


class CanarySettings(Settings):
    """An item that a check writes to the source, to measure whether changes still arrive in the lake."""

    key: dict[str, dict[str, str]] = Field(
        description="Key of the item in DynamoDB JSON, `{id: {S: canary}}`; no other item may have it."
    )

    @field_validator("key")
    @classmethod
    def _valid_key(cls, key: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        if not 1 <= len(key) <= 2 or not all(len(v) == 1 and set(v) <= {"S", "N", "B"} for v in key.values()):
            raise ValueError("a key has one or two attributes in DynamoDB JSON, such as {id: {S: canary}}")
        return key


class FullCheckSettings(Settings):
    """The check `content`, which compares every key with the source."""

    against: Literal["export", "new_export", "scan"] = Field(
        "export",
        description="`export`: the newest finished full export; `new_export`: an export for the check; `scan`: a scan of the source,"
        " for small tables.",
    )
    schedule: str | None = Field(None, description="Cron expression (UTC); default: the check runs only on request.")
    settle: Duration = Field("0s", description="How long to wait for changes to land before a difference is a fault.")


class CheckSettings(Settings):
    """The limits of the checks."""

    max_lag: Duration = Field("30m", description="Maximum age of a landed object that is not applied.")
    count_tolerance: float = Field(
        0.01,
        ge=0,
        description="Allowed difference between the lake's rows and DescribeTable's count, a share.",
    )
    sample: int = Field(
        100,
        ge=0,
        description="Keys a day that a check compares with the source, half of each side, with eventually consistent reads: 0.5"
        " read units for each 4 KB, at most 50 for 100 keys. 0: none are read.",
    )
    read_rate: float = Field(100, ge=1, description="Maximum read units a second of a check.")
    continuity: Duration = Field(
        "8d",
        description="Time span of the check `continuity`, up to the newest change; at least the time between two full exports;"
        " 0s: no check.",
    )
    full: FullCheckSettings | None = Field(None, description="Compare every key with the source.")
    canary: CanarySettings | None = Field(None, description="Write an item to the source and check that it arrives.")
    freshness: Duration | None = Field(
        None,
        description="Freshness policy of `current` in Dagster: the longest time between two changes; not for idle tables. Default: from"
        " `max_lag` with incremental exports or a canary, else none.",
    )

    @field_validator("freshness")
    @classmethod
    def _valid_freshness(cls, text: str | None) -> str | None:
        if text is not None and seconds(text) < 60:
            raise ValueError("Dagster evaluates freshness once a minute: 1m or more")
        return text


class DailyStatesSettings(Settings):
    """Daily snapshots: the items as of the end of each day (UTC), one Parquet file a day, in the asset `daily/<table>`."""

    start: date = Field(description="The first day, `2026-01-01`; not before the first full export.")
    schedule: str | None = Field(
        None,
        description="Cron expression (UTC) that makes the snapshot of the day before; default: as soon as the day is complete, by"
        " Dagster's automation.",
    )


class AuroraSettings(Settings):
    """A table of a MySQL-compatible database (Aurora, MariaDB) that replication keeps equal to the lake's current items."""

    host: str = Field(description="Host of the database; for Aurora the writer endpoint of the cluster.")
    port: int = Field(3306, ge=1, le=65535, description="Port of the database.")
    database: str = Field(description="Name of the database (schema); it must exist.")
    table: str | None = Field(None, description="Name of the table; default: that of the lake table.")
    user: str = Field(description="User to log in as.")
    password_env: str | None = Field(None, description="Environment variable with the password.")
    secret_arn: str | None = Field(
        None, description="Secret in Secrets Manager: the password, or JSON with `password`."
    )
    iam_auth: bool = Field(False, description="Log in with an IAM authentication token (Aurora, RDS).")
    region: str | None = Field(
        None, description="AWS Region of the secret and of IAM; default: the standard AWS variables."
    )
    tls: bool | None = Field(None, description="Encrypt the connection; default: yes, except to this machine.")
    tls_ca: str | None = Field(
        None, description="File with the certificates to trust; for Aurora the RDS bundle of AWS."
    )
    columns: Texts = Field((), description="Columns of the lake table to replicate; default: all.")
    types: dict[str, str] = Field(
        default_factory=dict, description="SQL types by column, in place of the default ones."
    )

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if sum(map(bool, (self.password_env, self.secret_arn, self.iam_auth))) != 1:
            raise ValueError("aurora: give exactly one of password_env, secret_arn, iam_auth")
        return self

    @field_validator("types")
    @classmethod
    def _valid_types(cls, types: dict[str, str]) -> dict[str, str]:
        for column, sql_type in types.items():
            if not _SQL_TYPE.fullmatch(sql_type):
                raise ValueError(f"{column}: {sql_type!r} is no SQL type such as varchar(100), int or decimal(20,2)")
        return types


class ValidateSettings(Settings):
    """A JSON Schema for changes; a change that violates it goes to quarantine."""

    json_schema: str | dict[str, Any] = Field(
        alias="schema", description="A JSON Schema (draft-07), or the path of a JSON or YAML file with one."
    )
    attribute: str | None = Field(
        None, description="Attribute with the document to validate; default: the item itself."
    )

    @cached_property
    def validator(self) -> Validator:
        """The schema, compiled. Raises ConfigError."""
        schema: Any = self.json_schema
        if isinstance(schema, str):
            try:
                document = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))  # JSON is YAML
                schema = with_whole_characters(document)
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise ConfigError(f"{schema}: no JSON Schema can be read: {error}") from error
        return Validator([Rule(schema, self.attribute)])

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            _ = self.validator
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self
