"""Removes some records from the bytes of a landed object, so that everything else in it is read as before.

The bytes of a removed record become spaces, so all other records keep their offsets. A wrapper that has other records too is
written again without it. The result is read again, and it is refused unless it has exactly the other outcomes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ddb_lake.core.decode.compression import DamagedObjectError, decompress
from ddb_lake.core.decode.envelopes import Outcome, read_envelope
from ddb_lake.core.decode.objects import LocatedOutcome, read_object
from ddb_lake.core.values.json_text import loads

IsRemoved = Callable[[Outcome], bool]


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How the object is read: `key_names` and `asserted_us` of `core.decode.objects.read_object`."""

    key_names: Sequence[str]
    asserted_us: int | None = None

    def outcomes(self, data: bytes) -> list[LocatedOutcome]:
        """The outcomes of an object."""
        return list(read_object(data, key_names=self.key_names or None, asserted_us=self.asserted_us))


@dataclass(frozen=True, slots=True)
class RewrittenObject:
    """An object without some records.

    Attributes:
        data: its bytes; None if the records cannot be removed from it.
        removed: the number of the records.
        before: the outcomes of the object.
        after: the outcomes of `data`: those of `before` that were not removed.
    """

    data: bytes | None
    removed: int
    before: Sequence[LocatedOutcome] = ()
    after: Sequence[LocatedOutcome] = ()


def without_records(data: bytes, settings: ReadSettings, is_removed: IsRemoved) -> RewrittenObject | None:
    """The object without the outcomes for which `is_removed` is true. Returns None if it has none.

    A compressed object is compressed with gzip. The same input gives the same bytes.

    Args:
        data: the bytes of the object.
        settings: how it is read.
        is_removed: whether an outcome is removed.
    """
    before = settings.outcomes(data)
    flags = [is_removed(one.outcome) for one in before]
    removed = sum(flags)
    if not removed:
        return None
    try:
        content = decompress(data)
    except DamagedObjectError:
        return RewrittenObject(None, removed, before)
    kept = [one for one, flag in zip(before, flags, strict=True) if not flag]
    written = bytearray(content)
    for offset, raw in {one.offset: one.raw for one, flag in zip(before, flags, strict=True) if flag}.items():
        if raw == data and raw != content:  # nothing in a compressed object can be read
            return RewrittenObject(b"", removed, before, ()) if not kept else RewrittenObject(None, removed, before)
        others = any(one.offset == offset for one in kept)
        replaced = _without_elements(raw, settings, is_removed) if others else b""
        if replaced is None or len(replaced) > len(raw):
            return RewrittenObject(None, removed, before)
        written[offset : offset + len(raw)] = replaced.ljust(len(raw))
    result = bytes(written)
    if content != data:
        result = gzip.compress(result, mtime=0)
    after = settings.outcomes(result)
    if [(one.offset, one.outcome) for one in after] != [(one.offset, one.outcome) for one in kept]:
        return RewrittenObject(None, removed, before)
    return RewrittenObject(result, removed, before, after)


def _without_elements(raw: bytes, settings: ReadSettings, is_removed: IsRemoved) -> bytes | None:
    """The JSON of a wrapper without the elements of lists that have removed records only; None if it is no JSON."""
    if loads(raw) is None:
        return None
    value = _pruned(json.loads(raw), settings, is_removed)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _pruned(value: Any, settings: ReadSettings, is_removed: IsRemoved) -> Any:
    if isinstance(value, dict):
        return {name: _pruned(member, settings, is_removed) for name, member in value.items()}
    if isinstance(value, list):
        return [_pruned(e, settings, is_removed) for e in value if not _is_all_removed(e, settings, is_removed)]
    return value


def _is_all_removed(element: Any, settings: ReadSettings, is_removed: IsRemoved) -> bool:
    """Whether an element of a list is an envelope whose records are all removed, alone or as the only record of its wrapper."""
    if not isinstance(element, dict):
        return False
    raw = json.dumps(element, separators=(",", ":"), ensure_ascii=False).encode()
    outcomes = list(
        read_envelope(element, key_names=settings.key_names or None, asserted_us=settings.asserted_us, raw=raw)
    )
    if not outcomes or not all(map(is_removed, outcomes)):
        wrapped = {"Records": [element]}
        outcomes = list(
            read_envelope(wrapped, key_names=settings.key_names or None, asserted_us=settings.asserted_us, raw=raw)
        )
    return bool(outcomes) and all(map(is_removed, outcomes))


def without_lines(content: bytes, is_removed: Callable[[bytes], bool]) -> tuple[bytes, int, int]:
    """The lines for which `is_removed` is false.

    Returns:
        The content, the number of lines that were removed, and the number of lines that are left; empty lines do not count.
    """
    lines = content.splitlines(keepends=True)
    kept = [line for line in lines if not line.strip() or not is_removed(line)]
    return b"".join(kept), len(lines) - len(kept), sum(bool(line.strip()) for line in kept)
