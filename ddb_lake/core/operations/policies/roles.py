"""The roles, and what each of them may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ddb_lake.core.operations.policies.estate import Estate, Source, Statement
from ddb_lake.core.operations.policies.parts import (
    as_places,
    decrypt,
    decrypt_tables,
    direct_tables,
    distinct,
    hash_key,
    key_in_s3,
    lake_places,
    listing,
    merged,
    objects,
    streamed_sources,
    via,
)
from ddb_lake.errors import UsageError


def role_names() -> tuple[str, ...]:
    """The roles there are policies for."""
    return tuple(_ROLES)


def describe(role: str) -> str:
    """What the role does, in one line. Raises UsageError for an unknown role."""
    return (_builder(role).__doc__ or "").splitlines()[0]


def statements(role: str, estate: Estate) -> tuple[Statement, ...]:
    """The statements of a role's policy, those without a resource left out. Raises UsageError for an unknown role."""
    return tuple(s for s in _builder(role)(estate) if s.resources)


def _builder(role: str) -> Callable[[Estate], list[Statement]]:
    if role not in _ROLES:
        raise UsageError(f"no role {role!r}; the roles are {', '.join(_ROLES)}")
    return _ROLES[role]


def _exporter(estate: Estate) -> list[Statement]:
    """Starts point-in-time exports of the source tables and follows them."""
    tables = direct_tables(estate)
    written = tuple(s.export for s in estate.sources if s.export and s.role_arn is None)
    return [
        Statement("DescribeTable", ("dynamodb:DescribeTable", "dynamodb:DescribeContinuousBackups"), tables),
        Statement("StartExport", ("dynamodb:ExportTableToPointInTime", "dynamodb:ListExports"), tables),
        Statement("FollowExport", ("dynamodb:DescribeExport",), tuple(f"{arn}/export/*" for arn in tables)),
        # DynamoDB writes the export with the permissions of the caller that started it.
        Statement(
            "WriteExport",
            ("s3:PutObject", "s3:PutObjectAcl", "s3:AbortMultipartUpload"),
            distinct(f"{place.bucket_arn}/{place.prefix}AWSDynamoDB/*" for place in written),
        ),
        *key_in_s3("EncryptExport", ("kms:Decrypt", "kms:GenerateDataKey"), written, estate.domain),
        *decrypt_tables(estate),
    ]


def _applier(estate: Estate) -> list[Statement]:
    """Reads landed objects and exports, and writes the lake's tables."""
    landed = (*estate.landing, *estate.exports)
    warehouse = lake_places(estate)
    return [
        *listing("ListLanding", landed),
        Statement("ReadLanding", ("s3:GetObject",), objects(landed)),
        *key_in_s3("DecryptLanding", ("kms:Decrypt",), landed, estate.domain),
        *listing("ListWarehouse", warehouse),
        Statement(
            "WriteWarehouse",
            ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"),
            objects(warehouse),
        ),
        *key_in_s3("EncryptWarehouse", ("kms:Decrypt", "kms:GenerateDataKey"), warehouse, estate.domain),
        Statement(
            "WriteCatalog",
            (
                "glue:GetDatabase",
                "glue:CreateDatabase",
                "glue:GetTable",
                "glue:GetTables",
                "glue:CreateTable",
                "glue:UpdateTable",
            ),
            estate.glue,
        ),
        *hash_key(estate),
        # the login of the databases that `aurora` replicates into
        Statement(
            "ReadDatabaseLogin",
            ("secretsmanager:GetSecretValue",),
            distinct(one.secret_arn for one in estate.databases),
        ),
        Statement(
            "DecryptDatabaseLogin",
            ("kms:Decrypt",),
            distinct(one.kms_key_arn for one in estate.databases),
            via("secretsmanager", estate.domain),
        ),
        Statement("LogIntoDatabase", ("rds-db:connect",), distinct(one.user_arn for one in estate.databases)),
    ]


