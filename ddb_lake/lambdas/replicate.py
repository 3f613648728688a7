"""Replicate Kinesis records into a DynamoDB table of another account, idempotently.

Event: `{"Records": [{"kinesis": {"data": <base64>, "sequenceNumber": …}, …}, …]}`, from an event source mapping of a Kinesis stream
of JSON objects (https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html) with `ReportBatchItemFailures`,
`BisectBatchOnFunctionError`, a finite `MaximumRetryAttempts` or `MaximumRecordAgeInSeconds`, and an on-failure destination.

Response: `{"batchItemFailures": [{"itemIdentifier": <sequence number>}, …]}`, with each record that was not written, in the order of
the stream. Every record of a batch is written independently of the others. Lambda retries from the first reported record, so a
record that can never be written blocks its shard until the retries are used up. Then Lambda sends it to the destination.

Why repeated writes change nothing:

- Keys from the sequence number (the default, `core.capture.dynamodb_copies`): an item is a function of its record, so two writes of
  a record write the same item. Existing items are looked up and not written, so that a replay from TRIM_HORIZON does not
  undo later changes of an item. The others are written with BatchWriteItem, 25 in a request. It has no conditions, and needs
  none: concurrent writes of one record are equal.
- `DDB_LAKE_TARGET_KEY`: the newest record of a key wins. With BatchWriteItem an older record could overwrite it, so each
  item is put with the condition that the stored one is older. Of one batch, only the newest record of a key is put.

`DDB_LAKE_TARGET_TABLE`, `DDB_LAKE_TARGET_REGION` (default: this function's)
    The table.
`DDB_LAKE_TARGET_ROLE_ARN`, `DDB_LAKE_EXTERNAL_ID`
    The role to assume in the table's account, once for each process. Its credentials are refreshed before they expire.
    It needs dynamodb:BatchGetItem, BatchWriteItem and PutItem on the table.
`DDB_LAKE_TARGET_KEY`
    Names of the payload's attributes that are the table's key, comma-separated: partition key, then sort key.
`DDB_LAKE_ENRICH`
    `package.module:function`, which changes the payload's item before it is written (`lambdas.enrichment`). A record for which
    it fails is reported like a record that cannot be written.

Transient errors are retried for the unwritten records alone, by `retry_policy.LAMBDA`, within the time left. Any other error (a
missing table, a denied permission) is raised: Lambda counts it as an error and retries the batch. Logs contain sequence
numbers and nothing else of a record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar

from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.exceptions import ClientError

from ddb_lake.aws.session import session
from ddb_lake.core.capture.dynamodb_copies import ORDER, Replica, replica_of, sequence_of
from ddb_lake.core.operations.retry_policy import LAMBDA
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import UndecodableError
from ddb_lake.lambdas.enrichment import Enrichment, Origin
from ddb_lake.lambdas.environment import Variable, read_variables
from ddb_lake.lambdas.transient_errors import is_transient

MOST_READ: Final = 100
MOST_WRITTEN: Final = 25
"""The number of keys of one BatchGetItem, and of items of one BatchWriteItem.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
"""

RESERVED_S: Final = 2.0
"""The part of an invocation's time that is reserved for returning the response."""

VARIABLES: Final = (
    Variable("DDB_LAKE_TARGET_TABLE", "<name of the table to write to>", required=True),
    Variable("DDB_LAKE_TARGET_REGION"),
    Variable("DDB_LAKE_TARGET_ROLE_ARN"),
    Variable("DDB_LAKE_EXTERNAL_ID"),
    Variable("DDB_LAKE_TARGET_KEY"),
    Variable("DDB_LAKE_ENRICH"),
)

_CONFIG: Final = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=5, read_timeout=30)
_log: Final = Logger(service="ddb_lake.replicate")
T = TypeVar("T")


