"""Access to moto's state. This is the only module that uses private parts of moto 5.2.5."""

from __future__ import annotations

import base64
import copy
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from moto.awslambda.models import lambda_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.base_backend import BackendDict
from moto.core.responses import ActionResult
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodbstreams.models import dynamodbstreams_backends
from moto.glue.models import glue_backends
from moto.iam.models import get_account_id_from, iam_backends
from moto.kinesis.models import KinesisBackend, Record, Shard, Stream, kinesis_backends
from moto.kinesis.responses import KinesisResponse
from moto.kinesis.utils import decompose_shard_iterator
from moto.kms.models import kms_backends
from moto.s3 import notifications
from moto.s3.models import s3_backends

from ddb_lake.sandbox.history import Change
from ddb_lake.sandbox.items import AttributeValue, Item, number_text, size_bytes, with_bytes

_FIRST_SEQUENCE = 49_650_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000
"""The first sequence number: Kinesis numbers have 56 digits, and moto counts from 1."""

_SEQUENCE_STEP = 1 << 80
"""The difference between consecutive records of a shard. The low bits distinguish shards."""

_MOST_PUSHED = 1000
"""The records of one event of SubscribeToShard."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The account and Region of a request."""

    account: str
    region: str

    def arn(self, service: str, resource: str) -> str:
        """The ARN of one of this account's resources in this region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def reset() -> None:
    """Drop all resources of all accounts: moto's state is global."""
    BackendDict.reset()


def account_of(access_key: str) -> str:
    """The account an access key belongs to; unknown keys belong to the default account."""
    return str(get_account_id_from(access_key))


def find_table(scope: Scope, name_or_arn: str) -> Any:
    """The table of that name or ARN, or None."""
    name = name_or_arn.rpartition(":table/")[2] if name_or_arn.startswith("arn:") else name_or_arn
    return dynamodb_backends[scope.account][scope.region].tables.get(name)


def bucket_account(name: str) -> str | None:
    """The account that owns a bucket; None if there is no such bucket."""
    found = s3_backends.bucket_accounts.get(name)
    return None if found is None else str(found[1])


def set_last_modified(bucket: str, key: str, at_us: int) -> None:
    """Set when an object was written (UTC microseconds, shown in whole seconds): moto has the machine's time."""
    partition, account = s3_backends.bucket_accounts[bucket]
    s3_backends[account][partition].buckets[bucket].keys[key].last_modified = _naive_utc(at_us)


def has_key(key: str, account: str, table_arn: str) -> bool:
    """Whether there is an enabled KMS key of that id in the account, or of that ARN, in the table's Region."""
    region = table_arn.split(":")[3]
    if key.startswith("arn:"):
        account, region, key = key.split(":")[4], key.split(":")[3], key.rpartition("/")[2]
    found = kms_backends[account][region].keys.get(key)
    return found is not None and bool(found.enabled)


def accounts() -> list[str]:
    """The accounts that have, or had, a DynamoDB table."""
    return list(dynamodb_backends)


def all_tables() -> Iterator[tuple[Scope, Any]]:
    """All tables of all accounts and Regions."""
    for account in accounts():
        for region in list(dynamodb_backends[account]):
            scope = Scope(account, region)
            for table in tables(scope):
                yield scope, table


def tables(scope: Scope) -> list[Any]:
    """All tables of an account in a region."""
    return list(dynamodb_backends[scope.account][scope.region].tables.values())


def read_item(table: Any, key: Item) -> Item | None:
    """The item at `key` as DynamoDB JSON. Its numbers are normalized in the table as DynamoDB does."""
    return _read(table.get_item(*_moto_key(table, key)))


def read_items(table: Any) -> Iterator[Item]:
    """As `read_item`, for every item of the table."""
    for stored in list(table.all_items()):
        item = _read(stored)
        if item is not None:
            yield item


def delete_item(table: Any, key: Item) -> None:
    """Remove an item without a request, as the service itself does."""
    table.delete_item(*_moto_key(table, key))


def _moto_key(table: Any, key: Item) -> tuple[Any, Any]:
    stored = with_bytes(
        {name: key[name] for name in table.table_key_attrs}
    )  # moto has bytes, and finds no text in their place
    ranged = DynamoType(stored[table.range_key_attr]) if table.range_key_attr else None
    return DynamoType(stored[table.hash_key_attr]), ranged


def _read(stored: Any) -> Item | None:
    return None if stored is None else {name: _value(value) for name, value in stored.attrs.items()}


