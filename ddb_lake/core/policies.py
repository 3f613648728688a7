"""Least-privilege IAM policies, one a role: what the code calls, and nothing else.

Belongs here: which actions each role needs on which resources, as documents; `ddb-lake iam` prints them and the CDK
stacks attach them. Promises: a policy allows exactly the calls that the code makes (a test records them), and `*` stands
alone as a resource only where AWS knows no other (`UNSCOPED_ACTIONS`). ARNs may be CDK tokens: they are put together
here and never taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ddb_lake.errors import UsageError

UNSCOPED_ACTIONS: Mapping[str, str] = {
    "cloudwatch:GetMetricStatistics": "CloudWatch has no resource-level permissions for reading metrics",
    "cloudwatch:ListMetrics": "CloudWatch has no resource-level permissions for reading metrics",
    "dynamodb:ListStreams": "AWS grants the listing of streams on no single one",
}
"""Actions that AWS grants on `*` only, with the reason."""


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
    """A bucket and the prefix in it (empty, or with a final slash). `kms_key_arn`: None where S3's own key is used."""

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

    `export`: where its exports go; they are written with the permissions of whoever starts them. `streams`: its
    DynamoDB Streams are read directly, and what is read lands at `stream_landing`; None: anywhere in the landing.
    """

    table_arn: str
    role_arn: str | None = None
    kms_key_arn: str | None = None
    export: Place | None = None
    streams: bool = False
    stream_landing: Place | None = None


@dataclass(frozen=True, slots=True)
class Estate:
    """All that a lake touches, as ARNs.

    `glue`: the ARN of the catalog, then the database, then its tables; empty for a catalog outside Glue.
    """

    region: str
    sources: tuple[Source, ...] = ()
    landing: tuple[Place, ...] = ()
    warehouse: Place | None = None
    glue: tuple[str, ...] = ()
    queue_arns: tuple[str, ...] = ()
    queue_key_arn: str | None = None
    restored_table_arns: tuple[str, ...] = ()

    @property
    def exports(self) -> tuple[Place, ...]:
        """Where the exports of all tables go."""
        return tuple(dict.fromkeys(source.export for source in self.sources if source.export))


def key_use(sid: str, wanted: tuple[str, ...], key_arn: str, service: str, region: str) -> Statement:
    """What a service may do with a key in the caller's name, and the caller without the service may not."""
    return Statement(sid, wanted, (key_arn,), _via(service, region))


def role_names() -> tuple[str, ...]:
    """The roles there are policies for."""
    return tuple(_ROLES)


def describe(role: str) -> str:
    """What the role does, in one line. Raises UsageError for an unknown role."""
    return (_builder(role).__doc__ or "").splitlines()[0]


def statements(role: str, estate: Estate) -> tuple[Statement, ...]:
    """The statements of a role's policy, those without a resource left out. Raises UsageError for an unknown role."""
    return tuple(s for s in _builder(role)(estate) if s.resources)


def document(found: Iterable[Statement]) -> dict[str, Any]:
    """A policy document of statements."""
    return {"Version": "2012-10-17", "Statement": [statement.document() for statement in found]}


def actions(found: Iterable[Statement]) -> frozenset[str]:
    """Every action that the statements allow."""
    return frozenset(action for statement in found for action in statement.actions)


def _builder(role: str) -> Callable[[Estate], list[Statement]]:
    if role not in _ROLES:
        raise UsageError(f"no role {role!r}; the roles are {', '.join(_ROLES)}")
    return _ROLES[role]


def _exporter(estate: Estate) -> list[Statement]:
    """Starts point-in-time exports of the source tables and follows them."""
    tables = _tables(estate)
    written = tuple(s.export for s in estate.sources if s.export and s.role_arn is None)
    return [
        Statement("DescribeTable", ("dynamodb:DescribeTable", "dynamodb:DescribeContinuousBackups"), tables),
        Statement("StartExport", ("dynamodb:ExportTableToPointInTime", "dynamodb:ListExports"), tables),
        Statement("FollowExport", ("dynamodb:DescribeExport",), tuple(f"{arn}/export/*" for arn in tables)),
        # DynamoDB writes the export with the permissions of whoever started it.
        Statement(
            "WriteExport",
            ("s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"),
            _distinct(f"{place.bucket_arn}/{place.prefix}AWSDynamoDB/*" for place in written),
        ),
        *_kms("EncryptExport", ("kms:Decrypt", "kms:GenerateDataKey"), written, estate.region),
        *_decrypt_tables(estate),
    ]


