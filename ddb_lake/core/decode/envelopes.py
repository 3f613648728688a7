"""Change records from decoded JSON objects in any envelope.

The grammar is recursive: a record of one of the forms of `shapes`, a wrapper of `wrappers.WRAPPERS` around payloads, or a
text or bytes (JSON, base64, a container, a KPL aggregate) that hold more of these. Nothing is lost (each record of a
wrapper gives its own ChangeRecord or Rejected), no content of an object raises an exception, and a record does not depend
on its wrapper. Wrappers within wrappers are opened MAX_WRAPPERS deep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from ddb_lake.core.decode.captures import (
    NOWHERE,
    Arrival,
    read_body,
    read_capture,
    read_export_line,
)
from ddb_lake.core.decode.compression import DEFAULT_LIMIT_BYTES, DamagedObjectError, decompress
from ddb_lake.core.decode.envelope_shapes import shape_of
from ddb_lake.core.decode.flattened import read_flattened
from ddb_lake.core.decode.payloads import bytes_of, hidden_in
from ddb_lake.core.decode.repair_lines import read_repair
from ddb_lake.core.decode.sdk_spellings import respelled
from ddb_lake.core.decode.splitter import Piece, split_objects
from ddb_lake.core.decode.wrappers import Payload, notice_of, wrapper_of
from ddb_lake.core.values import json_text
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake.errors import UndecodableError

__all__ = ["MAX_WRAPPERS", "Outcome", "Reading", "Rejected", "read_envelope", "read_hidden", "read_within"]

MAX_WRAPPERS: Final = 16
"""Each wrapper, and each list or text within it, counts."""

KEPT_OF_DAMAGED_BYTES: Final = 1 << 20

PAGE: Final = "ddb_lake/docs/guides/ways-in.md"
"""Where the documentation lists what is read."""

Outcome: TypeAlias = ChangeRecord | Rejected

_MOST_NAMES: Final = 8
_LONGEST_NAME: Final = 40
_FULL_EXPORT: Final = "a line of a full export, which is no change record: load the export with `ddb-lake load`"


@dataclass(slots=True)
class _Room:
    """The bytes to which the containers within one object may still grow together."""

    size_bytes: int = DEFAULT_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known while reading: from the caller (as in `read_envelope`), and from the wrappers around the object."""

    key_names: Sequence[str] | None
    asserted_us: int | None
    time_unit: str | None = None
    arrival: Arrival = NOWHERE
    wrappers: int = 0
    prefix: str = ""  # of reasons: what wrapped the record
    room: _Room = field(default_factory=_Room)

    def rejected(self, reason: str, obj: Any, raw: bytes | None) -> Rejected:
        """What could not be read, with its own bytes where they are known."""
        return Rejected(self.prefix + reason, json_text.dump_raw(obj) if raw is None else raw)

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
    time_unit: str | None = None,
) -> Iterator[Outcome]:
    """The records of one decoded JSON object, in its order; raises MemoryError alone.

    Args:
        key_names: the table's key attributes, partition key first; only flattened records need them.
        asserted_us: the exclusive end of the incremental export that the object is a line of.
        raw: the bytes that `obj` was decoded from, for Rejected; encoded anew if not given.
        time_unit: the unit for times that are impossible in their declared unit (`times.change_time_us`).
    """
    return read_within(obj, raw, Reading(key_names, asserted_us, time_unit))


def read_within(obj: Any, raw: bytes | None, reading: Reading) -> Iterator[Outcome]:
    """`read_envelope` for an object whose surroundings are known; `raw`: the bytes it was decoded from.

    An unexpected exception rejects the object, and the objects around it are read.
    """
    try:
        yield from _read_shape(obj, raw, reading)
    except MemoryError:
        raise
    except Exception as error:
        yield Rejected.unexpected(error, json_text.dump_raw(obj) if raw is None else raw, reading.prefix)


def _read_shape(obj: Any, raw: bytes | None, reading: Reading) -> Iterator[Outcome]:
    shape = shape_of(obj) if isinstance(obj, dict) else None
    if shape == "wrapper":
        yield from _read_wrapper(obj, raw, reading)
        return
    if shape == "capture":
        yield _read_spelled(obj, reading)
    elif shape == "body":
        yield read_body(obj, reading.arrival, reading.time_unit)
    elif shape == "flattened":
        yield read_flattened(obj, reading.key_names, reading.arrival)
    elif shape == "incremental":
        yield read_export_line(obj, reading.asserted_us, reading.time_unit)
    elif shape == "repair":
        yield read_repair(obj)
    elif shape == "full":
        yield reading.rejected(_FULL_EXPORT, obj, raw)
    else:
        yield _read_unknown(obj, raw, reading)


