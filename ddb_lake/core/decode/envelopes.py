"""Read the change records of a decoded JSON object, whatever envelope it is.

`shapes` defines the terms: an envelope is a record form or a wrapper, and a wrapper has payloads. Reading is recursive,
because a payload holds further envelopes, or bytes (JSON, base64, a container, a KPL aggregate) that hold them; at most
MAX_WRAPPERS levels are opened.

Promises: each record of a wrapper is one outcome, a ChangeRecord or a Rejected. A record does not depend on its wrapper. No
content raises an exception, except MemoryError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from ddb_lake.core.decode.arrival_stamp import UNKNOWN_ARRIVAL, Arrival
from ddb_lake.core.decode.captures import read_body, read_capture, respelled
from ddb_lake.core.decode.compression import (
    DEFAULT_LIMIT_BYTES,
    DamagedObjectError,
    decompress,
    is_base64_start,
    is_known_start,
)
from ddb_lake.core.decode.export_lines import read_incremental_line, read_repair_line
from ddb_lake.core.decode.flattened import read_flattened
from ddb_lake.core.decode.kpl import MAGIC as KPL_MAGIC
from ddb_lake.core.decode.kpl import find_aggregates
from ddb_lake.core.decode.shapes import Payload, notice_of, shape_of, wrapper_of
from ddb_lake.core.decode.splitter import LARGEST_RECORD_BYTES, Segment, split_json
from ddb_lake.core.values import json_text
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake.errors import UndecodableError

MAX_WRAPPERS: Final = 16
"""The most levels of payloads that are opened: each wrapper, and each list or text within it, is one."""

KEPT_OF_OVERSIZED_BYTES: Final = 1 << 20
"""The bytes that are kept of garbage that is larger than any record."""

PAGE: Final = "ddb_lake/docs/guides/ways-in.md"
"""The page of the documentation that lists all envelopes."""

Outcome: TypeAlias = ChangeRecord | Rejected

_MOST_NAMES: Final = 8
_LONGEST_NAME: Final = 40
_FULL_EXPORT: Final = "a line of a full export, which is no change record: load the export with `ddb-lake load`"


@dataclass(slots=True)
class _Room:
    """The size that the content of all remaining containers of one object may have together."""

    size_bytes: int = DEFAULT_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What is known about an object before it is read.

    `key_names`, `asserted_us`, `time_unit`: given by the caller, as in `read_envelope`. `arrival`, `depth` (the levels of
    payloads around the object) and `prefix` (the beginning of the reasons of rejected records): from its wrappers.
    """

    key_names: Sequence[str] | None
    asserted_us: int | None
    time_unit: str | None = None
    arrival: Arrival = UNKNOWN_ARRIVAL
    depth: int = 0
    prefix: str = ""
    room: _Room = field(default_factory=_Room)

    def rejected(self, reason: str, obj: Any, raw: bytes | None) -> Rejected:
        """A rejected object. `raw`: its bytes, None if they are not known; then the object is encoded."""
        return Rejected(self.prefix + reason, json_text.dump_raw(obj) if raw is None else raw)

    def of_payload(self, arrival: Arrival = UNKNOWN_ARRIVAL, prefix: str = "") -> ReadContext:
        """The context of a payload of this object."""
        return replace(self, arrival=arrival.or_else(self.arrival), depth=self.depth + 1, prefix=self.prefix + prefix)


def limited(rejected: Rejected, kept_bytes: int = LARGEST_RECORD_BYTES) -> Rejected:
    """The same rejection; if its bytes are more than the largest record, only the first `kept_bytes`, and the reason says so."""
    size = len(rejected.raw)
    if size <= LARGEST_RECORD_BYTES:
        return rejected
    kept = rejected.raw[:kept_bytes]
    reason = f"{rejected.reason}; of its {size} bytes the first {len(kept)} are kept here"
    return replace(rejected, reason=reason, raw=kept)


def read_envelope(
    obj: Any,
    *,
    key_names: Sequence[str] | None = None,
    asserted_us: int | None = None,
    raw: bytes | None = None,
    time_unit: str | None = None,
) -> Iterator[Outcome]:
    """Read one decoded JSON object; yields the outcomes in its order. Raises only MemoryError.

    Args:
        key_names: the table's key attributes, partition key first; only flattened records need them.
        asserted_us: the end (exclusive) of the incremental export that the object is a line of.
        raw: the bytes that `obj` was decoded from, for rejected records; None: the object is encoded.
        time_unit: the unit for times that are impossible in their declared unit (`times.change_time_us`).
    """
    return read_within(obj, raw, ReadContext(key_names, asserted_us, time_unit))


