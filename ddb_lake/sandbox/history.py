"""The history of a table: its changes in order, from which any state and any export is computed.

Pure: the caller passes the time. The history is in memory as long as the table exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ddb_lake.sandbox.items import Item, Key, same_item


@dataclass(frozen=True, slots=True)
class Change:
    """One real change of one item. `old` is None for an insert, `new` for a remove; times are unique."""

    time_us: int
    key: Key
    old: Item | None
    new: Item | None
    ttl: bool = False

    @property
    def event_name(self) -> str:
        """INSERT, MODIFY or REMOVE."""
        return "INSERT" if self.old is None else "REMOVE" if self.new is None else "MODIFY"

    @property
    def keys(self) -> Item:
        """The key attributes, as an item."""
        return {name: {kind: text} for name, kind, text in self.key}


@dataclass(frozen=True, slots=True)
class NetChange:
    """The net change of one item in a window of time: its image before and after, and the time of its last write."""

    key: Key
    old: Item | None
    new: Item | None
    written_us: int


@dataclass(slots=True)
class TableHistory:
    """The changes of one table, oldest first, and its live items.

    `created_us` and `recoverable_from_us` (None while point-in-time recovery is off) are UTC microseconds.
    """

    table_id: str
    created_us: int
    recoverable_from_us: int | None = None
    changes: list[Change] = field(default_factory=list)
    living: dict[Key, Item] = field(default_factory=dict)

    def observe(self, key: Key, new: Item | None, time_us: int, *, ttl: bool = False) -> Change | None:
        """Record that the item at `key` is `new` now. Returns None if it is unchanged."""
        old = self.living.get(key)
        if same_item(old, new):
            return None
        if new is None:
            del self.living[key]
        else:
            self.living[key] = new
        change = Change(time_us, key, old, new, ttl)
        self.changes.append(change)
        return change

    def items_at(self, time_us: int) -> list[Item]:
        """The items as of `time_us`, inclusive."""
        state: dict[Key, Item] = {}
        for change in self.changes:
            if change.time_us > time_us:
                break
            if change.new is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.new
        return list(state.values())

    def net_changes(self, from_us: int, to_us: int) -> Iterator[NetChange]:
        """One net change for each key written in [from, to). A key that was inserted and removed within it has none."""
        first: dict[Key, Change] = {}
        last: dict[Key, Change] = {}
        for change in self.changes:
            if from_us <= change.time_us < to_us:
                first.setdefault(change.key, change)
                last[change.key] = change
        for key, change in last.items():
            old = first[key].old
            if old is not None or change.new is not None:
                yield NetChange(key, old, change.new, change.time_us)
