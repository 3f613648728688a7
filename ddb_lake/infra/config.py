"""The configuration of a deployment, beside that of its lake: accounts, sizes, and existing resources to use.

Table names, keys, buckets, prefixes, roles and the catalog's database are those of the lake's own file (`lake`), the one
that the Dagster component and the command line read. They are not repeated here.
"""

from __future__ import annotations

import os
import re
from datetime import date
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ddb_lake.config import Settings, fill_in
from ddb_lake.config.faults import Lines, faults_text
from ddb_lake.core.operations.policies import partition_of
from ddb_lake.errors import ConfigError

StackName = Literal[
    "same-account",
    "producer",
    "consumer",
    "streams-to-aurora",
    "replicate-source",
    "replicate-target",
    "catalog",
    "replica",
    "orchestration",
    "follow",
]
"""The stacks there are."""

STACK_NAMES: Final[tuple[StackName, ...]] = get_args(StackName)
"""Their names, in the order of the app."""

Whose = Literal["producer", "consumer"]
"""The account of a stack: that of the source tables, or that of the lake."""

Handler = Literal["transform", "validate", "forward", "replicate", "load_aurora"]
"""The functions there are, by their handlers in `ddb_lake.lambdas`."""

_ACCOUNT = r"^[0-9]{12}$"
_KEY = re.compile(r"arn:([a-z-]+):kms:([a-z0-9-]+):([0-9]{12}):key/[A-Za-z0-9-]+", re.ASCII).fullmatch
_SUBNET_ADDRESSES = 256
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII).fullmatch


class FeedSettings(Settings):
    """How one table's changes reach the lake. The lake's configuration describes the table itself."""

    key_types: dict[str, Literal["S", "N", "B"]] = Field(
        default_factory=dict, description="Types of the key attributes; default: S."
    )
    adopt: bool = Field(False, description="The table exists already and is left as it is.")
    stream_arn: str | None = Field(
        None,
        pattern=r"^arn:[a-z-]+:dynamodb:[a-z0-9-]+:[0-9]{12}:table/[A-Za-z0-9_.-]+/stream/[0-9T:.-]+$",
        description="ARN of an adopted table's DynamoDB stream of new and old images; needed for `streams-to-aurora` and"
        " `replicate-target`, which read it.",
    )
    shards: int = Field(10, ge=0, le=1000, description="Shards of the Kinesis stream; 0: on demand.")
    retention_hours: int = Field(168, ge=24, le=8760, description="How long the Kinesis stream keeps records.")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Aurora's columns in their order, with the JSON Pointer of each; default: the key.",
    )
    json_schema: Path | None = Field(None, description="Draft-07 JSON Schema that the table's records have to meet.")
    schema_attribute: str | None = Field(None, description="The attribute whose JSON text the schema describes.")


class DeliverySettings(Settings):
    """Amazon Data Firehose's buffers and the transformation's mode."""

    buffer_seconds: int = Field(120, ge=0, le=900, description="Firehose delivers at the latest after so long.")
    buffer_mebibytes: int = Field(1, ge=1, le=128, description="Firehose delivers once it holds so much.")
    mode: Literal["envelope", "flatten", "nested"] = Field(
        "envelope", description="What the transform function writes."
    )


class EnrichmentSettings(Settings):
    """A user's functions that change items on their way, and their code."""

    transform: str | None = Field(None, description="`package.module:function` for the transform function.")
    replicate: str | None = Field(None, description="`package.module:function` for the replicate function.")
    code: Path | None = Field(
        None, description="Python file or folder to package beside the handlers; relative to this file."
    )

    @model_validator(mode="after")
    def _named_and_packaged(self) -> EnrichmentSettings:
        for name in (self.transform, self.replicate):
            if name is not None and not _FUNCTION(name):
                raise ValueError(f"{name!r}: expected package.module:function")
        if (self.transform or self.replicate) and self.code is None:
            raise ValueError("`code` is needed: the file or folder that has the module")
        return self


class AdoptSettings(Settings):
    """Existing resources. The stacks use them, and never change or remove them."""

    vpc_id: str | None = Field(None, description="VPC to use in place of a new one, with its endpoints.")
    private_subnet_ids: tuple[str, ...] = Field((), description="The VPC's private subnets, one a zone.")
    availability_zones: tuple[str, ...] = Field((), description="The zones of these subnets, in their order.")
    buckets: tuple[str, ...] = Field((), description="Buckets of the lake's configuration that exist already.")
    key_arn: str | None = Field(
        None,
        description="KMS key to use in place of a new one, in the stacks of its account. Stacks of the other make theirs.",
    )
    key_account_arn: str | None = Field(
        None, description="ARN of the consumer account's key, where the producer's policy shall name it."
    )
    hash_kms_arn: str | None = Field(
        None, description="KMS key of the secret or parameter of the lake's `hash_key`, if it is a customer's."
    )


