"""A Firehose delivery stream to S3: reads Kinesis or accepts puts, transforms, buffers, writes objects.

https://docs.aws.amazon.com/firehose/latest/dev/basic-deliver.html and, for prefixes,
https://docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html

`pump` drives it. Buffers are filled and closed by the records' arrival times, so the objects are those of a stream that
runs all the time, however rarely `pump` is called.
"""

from __future__ import annotations

import base64
import json
import secrets
import string
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ddb_lake.core.layout.firehose_paths import expand_prefix, firehose_key
from ddb_lake.errors import ConfigError
from ddb_lake.sandbox import backend
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.clock import Clock, from_micros, to_micros
from ddb_lake.sandbox.compression import compression
from ddb_lake.sandbox.kinesis_reader import KinesisReader
from ddb_lake.sandbox.metrics import FirehoseMetrics
from ddb_lake.sandbox.transform import Arrived, Failed, Handler, Outcome, Transform, Transformed

_FAILED = "processing-failed"
_RANDOM_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery stream's configuration, with Firehose's defaults.

    `source` is the ARN of a Kinesis stream, None for direct puts. A buffer becomes an object when its
    records (uncompressed) reach `buffer_bytes`, or `buffer_seconds` after its first one arrived. With
    `delimiter` a newline is put between the records of an object; by default nothing is. `from_start`
    reads the Kinesis stream from its oldest record; Firehose itself begins at the latest. `refuses` says which puts
    the service has no room for just then: it is given the number of the call and of the record in it, from 0. `backup` is
    where all records go untransformed, with its own bucket, prefixes, buffer and compression; the rest of it is ignored.
    https://docs.aws.amazon.com/firehose/latest/dev/data-transformation-source-record-backup.html
    """

    name: str
    bucket: str
    prefix: str = ""
    error_prefix: str = ""
    source: str | None = None
    buffer_seconds: float = 300.0
    buffer_bytes: int = 5 * 1024 * 1024
    compression: str = "UNCOMPRESSED"
    extension: str = ""
    delimiter: bool = False
    transform: Handler | None = None
    transform_bytes: int = 1024 * 1024
    lambda_arn: str = ""
    retries: int = 3
    version: int = 1
    from_start: bool = False
    refuses: Callable[[int, int], bool] | None = None
    backup: Delivery | None = None


@dataclass(slots=True)
class _Buffer:
    """The records of the next object. `opened_us`: the arrival of the oldest one."""

    opened_us: int
    records: list[bytes] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, data: bytes, arrived_us: int) -> None:
        self.opened_us = min(self.opened_us, arrived_us)
        self.records.append(data)
        self.size_bytes += len(data)


class DeliveryStream:
    """One delivery stream. Thread-safe; each `pump` is atomic. `kind`: the beginning of its metrics' names."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        s3: Any,
        kinesis: Any,
        clock: Clock,
        scope: Scope,
        metrics: FirehoseMetrics,
        kind: str = "DeliveryToS3",
    ) -> None:
        self.arn = scope.arn("firehose", f"deliverystream/{delivery.name}")
        self._kind = kind
        self._metrics = metrics
        self._s3 = s3
        self._clock = clock
        self._scope = scope
        self._lock = threading.RLock()
        self._reader = None if delivery.source is None else KinesisReader(kinesis, delivery.source, delivery.from_start)
        self._backup: DeliveryStream | None = None
        self.configure(delivery)
        self._arrived: list[Arrived] = []
        self._pending: deque[Outcome] = deque()
        self._buffers: dict[str, _Buffer] = {}
        self._errors: _Buffer | None = None
        self._calls = 0

    def configure(self, delivery: Delivery) -> None:
        """Use a configuration from the next record on. Open buffers keep their prefix. The source stays as it is.

        Raises:
            ConfigError: Firehose rejects a prefix.
        """
        check_prefixes(delivery)
        with self._lock:
            self.delivery = delivery
            self._format = compression(delivery.compression)
            self._transform = (
                None
                if delivery.transform is None
                else Transform(delivery.transform, self.arn, self._scope.region, delivery.source, delivery.retries)
            )
            if delivery.backup is None:
                return
            backup = replace(
                delivery.backup, name=delivery.name, version=delivery.version, source=None, transform=None, backup=None
            )
            if self._backup is None:
                self._backup = DeliveryStream(
                    backup,
                    s3=self._s3,
                    kinesis=None,
                    clock=self._clock,
                    scope=self._scope,
                    metrics=self._metrics,
                    kind="BackupToS3",
                )
            else:
                self._backup.configure(backup)

    def put_batch(self, batch: Sequence[bytes]) -> list[str | None]:
        """Accept the records of one PutRecordBatch. Returns their record ids, None for a rejected one."""
        with self._lock:
            call, self._calls = self._calls, self._calls + 1
            refuses = self.delivery.refuses or (lambda _call, _number: False)
            return [None if refuses(call, number) else self.put(data) for number, data in enumerate(batch)]

    def put(self, data: bytes, at: datetime | None = None) -> str:
        """Accept one record, as PutRecord does. Returns its record id. `at`: its arrival (default: now)."""
        with self._lock:
            record_id = f"{secrets.randbelow(9 * 10**55) + 10**55}000000"
            arrived_us = self._clock.now_us() if at is None else to_micros(at)
            self._arrived.append(Arrived(record_id, data, arrived_us))
            self._metrics.count("IncomingRecords", 1, arrived_us)
            return record_id

    def pump(self, now: datetime | None = None) -> list[str]:
        """Read new records and write the objects that are due at `now` (default: the clock's time). Returns their keys.

        If S3 or Kinesis fails, the next call continues from there without loss.
        """
        with self._lock:
            self._take_in()
            backed_up = [] if self._backup is None else self._backup.pump(now)
            keys = self._drain()
            now_us = self._clock.now_us() if now is None else to_micros(now)
            return backed_up + keys + self._close_due(now_us)

    def flush(self) -> list[str]:
        """Read new records and write all buffers. Returns the keys of the objects."""
        with self._lock:
            self._take_in()
            backed_up = [] if self._backup is None else self._backup.flush()
            return backed_up + self._drain() + self._close_due(None)

    def _take_in(self) -> None:
        """Read and transform new records, and copy them to the backup."""
        if self._reader is not None:
            known = len(self._arrived)
            self._reader.read_into(self._arrived)
            for record in self._arrived[known:]:
                self._metrics.count("DataReadFromKinesisStream.Records", 1, record.arrived_us)
        self._arrived.sort(key=lambda record: record.arrived_us)  # shards are merged by time, stably
        for batch in _batches(self._arrived, self.delivery.transform_bytes):
            if self._transform is None:
                self._pending.extend(Transformed(record, record.data) for record in batch)
            else:
                outcomes = self._transform.process(batch)
                succeeded = len(batch) - sum(isinstance(outcome, Failed) for outcome in outcomes)
                self._metrics.count("SucceedProcessing.Records", succeeded, batch[-1].arrived_us)
                self._pending.extend(outcomes)
        if self._backup is not None:
            self._backup._arrived.extend(self._arrived)
        self._arrived.clear()

    def _drain(self) -> list[str]:
        """Buffer the transformed records. Returns the keys of the objects that became due."""
        keys: list[str] = []
        while self._pending:
            keys += self._close_due(self._pending[0].source.arrived_us)
            self._buffer(self._pending.popleft())
        return keys

    def _buffer(self, outcome: Outcome) -> None:
        arrived_us = outcome.source.arrived_us
        if isinstance(outcome, Transformed):
            template = self._template(outcome)
            if template is not None:
                self._buffers.setdefault(template, _Buffer(arrived_us)).add(outcome.data, arrived_us)
                return
            code, reason = "DynamicPartitioning.MetadataExtractionFailed", "A partition key of the prefix has no value."
            outcome = Failed(outcome.source, code, reason, 1)
        self._errors = self._errors or _Buffer(arrived_us)
        self._errors.add(self._error_line(outcome), arrived_us)

    def _template(self, record: Transformed) -> str | None:
        """The prefix with the record's partition keys. Records with the same prefix share objects."""
        template = self.delivery.prefix
        for name, value in record.partition_keys.items():
            template = template.replace(f"!{{partitionKeyFromLambda:{name}}}", value)
        return None if "!{partitionKeyFrom" in template else template

    def _error_line(self, failed: Failed) -> bytes:
        line = {
            "attemptsMade": failed.attempts,
            "arrivalTimestamp": failed.source.arrived_us // 1000,
            "errorCode": failed.code,
            "errorMessage": failed.message,
            "attemptEndingTimestamp": self._clock.now_us() // 1000,
            "rawData": base64.b64encode(failed.source.data).decode(),
            "lambdaArn": self.delivery.lambda_arn,
        }
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"

    def _close_due(self, now_us: int | None) -> list[str]:
        """Write the buffers that are full, or old enough at `now_us` (None: all)."""
        due = [template for template, buffer in self._buffers.items() if self._due(buffer, now_us)]
        keys = [self._close(template, now_us) for template in due]
        if self._errors is not None and self._due(self._errors, now_us):
            keys.append(self._close_errors(self._errors, now_us))
        return keys

    def _due(self, buffer: _Buffer, now_us: int | None) -> bool:
        old = now_us is None or now_us - buffer.opened_us >= self.delivery.buffer_seconds * 1e6
        return old or buffer.size_bytes >= self.delivery.buffer_bytes

    def _closed_us(self, buffer: _Buffer, now_us: int | None) -> int:
        """When a buffer that is due at `now_us` was written by a stream that runs all the time."""
        now_us = self._clock.now_us() if now_us is None else now_us
        return min(now_us, buffer.opened_us + round(self.delivery.buffer_seconds * 1e6))

    def _close_errors(self, buffer: _Buffer, now_us: int | None) -> str:
        template = self.delivery.error_prefix or self.delivery.prefix
        at = from_micros(buffer.opened_us)
        folder = expand_prefix(template, at, random=_random_string, error_output_type=_FAILED)
        key = self._write(buffer, folder, "", None, b"".join(buffer.records))
        backend.set_last_modified(self.delivery.bucket, key, self._closed_us(buffer, now_us))
        self._errors = None
        return key

    def _close(self, template: str, now_us: int | None) -> str:
        buffer = self._buffers[template]
        at_us = self._closed_us(buffer, now_us)
        folder = expand_prefix(template, from_micros(buffer.opened_us), random=_random_string)
        data = (b"\n" if self.delivery.delimiter else b"").join(buffer.records)
        extension = self.delivery.extension or self._format.extension
        try:
            key = self._write(buffer, folder, extension, self._format.encoding, self._format.compress(data))
        except Exception:
            self._metrics.failed(self._kind, buffer.opened_us, at_us)
            raise
        backend.set_last_modified(self.delivery.bucket, key, at_us)
        self._metrics.delivered(self._kind, len(buffer.records), buffer.opened_us, at_us)
        if "!{partitionKey" in self.delivery.prefix:
            self._metrics.count("PartitionCount", len(self._buffers), at_us)
        del self._buffers[template]  # only now: what could not be written is tried again
        return key

    def _write(self, buffer: _Buffer, folder: str, extension: str, encoding: str | None, data: bytes) -> str:
        delivery, at = self.delivery, from_micros(buffer.opened_us)
        key = firehose_key(folder, delivery.name, delivery.version, at, str(uuid.uuid4()), extension)
        headers = {} if encoding is None else {"ContentEncoding": encoding}
        self._s3.put_object(
            Bucket=delivery.bucket, Key=key, Body=data, ContentType="application/octet-stream", **headers
        )
        return key


def _random_string() -> str:
    return "".join(secrets.choice(_RANDOM_LETTERS) for _ in range(11))


def _batches(records: Iterable[Arrived], most_bytes: int) -> Iterator[list[Arrived]]:
    """Groups of records of at most `most_bytes`; a larger record is a group of its own."""
    batch: list[Arrived] = []
    size = 0
    for record in records:
        if batch and size + len(record.data) > most_bytes:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record.data)
    if batch:
        yield batch


def check_prefixes(delivery: Delivery) -> None:
    """Check the prefixes as Firehose does when a delivery stream is created.

    Raises:
        ConfigError: Firehose rejects a prefix.
    """
    if "!{" in delivery.prefix and not delivery.error_prefix:
        raise ConfigError("ErrorOutputPrefix can't be null when Prefix contains expressions")
    at = from_micros(0)
    if "!{partitionKey" not in delivery.prefix:
        expand_prefix(delivery.prefix, at, random=str)
    expand_prefix(delivery.error_prefix or delivery.prefix, at, random=str, error_output_type=_FAILED)