def read_within(obj: Any, raw: bytes | None, context: ReadContext) -> Iterator[Outcome]:
    """`read_envelope` for an object within others. An unexpected exception rejects this object alone."""
    try:
        yield from _read_shape(obj, raw, context)
    except MemoryError:
        raise
    except Exception as error:
        yield Rejected.unexpected(error, json_text.dump_raw(obj) if raw is None else raw, context.prefix)


def _read_shape(obj: Any, raw: bytes | None, context: ReadContext) -> Iterator[Outcome]:
    shape = shape_of(obj) if isinstance(obj, dict) else None
    if shape == "wrapper":
        yield from _read_wrapper(obj, raw, context)
        return
    if shape == "capture":
        yield _read_spelled(obj, context)
    elif shape == "body":
        yield read_body(obj, context.arrival, context.time_unit)
    elif shape == "flattened":
        yield read_flattened(obj, context.key_names, context.arrival)
    elif shape == "incremental":
        yield read_incremental_line(obj, context.asserted_us, context.time_unit)
    elif shape == "repair":
        yield read_repair_line(obj)
    elif shape == "full":
        yield context.rejected(_FULL_EXPORT, obj, raw)
    else:
        yield _read_unknown(obj, raw, context)


def _read_spelled(obj: dict[str, Any], context: ReadContext) -> ChangeRecord:
    """A captured record in DynamoDB's spelling or in that of an SDK. Raises the error of DynamoDB's spelling if it is neither."""
    try:
        return read_capture(obj, context.arrival, context.time_unit)
    except UndecodableError:
        spelled = respelled(obj)
        if spelled is None or spelled == obj:
            raise
        try:
            return read_capture(spelled, context.arrival, context.time_unit)
        except UndecodableError:
            pass
        raise


def _read_unknown(obj: Any, raw: bytes | None, context: ReadContext) -> Outcome:
    """An object of no known shape: a record in the spelling of an SDK, or the reason why there is no record."""
    if not isinstance(obj, dict):
        return context.rejected("no known envelope: it is no JSON object", obj, raw)
    spelled = respelled(obj)
    if spelled is not None:
        read = read_capture if isinstance(spelled.get("dynamodb"), dict) else read_body
        return read(spelled, context.arrival, context.time_unit)
    notice = notice_of(obj)
    return context.rejected(_unknown(obj) if notice is None else notice.reason, obj, raw)


def _unknown(obj: dict[str, Any]) -> str:
    """The reason for an object that is no known envelope: the names of some members, without their values."""
    names = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in obj][:_MOST_NAMES]
    more = f" and {len(obj) - len(names)} more" if len(obj) > len(names) else ""
    members = f"its members are {', '.join(names)}{more}" if names else "it has no members"
    return f"no known envelope: {members}; {PAGE} lists what is read"


def _read_wrapper(obj: dict[str, Any], raw: bytes | None, context: ReadContext) -> Iterator[Outcome]:
    """The records in a wrapper. A fault of one payload does not affect the others."""
    wrapper = wrapper_of(obj)
    assert wrapper is not None, "its shape is a wrapper"
    if context.depth >= MAX_WRAPPERS:
        yield context.rejected("wrappers within wrappers, nested too deeply", obj, raw)
        return
    for payload in wrapper.open(obj):
        within = context.of_payload(payload.arrival, payload.prefix)
        if payload.encoded or (payload.member and payload.content in (None, "")):
            content = bytes_of(payload.content, encoded=True)
            if not content:
                yield within.rejected(f"{payload.member}: missing, empty or no base64", obj, raw)
            else:
                yield from _read_bytes(content, within)
        else:
            yield from _read_content(payload, within)


def _read_content(payload: Payload, context: ReadContext) -> Iterator[Outcome]:
    """The records in a decoded JSON value: an object, a list of values, or a text that holds records."""
    content = payload.content
    if isinstance(content, list):
        if context.depth >= MAX_WRAPPERS:
            yield context.rejected("wrappers within wrappers, nested too deeply", content, None)
            return
        for element in content:
            yield from _read_content(Payload(payload.member, element), context.of_payload())
    elif isinstance(content, str | bytes) and content:
        yield from _read_bytes(bytes_of(content, encoded=False) or b"", context)
    else:
        yield from read_within(content, None, context)