def _read_spelled(obj: dict[str, Any], reading: Reading) -> ChangeRecord:
    """A stream record, if necessary in the spelling of an SDK; if it is neither, the first error is returned."""
    try:
        return read_capture(obj, reading.arrival, reading.time_unit)
    except UndecodableError:
        spelled = respelled(obj)
        if spelled is None or spelled == obj:
            raise
        try:
            return read_capture(spelled, reading.arrival, reading.time_unit)
        except UndecodableError:
            pass
        raise


def _read_unknown(obj: Any, raw: bytes | None, reading: Reading) -> Outcome:
    """A record in the spelling of an SDK, or the reason why there is none."""
    if not isinstance(obj, dict):
        return reading.rejected("no known envelope: it is no JSON object", obj, raw)
    spelled = respelled(obj)
    if spelled is not None:
        read = read_capture if isinstance(spelled.get("dynamodb"), dict) else read_body
        return read(spelled, reading.arrival, reading.time_unit)
    notice = notice_of(obj)
    return reading.rejected(_unknown(obj) if notice is None else notice.reason, obj, raw)


def _unknown(obj: dict[str, Any]) -> str:
    """The reason for an object of no known envelope: some of its members' names, without their values."""
    names = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in obj][:_MOST_NAMES]
    more = f" and {len(obj) - len(names)} more" if len(obj) > len(names) else ""
    members = f"its members are {', '.join(names)}{more}" if names else "it has no members"
    return f"no known envelope: {members}; {PAGE} lists what is read"


def _read_wrapper(obj: dict[str, Any], raw: bytes | None, reading: Reading) -> Iterator[Outcome]:
    """What a wrapper holds, each payload by itself."""
    wrapper = wrapper_of(obj)
    assert wrapper is not None, "its shape is a wrapper"
    if reading.wrappers >= MAX_WRAPPERS:
        yield reading.rejected("wrappers within wrappers, nested too deeply", obj, raw)
        return
    for payload in wrapper.open(obj):
        inside = reading.inside(payload.arrival, payload.prefix)
        if payload.encoded or (payload.member and payload.content in (None, "")):
            content = bytes_of(payload.content, encoded=True)
            if not content:
                yield inside.rejected(f"{payload.member}: missing, empty or no base64", obj, raw)
            else:
                yield from _read_bytes(content, inside)
        else:
            yield from _read_content(payload, inside)


def _read_content(payload: Payload, reading: Reading) -> Iterator[Outcome]:
    """The records in a decoded JSON value: an object, a list of values, or a text that holds some."""
    content = payload.content
    if isinstance(content, list):
        if reading.wrappers >= MAX_WRAPPERS:
            yield reading.rejected("wrappers within wrappers, nested too deeply", content, None)
            return
        for element in content:
            yield from _read_content(Payload(payload.member, element), reading.inside(NOWHERE))
    elif isinstance(content, str | bytes) and content:
        yield from _read_bytes(bytes_of(content, encoded=False) or b"", reading)
    else:
        yield from read_within(content, None, reading)


def _read_bytes(content: bytes, reading: Reading) -> Iterator[Outcome]:
    """The records in a payload; at least one outcome, so that no delivery goes uncounted."""
    if reading.wrappers > MAX_WRAPPERS:
        yield reading.rejected("wrappers within wrappers, nested too deeply", None, content)
        return
    damage: Rejected | None = None
    try:
        opened = decompress(content, reading.room.size_bytes)
    except DamagedObjectError as error:
        opened = error.salvaged
        damage = reading.rejected(str(error), None, content[:KEPT_OF_DAMAGED_BYTES])
    if opened is not content:
        reading.room.size_bytes = max(0, reading.room.size_bytes - len(opened))
    empty = True
    for piece in split_objects(opened):
        empty = False
        if piece.value is not None:
            yield from read_within(piece.value, piece.raw, reading)
            continue
        if piece.error is not None:
            yield Rejected.unexpected(piece.error, piece.raw, reading.prefix)
            continue
        hidden = read_hidden(piece, reading)
        if hidden is None:  # the content of a container is kept as the container
            packed = opened is not content and len(piece.raw) > max(len(content), KEPT_OF_DAMAGED_BYTES)
            yield reading.rejected(piece.problem, None, content if packed else piece.raw)
        else:
            yield from hidden
    if damage is not None:
        yield damage
    elif empty:
        yield reading.rejected("a payload that holds nothing", None, content)


def read_hidden(piece: Piece, reading: Reading) -> Iterator[Outcome] | None:
    """The records in bytes that are no JSON object, if they are base64, JSON strings or a KPL aggregate; else None."""
    hidden = hidden_in(piece.raw)
    if hidden is None:
        return None
    return (outcome for content in hidden for outcome in _read_bytes(content, reading.inside(NOWHERE)))