def _applier(estate: Estate) -> list[Statement]:
    """Reads landed objects and exports, and writes the lake's tables."""
    landed = (*estate.landing, *estate.exports)
    warehouse = _places(estate.warehouse)
    return [
        *_listing("ListLanding", landed),
        Statement("ReadLanding", ("s3:GetObject",), _objects(landed)),
        *_kms("DecryptLanding", ("kms:Decrypt",), landed, estate.region),
        *_listing("ListWarehouse", warehouse),
        Statement(
            "WriteWarehouse",
            ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
            _objects(warehouse),
        ),
        *_kms("EncryptWarehouse", ("kms:Decrypt", "kms:GenerateDataKey"), warehouse, estate.region),
        Statement(
            "WriteCatalog",
            ("glue:GetDatabase", "glue:CreateDatabase", "glue:GetTable", "glue:CreateTable", "glue:UpdateTable"),
            estate.glue,
        ),
    ]


def _reader(estate: Estate) -> list[Statement]:
    """Reads the lake's tables and nothing else: dump, query, status."""
    warehouse = _places(estate.warehouse)
    return [
        Statement("ReadWarehouse", ("s3:GetObject",), _objects(warehouse)),
        *_kms("DecryptWarehouse", ("kms:Decrypt",), warehouse, estate.region),
        Statement("ReadCatalog", ("glue:GetTable",), estate.glue),
    ]


def _stream_reader(estate: Estate) -> list[Statement]:
    """Reads the tables' DynamoDB Streams and lands what it reads."""
    known = tuple(source.stream_landing for source in _streamed(estate) if source.stream_landing)
    landing = tuple(dict.fromkeys(known)) or estate.landing
    return [
        *_reading_streams(estate),
        Statement("Land", ("s3:GetObject", "s3:PutObject"), _objects(landing)),
        # Without it S3 answers 403 and not 404 for a checkpoint that is not there yet.
        *_listing("ListLanding", landing),
        *_kms("EncryptLanding", ("kms:Decrypt", "kms:GenerateDataKey"), landing, estate.region),
    ]


def _reading_streams(estate: Estate) -> list[Statement]:
    """What is called of the tables: theirs is the account that it is called in."""
    read = [source for source in _streamed(estate) if source.role_arn is None]
    tables = _distinct(source.table_arn for source in read)
    return [
        Statement("DescribeTable", ("dynamodb:DescribeTable",), tables),
        Statement(
            "ReadStream",
            ("dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"),
            tuple(f"{arn}/stream/*" for arn in tables),
        ),
        Statement("FindStreams", ("dynamodb:ListStreams",), ("*",) if tables else ()),
        *_decrypt(read, estate.region),
    ]


def _verifier(estate: Estate) -> list[Statement]:
    """Reads the source to compare it with the lake, which `reader` reads."""
    tables = _tables(estate)
    return [
        Statement("ReadItems", ("dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:BatchGetItem"), tables),
        *_decrypt_tables(estate),
    ]


def _repairer(estate: Estate) -> list[Statement]:
    """Reads single items of the source to mend what verification found; `applier` writes them."""
    return [
        Statement("ReadItems", ("dynamodb:DescribeTable", "dynamodb:BatchGetItem"), _tables(estate)),
        *_decrypt_tables(estate),
    ]


def _restorer(estate: Estate) -> list[Statement]:
    """Writes the items of an earlier time into a new DynamoDB table."""
    warehouse = _places(estate.warehouse)
    return [
        *_reader(estate),
        Statement("KeepMark", ("s3:PutObject",), tuple(f"{p.bucket_arn}/{p.prefix}restores/*" for p in warehouse)),
        *_kms("EncryptMark", ("kms:GenerateDataKey",), warehouse, estate.region),
        *_listing("FindMark", warehouse),
        Statement(
            "WriteNewTable",
            (
                "dynamodb:CreateTable",
                "dynamodb:DescribeTable",
                "dynamodb:Scan",
                "dynamodb:BatchWriteItem",
            ),
            estate.restored_table_arns,
        ),
    ]