class NetworkSettings(Settings):
    """The VPC, which has no route to the internet."""

    cidr: str = Field("10.80.0.0/20", description="Addresses of the VPC.")
    zones: int = Field(2, ge=2, le=3, description="In how many availability zones it is.")
    endpoints: tuple[str, ...] | None = Field(
        None, description="Interface endpoints, about 0.01 USD per zone and hour each; default: what the stack needs."
    )

    @model_validator(mode="after")
    def _roomy(self) -> NetworkSettings:
        try:
            found = ip_network(self.cidr)
        except ValueError as error:
            raise ValueError(f"`cidr` is no range of addresses: {error}") from error
        if not 16 <= found.prefixlen <= 24 or found.num_addresses < self.zones * _SUBNET_ADDRESSES:
            raise ValueError(f"`cidr` {self.cidr}: a VPC has at most a /16, and {self.zones} zones need a /24 each")
        return self


class AuroraSettings(Settings):
    """The Aurora MySQL cluster of `streams_to_aurora`."""

    database: str = Field("ddb_lake", pattern=r"[A-Za-z_][A-Za-z0-9_]{0,63}", description="The database that is made.")
    user: str = Field("ddb_lake_loader", description="Database user of the loader, authenticated by IAM.")
    certificates: Path | None = Field(
        None,
        description="AWS's bundle of RDS certificates (global-bundle.pem), packaged with the load function; needed for"
        " `streams-to-aurora`.",
    )
    port: int = Field(13306, ge=1150, le=65535, description="The cluster's port.")
    min_capacity: float = Field(0.5, ge=0.5, description="Capacity units that each instance has at least.")
    max_capacity: float = Field(4, ge=1, description="Capacity units that each instance has at most.")


class AlarmSettings(Settings):
    """Thresholds of the alarms. Add the topic's subscribers after deployment."""

    freshness_minutes: int = Field(15, ge=1, description="Age of the oldest record Firehose has not delivered.")
    behind_minutes: int = Field(15, ge=1, description="How far a reader of a stream may be behind.")


class CatalogStackSettings(Settings):
    """Options of the `catalog` stack."""

    landing_since: date = Field(
        date(2024, 1, 1), description="First day (UTC) of the Athena tables over what Firehose delivered."
    )
    scan_cutoff_gibibytes: int = Field(100, ge=1, description="Athena ends a query that scans more.")
    lake_formation: bool = Field(False, description="Register the buckets with Lake Formation.")


class OrchestrationSettings(Settings):
    """Options of the `orchestration` stack."""

    task_principal: str = Field("ecs-tasks.amazonaws.com", description="The service that runs Dagster's code.")
    emr: bool = Field(True, description="An EMR Serverless application for tables beyond one machine.")
    emr_release: str = Field(
        "emr-7.11.0", description="Release of EMR Serverless. 7.11.0 has Spark 3.5.6, which is tested."
    )
    emr_max_vcpu: int = Field(64, ge=4, description="What the Spark application may take at most.")


class FollowSettings(Settings):
    """The Fargate service of the `follow` stack, which runs `ddb-lake follow`."""

    repository: str = Field(
        "ddb-lake",
        pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$",
        description="ECR repository in the lake's account and Region that has the image.",
    )
    architecture: Literal["ARM64", "X86_64"] = Field("ARM64", description="Processor that the image is built for.")
    cpu_units: Literal[512, 1024, 2048, 4096] = Field(1024, description="Processor time; 1024 units are one vCPU.")
    memory_mebibytes: int = Field(
        2048, ge=1024, le=30720, description="Memory of the task; the lake's `memory` needs about 1 GiB less."
    )
    lag_seconds: int = Field(60, ge=1, description="The lag of a table above which an alarm fires after five minutes.")
    stuck_minutes: int = Field(
        60,
        ge=10,
        description="The task is replaced if no turn or other work ended for so long. Loading a large export is one piece of work:"
        " run `ddb-lake load` for it elsewhere.",
    )

    @model_validator(mode="after")
    def _fits_fargate(self) -> FollowSettings:
        smallest, largest = {512: (1, 4), 1024: (2, 8), 2048: (4, 16), 4096: (8, 30)}[self.cpu_units]
        gibibytes, odd = divmod(self.memory_mebibytes, 1024)
        if odd or not smallest <= gibibytes <= largest:
            raise ValueError(
                f"`memory_mebibytes`: Fargate takes {smallest} to {largest} GiB in steps of 1024 with {self.cpu_units} units"
            )
        return self


class FunctionSettings(Settings):
    """The Lambda functions."""

    reserved_concurrency: dict[Handler, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Concurrent executions to reserve, by handler, as in `{transform: 20}`; default: none. Lambda keeps 100 of"
        " an account's concurrency unreserved, which can be all that a new account has.",
    )


