"""Firehose's API for the sandbox's delivery streams: moto has their descriptions, this module delivers their records.

https://docs.aws.amazon.com/firehose/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ddb_lake.errors import ConfigError
from ddb_lake.sandbox import backend
from ddb_lake.sandbox.awserror import AwsError
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.firehose import Delivery, DeliveryStream, check_prefixes

_MEGABYTE = 1024 * 1024
_MOST_RECORDS = 500
_MOST_BATCH_BYTES = 4 * _MEGABYTE
_MOST_RECORD_BYTES = 1000 * 1024


@dataclass(slots=True)
class FirehoseApi:
    """The delivery streams by name. `make` creates one; `invoke` calls the function of an ARN with an event."""

    make: Callable[[Scope, Delivery], DeliveryStream]
    invoke: Callable[[str, dict[str, Any]], Any]
    _streams: dict[tuple[Scope, str], DeliveryStream] = field(default_factory=dict)
    _created: dict[tuple[Scope, str], dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Drop all delivery streams and their buffers."""
        with self._lock:
            self._streams.clear()
            self._created.clear()

    def streams(self) -> list[DeliveryStream]:
        """All delivery streams, oldest first."""
        with self._lock:
            return list(self._streams.values())

    def add(self, scope: Scope, delivery: Delivery) -> DeliveryStream:
        """Create a delivery stream and accept its puts."""
        stream = self.make(scope, delivery)
        with self._lock:
            self._streams[scope, delivery.name] = stream
        return stream

    def answer(self, scope: Scope, operation: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The response to a request; None if moto has to respond."""
        if operation == "CreateDeliveryStream":
            self._check(body)
        elif operation == "UpdateDestination":
            created = self._created.get((scope, str(body.get("DeliveryStreamName"))))
            if created is not None:
                self._check(_updated(created, body))
        with self._lock:
            stream = self._streams.get((scope, str(body.get("DeliveryStreamName"))))
        if stream is None or operation not in ("PutRecord", "PutRecordBatch"):
            return None
        if stream.delivery.source is not None:
            raise AwsError(
                "InvalidArgumentException",
                "This operation is not permitted on KinesisStreamAsSource delivery stream type.",
            )
        if operation == "PutRecord":
            return {"RecordId": stream.put(_data(body["Record"])), "Encrypted": False}
        answers = [_put_answer(identifier) for identifier in stream.put_batch(_batch(body["Records"]))]
        failed = sum("ErrorCode" in answer for answer in answers)
        return {"FailedPutCount": failed, "Encrypted": False, "RequestResponses": answers}

    def completed(self, scope: Scope, operation: str, body: dict[str, Any]) -> None:
        """Create, change or delete a delivery stream after moto did. The buffers of a deleted one are lost."""
        known = (scope, str(body.get("DeliveryStreamName")))
        if operation == "CreateDeliveryStream" and _destination(body) is not None:
            self.add(scope, self._delivery(body))
            self._created[known] = body
        elif operation == "UpdateDestination" and known in self._created:
            created = self._created[known] = _updated(self._created[known], body)
            stream = self._streams[known]
            stream.configure(replace(self._delivery(created), version=stream.delivery.version + 1))
        elif operation == "DeleteDeliveryStream":
            with self._lock:
                self._streams.pop(known, None)
                self._created.pop(known, None)

    def _check(self, body: dict[str, Any]) -> None:
        if _destination(body) is None:
            return
        delivery = self._delivery(body)
        try:
            check_prefixes(delivery)
        except ConfigError as error:
            raise AwsError("InvalidArgumentException", str(error)) from error
        if delivery.source is not None and backend.find_kinesis_stream(delivery.source) is None:
            raise AwsError("ResourceNotFoundException", f"Kinesis stream {delivery.source} not found.")

    def _delivery(self, body: dict[str, Any]) -> Delivery:
        s3 = _destination(body) or {}
        processing = s3.get("ProcessingConfiguration") or {}
        processors = processing.get("Processors", []) if processing.get("Enabled") else []
        kinds = {processor["Type"] for processor in processors}
        parameters = {
            parameter["ParameterName"]: parameter["ParameterValue"]
            for processor in processors
            if processor["Type"] == "Lambda"
            for parameter in processor.get("Parameters", [])
        }
        arn = parameters.get("LambdaArn", "")
        target = _s3_target(str(body["DeliveryStreamName"]), s3)
        return replace(
            target,
            source=(body.get("KinesisStreamSourceConfiguration") or {}).get("KinesisStreamARN"),
            extension=s3.get("FileExtension") or "",
            delimiter="AppendDelimiterToRecord" in kinds,
            transform=(lambda event: self.invoke(arn, event)) if "Lambda" in kinds else None,
            lambda_arn=arn,
            retries=int(parameters.get("NumberOfRetries", 3)),
            backup=_s3_target(target.name, s3["S3BackupConfiguration"]) if _is_backed_up(s3) else None,
        )


def _s3_target(name: str, s3: dict[str, Any]) -> Delivery:
    """The members that an S3DestinationConfiguration has, for the destination or its backup."""
    hints = s3.get("BufferingHints") or {}
    return Delivery(
        name=name,
        bucket=str(s3["BucketARN"]).rpartition(":")[2],
        prefix=s3.get("Prefix") or "",
        error_prefix=s3.get("ErrorOutputPrefix") or "",
        buffer_seconds=float(hints.get("IntervalInSeconds", 300)),
        buffer_bytes=int(hints.get("SizeInMBs", 5)) * _MEGABYTE,
        compression=s3.get("CompressionFormat") or "UNCOMPRESSED",
    )


def _is_backed_up(s3: dict[str, Any]) -> bool:
    """Whether source records are backed up.

    https://docs.aws.amazon.com/firehose/latest/APIReference/API_ExtendedS3DestinationConfiguration.html

    Raises:
        AwsError: the mode is Enabled and there is no configuration.
    """
    if s3.get("S3BackupMode") != "Enabled":
        return False
    if not s3.get("S3BackupConfiguration"):
        raise AwsError("InvalidArgumentException", "S3BackupConfiguration must be set when S3BackupMode is Enabled")
    return True


def _updated(created: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """The body of CreateDeliveryStream with the members that UpdateDestination changes.

    https://docs.aws.amazon.com/firehose/latest/APIReference/API_UpdateDestination.html
    """
    changed = dict(update.get("ExtendedS3DestinationUpdate") or update.get("S3DestinationUpdate") or {})
    if "S3BackupUpdate" in changed:
        before = (_destination(created) or {}).get("S3BackupConfiguration") or {}
        changed["S3BackupConfiguration"] = {**before, **changed.pop("S3BackupUpdate")}
    return {**created, "ExtendedS3DestinationConfiguration": {**(_destination(created) or {}), **changed}}


def _destination(body: dict[str, Any]) -> dict[str, Any] | None:
    return body.get("ExtendedS3DestinationConfiguration") or body.get("S3DestinationConfiguration")


def _batch(records: list[dict[str, Any]]) -> list[bytes]:
    batch = [_data(record) for record in records]
    if len(batch) > _MOST_RECORDS or sum(map(len, batch)) > _MOST_BATCH_BYTES:
        raise AwsError("InvalidArgumentException", "Records size exceeds 4 MB limit, or there are more than 500")
    return batch


def _data(record: dict[str, Any]) -> bytes:
    data = base64.b64decode(record["Data"])
    if len(data) > _MOST_RECORD_BYTES:
        raise AwsError("InvalidArgumentException", "Record size exceeds 1000 KB limit")
    return data


def _put_answer(identifier: str | None) -> dict[str, str]:
    if identifier is None:
        return {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
    return {"RecordId": identifier}