def _notified(estate: Estate) -> list[Statement]:
    """Receives the notifications of landed objects."""
    key = (estate.queue_key_arn,) if estate.queue_key_arn else ()
    return [
        Statement("ReceiveArrivals", ("sqs:ReceiveMessage", "sqs:DeleteMessage"), estate.queue_arns),
        Statement("DecryptArrivals", ("kms:Decrypt",), key, _via("sqs", estate.region)),
    ]


def _doctor(estate: Estate) -> list[Statement]:
    """Looks at the sources' settings, changes nothing; `reader` and `liveness` read the lake and the metrics for it."""
    written = (*estate.exports, *_places(estate.warehouse))
    ours = {(p.bucket_arn, p.prefix) for s in estate.sources if (p := s.stream_landing) is not None}
    delivered = [place for place in estate.landing if (place.bucket_arn, place.prefix) not in ours]
    return [
        *_describing(estate),
        *_listing("ListLanding", delivered),
        # Asking whether a bucket is there names no prefix, and a condition on the prefix would refuse it.
        Statement(
            "FindBuckets",
            ("s3:ListBucket",),
            _distinct(place.bucket_arn for place in written),
            {"Null": {"s3:prefix": "true"}},
        ),
        Statement("DescribeQueue", ("sqs:GetQueueAttributes",), estate.queue_arns),
    ]


def _describing(estate: Estate) -> list[Statement]:
    """What the doctor asks of the tables, and of what their account may use."""
    tables, streamed = _tables(estate), [source for source in estate.sources if source.streams and not source.role_arn]
    keys = _distinct(s.export.kms_key_arn for s in estate.sources if s.export and s.role_arn is None)
    return [
        Statement(
            "DescribeSource",
            (
                "dynamodb:DescribeTable",
                "dynamodb:DescribeContinuousBackups",
                "dynamodb:DescribeKinesisStreamingDestination",
                "dynamodb:ListExports",
            ),
            tables,
        ),
        Statement("DescribeExport", ("dynamodb:DescribeExport",), tuple(f"{arn}/export/*" for arn in tables)),
        Statement("DescribeStream", ("dynamodb:DescribeStream",), tuple(f"{s.table_arn}/stream/*" for s in streamed)),
        Statement("FindStreams", ("dynamodb:ListStreams",), ("*",) if streamed else ()),
        Statement("DescribeKey", ("kms:DescribeKey",), keys),
    ]


def _liveness(estate: Estate) -> list[Statement]:
    """Reads the metrics that tell a living stream from a dead one."""
    return [
        Statement("ReadMetrics", ("cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics"), ("*",)),
        Statement(
            "DescribeDestination",
            ("dynamodb:DescribeTable", "dynamodb:DescribeKinesisStreamingDestination"),
            _tables(estate),
        ),
    ]


