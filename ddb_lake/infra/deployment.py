"""Resolve the names that all stacks use from the configurations of the lake and of the deployment.

In a plain template these strings are CDK tokens (parameters), so no other module may parse one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddb_lake.config import LakeSettings, TableSettings
from ddb_lake.config.lake import HashKeySettings
from ddb_lake.config.table_sections import AuroraSettings
from ddb_lake.core.capture.dynamodb_copies import PARTITION_KEY, SORT_KEY
from ddb_lake.core.layout.firehose_paths import DEFAULT_LAYOUT
from ddb_lake.core.operations.policies import partition_of
from ddb_lake.errors import ConfigError
from ddb_lake.infra.config import FeedSettings, InfraSettings

DATED = f"!{{timestamp:{DEFAULT_LAYOUT}}}"
_LONGEST_ROLE = 64
_LONGEST_BUCKET = 63
_READING_STREAMS = frozenset({"streams-to-aurora", "replicate-target"})
_WITH_FUNCTIONS_OF_A_TABLE = _READING_STREAMS | {"replicate-source"}
"""Stacks whose functions and queues have a table's name in theirs, which have letters, digits, hyphens and underscores.

https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
"""
_WITHOUT_DELIVERY = frozenset({"catalog", "orchestration", "follow"})
"""Stacks that serve a lake whose changes no stack delivers: it reads streams directly."""
_LARGEST_SCHEMA_BYTES = 3000
FAILED = f"!{{firehose:error-output-type}}/{DATED}"


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket and a prefix in it; the prefix is empty or ends with a slash."""

    bucket: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class StreamDeployment:
    """A stream that the lake reads directly. `kinesis`: name or ARN, None for the table's DynamoDB stream. `fan_out`: its consumer."""

    landing: Location
    kinesis: str | None = None
    fan_out: str | None = None


@dataclass(frozen=True, slots=True)
class TableDeployment:
    """The names of one table. `id` is valid in construct ids; every other string may be a token.

    Attributes:
        key_names: comma-separated.
        columns_json, schemas_json: in the format of `lambdas.validate`.
        lake_name: in the lake's configuration and in metrics.
        reads: the label `source` of metrics.
        stream: None if no stream is read directly.
    """

    id: str
    name: str
    key: tuple[tuple[str, str], ...]
    landing: Location
    errors: Location
    exports: Location
    feed: FeedSettings
    source_role: str
    external_id: str
    key_names: str
    columns_json: str
    schemas_json: str | None = None
    lake_name: str = ""
    reads: str = "landed"
    stream: StreamDeployment | None = None

    @property
    def keyed_by_sequence(self) -> bool:
        """Whether the key comes from the Kinesis sequence number, so that each record is an item of its own."""
        return tuple(name for name, _ in self.key) == (PARTITION_KEY, SORT_KEY)

    @property
    def delivery_prefix(self) -> str:
        """Firehose's prefix for delivered objects: by the date and hour of arrival."""
        return f"{self.landing.prefix}{DATED}"

    @property
    def error_prefix(self) -> str:
        """Firehose's prefix for records it could not deliver: by what failed, date and hour."""
        return f"{self.errors.prefix}{FAILED}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment with all names."""

    settings: InfraSettings
    name: str
    producer_account: str
    consumer_account: str
    tables: tuple[TableDeployment, ...]
    warehouse: Location
    namespace: str
    task_role: str
    follow_role: str
    hash_key: HashKeySettings | None = None
    queue_urls: tuple[str, ...] = ()
    databases: tuple[AuroraSettings, ...] = ()

    @property
    def lake_roles(self) -> tuple[str, ...]:
        """The roles of the lake's account that assume those of the tables' account."""
        return (self.task_role, self.follow_role) if "follow" in self.settings.stack_names else (self.task_role,)

    @property
    def buckets(self) -> tuple[str, ...]:
        """The buckets that landing, exports and the warehouse need, each once, in that order."""
        named = [p.bucket for t in self.tables for p in (t.landing, t.errors, t.exports)]
        return tuple(dict.fromkeys([*named, self.warehouse.bucket]))

    @property
    def landing_buckets(self) -> tuple[str, ...]:
        """The buckets that Firehose and exports write into."""
        return tuple(dict.fromkeys(p.bucket for t in self.tables for p in (t.landing, t.errors, t.exports)))


def resolve_deployment(settings: InfraSettings, lake: LakeSettings) -> Deployment:
    """Resolve all names. Raises ConfigError if the lake's configuration lacks one or has an invalid one."""
    unknown = set(settings.tables) - {table.name for table in lake.tables}
    if unknown:
        raise ConfigError(f"tables {sorted(unknown)} are in the deployment but not in the lake's configuration")
    if not lake.tables:
        raise ConfigError("the lake's configuration has no tables, so there is nothing to deploy")
    tables = tuple(_table(settings, lake, table) for table in lake.tables)
    _check_certificates(settings)
    _check_names(settings, tables)
    found = Deployment(
        settings,
        settings.name,
        settings.producer_account,
        settings.consumer_account,
        tables,
        _s3(lake.warehouse, "warehouse"),
        lake.catalog.namespace,
        f"{settings.name}-task",
        f"{settings.name}-follow",
        lake.hash_key,
        tuple(dict.fromkeys(t.changes.notifications for t in lake.tables if t.changes and t.changes.notifications)),
        tuple(table.aurora for table in lake.tables if table.aurora is not None),
    )
    _check_replica(found)
    _check_environment(found)
    return found


