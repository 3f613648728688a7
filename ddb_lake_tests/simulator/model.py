"""The true history of one DynamoDB table: what really happened, in the order it happened.

Nothing here knows envelopes, precisions, exports or what was lost on the way. `History` checks itself: each change
starts from the state the one before it left, so whatever is rendered from it is consistent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from ddb_lake.core.values.change_record import Item

Items: TypeAlias = dict[str, Item]
"""Key text (`key_text`) to item."""

SETS = ("SS", "NS", "BS")


def canonical_value(value: Any) -> Any:
    """`value` with the elements of every set sorted; everything else, texts above all, as it is."""
    if not (isinstance(value, dict) and len(value) == 1):
        return value
    (tag, payload) = next(iter(value.items()))
    if tag in SETS and isinstance(payload, list):
        return {tag: sorted(payload, key=repr)}
    if tag == "L" and isinstance(payload, list):
        return {tag: [canonical_value(element) for element in payload]}
    if tag == "M" and isinstance(payload, dict):
        return {tag: {name: canonical_value(element) for name, element in payload.items()}}
    return value


def item_text(item: Mapping[str, Any] | None) -> str | None:
    """One text per distinct item: equal exactly when the items are equal. None (absent) stays None."""
    if item is None:
        return None
    return json.dumps({name: canonical_value(value) for name, value in item.items()}, sort_keys=True)


def key_of(item: Item, key_names: Sequence[str]) -> Item:
    """The key attributes of `item`, in the order of `key_names`."""
    return {name: item[name] for name in key_names}


def key_text(key: Mapping[str, Any]) -> str:
    """One text per distinct key, whatever the order of its attributes."""
    return json.dumps(key, sort_keys=True)


@dataclass(frozen=True)
class Change:
    """One write that changed something: `old` before, `new` after, None where the item does not exist."""

    time_us: int
    key: Item
    old: Item | None
    new: Item | None
    ttl: bool = False

    @cached_property
    def key_text(self) -> str:
        """The identity of the changed item."""
        return key_text(self.key)

    @property
    def event_name(self) -> str:
        """INSERT, MODIFY or REMOVE."""
        if self.old is None:
            return "INSERT"
        return "REMOVE" if self.new is None else "MODIFY"


@dataclass(frozen=True)
class History:
    """All changes of a table since it was created empty, in true order (times never decrease; they may be equal)."""

    table: str
    key_names: tuple[str, ...]
    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        state: dict[str, str | None] = {}
        last_us = -1
        for change in self.changes:
            assert change.time_us >= last_us, "changes are not in the order of time"
            assert change.old is not None or change.new is not None, "a change from absent to absent"
            assert item_text(change.old) != item_text(change.new), "a write that changes nothing emits nothing"
            assert state.get(change.key_text) == item_text(change.old), "old image is not the state before"
            assert not change.ttl or change.new is None, "only a removal can be by TTL"
            for image in (change.old, change.new):
                assert image is None or key_of(image, self.key_names) == change.key, "an image of another key"
            state[change.key_text] = item_text(change.new)
            last_us = change.time_us

    def items_at(self, time_us: int | None) -> Items:
        """The true items at `time_us`, changes at that very microsecond included; None: after all changes."""
        items: Items = {}
        for change in self.changes:
            if time_us is not None and change.time_us > time_us:
                break
            if change.new is None:
                items.pop(change.key_text, None)
            else:
                items[change.key_text] = change.new
        return items

    def items(self) -> Items:
        """The items after all changes."""
        return self.items_at(None)

    def expired_items(self) -> Items:
        """The last image of each item last removed by TTL: what `ttl_deletes: keep` keeps in addition."""
        last = {change.key_text: change for change in self.changes}
        return {text: change.old for text, change in last.items() if change.ttl and change.old is not None}

    @cached_property
    def by_key(self) -> dict[str, tuple[int, ...]]:
        """Key text to the positions of its changes in `changes`, in true order."""
        positions: dict[str, list[int]] = {}
        for position, change in enumerate(self.changes):
            positions.setdefault(change.key_text, []).append(position)
        return {text: tuple(found) for text, found in positions.items()}

    def state_at(self, text: str, time_us: int) -> Item | None:
        """The true item with key text `text` at `time_us`, inclusive; None when absent."""
        state: Item | None = None
        for position in self.by_key.get(text, ()):
            if self.changes[position].time_us > time_us:
                break
            state = self.changes[position].new
        return state

    def before(self, time_us: int) -> History:
        """The history cut off at `time_us`, exclusive: as if the world had ended there."""
        return History(self.table, self.key_names, tuple(change for change in self.changes if change.time_us < time_us))


@dataclass(frozen=True)
class Step:
    """One attempted write: `body` None deletes. `gap_us` passes before it."""

    gap_us: int
    key: Item
    body: Item | None
    ttl: bool = False


def history_of(table: str, key_names: Sequence[str], start_us: int, steps: Iterable[Step]) -> History:
    """The history that `steps` make on an empty table; steps that change nothing leave no trace but their gap."""
    state: Items = {}
    changes: list[Change] = []
    time_us = start_us
    for step in steps:
        time_us += step.gap_us
        text = key_text(step.key)
        old = state.get(text)
        new = None if step.body is None else {**step.body, **step.key}
        if item_text(old) == item_text(new):
            continue
        changes.append(Change(time_us, step.key, old, new, ttl=step.ttl and new is None))
        if new is None:
            del state[text]
        else:
            state[text] = new
    return History(table, tuple(key_names), tuple(changes))
