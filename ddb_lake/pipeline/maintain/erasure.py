"""An erasure in progress: what it is to erase, and how bytes are searched for the keys. `pipeline.maintain.erase` has the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.erased_keys import keys_in
from ddb_lake.core.values.json_text import loads
from ddb_lake.engine.session import Session
from ddb_lake.pipeline.open_lake import Lake

ERASED_KEYS = "keys_to_erase"
"""The relation (_key, _key_hash) of the keys in a session of an erasure."""

EraseReplica = Callable[[Sequence[str]], int]
"""Erases keys from a copy of the table outside of the lake, by their texts (`core.values.primary_key.key_text`). Returns the number of
rows that were removed. A call is repeated with the same keys after a kill."""

_SHORTEST_TEXT = 8
"""The fewest characters of a key attribute that is searched without quotation marks in bytes that are no JSON."""


@dataclass(frozen=True, slots=True)
class EraseRequest:
    """What to erase.

    Attributes:
        keys: the keys, as DynamoDB JSON without further attributes. A number may have any spelling.
        allow_recreation: accept changes of the keys from after the erasure. By default they are refused.
        others_landing: also change landed objects and exports that AWS services wrote.
        command: how it was requested, for the audit row. It must not have a value of an item.
    """

    keys: Sequence[Item]
    allow_recreation: bool = False
    others_landing: bool = False
    command: str = "ddb_lake.erase"


@dataclass(frozen=True, slots=True)
class SearchedFiles:
    """Files that the proof of an erasure has read.

    Attributes:
        place: the Iceberg table, `kept days` or `landing`.
        searched_for: what was searched for in them, in words. It has no value.
        files: their number.
    """

    place: str
    searched_for: str
    files: int


@dataclass(frozen=True, slots=True)
class EraseResult:
    """The result of an erasure.

    Attributes:
        table: the table's name.
        keys: the number of keys.
        erased_us: when the erasure began (UTC microseconds).
        removed: the number of rows, records, entries, files and objects that were removed or changed, by place.
        not_reached: what could not be changed, and what to do there.
        files_read: the number of files that were read to prove the result; 0 for a dry run.
        dry: nothing was changed: `removed` is what would be.
        seconds: the duration.
        proof: the files of `files_read`, by place and by what was searched for in them.
    """

    table: str
    keys: int
    erased_us: int = 0
    removed: Mapping[str, int] = field(default_factory=dict)
    not_reached: tuple[str, ...] = ()
    files_read: int = 0
    dry: bool = False
    seconds: float = 0.0
    proof: tuple[SearchedFiles, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether no place had anything of a key. The counts of files alone say nothing of keys: each erasure deletes former metadata."""
        return not self.not_reached and not any(n for place, n in self.removed.items() if " files " not in f" {place} ")


@dataclass(slots=True)
class Erasure:
    """An erasure in progress.

    Attributes:
        lake: the open lake.
        name: the table.
        request: what to erase.
        session: a session that has `ERASED_KEYS`.
        key_names: the key attributes.
        keys: the keys by their text, with canonical values.
        removed: what was removed, by place.
        not_reached: what could not be changed.
    """

    lake: Lake
    name: str
    request: EraseRequest
    session: Session
    key_names: tuple[str, ...]
    keys: Mapping[str, Item]
    removed: Counter[str] = field(default_factory=Counter)
    not_reached: list[str] = field(default_factory=list)

    @property
    def of_keys(self) -> str:
        """SQL that is true of a change record of one of the keys."""
        return f"((_key_hash, _key) IN (SELECT (_key_hash, _key) FROM {ERASED_KEYS}))"

    @property
    def of_hashes(self) -> str:
        """SQL that is true of a row whose `_key_hash` is that of one of the keys."""
        return f"(_key_hash IN (SELECT _key_hash FROM {ERASED_KEYS}))"

    def names_key(self, raw: bytes) -> bool:
        """Whether some bytes name one of the keys (`core.values.erased_keys.keys_in`)."""
        return not self.keys.keys().isdisjoint(keys_in(raw, self.key_names))

    def has_text_of_key(self, raw: bytes) -> bool:
        """Whether bytes that are no JSON have all attributes of one of the keys as text."""
        if loads(raw) is not None:
            return False
        return any(all(_has_text(raw, value) for value in _texts(key)) for key in self.keys.values())


def _texts(key: Item) -> list[str]:
    return [str(text) for value in key.values() for text in value.values()]


def _has_text(raw: bytes, text: str) -> bool:
    quoted = orjson.dumps(text)
    return quoted in raw or (len(text) >= _SHORTEST_TEXT and (quoted[1:-1] in raw or text.encode() in raw))