def _check_names(settings: InfraSettings, tables: Sequence[TableDeployment]) -> None:
    """What AWS refuses only at deployment is an error here."""
    longest = max(len(f"{settings.name}-{table.name}-replicate-role") for table in tables)
    if longest > _LONGEST_ROLE:
        raise ConfigError(
            f"`name` and a table's name make role names of {longest} characters; IAM takes {_LONGEST_ROLE}"
        )
    with_functions = sorted(set(settings.stack_names) & _WITH_FUNCTIONS_OF_A_TABLE)
    dotted = next((table for table in tables if "." in table.name), None)
    if dotted and with_functions:
        raise ConfigError(
            f"its name has a dot, which names of functions and queues cannot have; {with_functions[0]} makes those",
            table=dotted.name,
            hint="leave the stack out of `stacks`",
        )
    reading = sorted(set(settings.stack_names) & _READING_STREAMS)
    unknown = next((table for table in tables if table.feed.adopt and not table.feed.stream_arn), None)
    if unknown and reading:
        raise ConfigError(
            f"it is adopted, and {reading[0]} reads its DynamoDB stream, which `stream_arn` does not name",
            table=unknown.name,
            hint="aws dynamodb update-table --table-name T --stream-specification "
            "StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES prints it as LatestStreamArn; or leave the stack out of `stacks`",
        )


def _check_environment(deployment: Deployment) -> None:
    """A container of the `follow` stack has no environment variable of the user's."""
    if "follow" not in deployment.settings.stack_names:
        return
    for database in deployment.databases:
        if database.password_env is not None:
            raise ConfigError(
                f"`aurora.password_env` is {database.password_env}, which the container of the stack `follow` does not have",
                hint="use `secret_arn` or `iam_auth`, or leave `follow` out of `stacks`",
            )
    key = deployment.hash_key
    if key is not None and key.env is not None:
        raise ConfigError(
            f"`hash_key` is in the environment variable {key.env}, which the container of the stack `follow` does not have",
            hint="store the key in Secrets Manager (`secret`) or Systems Manager (`parameter`), or leave `follow` out of `stacks`",
        )


def _check_certificates(settings: InfraSettings) -> None:
    """The load function verifies Aurora's certificate: without AWS's bundle it would deploy, and then load nothing."""
    if "streams-to-aurora" not in settings.stack_names:
        return
    bundle = settings.aurora.certificates
    hint = (
        "download https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem and name it in `aurora.certificates`, "
        "or leave `streams-to-aurora` out of `stacks`"
    )
    if bundle is None:
        raise ConfigError("`aurora.certificates` is not set, and the stack `streams-to-aurora` needs it", hint=hint)
    try:
        text = bundle.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"`aurora.certificates` cannot be read: {error}", uri=str(bundle), hint=hint) from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigError("`aurora.certificates` has no certificate in PEM format", uri=str(bundle), hint=hint)


def _check_replica(deployment: Deployment) -> None:
    """What would leave `replica_region` without effect is an error."""
    settings = deployment.settings
    if settings.replica_region is None:
        return
    adopted = sorted(set(deployment.landing_buckets) & set(settings.adopt.buckets))
    if adopted:
        raise ConfigError(
            f"`replica_region` is set, and the landing bucket {adopted[0]} is adopted, so it is not changed",
            hint="set the replication of that bucket yourself, and leave `replica_region` out",
        )
    elsewhere = sorted(set(settings.stacks or ()) & {"same-account", "streams-to-aurora"})
    if elsewhere and settings.producer_account != settings.consumer_account:
        raise ConfigError(
            f"`replica_region` is set, and the landing bucket of {elsewhere[0]} is in `producer_account`; the replica is in"
            " `consumer_account`",
            hint="give both the same account, or leave `replica_region` out",
        )
    longest = max(len(replica_name(name)) for name in deployment.landing_buckets)
    if longest > _LONGEST_BUCKET:
        raise ConfigError(f"the replica's name has {longest} characters; S3 takes {_LONGEST_BUCKET}")


def replica_name(bucket: str) -> str:
    """The name of the bucket with the copy of a landing bucket."""
    return f"{bucket}-replica"


