"""The parts of a table's settings."""

from __future__ import annotations

import re
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Location, Settings, seconds
from ddb_lake.core.capture.export_windows import LONGEST_S, SHORTEST_S
from ddb_lake.core.values.json_schema import Rule, Validator
from ddb_lake.errors import ConfigError

_SQL_TYPE = re.compile(r"[A-Za-z]+( [A-Za-z]+)?(\(\d+(, ?\d+)?\))?( [A-Za-z0-9_ ]+)?")


class SourceSettings(Settings):
    """The source table: where it is and how to reach it."""

    table: str | None = Field(None, description="The DynamoDB table's name, where it differs from the lake table's.")
    region: str | None = Field(None, description="AWS Region; default: the standard AWS variables.")
    account: str | None = Field(
        None, pattern=r"^\d{12}$", description="Account of the source table; default: that of `role_arn`, if given."
    )
    role_arn: str | None = Field(None, description="Role to assume for reaching the table (another account, say).")
    external_id: str | None = Field(None, description="External id that the role's trust policy asks for.")


class ExportSettings(Settings):
    """Where full exports go and when they are taken."""

    bucket: str = Field(description="Bucket that DynamoDB exports into.")
    prefix: str = Field("", description="Key prefix before `AWSDynamoDB/`.")
    schedule: str | None = Field(None, description="Cron expression (UTC) for new exports.")
    bucket_owner: str | None = Field(None, description="Account that owns the bucket, if it is another one.")
    kms_key_id: str | None = Field(None, description="KMS key for the exported objects.")

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
    """Incremental exports as the way in of changes: no stream is needed. They go where `export` says."""

    every: str = Field("15m", description="Length of the exported windows: 15m to 24h.")
    view: Literal["NEW_AND_OLD_IMAGES", "NEW_IMAGE"] = Field(
        "NEW_AND_OLD_IMAGES", description="Which images a line has; NEW_IMAGE costs less and leaves out the old ones."
    )

    @field_validator("every")
    @classmethod
    def _valid_length(cls, text: str) -> str:
        if not SHORTEST_S <= seconds(text) <= LONGEST_S:
            raise ValueError("DynamoDB exports windows of 15m to 24h")
        return text


class ChangesSettings(Settings):
    """Where landed change objects are found."""

    uri: Location | None = Field(
        None,
        description="Firehose's prefix, without `!{...}`: a folder, file:// or s3:// prefix. Without a final"
        " slash, keys that continue it with yyyy/MM/dd/HH/ are read too.",
    )
    errors_uri: Location | None = Field(None, description="Firehose's error prefix, where it lies outside `uri`.")
    layout: Literal["auto", "hourly", "flat"] = Field(
        "auto",
        description="`auto`: each listing finds out; `hourly`: keys below `uri` start with yyyy/MM/dd/HH/; `flat`: list everything.",
    )
    lookback: str = Field("48h", description="How far back the sensor looks for late objects.")
    delivery_stream: str | None = Field(
        None, description="Name of the Firehose stream that delivers to `uri`: a check looks at its data freshness."
    )
    streams: bool = Field(False, description="Changes are read from DynamoDB Streams directly.")
    landing: Location | None = Field(
        None, description="Where what is read from the stream lands; default: `landing/<table>/` below the warehouse."
    )
    incremental_exports: IncrementalExportSettings | None = Field(
        None, description="Changes come by incremental exports, to the place that `export` names."
    )
    notifications: str | None = Field(
        None, description="URL of an SQS queue of S3 notifications, to look sooner at what has landed."
    )

    @field_validator("notifications")
    @classmethod
    def _valid_queue(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/]+/.+", url):
            raise ValueError("an SQS queue is named by its URL, https://sqs.<region>.amazonaws.com/<account>/<name>")
        return url


