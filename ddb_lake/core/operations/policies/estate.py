"""What policies speak of: statements, places, sources, and all that a lake touches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

DNS_SUFFIXES: Final[Mapping[str, str]] = {
    "aws": "amazonaws.com",
    "aws-us-gov": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
}
"""The last part of an endpoint's name, by partition.

https://docs.aws.amazon.com/general/latest/gr/rande.html, https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-arns.html
"""


def partition_of(region: str) -> str:
    """The partition of a Region. Regions of China and of GovCloud begin with its name."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


@dataclass(frozen=True, slots=True)
class Statement:
    """One Allow statement. `conditions`: operator, then key, then value, as IAM writes them."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The statement as JSON has it."""
        found: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": list(self.resources),
        }
        return {**found, "Condition": {k: dict(v) for k, v in self.conditions.items()}} if self.conditions else found


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and the prefix in it: empty, with a final slash, or one that keys continue as it stands.

    `kms_key_arn`: None where S3's own key is used.
    """

    bucket_arn: str
    prefix: str = ""
    kms_key_arn: str | None = None

    @property
    def objects(self) -> str:
        """The ARN pattern of the objects below it."""
        return f"{self.bucket_arn}/{self.prefix}*"


@dataclass(frozen=True, slots=True)
class Source:
    """A source table. `role_arn`: the role through which it is reached, None where it is reached directly.

    `export`: the destination of its exports, which are written with the permissions of the caller. `streams`: its
    stream is read directly, and the records land at `stream_landing`; None: anywhere in the landing. `kinesis_arn`: that of
    the stream, if it is one of Kinesis. `fan_out`: the name of its consumer, if `follow` reads it by enhanced fan-out.
    """

    table_arn: str
    role_arn: str | None = None
    kms_key_arn: str | None = None
    export: Place | None = None
    streams: bool = False
    stream_landing: Place | None = None
    kinesis_arn: str | None = None
    fan_out: str | None = None

    @property
    def consumer_arn(self) -> str | None:
        """The ARN pattern of the consumer. Its ARN ends with the time of its registration."""
        return f"{self.kinesis_arn}/consumer/{self.fan_out}:*" if self.kinesis_arn and self.fan_out else None


@dataclass(frozen=True, slots=True)
class Searched:
    """The tables that an entry with `match` may be for: a pattern of their ARNs, and the role through which they are reached."""

    table_arns: str
    role_arn: str | None = None


@dataclass(frozen=True, slots=True)
class HashKey:
    """The secret or parameter that has the key of hashed attributes.

    `arns`: patterns of its ARN. `service`: `secretsmanager` or `ssm`. `kms_key_arn`: None where the service's own key is used.
    """

    arns: tuple[str, ...]
    service: str
    kms_key_arn: str | None = None

    @property
    def action(self) -> str:
        """The action that reads it."""
        return f"{self.service}:{'GetSecretValue' if self.service == 'secretsmanager' else 'GetParameter'}"


def secret_key(name: str, prefix: str, kms_key_arn: str | None = None) -> HashKey:
    """A secret, by its name or ARN. `prefix`: of names' ARNs, to the Region and account, as in `arn:aws:secretsmanager:R:A`.

    Secrets Manager adds a hyphen and six characters to the name in the ARN. Whether an ARN has them cannot be seen, so an ARN
    allows both. https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen
    """
    arns = (name, f"{name}-??????") if name.startswith("arn:") else (f"{prefix}:secret:{name}-??????",)
    return HashKey(arns, "secretsmanager", kms_key_arn)


def parameter_key(name: str, prefix: str, kms_key_arn: str | None = None) -> HashKey:
    """A parameter, by its name or ARN. `prefix`: of names' ARNs, to the Region and account, as in `arn:aws:ssm:R:A`."""
    arn = name if name.startswith("arn:") else f"{prefix}:parameter/{name.removeprefix('/')}"
    return HashKey((arn,), "ssm", kms_key_arn)


def database_user_arn(partition: str, where: str, user: str) -> str:
    """A database user with IAM authentication, in any cluster. `where`: the Region and account, as in an ARN.

    https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
    """
    return f"arn:{partition}:rds-db:{where}:dbuser:*/{user}"


@dataclass(frozen=True, slots=True)
class Database:
    """What logs into a database that `aurora` replicates into: a secret, or a user with IAM authentication (`database_user_arn`).

    `kms_key_arn`: that of the secret; None where Secrets Manager's own key is used.
    """

    secret_arn: str | None = None
    user_arn: str | None = None
    kms_key_arn: str | None = None


@dataclass(frozen=True, slots=True)
class Estate:
    """All that a lake touches, as ARNs.

    `glue`: the ARN of the catalog, then the database, then its tables; empty for a catalog outside Glue. `dns_suffix`: the
    last part of an endpoint's name, `DNS_SUFFIXES` of the partition. `hash_key`: None if the key of hashes is not in AWS.
    """

    region: str
    sources: tuple[Source, ...] = ()
    landing: tuple[Place, ...] = ()
    warehouse: Place | None = None
    glue: tuple[str, ...] = ()
    queue_arns: tuple[str, ...] = ()
    queue_key_arn: str | None = None
    restored_table_arns: tuple[str, ...] = ()
    dns_suffix: str = DNS_SUFFIXES["aws"]
    own_landing: Place | None = None
    hash_key: HashKey | None = None
    databases: tuple[Database, ...] = ()
    searched: tuple[Searched, ...] = ()

    @property
    def domain(self) -> str:
        """What follows a service's name in its endpoint, as in `eu-west-1.amazonaws.com`."""
        return f"{self.region}.{self.dns_suffix}"

    @property
    def exports(self) -> tuple[Place, ...]:
        """Where the exports of all tables go."""
        return tuple(dict.fromkeys(source.export for source in self.sources if source.export))