def _value(typed: Any) -> AttributeValue:
    kind, value = typed.type, typed.value
    if kind == "N":
        typed.value = number_text(value)
    elif kind == "NS":
        typed.value = [number_text(member) for member in value]
    elif kind == "B":
        return {"B": _base64(value)}
    elif kind == "BS":
        return {"BS": [_base64(member) for member in value]}
    elif kind == "L":
        return {"L": [_value(member) for member in value]}
    elif kind == "M":
        return {"M": {name: _value(member) for name, member in value.items()}}
    return {kind: copy.copy(typed.value)}


def _base64(value: bytes | str) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def set_restorable(table: Any, earliest: datetime, latest: datetime) -> None:
    """Set the window that DescribeContinuousBackups returns."""
    recovery = table.continuous_backups["PointInTimeRecoveryDescription"]
    recovery["EarliestRestorableDateTime"] = earliest.timestamp()
    recovery["LatestRestorableDateTime"] = latest.timestamp()


def recovery_enabled(table: Any) -> bool:
    """Whether point-in-time recovery is on."""
    recovery = table.continuous_backups["PointInTimeRecoveryDescription"]
    return bool(recovery["PointInTimeRecoveryStatus"] == "ENABLED")


def ttl_attribute(table: Any) -> str | None:
    """The Time to Live attribute, or None while it is off."""
    return table.ttl.get("AttributeName") if table.ttl["TimeToLiveStatus"] == "ENABLED" else None


def stream_length(table: Any) -> int:
    """The number of records of the table's DynamoDB stream; 0 without a stream."""
    return len(table.stream_shard.items) if table.stream_shard else 0


def close_stream(table: Any) -> None:
    """Remove a disabled stream, with which moto fails every later write."""
    table.stream_shard = None
    table.latest_stream_label = None


def stream_shard(scope: Scope, stream_arn: str) -> str | None:
    """The id of the shard of a DynamoDB stream; None if there is no such stream."""
    table = find_table(scope, stream_arn.partition("/stream/")[0])
    return None if table is None or table.stream_shard is None else str(table.stream_shard.id)


def has_shard_iterator(scope: Scope, iterator: str) -> bool:
    """Whether an iterator of a DynamoDB stream was returned before."""
    return iterator in dynamodbstreams_backends[scope.account][scope.region].shard_iterators