def _canary(estate: Estate) -> list[Statement]:
    """Writes one item to each source table now and then, for `checks.canary`; nothing else writes to a source.

    To attach to whoever reaches the table: the task's role, or the source's.
    """
    tables = _distinct(source.table_arn for source in estate.sources)
    return [
        Statement("WriteCanary", ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"), tables),
        *_decrypt(estate.sources, estate.region),
    ]


def _source(estate: Estate) -> list[Statement]:
    """Is assumed by the lake's account: exports, describes and reads this account's tables."""
    behind = [source for source in estate.sources if source.role_arn] or estate.sources
    inside = replace(estate, sources=tuple(replace(source, role_arn=None) for source in behind))
    streams = _reading_streams(inside) if any(source.streams for source in inside.sources) else ()
    reading = (*_verifier(inside), *_repairer(inside), *streams)
    return _merged((*_exporter(inside), *reading, *_describing(inside), *_liveness(inside)))


def _dagster_task(estate: Estate) -> list[Statement]:
    """Runs Dagster's code: exports, applies, verifies, repairs and watches."""
    streams = ("stream-reader",) if any(source.streams for source in estate.sources) else ()
    found = [s for role in (*_OF_THE_TASK, *streams) for s in _ROLES[role](estate)]
    assumed = _distinct(s.role_arn for s in estate.sources if s.role_arn)
    return [*_merged(found), Statement("ReachSources", ("sts:AssumeRole",), assumed)]


_ROLES: dict[str, Callable[[Estate], list[Statement]]] = {
    "dagster-task": _dagster_task,
    "source": _source,
    "exporter": _exporter,
    "applier": _applier,
    "reader": _reader,
    "stream-reader": _stream_reader,
    "verifier": _verifier,
    "repairer": _repairer,
    "restorer": _restorer,
    "notified": _notified,
    "doctor": _doctor,
    "liveness": _liveness,
    "canary": _canary,
}
_OF_THE_TASK = ("exporter", "applier", "verifier", "repairer", "notified", "doctor", "liveness")


def _tables(estate: Estate) -> tuple[str, ...]:
    """The tables reached directly: those behind a role are in that role's policy."""
    return _distinct(source.table_arn for source in estate.sources if source.role_arn is None)


def _streamed(estate: Estate) -> list[Source]:
    """The tables whose streams are read; all of them where none is said to be, for who asks for the policy before."""
    return [source for source in estate.sources if source.streams] or list(estate.sources)


def _places(place: Place | None) -> tuple[Place, ...]:
    return () if place is None else (place,)


def _objects(places: Iterable[Place]) -> tuple[str, ...]:
    return _distinct(place.objects for place in places)


def _listing(sid: str, places: Iterable[Place]) -> list[Statement]:
    """Listing below the places' prefixes: one statement a bucket, as the condition belongs to it."""
    by_bucket: dict[str, list[str]] = {}
    for place in places:
        named = [place.prefix.rstrip("/")] if place.prefix else []  # whether it is an object is asked first
        by_bucket.setdefault(place.bucket_arn, []).extend([*named, f"{place.prefix}*"])
    return [
        Statement(
            sid if number == 0 else f"{sid}{number + 1}",
            ("s3:ListBucket",),
            (bucket,),
            {"StringLike": {"s3:prefix": list(dict.fromkeys(prefixes))}},
        )
        for number, (bucket, prefixes) in enumerate(by_bucket.items())
    ]


def _kms(sid: str, wanted: tuple[str, ...], places: Iterable[Place], region: str) -> list[Statement]:
    keys = _distinct(place.kms_key_arn for place in places if place.kms_key_arn)
    return [Statement(sid, wanted, keys, _via("s3", region))] if keys else []


def _decrypt_tables(estate: Estate) -> list[Statement]:
    return _decrypt([source for source in estate.sources if source.role_arn is None], estate.region)


def _decrypt(sources: Iterable[Source], region: str) -> list[Statement]:
    """DynamoDB decrypts a table under a customer's key with the permissions of whoever reads it."""
    keys = _distinct(source.kms_key_arn for source in sources)
    return [Statement("DecryptTable", ("kms:Decrypt",), keys, _via("dynamodb", region))] if keys else []


def _via(service: str, region: str) -> dict[str, dict[str, str]]:
    return {"StringEquals": {"kms:ViaService": f"{service}.{region}.amazonaws.com"}}


def _merged(found: Iterable[Statement]) -> list[Statement]:
    """Statements on equal resources under equal conditions become one; the first one's name stays."""
    groups: dict[tuple[Any, ...], Statement] = {}
    taken: set[str] = set()
    for statement in found:
        known = groups.get((statement.resources, repr(statement.conditions)))
        sid = statement.sid if known is None else known.sid
        while known is None and sid in taken:
            sid += "Too"
        taken.add(sid)
        together = _distinct((*(known.actions if known else ()), *statement.actions))
        groups[statement.resources, repr(statement.conditions)] = Statement(
            sid, together, statement.resources, statement.conditions
        )
    return list(groups.values())


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