def _reader(estate: Estate) -> list[Statement]:
    """Reads the lake's tables and nothing else: dump, query, status."""
    warehouse = lake_places(estate)
    return [
        *listing(
            "ListWarehouse", warehouse
        ),  # status compares the files that the tables name with those that are there
        Statement("ReadWarehouse", ("s3:GetObject",), objects(warehouse)),
        *key_in_s3("DecryptWarehouse", ("kms:Decrypt",), warehouse, estate.domain),
        Statement("ReadCatalog", ("glue:GetTable",), estate.glue),
    ]


def _stream_reader(estate: Estate) -> list[Statement]:
    """Reads the tables' streams, of DynamoDB or Kinesis, and lands what it reads."""
    known = tuple(source.stream_landing for source in streamed_sources(estate) if source.stream_landing)
    landing = tuple(dict.fromkeys(known)) or estate.landing
    return [
        *_reading_streams(estate),
        Statement("Land", ("s3:GetObject", "s3:PutObject"), objects(landing)),
        # Without it S3 answers 403 and not 404 for a checkpoint that is not there yet.
        *listing("ListLanding", landing),
        *key_in_s3("EncryptLanding", ("kms:Decrypt", "kms:GenerateDataKey"), landing, estate.domain),
        *hash_key(estate),
    ]


def _reading_streams(estate: Estate) -> list[Statement]:
    """What is called of the tables: theirs is the account that it is called in."""
    reachable = [source for source in streamed_sources(estate) if source.role_arn is None]
    read = [source for source in reachable if source.kinesis_arn is None]
    tables = distinct(source.table_arn for source in read)
    return [
        *_reading_kinesis([source for source in reachable if source.kinesis_arn is not None]),
        Statement("DescribeTable", ("dynamodb:DescribeTable",), tables),
        Statement(
            "ReadStream",
            ("dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"),
            tuple(f"{arn}/stream/*" for arn in tables),
        ),
        Statement("FindStreams", ("dynamodb:ListStreams",), ("*",) if tables else ()),
        *decrypt(read, estate.domain),
    ]


def _reading_kinesis(sources: Sequence[Source]) -> list[Statement]:
    if not sources:
        return []
    return [
        Statement(
            "ReadKinesis",
            ("kinesis:DescribeStreamSummary", "kinesis:ListShards", "kinesis:GetShardIterator", "kinesis:GetRecords"),
            distinct(source.kinesis_arn for source in sources),
        ),
        Statement(
            "ObserveDestination",
            ("dynamodb:DescribeTable", "dynamodb:DescribeKinesisStreamingDestination"),
            distinct(source.table_arn for source in sources),
        ),
    ]


def _subscribing(sources: Sequence[Source]) -> list[Statement]:
    """What `follow` calls to read by enhanced fan-out.

    https://docs.aws.amazon.com/streams/latest/dev/kcl-iam-permissions.html
    """
    pushed = [source for source in sources if source.fan_out is not None and source.role_arn is None]
    streams, consumers = distinct(s.kinesis_arn for s in pushed), distinct(s.consumer_arn for s in pushed)
    return [
        Statement("RegisterConsumer", ("kinesis:RegisterStreamConsumer", "kinesis:DescribeStreamConsumer"), streams),
        Statement("Subscribe", ("kinesis:SubscribeToShard", "kinesis:DescribeStreamConsumer"), consumers),
    ]


def _verifier(estate: Estate) -> list[Statement]:
    """Reads the source to compare it with the lake, which `reader` reads."""
    tables = direct_tables(estate)
    return [
        Statement("ReadItems", ("dynamodb:DescribeTable", "dynamodb:Scan", "dynamodb:BatchGetItem"), tables),
        *decrypt_tables(estate),
        *hash_key(estate),
    ]


