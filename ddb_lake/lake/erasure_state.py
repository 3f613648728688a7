"""Which erasures are not complete, as a property of `<table>_erasures` in the same commit as its rows. Read without DuckDB.

The property's name and JSON are a stored format, as those of `lake.state`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pyiceberg.table import Table

from ddb_lake.lake.state import PREFIX

_UNFINISHED = PREFIX + "unfinished-erasures"


@dataclass(frozen=True, slots=True)
class UnfinishedErasure:
    """An erasure that began and is not complete.

    Attributes:
        begun_us: when it began (UTC microseconds).
        keys: the number of its keys, without those of a later erasure.
    """

    begun_us: int
    keys: int


def unfinished_properties(begun_us: Iterable[int]) -> dict[str, str]:
    """The state as table properties. `begun_us`: for each key, the beginning of its newest erasure, if that is not complete."""
    counts = Counter(begun_us)
    return {_UNFINISHED: json.dumps({str(us): counts[us] for us in sorted(counts)}, separators=(",", ":"))}


def unfinished_erasures(table: Table | None) -> tuple[UnfinishedErasure, ...] | None:
    """The erasures that are not complete, the oldest first.

    Args:
        table: the table of erasures; None if no key was erased.

    Returns:
        None if an earlier release made the table's last commit, which did not state it.
    """
    if table is None or table.current_snapshot() is None:
        return ()
    text = table.properties.get(_UNFINISHED)
    if text is None:
        return None
    return tuple(UnfinishedErasure(int(us), keys) for us, keys in json.loads(text).items())