class _StreamRecord:
    """A record of a DynamoDB stream, in place of moto's."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    def to_json(self) -> dict[str, Any]:
        return self.record


def rewrite_stream(table: Any, length: int, changes: list[Change]) -> None:
    """Replace the records that moto appended to the table's stream after `length` with one record for each change.

    moto writes a MODIFY for no-op writes, two INSERTs for an inserting UpdateItem, and no identity for TTL.
    """
    shard = table.stream_shard
    if shard is None:
        return
    del shard.items[length:]
    for change in changes:
        sequence = shard.starting_sequence_number + len(shard.items)
        shard.items.append(_StreamRecord(_stream_record(table, change, sequence)))


def _stream_record(table: Any, change: Change, sequence: int) -> dict[str, Any]:
    view = table.stream_specification["StreamViewType"]
    body: dict[str, Any] = {
        "ApproximateCreationDateTime": _naive_utc(change.time_us // 1_000_000 * 1_000_000),
        "Keys": with_bytes(change.keys),
        "SequenceNumber": str(sequence),
        "StreamViewType": view,
    }
    size = size_bytes(change.keys)
    for name, image in (("NewImage", change.new), ("OldImage", change.old)):
        if image is not None and view in (name.removesuffix("Image").upper() + "_IMAGE", "NEW_AND_OLD_IMAGES"):
            body[name] = with_bytes(image)
            size += size_bytes(image)
    record: dict[str, Any] = {
        "eventID": uuid.uuid4().hex,
        "eventName": change.event_name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": table.region_name,
        "dynamodb": body | {"SizeBytes": size},
    }
    if change.ttl:
        record["userIdentity"] = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
    return record


def catalog_version(scope: Scope, database: str, table: str) -> str | None:
    """The current version of a table of the Glue catalog; None if there is no such table."""
    found = glue_backends[scope.account][scope.region].databases.get(database)
    entry = None if found is None else found.tables.get(table)
    return None if entry is None else str(entry.as_dict()["VersionId"])


def find_kinesis_stream(stream_arn: str) -> Any:
    """The Kinesis stream of that ARN, or None."""
    parts = stream_arn.split(":")
    if len(parts) != 6 or not parts[5].startswith("stream/"):
        return None
    return kinesis_backends[parts[4]][parts[3]].streams.get(parts[5].removeprefix("stream/"))


def put_kinesis_record(stream: Any, partition_key: str, data: bytes, arrived_us: int) -> None:
    """Append a record to the shard its partition key belongs to, with the arrival time given."""
    shard = stream.get_shard_for_key(partition_key, None)
    _append(shard, Record(partition_key, base64.b64encode(data).decode(), _next_sequence(shard), ""), arrived_us)


def _next_sequence(shard: Any) -> int:
    before = max(next(reversed(shard.records), 0), getattr(shard, "last_of_parents", 0))
    return int(max(before, _FIRST_SEQUENCE + (shard._shard_id << 4)) + _SEQUENCE_STEP)


def _append(shard: Any, record: Any, arrived_us: int) -> None:
    record.created_at_datetime = _naive_utc(arrived_us)
    record.created_at = arrived_us / 1e6
    shard.records[record.sequence_number] = record


def _reshard(moto: Callable[..., None], stream: Any, parents: Sequence[str], *more: str) -> None:
    """Split or merge shards as Kinesis does: their records stay where they are. moto moves or copies them to the children.

    moto does it on a copy of the stream, so that a request that is served meanwhile sees no intermediate state.
    https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html
    """
    twin = copy.copy(stream)
    twin.shards = dict(stream.shards)
    for name in parents:
        if name in stream.shards:
            twin.shards[name] = copy.copy(stream.shards[name])
            twin.shards[name].records = OrderedDict()
    moto(twin, *parents, *more)
    closed = [stream.shards[name] for name in parents]
    children = {name: shard for name, shard in twin.shards.items() if name not in stream.shards}
    for child in children.values():
        child.last_of_parents = max(next(reversed(shard.records), 0) for shard in closed)
    stream.shards.update(children)
    for shard in closed:
        shard.is_open = False


def _split_shard(stream: Any, shard_to_split: str, new_starting_hash_key: str) -> None:
    _reshard(_MOTO_SPLIT, stream, (shard_to_split,), new_starting_hash_key)


def _merge_shards(stream: Any, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
    _reshard(_MOTO_MERGE, stream, (shard_to_merge, adjacent_shard_to_merge))


def _open_shard_for_key(stream: Any, partition_key: str, explicit_hash_key: str) -> Any:
    """The open shard of a key. moto takes the first shard whose range has the key, also if it is closed."""
    twin = copy.copy(stream)
    twin.shards = {name: shard for name, shard in list(stream.shards.items()) if shard.is_open}
    return _MOTO_SHARD_FOR_KEY(twin, partition_key, explicit_hash_key)


def _get_records(kinesis: Any, stream_arn: str | None, shard_iterator: str, limit: int | None) -> Any:
    """GetRecords; at the end of a closed shard without a next iterator, as Kinesis does.

    https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html
    """
    following, records, behind_ms = _MOTO_GET_RECORDS(kinesis, stream_arn, shard_iterator, limit)
    stream_name, shard_id, last = decompose_shard_iterator(following)
    shard = kinesis.describe_stream(stream_arn=stream_arn, stream_name=stream_name).get_shard(shard_id)
    at_end = not shard.is_open and int(last) >= next(reversed(shard.records), 0)
    return None if at_end else following, records, behind_ms


def _child(shard: Any) -> dict[str, Any]:
    described = shard.to_json()
    parents = [parent for parent in (shard.parent, shard.adjacent_parent) if parent]
    return {"ShardId": shard.shard_id, "ParentShards": parents, "HashKeyRange": described["HashKeyRange"]}


def _subscribe_to_shard(response: Any) -> ActionResult:
    """SubscribeToShard, which moto lacks. The subscription ends when it has given what is there, and not after five minutes.

    https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html
    """
    kinesis = response.kinesis_backend
    consumer = kinesis.describe_stream_consumer(None, None, response._get_param("ConsumerARN"))
    start, shard_id = response._get_param("StartingPosition"), response._get_param("ShardId")
    named = {"stream_arn": consumer.stream_arn, "stream_name": consumer.stream_arn.rpartition("/")[2]}
    where = {
        **named,
        "shard_id": shard_id,
        "shard_iterator_type": start["Type"],
        "starting_sequence_number": start.get("SequenceNumber"),
        "at_timestamp": start.get("Timestamp"),
    }
    iterator = kinesis.get_shard_iterator(**where)
    following, records, behind_ms = _get_records(kinesis, consumer.stream_arn, iterator, _MOST_PUSHED)
    event = {"Records": [record.to_json() for record in records], "MillisBehindLatest": behind_ms}
    if following is not None:
        event["ContinuationSequenceNumber"] = decompose_shard_iterator(following)[2]
    else:
        shards = kinesis.describe_stream(**named).shards.values()
        event["ChildShards"] = [_child(one) for one in shards if shard_id in (one.parent, one.adjacent_parent)]
    return ActionResult({"EventStream": [{"SubscribeToShardEvent": event}]})


_MOTO_PUT: Final = Shard.put_record
_MOTO_SPLIT: Final = Stream.split_shard
_MOTO_SHARD_FOR_KEY: Final = Stream.get_shard_for_key
_MOTO_MERGE: Final = Stream.merge_shards
_MOTO_GET_RECORDS: Final = KinesisBackend.get_records
_MOTO_NOTIFY: Final = notifications._invoke_awslambda


def connect(now_us: Callable[[], int], notify: Callable[[str, dict[str, Any]], None]) -> None:
    """Make moto use the sandbox's clock for records that clients put into Kinesis, and number and reshard them as Kinesis does.

    `notify` receives the ARN of a function and the event, in place of moto's invocation, whenever S3 notifies a function.
    """

    def put_record(shard: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
        record = Record(partition_key, data, _next_sequence(shard), explicit_hash_key)
        _append(shard, record, now_us())
        return str(record.sequence_number)

    Shard.put_record = put_record
    Stream.split_shard, Stream.merge_shards = _split_shard, _merge_shards
    Stream.get_shard_for_key = _open_shard_for_key
    KinesisBackend.get_records = _get_records
    KinesisResponse.subscribe_to_shard = _subscribe_to_shard
    notifications._invoke_awslambda = lambda _account, event, arn, _region: notify(arn, event)


def disconnect() -> None:
    """Undo `connect`."""
    Shard.put_record = _MOTO_PUT
    Stream.split_shard, Stream.merge_shards = _MOTO_SPLIT, _MOTO_MERGE
    Stream.get_shard_for_key = _MOTO_SHARD_FOR_KEY
    KinesisBackend.get_records = _MOTO_GET_RECORDS
    del KinesisResponse.subscribe_to_shard
    notifications._invoke_awslambda = _MOTO_NOTIFY


def find_function(scope: Scope, name: str) -> Any:
    """The Lambda function of that name, or None."""
    return next(
        (f for f in lambda_backends[scope.account][scope.region].list_functions() if f.function_name == name), None
    )


def create_function(scope: Scope, body: dict[str, Any]) -> None:
    """Create a Lambda function, as CreateFunction does, and its role if it does not exist."""
    account = iam_backends[scope.account]["aws"]
    name = str(body["Role"]).rpartition("/")[2]
    if all(role.name != name for role in account.roles.values()):
        account.create_role(name, "{}", "/", None, "", [], 3600)
    lambda_backends[scope.account][scope.region].create_function(body)


def event_source_mappings(scope: Scope) -> list[Any]:
    """All event source mappings of an account in a region."""
    return list(lambda_backends[scope.account][scope.region].list_event_source_mappings("", ""))


def detach_mappings(scope: Scope) -> None:
    """Keep moto from invoking functions itself, with Docker, at each write to a table or a stream."""
    for table in tables(scope):
        table.lambda_event_source_mappings.clear()
    for stream in kinesis_backends[scope.account][scope.region].streams.values():
        stream.lambda_event_source_mappings.clear()


def save_function_log(function: Any, lines: list[str]) -> None:
    """Write the lines to the function's log group of CloudWatch Logs."""
    function.logs_backend.ensure_log_group(function.logs_group_name)
    function.save_logs("\n".join(lines))


def new_statistics(scope: Scope, namespace: str, metric: dict[str, Any], value: float, at_us: int) -> Any:
    """Put a statistic set of one value to CloudWatch. `metric`: its name, dimensions and unit. Returns moto's datum."""
    metrics = cloudwatch_backends[scope.account][scope.region]
    one = {"Sum": value, "Minimum": value, "Maximum": value, "SampleCount": 1}
    metrics.put_metric_data(namespace, [{**metric, "StatisticValues": one, "Timestamp": _naive_utc(at_us)}])
    return metrics.metric_data[-1]


def add_to_statistics(datum: Any, value: float) -> None:
    """Add a value to a statistic set, as CloudWatch does with the values of one minute."""
    datum.sum += value
    datum.sample_count += 1
    datum.min, datum.max = min(datum.min, value), max(datum.max, value)


def _naive_utc(at_us: int) -> datetime:
    """A time in UTC without a time zone, as moto has them."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)).replace(tzinfo=None)
