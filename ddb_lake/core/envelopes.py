"""Decoded JSON objects into change records, whatever envelope they come in (`formats.md` sections 1 to 3).

Promises: nothing is lost (each record of a wrapper gives a ChangeRecord or a Rejected of its own), nothing raises
(whatever the object holds), and what a record says does not depend on the wrapper it came in. Wrappers within
wrappers are opened MAX_WRAPPERS deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from ddb_lake.core import jsontext
from ddb_lake.core.captures import (
    NOWHERE,
    Arrival,
    arrival_of,
    digits_or_none,
    read_capture,
    read_export_line,
)
from ddb_lake.core.flattening import read_flattened
from ddb_lake.core.records import ChangeRecord, Rejected
from ddb_lake.core.repairs import read_repair
from ddb_lake.core.shapes import ERROR_CODE_NAMES, shape_of
from ddb_lake.core.splitting import split_objects
from ddb_lake.core.times import UNIT_US, time_us_or_none

__all__ = ["MAX_WRAPPERS", "Outcome", "Reading", "Rejected", "read_envelope", "read_within"]

MAX_WRAPPERS: Final = 5

Outcome: TypeAlias = ChangeRecord | Rejected

_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,80}", re.ASCII).fullmatch
_FULL_EXPORT: Final = "a line of a full export, which is no change record: load the export with `ddb-lake load`"


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known while reading: from the caller (as in `read_envelope`), and from the wrappers around the object."""

    key_names: Sequence[str] | None
    asserted_us: int | None
    arrival: Arrival = NOWHERE
    wrappers: int = 0
    prefix: str = ""  # of reasons: what wrapped the record

    def rejected(self, reason: str, obj: Any, raw: bytes | None) -> Rejected:
        """What could not be read, with its own bytes where they are known."""
        return Rejected(self.prefix + reason, jsontext.dump_raw(obj) if raw is None else raw)

    def inside(self, arrival: Arrival, prefix: str = "") -> Reading:
        """The reading of what a wrapper holds."""
        return replace(
            self, arrival=arrival.or_else(self.arrival), wrappers=self.wrappers + 1, prefix=self.prefix + prefix
        )


def read_envelope(
    obj: Any,
    *,
    key_names: Sequence[str] | None = None,
    asserted_us: int | None = None,
    raw: bytes | None = None,
) -> Iterator[Outcome]:
    """The records of one decoded JSON object, in its order; raises MemoryError alone.

    Args:
        key_names: the table's key attributes, partition key first; only flattened records need them.
        asserted_us: the exclusive end of the incremental export that the object is a line of.
        raw: the bytes that `obj` was decoded from, for Rejected; encoded anew if not given.
    """
    return read_within(obj, raw, Reading(key_names, asserted_us))


def read_within(obj: Any, raw: bytes | None, reading: Reading) -> Iterator[Outcome]:
    """As `read_envelope`, of an object whose surroundings are known; `raw` are the bytes it was decoded from.

    An exception that nothing expected rejects the object, and the objects around it are read.
    """
    try:
        yield from _read_shape(obj, raw, reading)
    except MemoryError:
        raise
    except Exception as error:
        yield Rejected.unexpected(error, jsontext.dump_raw(obj) if raw is None else raw, reading.prefix)


def _read_shape(obj: Any, raw: bytes | None, reading: Reading) -> Iterator[Outcome]:
    shape = shape_of(obj) if isinstance(obj, dict) else None
    if shape in ("records", "error", "kinesis", "firehose_record"):
        if reading.wrappers >= MAX_WRAPPERS:
            yield reading.rejected("wrappers within wrappers, nested too deeply", obj, raw)
        elif shape == "records":
            yield from _read_elements(obj, reading)
        elif shape == "error":
            yield from _read_error(obj, raw, reading)
        else:
            yield from _read_element_data(obj, raw, reading)
        return
    if shape == "capture":
        yield read_capture(obj, reading.arrival)
    elif shape == "flattened":
        yield read_flattened(obj, reading.key_names, reading.arrival)
    elif shape == "incremental":
        yield read_export_line(obj, reading.asserted_us)
    elif shape == "repair":
        yield read_repair(obj)
    else:
        yield reading.rejected(_FULL_EXPORT if shape == "full" else "no known envelope", obj, raw)


def _read_elements(obj: dict[str, Any], reading: Reading) -> Iterator[Outcome]:
    """The elements of a Lambda event, a GetRecords answer or a Firehose transform event, each on its own."""
    elements = obj["Records"] if isinstance(obj.get("Records"), list) else obj["records"]
    inside = reading.inside(NOWHERE)
    for element in elements:
        yield from read_within(element, None, inside)


def _read_element_data(obj: dict[str, Any], raw: bytes | None, reading: Reading) -> Iterator[Outcome]:
    """The data of one Kinesis record of a Lambda event, or of one record of a Firehose transform event."""
    kinesis = obj.get("kinesis")
    if isinstance(kinesis, dict):
        shard, _, _ = str(obj.get("eventID", "")).rpartition(":")
        arrival = Arrival(
            digits_or_none(kinesis.get("sequenceNumber")),
            shard or None,
            time_us_or_none(kinesis.get("approximateArrivalTimestamp"), UNIT_US["SECOND"]),
        )
        data = kinesis.get("data")
    else:
        metadata = obj.get("kinesisRecordMetadata")
        arrival = arrival_of(metadata) if isinstance(metadata, dict) else NOWHERE
        arrived_us = time_us_or_none(obj.get("approximateArrivalTimestamp"), UNIT_US["MILLISECOND"])
        arrival = arrival.or_else(Arrival(arrived_us=arrived_us))
        data = obj.get("data")
    content = data if isinstance(data, bytes) else jsontext.decode_base64(data)
    if not content:
        yield reading.rejected("data: empty or no base64", obj, raw)
    else:
        yield from _read_bytes(content, reading.inside(arrival))


def _read_error(obj: dict[str, Any], raw: bytes | None, reading: Reading) -> Iterator[Outcome]:
    """The original records in what Firehose could not process or convert."""
    codes = [obj[name] for name in ERROR_CODE_NAMES if name in obj]
    code = next((code for code in codes if isinstance(code, str) and _ERROR_CODE(code)), "without an error code")
    prefix = f"Firehose error {code}: "
    arrived_us = time_us_or_none(obj.get("arrivalTimestamp"), UNIT_US["MILLISECOND"])
    arrival = Arrival(digits_or_none(obj.get("sequenceNumber")), None, arrived_us)
    content = jsontext.decode_base64(obj.get("rawData"))
    if not content:
        yield reading.rejected(f"{prefix}rawData: missing, empty or no base64", obj, raw)
    else:
        yield from _read_bytes(content, reading.inside(arrival, prefix))


def _read_bytes(content: bytes, reading: Reading) -> Iterator[Outcome]:
    """The records in a payload; at least one outcome, so that no delivery goes uncounted."""
    empty = True
    for piece in split_objects(content):
        empty = False
        if piece.error is not None:
            yield Rejected.unexpected(piece.error, piece.raw, reading.prefix)
        elif piece.value is None:
            yield reading.rejected(piece.problem, None, piece.raw)
        else:
            yield from read_within(piece.value, piece.raw, reading)
    if empty:
        yield reading.rejected("a payload that holds nothing", None, content)
