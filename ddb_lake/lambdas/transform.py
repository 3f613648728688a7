"""Firehose transformation: change records of DynamoDB, one on each line, stamped with their arrival.

`firehose_batch` has the shapes of event and response.

`DDB_LAKE_MODE`
    `envelope` (default): the record as it is, byte for byte, with `kinesisRecordMetadata` added: the Kinesis sequence
    number, the shard, the arrival time. The record has no other sequence number.
    `flatten`: the item in plain JSON of one level, with `address__city` for members of maps (`core.decode.flattened`).
    `nested`: the item in plain JSON, with maps as objects. In both, an item with an attribute of a reserved name is
    delivered in its envelope.
`DDB_LAKE_ENRICH`
    `package.module:function`, which changes items before they are delivered (`lambdas.enrichment`). It is called for the new and
    the old image, so that the images of consecutive changes still agree.
`DDB_LAKE_PARTITION_KEYS`
    Keys for dynamic partitioning, comma-separated: `table`, `event`, `date`, `hour` (`core.capture.firehose_records`).

Ok: one change record. Dropped: white space alone. ProcessingFailed: anything else; Firehose writes the original to the
error prefix, where the lake reads it. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from ddb_lake.core.capture.firehose_records import parse_names, partition_keys
from ddb_lake.core.decode.arrival_stamp import STAMP, UNKNOWN_ARRIVAL, Arrival, stamped_line
from ddb_lake.core.decode.captures import read_capture
from ddb_lake.core.decode.flattened import flatten
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.core.values.plain_json import loads_strict
from ddb_lake.errors import ConfigError, UndecodableError
from ddb_lake.lambdas.enrichment import Enrichment, enriched_record
from ddb_lake.lambdas.environment import Variable, read_variables
from ddb_lake.lambdas.firehose_batch import Kept, is_blank, process_batch

VARIABLES: Final = (Variable("DDB_LAKE_MODE"), Variable("DDB_LAKE_PARTITION_KEYS"), Variable("DDB_LAKE_ENRICH"))
Mode: TypeAlias = Literal["envelope", "flatten", "nested"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


def handler(event: dict[str, Any], context: object) -> dict[str, list[dict[str, Any]]]:  # noqa: ARG001  # Lambda's
    """The entry point of Lambda. Raises ConfigError for an invalid environment, and nothing for any event."""
    return process_batch(event, Transform.from_environment(os.environ).process)


@dataclass(frozen=True, slots=True)
class Transform:
    """How records are transformed."""

    mode: Mode = "envelope"
    partition_keys: tuple[str, ...] = ()
    enrichment: Enrichment | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Transform:
        """Read the settings. Raises ConfigError."""
        found = read_variables(VARIABLES, environment)
        mode = found.get("DDB_LAKE_MODE", "envelope")
        if mode not in MODES:
            raise ConfigError(f"DDB_LAKE_MODE is {mode!r}: expected one of {', '.join(MODES)}")
        enrich = found.get("DDB_LAKE_ENRICH")
        keys = parse_names(found.get("DDB_LAKE_PARTITION_KEYS", ""))
        return cls(mode, keys, Enrichment.named(enrich) if enrich else None)  # type: ignore[arg-type]  # one of MODES

    def process(self, data: bytes, arrival: Arrival) -> Kept | None:
        """The delivered form of one record; None for white space.

        Raises:
            UndecodableError: it is not a change record, or the enrichment failed for it. The reason has no values.
        """
        if is_blank(data):
            return None
        captured = Captured.read(data, arrival)
        if self.enrichment is not None:
            captured = captured.enriched(self.enrichment)
        line = captured.envelope() if self.mode == "envelope" else captured.flattened(nested=self.mode == "nested")
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

    def enriched(self, enrichment: Enrichment) -> Captured:
        """The record with its images changed by the enrichment. Raises UndecodableError."""
        data = enriched_record(self.data, self.record, enrichment)
        return Captured(read_capture(loads_strict(data), self.arrival), data, self.arrival)

    def envelope(self) -> bytes:
        """The unchanged record with its stamp, on one line."""
        return stamped_line(self.data, self.arrival)

    def flattened(self, *, nested: bool = False) -> bytes:
        """The item in plain JSON on one line, or the envelope if an attribute has a reserved name.

        `nested`: maps are objects; by default there is one level.
        """
        text = flatten(self.record, nested=nested)
        return self.envelope() if text is None else text.encode() + b"\n"