class InfraSettings(Settings):
    """A deployment of one lake."""

    lake: Path = Field(description="The lake's configuration; relative to this file.")
    name: str = Field(
        "ddb-lake",
        pattern=r"^[a-z](-?[a-z0-9])+$",
        max_length=21,
        description="First part of every name given: lower-case letters, digits and single hyphens.",
    )
    region: str = Field("eu-west-1", description="AWS Region of everything.")
    producer_account: str = Field(pattern=_ACCOUNT, description="Account of the source tables.")
    consumer_account: str = Field(pattern=_ACCOUNT, description="Account of the lake; the same in `same_account`.")
    stacks: tuple[StackName, ...] | None = Field(
        None,
        min_length=1,
        description="Stacks to synthesise; default: all. `replica` is among them if `replica_region` is set.",
    )
    explicit_environment: bool = Field(
        False, description="Bind the stacks to account and Region at synthesis. In Regions of China they always are."
    )
    replica_region: str | None = Field(
        None,
        description="Another Region to replicate the landing bucket into, with every object that it gets from then on; the"
        " bucket is in `consumer_account`.",
    )
    tables: dict[str, FeedSettings] = Field(default_factory=dict, description="By the lake table's name.")
    delivery: DeliverySettings = Field(default_factory=lambda: DeliverySettings())
    enrich: EnrichmentSettings = Field(default_factory=lambda: EnrichmentSettings())
    adopt: AdoptSettings = Field(default_factory=lambda: AdoptSettings())
    network: NetworkSettings = Field(default_factory=lambda: NetworkSettings())
    functions: FunctionSettings = Field(default_factory=lambda: FunctionSettings())
    aurora: AuroraSettings = Field(default_factory=lambda: AuroraSettings())
    alarms: AlarmSettings = Field(default_factory=lambda: AlarmSettings())
    catalog: CatalogStackSettings = Field(default_factory=lambda: CatalogStackSettings())
    orchestration: OrchestrationSettings = Field(default_factory=lambda: OrchestrationSettings())
    follow: FollowSettings = Field(default_factory=lambda: FollowSettings())

    @property
    def stack_names(self) -> tuple[str, ...]:
        """The stacks to synthesise, in the order of `STACK_NAMES`."""
        chosen = STACK_NAMES if self.stacks is None else self.stacks
        return tuple(name for name in STACK_NAMES if name in chosen and (name != "replica" or self.replica_region))

    @property
    def is_bound(self) -> bool:
        """Whether the stacks are bound to account and Region: in China, CDK needs the Region to name interface endpoints."""
        return self.explicit_environment or self.region.startswith("cn-")

    def adopted_key(self, whose: Whose) -> str | None:
        """The key that the stacks of an account use in place of their own: the adopted one, if it is in that account."""
        key = self.adopt.key_arn and _KEY(self.adopt.key_arn)
        account = self.producer_account if whose == "producer" else self.consumer_account
        return self.adopt.key_arn if key and key[3] == account else None

    @model_validator(mode="after")
    def _within_reach(self) -> InfraSettings:
        partition = partition_of(self.region)
        if self.replica_region is None and "replica" in (self.stacks or ()):
            raise ValueError("`stacks` names `replica`, which needs `replica_region`")
        if self.replica_region == self.region:
            raise ValueError(f"`replica_region` is {self.region}, which is the Region of everything else; name another")
        if self.replica_region and partition_of(self.replica_region) != partition:
            raise ValueError(
                f"S3 does not replicate from {self.region} to {self.replica_region}: name one of {partition}"
            )
        if self.adopt.key_arn:
            key = _KEY(self.adopt.key_arn)
            if key is None or (key[1], key[2]) != (partition, self.region):
                raise ValueError(f"`adopt.key_arn` is not the ARN of a key in {self.region}: {self.adopt.key_arn}")
            if key[3] not in (self.producer_account, self.consumer_account):
                raise ValueError(f"`adopt.key_arn` is a key of account {key[3]}, which has none of the stacks")
        return self

    @field_validator("adopt")
    @classmethod
    def _whole_vpc(cls, adopt: AdoptSettings) -> AdoptSettings:
        if adopt.vpc_id and not (adopt.private_subnet_ids and adopt.availability_zones):
            raise ValueError("an adopted VPC needs `private_subnet_ids` and `availability_zones` as well")
        if len(adopt.private_subnet_ids) != len(set(adopt.availability_zones)):
            raise ValueError(
                "`private_subnet_ids` and `availability_zones` need one subnet for each zone, in the same order"
            )
        return adopt


def load_infra(path: Path) -> InfraSettings:
    """Read and check a deployment's file; `lake` becomes a path that can be opened. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        found = InfraSettings.model_validate(fill_in(document, os.environ, str(path)))
    except OSError as error:
        raise ConfigError(f"{error.strerror}", uri=str(path)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", uri=str(path)) from error
    except ValidationError as error:
        faults = faults_text(error, InfraSettings, "deployment", Lines.of(text))
        raise ConfigError(faults, uri=str(path)) from error
    return _beside(found, path.parent)


def _beside(found: InfraSettings, folder: Path) -> InfraSettings:
    """Resolve file names relative to the deployment's file."""
    tables = {
        name: feed.model_copy(update={"json_schema": feed.json_schema and folder / feed.json_schema})
        for name, feed in found.tables.items()
    }
    bundle = found.aurora.certificates
    aurora = found.aurora.model_copy(update={"certificates": bundle and folder / bundle})
    enrich = found.enrich.model_copy(update={"code": found.enrich.code and folder / found.enrich.code})
    changed = {"lake": folder / found.lake, "tables": tables, "aurora": aurora, "enrich": enrich}
    return found.model_copy(update=changed)