def _repairer(estate: Estate) -> list[Statement]:
    """Reads single items of the source to repair differing keys; `applier` writes them."""
    return [
        Statement("ReadItems", ("dynamodb:DescribeTable", "dynamodb:BatchGetItem"), direct_tables(estate)),
        *decrypt_tables(estate),
    ]


def _rebuilder(estate: Estate) -> list[Statement]:
    """Removes damaged entries and tables of former entities from Glue, for `rebuild` and `drop-entity`; `applier` does the rest."""
    return [Statement("ReplaceEntries", ("glue:DeleteTable",), estate.glue)]


def _restorer(estate: Estate) -> list[Statement]:
    """Writes the items of an earlier time into a new DynamoDB table."""
    marks = as_places(estate.own_landing or estate.warehouse)
    return [
        *_reader(estate),
        Statement("KeepMark", ("s3:PutObject",), tuple(f"{p.bucket_arn}/{p.prefix}restores/*" for p in marks)),
        *key_in_s3("EncryptMark", ("kms:GenerateDataKey",), marks, estate.domain),
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
        Statement("DecryptArrivals", ("kms:Decrypt",), key, via("sqs", estate.domain)),
    ]


def _doctor(estate: Estate) -> list[Statement]:
    """Looks at the sources' settings, opens an export and a landed object; `reader` and `liveness` read the lake and the metrics for it."""
    written = (*estate.exports, *as_places(estate.warehouse))
    ours = {(p.bucket_arn, p.prefix) for s in estate.sources if (p := s.stream_landing) is not None}
    delivered = (place for place in estate.landing if (place.bucket_arn, place.prefix) not in ours)
    landed = (*delivered, *estate.exports)
    return [
        *_describing(estate),
        *listing("ListLanding", landed),
        Statement("ReadLanding", ("s3:GetObject",), objects(landed)),
        *key_in_s3("DecryptLanding", ("kms:Decrypt",), landed, estate.domain),
        # Asking whether a bucket is there names no prefix, and a condition on the prefix would refuse it.
        Statement(
            "FindBuckets",
            ("s3:ListBucket",),
            distinct(place.bucket_arn for place in written),
            {"Null": {"s3:prefix": "true"}},
        ),
        *listing("ListWarehouse", as_places(estate.warehouse)),  # the files that the tables name are there
        Statement("ListCatalog", ("glue:GetDatabase", "glue:GetTables"), estate.glue),
        Statement("DescribeQueue", ("sqs:GetQueueAttributes",), estate.queue_arns),
        *hash_key(estate),
    ]


def _describing(estate: Estate) -> list[Statement]:
    """What the doctor asks of the tables, and of what their account may use."""
    tables, streamed = (
        direct_tables(estate),
        [s for s in estate.sources if s.streams and not s.role_arn and s.kinesis_arn is None],
    )
    keys = distinct(s.export.kms_key_arn for s in estate.sources if s.export and s.role_arn is None)
    streams = distinct(s.kinesis_arn for s in estate.sources if s.kinesis_arn is not None and s.role_arn is None)
    pushed = [s for s in estate.sources if s.fan_out is not None and s.role_arn is None]
    consumers = (*distinct(s.kinesis_arn for s in pushed), *distinct(s.consumer_arn for s in pushed))
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
        Statement("DescribeKinesis", ("kinesis:DescribeStreamSummary", "kinesis:ListShards"), streams),
        Statement("DescribeConsumer", ("kinesis:DescribeStreamConsumer",), consumers),
        Statement("DescribeKey", ("kms:DescribeKey",), keys),
    ]


def _discoverer(estate: Estate) -> list[Statement]:
    """Lists tables and reads their settings and tags, for `discover`; reads no item."""
    assumed = distinct(one.role_arn for one in estate.searched if one.role_arn)
    return [*_discovering(estate), Statement("ReachSources", ("sts:AssumeRole",), assumed)]