def handler(event: dict[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """The entry point of Lambda. Returns the partial batch response.

    Raises:
        ConfigError: a variable is missing.
        botocore.exceptions.ClientError: an error that is not transient.
    """
    found = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(found, list):
        _log.error("no Kinesis event: it has no list of Records")
        return {"batchItemFailures": [{"itemIdentifier": ""}]}  # an empty identifier: Lambda retries the complete batch
    replicator = _replicator(Settings.from_environment(os.environ), os.environ.get("AWS_ENDPOINT_URL", ""))
    left_ms = getattr(context, "get_remaining_time_in_millis", lambda: 60_000)
    return replicator.replicate(found, lambda: left_ms() / 1000 - RESERVED_S)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings. `key_names`: empty for keys from the sequence number. `enrich`: `package.module:function`."""

    table: str
    region: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    key_names: tuple[str, ...] = ()
    enrich: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings. Raises ConfigError."""
        found = read_variables(VARIABLES, environment)
        key = found.get("DDB_LAKE_TARGET_KEY", "")
        return cls(
            found["DDB_LAKE_TARGET_TABLE"],
            found.get("DDB_LAKE_TARGET_REGION"),
            found.get("DDB_LAKE_TARGET_ROLE_ARN"),
            found.get("DDB_LAKE_EXTERNAL_ID"),
            tuple(name.strip() for name in key.split(",") if name.strip()),
            found.get("DDB_LAKE_ENRICH"),
        )


@lru_cache(maxsize=4)
def _replicator(settings: Settings, _endpoint: str) -> Replicator:
    """The replicator of this process, so that the role is assumed once."""
    reached = session(settings.region, settings.role_arn, settings.external_id)
    enrichment = Enrichment.named(settings.enrich) if settings.enrich else None
    client = reached.client("dynamodb", config=_CONFIG)
    return Replicator(client, settings.table, settings.key_names, enrichment=enrichment)


@dataclass(frozen=True, slots=True)
class Replicator:
    """Writes records to one table. `key_names`: empty for keys from the sequence number. `pause` waits for seconds."""

    client: Any
    table: str
    key_names: tuple[str, ...] = ()
    pause: Callable[[float], None] = time.sleep
    enrichment: Enrichment | None = None

    def replicate(self, records: Sequence[Any], remaining_s: Callable[[], float]) -> dict[str, list[dict[str, str]]]:
        """Write the records of an event. Returns Lambda's partial batch response."""
        enrich = None if self.enrichment is None else self._enrich
        replicas: dict[int, Replica] = {}
        failed: dict[int, str] = {}
        for number, record in enumerate(records):
            try:
                replicas[number] = replica_of(record, self.key_names, enrich)
            except UndecodableError as error:
                failed[number] = str(error)
        failed |= self._put_newest(replicas, remaining_s) if self.key_names else self._write(replicas, remaining_s)
        for number, reason in sorted(failed.items()):
            _log.warning("not written", extra={"sequence": sequence_of(records[number]), "reason": reason})
        names = [sequence_of(records[number]) for number in sorted(failed)]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in dict.fromkeys(names)]}

    def _enrich(self, item: Item, sequence: str, shard: str, keys: Sequence[str]) -> Item:
        assert self.enrichment is not None, "only called with one"
        return self.enrichment.apply(item, Origin(self.table, sequence, shard), keys)

    # --- keys from the sequence number

    def _write(self, replicas: Mapping[int, Replica], remaining_s: Callable[[], float]) -> dict[int, str]:
        """Write the missing items in batches. Returns the failed records with the reasons."""
        numbers: dict[str, list[int]] = {}
        for number, replica in replicas.items():
            numbers.setdefault(_mark(replica.key), []).append(number)
        failed: dict[int, str] = {}
        for marks in _chunks(list(numbers), MOST_READ):
            waiting = {mark: replicas[numbers[mark][0]] for mark in marks}
            faults = self._write_absent(waiting, remaining_s)
            failed |= {number: fault for mark, fault in faults.items() for number in numbers[mark]}
        return failed

    def _write_absent(self, waiting: dict[str, Replica], remaining_s: Callable[[], float]) -> dict[str, str]:
        present: set[str] = set()
        keys = {mark: replica.key for mark, replica in waiting.items()}
        unread = self._drain(keys, lambda some: self._look_up(some, present), remaining_s)
        absent = {mark: replica for mark, replica in waiting.items() if mark not in present and mark not in unread}
        faults = dict.fromkeys(unread, "throttled")
        for marks in _chunks(list(absent), MOST_WRITTEN):
            batch = {mark: absent[mark] for mark in marks}
            try:
                unwritten = self._drain(batch, self._write_batch, remaining_s)
                faults |= dict.fromkeys(unwritten, "throttled")
            except ClientError as error:
                if _code(error) != "ValidationException":
                    raise
                faults |= self._put_each(batch, remaining_s)  # one item is invalid: write the others one by one
        return faults

    def _look_up(self, keys: Mapping[str, Item], present: set[str]) -> set[str]:
        """Look up keys once and add the existing ones to `present`. Returns the marks of keys that were not read."""
        request = {"Keys": list(keys.values()), **_only(next(iter(keys.values())))}
        answer = self.client.batch_get_item(RequestItems={self.table: request})
        present |= {_mark(key) for key in answer.get("Responses", {}).get(self.table, ())}
        return {_mark(key) for key in answer.get("UnprocessedKeys", {}).get(self.table, {}).get("Keys", ())}

    def _write_batch(self, batch: Mapping[str, Replica]) -> set[str]:
        """Write once. Returns the marks of items that were not written."""
        requests = [{"PutRequest": {"Item": replica.item}} for replica in batch.values()]
        answer = self.client.batch_write_item(RequestItems={self.table: requests})
        left = answer.get("UnprocessedItems", {}).get(self.table, ())
        names = tuple(next(iter(batch.values())).key)
        return {_mark({name: one["PutRequest"]["Item"][name] for name in names}) for one in left}

    # --- one at a time

    def _put_newest(self, replicas: Mapping[int, Replica], remaining_s: Callable[[], float]) -> dict[int, str]:
        """Put the newest record of each key if the stored one is older. Returns the failed records with the reasons."""
        newest: dict[str, int] = {}
        for number, replica in replicas.items():
            mark = _mark(replica.key)
            if mark not in newest or replicas[newest[mark]].order < replica.order:
                newest[mark] = number
        faults = self._put_each({mark: replicas[number] for mark, number in newest.items()}, remaining_s)
        return {newest[mark]: fault for mark, fault in faults.items()}

    def _put_each(self, batch: Mapping[str, Replica], remaining_s: Callable[[], float]) -> dict[str, str]:
        faults: dict[str, str] = {}
        for mark, replica in batch.items():
            try:
                if self._drain({mark: replica}, self._put, remaining_s):
                    faults[mark] = "throttled"
            except ClientError as error:
                if _code(error) != "ValidationException":
                    raise
                faults[mark] = "DynamoDB refuses the item (ValidationException): its size, a number, or its key"
        return faults

    def _put(self, one: Mapping[str, Replica]) -> set[str]:
        (replica,) = one.values()
        name = ORDER if self.key_names else next(iter(replica.key))
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(#n)"}
        if self.key_names:
            condition["ConditionExpression"] += " OR #n < :order"
            condition["ExpressionAttributeValues"] = {":order": {"S": replica.order}}
        try:
            self.client.put_item(
                TableName=self.table, Item=replica.item, ExpressionAttributeNames={"#n": name}, **condition
            )
        except ClientError as error:
            if _code(error) != "ConditionalCheckFailedException":
                raise
        return set()  # also if the condition failed: the item, or a newer one, exists

    def _drain(
        self, work: Mapping[str, T], call: Callable[[Mapping[str, T]], set[str]], remaining_s: Callable[[], float]
    ) -> set[str]:
        """Call with all of `work`, then with what it leaves unfinished. Returns the marks of what is never finished."""

        def process(marks: list[str]) -> list[str]:
            unfinished = call({mark: work[mark] for mark in marks})
            return [mark for mark in marks if mark in unfinished]

        marks = LAMBDA.drain(list(work), process, is_retryable=is_transient, sleep=self.pause, remaining_s=remaining_s)
        return set(marks)


def _only(key: Item) -> dict[str, Any]:
    """A projection to the key: only the existence of an item matters."""
    names = {f"#k{number}": name for number, name in enumerate(key)}
    return {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}


def _mark(key: Item) -> str:
    """A text that is equal for equal keys (DynamoDB JSON)."""
    return repr(sorted((name, *value.items()) for name, value in key.items()))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _chunks(marks: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(marks), size):
        yield marks[start : start + size]
