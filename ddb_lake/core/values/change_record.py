"""The change record: one insert, modify, remove or assertion, in the same form for all envelopes; and rejected bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ddb_lake.errors import UndecodableError

AttributeValue: TypeAlias = dict[str, Any]
"""One DynamoDB JSON value, `{"S": "x"}`; B and BS hold base64 text, encoded once."""

Item: TypeAlias = dict[str, AttributeValue]
"""Attribute name to value."""

Kind: TypeAlias = Literal["kds", "streams", "flattened", "incremental", "repair"]
EventName: TypeAlias = Literal["INSERT", "MODIFY", "REMOVE", "UPSERT", "DELETE"]

EVENT_NAMES: Final = ("INSERT", "MODIFY", "REMOVE")
"""The events that DynamoDB captures.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html
"""


class Texts(NamedTuple):
    """Keys and images of a record as JSON with sorted names, as orjson writes it."""

    keys: bytes
    new_image: bytes | None
    old_image: bytes | None


@dataclass(slots=True)
class ChangeRecord:
    """One landed record. Treat it as immutable; it is not frozen because creating a frozen one takes four times as long.

    `changed_us`: UTC microseconds since the epoch. INSERT, MODIFY and REMOVE are change records; UPSERT and DELETE are
    assertions: a line of an incremental export or of a repair, which states the image of a key as of `asserted_us`.

    `texts`: set for a record of the fast path, whose keys and images are not validated yet (`core.decode.fast_path`).
    `dataclasses.replace` drops the texts.
    """

    kind: Kind
    event_name: EventName
    changed_us: int
    keys: Item
    new_image: Item | None = None
    old_image: Item | None = None
    table: str | None = None  # the source table's name, if the envelope has it
    event_id: str | None = None
    sequence_number: str | None = None  # DynamoDB Streams only: orders the records of one stream
    stream: str | None = None  # DynamoDB Streams only: its ARN
    kinesis_sequence: str | None = None  # from the arrival stamp or the wrapper
    shard: str | None = None
    arrived_us: int | None = None  # arrival in Kinesis or Firehose; None: not known
    asserted_us: int | None = None  # assertions only: the end (exclusive) of the time for which it states the image
    ttl: bool = False  # removed by DynamoDB's Time to Live
    region: str | None = field(default=None, compare=False)  # the source table's Region, if the envelope has it
    texts: Texts | None = field(default=None, init=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Bytes that could not be read as a change record; they go to quarantine.

    `reason` names the field or the fault and the next step, without an item's values. `raw` is the smallest part of the
    landed object that can be read alone once the cause is corrected.
    """

    reason: str
    raw: bytes
    record_id: str | None = None
    """Set if the bytes are a record that violates the table's JSON Schema."""
    error: Exception | None = field(default=None, compare=False, repr=False)
    """An unexpected exception that reading raised; the caller logs its traceback."""

    @classmethod
    def unexpected(cls, error: Exception, raw: bytes, prefix: str = "") -> Rejected:
        """Bytes whose reading raised `error`. The text of an unexpected exception may have values, so it is left out."""
        if isinstance(error, UndecodableError):
            return cls(f"{prefix}{error}", raw)
        return cls(
            f"{prefix}reading it raised {type(error).__name__}, a fault of ddb_lake: the log has the traceback; replay"
            " the quarantine with a release that reads it",
            raw,
            error=error,
        )
