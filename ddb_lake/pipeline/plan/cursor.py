"""What the sensor remembers between ticks: where it stopped, when it last looked how far, what it has asked for.

Nothing in it decides whether an object is applied: that is the ledger's to say. Losing it costs a few listings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FIRST_PAUSE_S = 60
LONGEST_PAUSE_S = 3600


@dataclass(slots=True)
class Asked:
    """Work that was asked for: the state of the lake then, how often in that state, and when last (epoch s)."""

    state: str
    tries: int
    at_s: int


@dataclass(slots=True)
class TableMemory:
    """What is remembered of one table. Times are seconds since the epoch.

    `window_at_s`, `all_at_s`: when its landed objects were last listed that far; `rest_at_s`: when exports to load
    and files to compact were last looked for; `increments_at_s`: when incremental exports were. `quiet`: digest
    of the listing of the hours that still fill, when all of it was applied. `behind_h`: the hours by which the local time
    of its folders is behind UTC.
    """

    window_at_s: int = 0
    all_at_s: int = 0
    rest_at_s: int = 0
    increments_at_s: int = 0
    quiet: str = ""
    behind_h: int = 0
    asked: dict[str, Asked] = field(default_factory=dict)

    def may_ask(self, what: str, state: str, now_s: int) -> bool:
        """Whether to ask for work now. In the state of last time it is asked for again after ever longer pauses:

        what was asked for has not been done, because its run failed or never came to be.
        """
        before = self.asked.get(what)
        if before is None or before.state != state:
            return True
        pause_s: int = min(FIRST_PAUSE_S * 2 ** (before.tries - 1), LONGEST_PAUSE_S)
        return now_s - before.at_s >= pause_s

    def ask(self, what: str, state: str, now_s: int) -> int:
        """Note that work is asked for; how often now, in this very state."""
        before = self.asked.get(what)
        tries = before.tries + 1 if before is not None and before.state == state else 1
        self.asked[what] = Asked(state, tries, now_s)
        return tries


@dataclass(slots=True)
class SensorMemory:
    """The sensor's cursor. `resume_at`: the table to begin with, where the last tick ran out of time."""

    resume_at: str | None = None
    tables: dict[str, TableMemory] = field(default_factory=dict)

    def of(self, table: str) -> TableMemory:
        """What is remembered of a table, to be changed in place."""
        return self.tables.setdefault(table, TableMemory())

    def in_turn(self, tables: Iterable[str]) -> list[str]:
        """The tables, beginning where the last tick stopped."""
        names = list(tables)
        start = names.index(self.resume_at) if self.resume_at in names else 0
        return names[start:] + names[:start]

    def dump(self, tables: Iterable[str]) -> str:
        """As a cursor, with what is remembered of `tables` alone."""
        kept = {name: _packed(self.tables[name]) for name in tables if name in self.tables}
        return json.dumps({"v": 1, "next": self.resume_at, "t": kept}, separators=(",", ":"), sort_keys=True)

    @classmethod
    def load(cls, cursor: str | None) -> SensorMemory:
        """The inverse of `dump`. A cursor of another kind is nothing remembered."""
        try:
            document = json.loads(cursor or "{}")
            if document.get("v") != 1:
                return cls()
            return cls(document["next"], {name: _unpacked(one) for name, one in document["t"].items()})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return cls()


def _packed(table: TableMemory) -> list[Any]:
    asked = {what: [one.state, one.tries, one.at_s] for what, one in table.asked.items()}
    return [
        table.window_at_s,
        table.all_at_s,
        table.rest_at_s,
        table.quiet,
        asked,
        table.increments_at_s,
        table.behind_h,
    ]


def _unpacked(packed: list[Any]) -> TableMemory:
    window_at_s, all_at_s, rest_at_s, quiet, asked, increments_at_s, behind_h = packed
    known = {what: Asked(*one) for what, one in asked.items()}
    return TableMemory(window_at_s, all_at_s, rest_at_s, increments_at_s, quiet, behind_h, known)