def _discovering(estate: Estate) -> list[Statement]:
    """What `discover` calls in the account of the tables."""
    tables = distinct(one.table_arns for one in estate.searched if one.role_arn is None)
    return [
        Statement("FindTables", ("dynamodb:ListTables",), ("*",) if tables else ()),
        Statement(
            "DescribeTables",
            ("dynamodb:DescribeTable", "dynamodb:DescribeContinuousBackups", "dynamodb:ListTagsOfResource"),
            tables,
        ),
    ]


def _liveness(estate: Estate) -> list[Statement]:
    """Reads the metrics that distinguish an active stream from a dead one."""
    return [
        Statement(
            "ReadMetrics",
            ("cloudwatch:GetMetricData", "cloudwatch:GetMetricStatistics", "cloudwatch:ListMetrics"),
            ("*",),
        ),
        Statement(
            "DescribeDestination",
            ("dynamodb:DescribeTable", "dynamodb:DescribeKinesisStreamingDestination"),
            direct_tables(estate),
        ),
    ]


def _canary(estate: Estate) -> list[Statement]:
    """Writes one item to each source table at intervals, for `checks.canary`; no other role writes to a source.

    Attach it to the role that accesses the table: the task's role, or the source's.
    """
    tables = distinct(source.table_arn for source in estate.sources)
    return [
        Statement("WriteCanary", ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"), tables),
        *decrypt(estate.sources, estate.domain),
    ]


def _source(estate: Estate) -> list[Statement]:
    """Is assumed by the lake's account: exports, describes and reads this account's tables."""
    behind = [source for source in estate.sources if source.role_arn] or estate.sources
    searched = tuple(replace(one, role_arn=None) for one in estate.searched if one.role_arn) or estate.searched
    inside = replace(
        estate, sources=tuple(replace(source, role_arn=None) for source in behind), hash_key=None, searched=searched
    )
    streams = _reading_streams(inside) if any(source.streams for source in inside.sources) else ()
    reading = (*_verifier(inside), *_repairer(inside), *streams, *_subscribing(inside.sources))
    looking = (*_describing(inside), *_liveness(inside), *_discovering(inside))
    return merged((*_exporter(inside), *reading, *looking))


def _dagster_task(estate: Estate) -> list[Statement]:
    """Runs Dagster's code: exports, applies, verifies, repairs and watches."""
    streams = ("stream-reader",) if any(source.streams for source in estate.sources) else ()
    found = [s for role in (*_OF_THE_TASK, *streams) for s in _ROLES[role](estate)]
    assumed = distinct(s.role_arn for s in estate.sources if s.role_arn)
    return [*merged(found), Statement("ReachSources", ("sts:AssumeRole",), assumed)]


def _follower(estate: Estate) -> list[Statement]:
    """Runs `ddb-lake follow`: reads streams, lands, applies, compacts, and starts incremental exports."""
    streams = ("stream-reader",) if any(source.streams for source in estate.sources) else ()
    exports = ("exporter",) if estate.exports else ()
    found = [s for role in ("applier", "notified", *streams, *exports) for s in _ROLES[role](estate)]
    found += _subscribing(estate.sources)
    assumed = distinct(s.role_arn for s in estate.sources if s.role_arn)
    return [*merged(found), Statement("ReachSources", ("sts:AssumeRole",), assumed)]


_ROLES: dict[str, Callable[[Estate], list[Statement]]] = {
    "dagster-task": _dagster_task,
    "source": _source,
    "exporter": _exporter,
    "applier": _applier,
    "reader": _reader,
    "stream-reader": _stream_reader,
    "follower": _follower,
    "verifier": _verifier,
    "repairer": _repairer,
    "rebuilder": _rebuilder,
    "restorer": _restorer,
    "notified": _notified,
    "doctor": _doctor,
    "discoverer": _discoverer,
    "liveness": _liveness,
    "canary": _canary,
}
_OF_THE_TASK = ("exporter", "applier", "verifier", "repairer", "notified", "doctor", "liveness")
