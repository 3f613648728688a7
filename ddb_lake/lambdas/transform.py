"""Firehose transformation: change records of DynamoDB, one on each line, stamped with their arrival.

`firehose_batch` has the shapes of event and response.

`DDB_LAKE_MODE`
    `envelope` (default): the record as it is, byte for byte, with `kinesisRecordMetadata` added: the Kinesis sequence
    number, the shard, the arrival time. The record has no other sequence number.
    `flatten`: the item in plain JSON (`core.decode.flattened`). An item with an attribute of a reserved name is
    delivered in its envelope.
`DDB_LAKE_PARTITION_KEYS`
    Keys for dynamic partitioning, comma-separated: `table`, `event`, `date`, `hour` (`core.capture.firehose_records`).

Ok: one change record. Dropped: white space alone. ProcessingFailed: anything else; Firehose writes the original to the
error prefix, where the lake reads it. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ddb_lake.core.capture.firehose_records import parse_names, partition_keys
from ddb_lake.core.decode.arrival_stamp import STAMP, UNKNOWN_ARRIVAL, Arrival, stamped_line
from ddb_lake.core.decode.captures import read_capture
from ddb_lake.core.decode.flattened import flatten
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.core.values.plain_json import loads_strict
from ddb_lake.errors import ConfigError, UndecodableError
from ddb_lake.lambdas.environment import Variable, read_variables
from ddb_lake.lambdas.firehose_batch import Kept, is_blank, process_batch

VARIABLES: Final = (Variable("DDB_LAKE_MODE"), Variable("DDB_LAKE_PARTITION_KEYS"))
_MODES = ("envelope", "flatten")


def handler(event: dict[str, Any], context: object) -> dict[str, list[dict[str, Any]]]:  # noqa: ARG001  # Lambda's
    """The entry point of Lambda. Raises ConfigError for an invalid environment, and nothing for any event."""
    return process_batch(event, Transform.from_environment(os.environ).process)


@dataclass(frozen=True, slots=True)
class Transform:
    """How records are transformed."""

    mode: Literal["envelope", "flatten"] = "envelope"
    partition_keys: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Transform:
        """Read the settings. Raises ConfigError."""
        found = read_variables(VARIABLES, environment)
        mode = found.get("DDB_LAKE_MODE", "envelope")
        if mode not in _MODES:
            raise ConfigError(f"DDB_LAKE_MODE is {mode!r}: expected one of {', '.join(_MODES)}")
        return cls(mode, parse_names(found.get("DDB_LAKE_PARTITION_KEYS", "")))  # type: ignore[arg-type]

    def process(self, data: bytes, arrival: Arrival) -> Kept | None:
        """The delivered form of one record; None for white space. Raises UndecodableError if it is not a change record."""
        if is_blank(data):
            return None
        captured = Captured.read(data, arrival)
        line = captured.flattened() if self.mode == "flatten" else captured.envelope()
        return Kept(line, partition_keys(captured.record, self.partition_keys) if self.partition_keys else None)


@dataclass(frozen=True, slots=True)
class Captured:
    """A captured record, its bytes, and the arrival to stamp it with (none if it was stamped before)."""

    record: ChangeRecord
    data: bytes
    arrival: Arrival

    @classmethod
    def read(cls, data: bytes, arrival: Arrival) -> Captured:
        """Read a record. Raises UndecodableError, with a reason that has no values."""
        obj = loads_strict(data)
        if type(obj) is not dict or type(obj.get("dynamodb")) is not dict:
            raise UndecodableError("no change record of DynamoDB")
        return cls(read_capture(obj, arrival), data, UNKNOWN_ARRIVAL if STAMP in obj else arrival)

    def envelope(self) -> bytes:
        """The unchanged record with its stamp, on one line."""
        return stamped_line(self.data, self.arrival)

    def flattened(self) -> bytes:
        """The item in plain JSON on one line, or the envelope if an attribute has a reserved name."""
        text = flatten(self.record)
        return self.envelope() if text is None else text.encode() + b"\n"
