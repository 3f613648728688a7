"""The change record: one insert, modify, remove or assertion, whatever envelope it came in."""

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
"""The kinds of record that DynamoDB captures."""


class Texts(NamedTuple):
    """Keys and images of a record as JSON with sorted names, as orjson writes it."""

    keys: bytes
    new_image: bytes | None
    old_image: bytes | None


@dataclass(slots=True)
class ChangeRecord:
    """What one landed record says, in one shape for all envelopes of `formats.md`. Nobody changes one.

    (It is not frozen, because making a frozen one takes four times as long.)

    `changed_us` is UTC microseconds since the epoch, normalised by the record's declared precision.
    INSERT, MODIFY and REMOVE are change records; UPSERT and DELETE are assertions (a line of an
    incremental export or of a repair: the state, as of `asserted_us`, of this key).

    `texts`: set for a record of the fast path. Its keys and images are unchecked until `usual` finds that they are items.
    `dataclasses.replace` drops the texts.
    """

    kind: Kind
    event_name: EventName
    changed_us: int
    keys: Item
    new_image: Item | None = None
    old_image: Item | None = None
    table: str | None = None  # the source table's name, where the envelope gives one
    event_id: str | None = None
    sequence_number: str | None = None  # DynamoDB Streams only: orders the records of one stream
    stream: str | None = None  # DynamoDB Streams only: its ARN
    kinesis_sequence: str | None = None  # stamped by the transform Lambda
    shard: str | None = None
    arrived_us: int | None = None  # arrival in Kinesis or Firehose, where known
    asserted_us: int | None = None  # assertions only: the (exclusive) end of what was seen
    ttl: bool = False  # removed by DynamoDB's Time to Live
    region: str | None = field(default=None, compare=False)  # the source table's Region, where the envelope names it
    texts: Texts | None = field(default=None, init=False, compare=False, repr=False)

    def unchecked(self, texts: Texts) -> ChangeRecord:
        """This record, to which there is no other reference yet, with its `texts`."""
        self.texts = texts
        return self


@dataclass(frozen=True, slots=True)
class Rejected:
    """Bytes that gave no change record, on their way to quarantine.

    `reason` names the field or the fault and what to do about it, never an item's values. `raw` is the
    smallest piece of the landed object that can be read again on its own once the reason is mended.
    """

    reason: str
    raw: bytes
    record_id: str | None = None
    """Set if the bytes are a record, but the record breaks the table's JSON Schema."""
    error: Exception | None = field(default=None, compare=False, repr=False)
    """An unexpected exception that reading raised; its traceback is written to the log."""

    @classmethod
    def unexpected(cls, error: Exception, raw: bytes, prefix: str = "") -> Rejected:
        """Bytes whose reading raised an unexpected exception. The exception's text may have values, so it is left out."""
        if isinstance(error, UndecodableError):
            return cls(f"{prefix}{error}", raw)
        return cls(
            f"{prefix}reading it raised {type(error).__name__}, a fault of ddb_lake: the log has the traceback; replay"
            " the quarantine with a release that reads it",
            raw,
            error=error,
        )
