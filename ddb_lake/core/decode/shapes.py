"""Recognise what a decoded JSON object is, by the names and types of its members.

An *envelope* is an object that delivers change records. There are two kinds:

- a *record form*: one record, in the form of a captured record, of its `dynamodb` object alone, of a flattened record, or of
  a line of an export or a repair;
- a *wrapper*: an object in which a service delivers other envelopes. What it holds is its *payloads*: decoded objects, lists of
  them, or texts (JSON or base64) and bytes that hold more. `WRAPPERS` has all wrappers that are read.

A *notice* is a known object without records; its reason states where the records are. `docs/guides/ways-in.md` lists
wrappers and notices. `envelopes` opens wrappers and reads records.

`shape_of` decides over complete objects and is generous: an object that resembles an envelope is rejected with the reasons of
that envelope. `is_envelope` decides over objects found between damaged bytes and is strict: it is False for everything that
can occur inside an item, where every member is an object with a type tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ddb_lake.core.decode.arrival_stamp import STAMP, UNKNOWN_ARRIVAL, Arrival, read_stamp, sequence_number_or_none
from ddb_lake.core.values.attributes import check_item
from ddb_lake.core.values.change_record import EVENT_NAMES
from ddb_lake.core.values.times import UNIT_US, arrival_us_or_none
from ddb_lake.errors import UndecodableError

Members: TypeAlias = dict[str, Any]

ERROR_CODE_NAMES: Final = ("errorCode", "ErrorCode", "lastErrorCode")


class Payload(NamedTuple):
    """The content of one member of a wrapper, or one element of a list (`member` is empty then).

    `arrival`: what the wrapper states about the arrival of the records in it. `encoded`: the content is base64. `prefix`: the
    beginning of the reasons of its rejected records.
    """

    member: str
    content: Any
    arrival: Arrival = UNKNOWN_ARRIVAL
    encoded: bool = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """One kind of wrapper. `page`: its documentation. `recognise`, `is_certain`: the tests of `shape_of` and `is_envelope`."""

    name: str
    page: str
    recognise: Callable[[Members], bool]
    open: Callable[[Members], Iterator[Payload]]
    is_certain: Callable[[Members], bool] = lambda _obj: True


@dataclass(frozen=True, slots=True)
class Notice:
    """One kind of known object without change records. `page`: its documentation. `reason`: where the records are."""

    name: str
    page: str
    recognise: Callable[[Members], bool]
    reason: str


def wrapper_of(obj: Members) -> Wrapper | None:
    """The kind of wrapper that this object is; None if it is none."""
    for wrapper in WRAPPERS:
        if wrapper.recognise(obj):
            return wrapper
    return None


def notice_of(obj: Members) -> Notice | None:
    """The kind of notice that this object is; None if it is none."""
    for notice in NOTICES:
        if notice.recognise(obj):
            return notice
    return None


def _member(obj: Members, *names: str) -> Any:
    """The first of these members that is present and not null, or None."""
    return next((obj[name] for name in names if obj.get(name) is not None), None)


def _is_text(obj: Members, *names: str) -> bool:
    return isinstance(_member(obj, *names), str)


# --- lists of records


def _list_of_records(obj: Members) -> list[Any] | None:
    return next((obj[name] for name in ("Records", "records", "Messages") if isinstance(obj.get(name), list)), None)


def _open_list(obj: Members) -> Iterator[Payload]:
    for element in _list_of_records(obj) or ():
        yield Payload("", element)


def _is_list_of_objects(obj: Members) -> bool:
    elements = _list_of_records(obj)
    return bool(elements) and all(isinstance(element, dict) for element in elements or ())


# --- Kinesis and Firehose


def _open_lambda_kinesis(obj: Members) -> Iterator[Payload]:
    kinesis = obj["kinesis"]
    shard, _, _ = str(obj.get("eventID", "")).rpartition(":")
    yield Payload("data", kinesis.get("data"), _kinesis_arrival(kinesis, shard or None), encoded=True)


def _kinesis_arrival(record: Members, shard: str | None) -> Arrival:
    arrived = _member(record, "approximateArrivalTimestamp", "ApproximateArrivalTimestamp")
    sequence = sequence_number_or_none(_member(record, "sequenceNumber", "SequenceNumber"))
    return Arrival(sequence, shard, arrival_us_or_none(arrived, UNIT_US["SECOND"]))


def _is_kinesis_record(obj: Members) -> bool:
    return _is_text(obj, "sequenceNumber", "SequenceNumber") and _member(obj, "data", "Data") is not None


def _open_kinesis_record(obj: Members) -> Iterator[Payload]:
    shard, _, _ = str(_member(obj, "eventID") or "").rpartition(":")
    yield Payload("Data", _member(obj, "data", "Data"), _kinesis_arrival(obj, shard or None), encoded=True)


def _open_firehose_record(obj: Members) -> Iterator[Payload]:
    stamp = obj.get(STAMP)
    arrival = read_stamp(stamp) if isinstance(stamp, dict) else UNKNOWN_ARRIVAL
    arrived_us = arrival_us_or_none(obj.get("approximateArrivalTimestamp"), UNIT_US["MILLISECOND"])
    yield Payload("data", obj["data"], arrival.or_else(Arrival(arrived_us=arrived_us)), encoded=True)


def _is_firehose_error(obj: Members) -> bool:
    return "rawData" in obj or ("attemptsMade" in obj and any(name in obj for name in ERROR_CODE_NAMES))


def _open_firehose_error(obj: Members) -> Iterator[Payload]:
    codes = [obj[name] for name in ERROR_CODE_NAMES if isinstance(obj.get(name), str)]
    code = next((code for code in codes if _is_error_code(code)), "without an error code")
    arrived_us = arrival_us_or_none(obj.get("arrivalTimestamp"), UNIT_US["MILLISECOND"])
    arrival = Arrival(sequence_number_or_none(obj.get("sequenceNumber")), None, arrived_us)
    yield Payload("rawData", obj.get("rawData"), arrival, encoded=True, prefix=f"Firehose error {code}: ")


def _is_error_code(code: str) -> bool:
    return 0 < len(code) <= 80 and code.isascii() and all(c.isalnum() or c in "_.:-" for c in code)


def _is_certain_error(obj: Members) -> bool:
    return isinstance(obj.get("rawData", ""), str) and any(
        isinstance(obj.get(name), str) for name in (*ERROR_CODE_NAMES, "rawData")
    )


# --- Lambda, EventBridge, SNS, SQS


def _is_invocation(obj: Members, payload: str) -> bool:
    return isinstance(obj.get("requestContext"), dict) and obj.get(payload) is not None


def _is_notification(obj: Members) -> bool:
    return obj.get("Type") == "Notification" and _is_text(obj, "Message")


def _is_sns_record(obj: Members) -> bool:
    notification = _member(obj, "Sns", "sns")
    return isinstance(notification, dict) and _is_text(notification, "Message", "message")


def _is_message(obj: Members) -> bool:
    return _is_text(obj, "body", "Body") and _is_text(obj, "messageId", "MessageId")


def _open_member(*names: str) -> Callable[[Members], Iterator[Payload]]:
    def opened(obj: Members) -> Iterator[Payload]:
        yield Payload(names[0], _member(obj, *names))

    return opened


def _open_sns_record(obj: Members) -> Iterator[Payload]:
    notification = _member(obj, "Sns", "sns")
    yield Payload("Message", _member(notification, "Message", "message"))


WRAPPERS: Final = (
    Wrapper(
        "list of records",
        "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html",
        lambda obj: _list_of_records(obj) is not None,
        _open_list,
        _is_list_of_objects,
    ),
    Wrapper(
        "Firehose error record",
        "https://docs.aws.amazon.com/firehose/latest/dev/retry.html",
        _is_firehose_error,
        _open_firehose_error,
        _is_certain_error,
    ),
    Wrapper(
        "Kinesis record of a Lambda event",
        "https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html",
        lambda obj: isinstance(obj.get("kinesis"), dict),
        _open_lambda_kinesis,
        lambda obj: isinstance(obj["kinesis"].get("data"), str),
    ),
    Wrapper(
        "Firehose record of a transform event",
        "https://docs.aws.amazon.com/firehose/latest/dev/data-transformation.html",
        lambda obj: "recordId" in obj and "data" in obj,
        _open_firehose_record,
        lambda obj: isinstance(obj["recordId"], str) and isinstance(obj["data"], str),
    ),
    Wrapper(
        "Kinesis record of GetRecords or EventBridge Pipes",
        "https://docs.aws.amazon.com/kinesis/latest/APIReference/API_Record.html",
        _is_kinesis_record,
        _open_kinesis_record,
    ),
    Wrapper(
        "Lambda asynchronous invocation record",
        "https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html",
        lambda obj: _is_invocation(obj, "requestPayload"),
        _open_member("requestPayload"),
        lambda obj: _is_text(obj, "version", "timestamp"),
    ),
    Wrapper(
        "Lambda event source mapping failure in S3",
        "https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html",
        lambda obj: _is_invocation(obj, "payload"),
        _open_member("payload"),
        lambda obj: _is_text(obj, "version", "timestamp"),
    ),
    Wrapper(
        "EventBridge event",
        "https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html",
        lambda obj: _is_text(obj, "detail-type") and obj.get("detail") is not None,
        _open_member("detail"),
    ),
    Wrapper(
        "SNS record of a Lambda event",
        "https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html",
        _is_sns_record,
        _open_sns_record,
    ),
    Wrapper(
        "SNS notification",
        "https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html",
        _is_notification,
        _open_member("Message"),
    ),
    Wrapper(
        "SQS message",
        "https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html",
        _is_message,
        _open_member("body", "Body"),
    ),
)
"""All wrappers, in the order in which they are tried."""


def _is_failure_without_payload(obj: Members) -> bool:
    context, batch = obj.get("requestContext"), _member(obj, "DDBStreamBatchInfo", "KinesisBatchInfo")
    return isinstance(context, dict) and isinstance(batch, dict) and obj.get("payload") is None


def _is_s3_notification(obj: Members) -> bool:
    test = obj.get("Event") == "s3:TestEvent"
    return test or (isinstance(obj.get("s3"), dict) and obj.get("eventSource") == "aws:s3")


def _is_items(obj: Members) -> bool:
    return isinstance(obj.get("Items"), list) and ("Count" in obj or "ScannedCount" in obj)


def _is_debezium(obj: Members) -> bool:
    change = obj["payload"] if isinstance(obj.get("payload"), dict) else obj
    return _is_text(change, "op") and ("after" in change or "before" in change)


NOTICES: Final = (
    Notice(
        "Lambda event source mapping failure in SQS or SNS",
        "https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html",
        _is_failure_without_payload,
        "a notice of a failed Lambda batch: AWS sends no records to a queue or topic. Set an S3 bucket as the mapping's"
        " on-failure destination; repair the stretch that this batch covers from an incremental export",
    ),
    Notice(
        "S3 notification",
        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html",
        _is_s3_notification,
        "an S3 notification, which names an object and holds no record: apply the object",
    ),
    Notice(
        "output of Scan or Query",
        "https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html",
        _is_items,
        "the output of Scan or Query: its items have no time, so their order among changes is not known. Load an export"
        " of the table with `ddb-lake load`",
    ),
    Notice(
        "Debezium change event",
        "https://debezium.io/documentation/reference/stable/connectors/",
        _is_debezium,
        "a Debezium change event: its images are plain JSON without DynamoDB's types and keys, so they would be guessed."
        " Deliver the records of DynamoDB Streams or Kinesis Data Streams for DynamoDB",
    ),
)
"""All notices, in the order in which they are tried."""


# --- shapes

Shape: TypeAlias = Literal["capture", "wrapper", "body", "flattened", "incremental", "repair", "full"]
"""capture: a change record of DynamoDB (Streams or Kinesis). body: the `dynamodb` object of such a record alone. flattened: an
item in plain JSON with its event. incremental, full: a line of an export. repair: a line of a repair. wrapper: the others.
"""

_LINE_MEMBERS: Final = frozenset({"Metadata", "Keys", "NewImage", "OldImage"})


def is_flattened(obj: dict[str, Any]) -> bool:
    """Whether the object has the two attributes that a flattening transform adds to an item."""
    return "ingestion_timestamp" in obj and "Event" in obj and isinstance(obj["Event"], str)


def shape_of(obj: dict[str, Any]) -> Shape | None:
    """The shape of the envelope that this object is; None if it is no envelope."""
    if is_flattened(obj):  # first: its other members are an item's, of any name
        return "flattened"
    if "dynamodb" in obj:
        return "capture"
    if wrapper_of(obj) is not None:
        return "wrapper"
    if "Keys" in obj and "ApproximateCreationDateTime" in obj and ("eventName" in obj or "SequenceNumber" in obj):
        return "body"
    if "Keys" in obj and isinstance(obj.get("Repair"), dict):
        return "repair"
    if "Keys" in obj and ("Metadata" in obj or obj.keys() <= _LINE_MEMBERS):
        return "incremental"
    if "Metadata" in obj and ("NewImage" in obj or "OldImage" in obj):
        return "incremental"
    return "full" if obj.keys() == {"Item"} else None


def is_envelope(obj: dict[str, Any]) -> bool:
    """Whether the object is certainly an envelope, even between damaged bytes."""
    match shape_of(obj):
        case "flattened":
            return obj["Event"] in EVENT_NAMES and isinstance(obj["ingestion_timestamp"], str)
        case "capture":
            body = obj["dynamodb"]
            return isinstance(obj.get("eventName"), str) and isinstance(body, dict) and "Keys" in body
        case "wrapper":
            wrapper = wrapper_of(obj)
            return wrapper is not None and wrapper.is_certain(obj)
        case "body":  # without its event's name it may be a part of a damaged record
            return isinstance(obj["Keys"], dict) and isinstance(obj.get("eventName"), str)
        case "repair":
            return "AssertedMicros" in obj["Repair"]
        case "incremental":
            metadata = obj.get("Metadata")
            return isinstance(metadata, dict) and "WriteTimestampMicros" in metadata and "Keys" in obj
        case "full":
            return _is_item(obj["Item"])
    return False


def _is_item(item: Any) -> bool:
    try:
        check_item(item)
    except UndecodableError:
        return False
    return True