def _table(settings: InfraSettings, lake: LakeSettings, table: TableSettings) -> TableDeployment:
    if not table.key:
        raise ConfigError(
            "its `key` is needed to create it", table=table.name, hint="add it to the lake's configuration"
        )
    own_landing = lake.stream_landing(table)
    delivered = set(settings.stack_names) - _WITHOUT_DELIVERY
    landed = None if table.changes is None else table.changes.uri or (None if delivered else own_landing)
    if table.changes is None or landed is None or table.export is None:
        raise ConfigError(
            "`changes.uri` and `export.bucket` say where its data lands", table=table.name, hint="add them"
        )
    feed = settings.tables.get(table.name, FeedSettings())
    stray = set(feed.key_types) - set(table.key)
    if stray:
        raise ConfigError(f"`key_types` names {sorted(stray)}, which are not in its key", table=table.name)
    landing = _s3(landed, f"table {table.name}: changes.uri")
    if not landing.prefix:
        raise ConfigError(
            "`changes.uri` is a whole bucket; exports, errors and failed batches would be read as changes",
            table=table.name,
            hint=f"give it a prefix: s3://{landing.bucket}/{table.name}/",
        )
    return TableDeployment(
        "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", table.name)),
        table.source_name,
        tuple((name, feed.key_types.get(name, "S")) for name in table.key),
        landing,
        _errors(table, landing),
        Location(_bucket(table.export.bucket, f"table {table.name}: export.bucket"), _folder(table.export.prefix)),
        feed,
        _source_role(settings, table),
        table.source.external_id or f"{settings.name}-{settings.consumer_account}",
        ",".join(table.key),
        _columns(table, feed),
        _schemas(table, feed),
        table.name,
        table.changes.source,
        None
        if own_landing is None
        else StreamDeployment(
            _s3(own_landing, f"table {table.name}: landing"), table.changes.kinesis, table.changes.fan_out
        ),
    )


def _errors(table: TableSettings, landing: Location) -> Location:
    """Where Firehose writes what it could not deliver: in the same bucket, because a destination has one."""
    if not (table.changes and table.changes.errors_uri):
        return Location(landing.bucket, f"{landing.prefix.rstrip('/')}-failed/")
    errors = _s3(table.changes.errors_uri, f"table {table.name}: changes.errors_uri")
    if errors.bucket != landing.bucket:
        raise ConfigError(
            f"`changes.errors_uri` is in {errors.bucket}, and Firehose writes errors into the bucket of `changes.uri`,"
            f" {landing.bucket}",
            table=table.name,
            hint=f"use s3://{landing.bucket}/{errors.prefix}",
        )
    return errors


def _source_role(settings: InfraSettings, table: TableSettings) -> str:
    """The name of the role through which the table is accessed. What the lake's file says of the source has to agree."""
    source, region = table.source, settings.region
    if source.region and source.region != region:
        raise ConfigError(f"`source.region` is {source.region}, and the deployment's is {region}", table=table.name)
    if source.account and source.account != settings.producer_account:
        raise ConfigError(
            f"`source.account` is {source.account}, and `producer_account` {settings.producer_account}",
            table=table.name,
        )
    owner = table.export.bucket_owner if table.export else None
    if owner and owner not in (settings.producer_account, settings.consumer_account):
        raise ConfigError(
            f"`export.bucket_owner` is {owner}, which is neither `producer_account` nor `consumer_account`",
            table=table.name,
        )
    if source.role_arn is None:
        return f"{settings.name}-source"
    prefix = f"arn:{partition_of(region)}:iam::{settings.producer_account}:role/"
    name = source.role_arn.removeprefix(prefix)
    if not source.role_arn.startswith(prefix) or "/" in name:
        raise ConfigError(
            f"`source.role_arn` is {source.role_arn}, and the role that the stacks make is {prefix}NAME",
            table=table.name,
            hint="give the account, partition and path as they are there",
        )
    return name


def _columns(table: TableSettings, feed: FeedSettings) -> str:
    columns = feed.columns or {name: f"/{name.replace('~', '~0').replace('/', '~1')}" for name in table.key}
    lacking = set(table.key) - set(columns)
    if lacking:
        raise ConfigError(f"`columns` lacks the key's {sorted(lacking)}", table=table.name)
    return json.dumps({table.source_name: columns}, separators=(",", ":"))


def _schemas(table: TableSettings, feed: FeedSettings) -> str | None:
    if feed.json_schema is None:
        return None
    try:
        rule: dict[str, Any] = {"schema": json.loads(feed.json_schema.read_text(encoding="utf-8"))}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{feed.json_schema}: {error}", table=table.name) from error
    if feed.schema_attribute:
        rule["attribute"] = feed.schema_attribute
    text = json.dumps({table.source_name: rule}, separators=(",", ":"))
    if len(text.encode()) > _LARGEST_SCHEMA_BYTES:
        raise ConfigError(
            f"the schema has {len(text.encode())} bytes, and a function's environment holds "
            f"{_LARGEST_SCHEMA_BYTES} of it",
            table=table.name,
            hint="leave descriptions and examples out",
        )
    return text


def _s3(uri: str, what: str) -> Location:
    if not uri.startswith("s3://"):
        raise ConfigError(f"{what}: {uri} is not on S3, so there is no bucket to deploy", hint="give an s3:// URI")
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return Location(_bucket(bucket, what), _folder(prefix))


def _bucket(name: str, what: str) -> str:
    """The name of a bucket, checked. https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name) or ".." in name:
        raise ConfigError(
            f"{what}: {name!r} is no name of a bucket",
            hint="3 to 63 lower-case letters, digits, hyphens and dots, with a letter or digit at both ends",
        )
    return name


def _folder(prefix: str) -> str:
    return f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