class CanarySettings(Settings):
    """An item that is written to the source again and again, to see that changes still arrive in the lake."""

    key: dict[str, dict[str, str]] = Field(
        description="The item's key in DynamoDB JSON, `{id: {S: canary}}`; one that no other item has."
    )

    @field_validator("key")
    @classmethod
    def _valid_key(cls, key: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        if not 1 <= len(key) <= 2 or not all(len(v) == 1 and set(v) <= {"S", "N", "B"} for v in key.values()):
            raise ValueError("a key has one or two attributes in DynamoDB JSON, such as {id: {S: canary}}")
        return key


class FullCheckSettings(Settings):
    """A check that compares every key with the source: the check `content`."""

    against: Literal["export", "new_export", "scan"] = Field(
        "export",
        description="The newest finished full export, an export taken for the check, or a scan of the source (small"
        " tables).",
    )
    schedule: str | None = Field(None, description="Cron expression (UTC); without it the check runs when asked for.")
    settle: str = Field("0s", description="How long to wait for changes under way before what differs is a fault.")

    @field_validator("settle")
    @classmethod
    def _valid_settle(cls, text: str) -> str:
        seconds(text)
        return text


class CheckSettings(Settings):
    """Bounds of the checks."""

    max_lag: str = Field("30m", description="Newest landed object not yet applied: how old it may be.")
    count_tolerance: float = Field(0.05, ge=0, description="Allowed share between lake and DescribeTable's item count.")
    sample: int = Field(0, ge=0, description="Keys of each side that a check reads from the source; 0: it reads none.")
    read_rate: float = Field(100, ge=1, description="Read units a second that a check takes at most.")
    full: FullCheckSettings | None = Field(None, description="Compare every key with the source.")
    canary: CanarySettings | None = Field(None, description="Write an item to the source and see that it arrives.")
    freshness: str | None = Field(
        None, description="Dagster's freshness policy of `current`: it changes at least so often; not for idle tables."
    )

    @field_validator("freshness")
    @classmethod
    def _valid_freshness(cls, text: str | None) -> str | None:
        if text is not None and seconds(text) < 60:
            raise ValueError("Dagster looks at freshness once a minute: 1m or more")
        return text


class DailyStatesSettings(Settings):
    """The items as of the end of each day (UTC), one Parquet file a day: the asset `daily/<table>`."""

    start: date = Field(description="The first day, `2026-01-01`; not before the first full export.")
    schedule: str | None = Field(
        None, description="Cron expression (UTC) for the day before; without it days are made when asked for."
    )


class AuroraSettings(Settings):
    """A table of a MySQL-compatible database (Aurora, MariaDB) that is kept equal to the lake's current items."""

    host: str = Field(description="The database's host; for Aurora the cluster's (writer) endpoint.")
    port: int = Field(3306, ge=1, le=65535, description="The database's port.")
    database: str = Field(description="The database (schema), which must exist.")
    table: str | None = Field(None, description="The table's name there; default: the lake table's.")
    user: str = Field(description="The user to log in as.")
    password_env: str | None = Field(None, description="Name of the environment variable that holds the password.")
    secret_arn: str | None = Field(
        None, description="Secret of Secrets Manager: the password, or JSON with `password`."
    )
    iam_auth: bool = Field(False, description="Log in with a token that IAM signs (Aurora, RDS).")
    region: str | None = Field(None, description="AWS Region of the secret and of IAM; default: the AWS variables.")
    tls: bool | None = Field(None, description="Encrypt the connection; default: yes, but not to this machine.")
    tls_ca: str | None = Field(None, description="File of certificates to trust; for Aurora, AWS's RDS bundle.")
    columns: tuple[str, ...] = Field((), description="The lake's columns to replicate; default: all.")
    types: dict[str, str] = Field(default_factory=dict, description="SQL types of columns, where others are wanted.")

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
    """What the changes of a table must satisfy; those that do not go to quarantine."""

    json_schema: str | dict[str, Any] = Field(
        alias="schema", description="A JSON Schema (draft-07), or the name of a JSON or YAML file with one."
    )
    attribute: str | None = Field(
        None, description="The attribute that holds the document the schema is for; default: it is for the item."
    )

    @cached_property
    def validator(self) -> Validator:
        """The schema, compiled. Raises ConfigError."""
        schema: Any = self.json_schema
        if isinstance(schema, str):
            try:
                schema = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))  # JSON is YAML
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise ConfigError(f"{schema}: no JSON Schema can be read from there: {error}") from error
        return Validator([Rule(schema, self.attribute)])

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            _ = self.validator
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self