def _read_bytes(content: bytes, context: ReadContext) -> Iterator[Outcome]:
    """The records in the bytes of a payload; at least one outcome, so that every delivery is counted."""
    if context.depth > MAX_WRAPPERS:
        yield context.rejected("wrappers within wrappers, nested too deeply", None, content)
        return
    damage: Rejected | None = None
    try:
        opened = decompress(content, context.room.size_bytes)
    except DamagedObjectError as error:
        opened = error.readable
        damage = limited(context.rejected(str(error), None, content))
    if opened is not content:
        context.room.size_bytes = max(0, context.room.size_bytes - len(opened))
    empty = True
    for segment in split_json(opened):
        empty = False
        if segment.value is not None:
            yield from read_within(segment.value, segment.raw, context)
            continue
        if segment.error is not None:
            yield Rejected.unexpected(segment.error, segment.raw, context.prefix)
            continue
        within = read_garbage(segment, context)
        if within is not None:
            yield from within
            continue
        # large garbage that was in a container is kept in its container, which is smaller
        in_container = opened is not content and len(segment.raw) > max(len(content), KEPT_OF_OVERSIZED_BYTES)
        yield context.rejected(segment.problem, None, content if in_container else segment.raw)
    if damage is not None:
        yield damage
    elif empty:
        yield context.rejected("a payload that holds nothing", None, content)


def read_garbage(segment: Segment, context: ReadContext) -> Iterator[Outcome] | None:
    """The records in garbage that is base64, JSON strings or a KPL aggregate; None for other garbage."""
    contents = contents_of_garbage(segment.raw)
    if contents is None:
        return None
    return (outcome for content in contents for outcome in _read_bytes(content, context.of_payload()))


# --- payloads as bytes

_STRINGS: Final = re.compile(rb'[ \t\r\n,\[\]]*+(?:"(?:[^"\\\x00-\x1f]++|\\.)*+"[ \t\r\n,\[\]]*+)++').fullmatch
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"').findall
_STRING_START: Final = re.compile(rb'[ \t\r\n]*+"[ \t\r\n]*+(?:\\[nrt]|[ \t])*+(?:\{|\[|\\)').match
_BASE64_TEXT: Final = re.compile(rb"[A-Za-z0-9+/]{16,}+={0,2}").fullmatch


def bytes_of(content: Any, encoded: bool) -> bytes | None:
    """The bytes of a payload: bytes, text, or a buffer as JavaScript writes it to JSON; None for any other value.

    Args:
        encoded: the text is base64, or JSON if a tool decoded it. If False, base64 is decoded only if it holds objects.
    """
    if isinstance(content, bytes):
        return content
    if isinstance(content, dict):
        return _buffer(content)
    if not isinstance(content, str):
        return None
    text = content.encode("utf-8", "surrogatepass")
    if is_known_start(text):
        return text
    decoded = json_text.decode_base64(content)
    if encoded:
        return decoded
    return decoded if decoded and _may_hold_objects(decoded) else text


def _buffer(content: dict[str, Any]) -> bytes | None:
    """`{"type":"Buffer","data":[123,…]}` or `{"0":123,…}`, which JSON.stringify makes of Buffer and Uint8Array."""
    numbers = content.get("data") if content.get("type") == "Buffer" else None
    if numbers is None and content.keys() == {str(index) for index in range(len(content))}:
        numbers = [content[str(index)] for index in range(len(content))]
    try:
        return bytes(numbers) if isinstance(numbers, list) else None
    except (TypeError, ValueError):
        return None


def contents_of_garbage(raw: bytes) -> list[bytes] | None:
    """The contents of garbage that is base64, JSON strings or a KPL aggregate; None if it is none, or holds no objects."""
    if len(raw) > LARGEST_RECORD_BYTES:
        return None
    if raw.startswith(KPL_MAGIC):
        aggregate = next(find_aggregates(raw), None)
        complete = aggregate is not None and (aggregate.start, aggregate.end) == (0, len(raw))
        return aggregate.records if aggregate is not None and complete else None
    text = raw.strip(b" \t\r\n,[]")
    if text.startswith(b'"'):
        return _strings(text)
    if _BASE64_TEXT(text):
        decoded = json_text.decode_base64(text.decode())
        return [decoded] if decoded and _may_hold_objects(decoded) else None
    return None


def _strings(text: bytes) -> list[bytes] | None:
    """The contents of JSON strings, with or without commas between them; each string may hold objects."""
    if not _STRINGS(text):
        return None
    values = [json_text.loads(string) for string in _STRING(text)]
    contents = [bytes_of(value, encoded=False) for value in values if isinstance(value, str)]
    readable = [content for content in contents if content is not None and _may_hold_objects(content)]
    return readable if len(readable) == len(values) else None


def _may_hold_objects(content: bytes) -> bool:
    return is_known_start(content) or is_base64_start(content) or _STRING_START(content) is not None
