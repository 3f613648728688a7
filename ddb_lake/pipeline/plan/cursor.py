"""What the sensor stores between ticks: where it stopped, when it listed what, and which work it has requested.

The ledger alone decides whether an object is applied. Losing the cursor costs a few listings and no object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

FIRST_PAUSE_S = 60
LONGEST_PAUSE_S = 3600
_VERSION = 1

_LATEST_S = 10**11
"""Times after this, in the year 5138, are no times."""

_MOST_TRIES = 1_000_000

_RENAMED_KINDS = {"window": "export"}
"""Kinds of work that earlier releases stored under another name."""


@dataclass(slots=True)
class Request:
    """The last request of one kind of work: the lake's state then, how often it was requested in it, and when (epoch s)."""

    state: str
    tries: int
    at_s: int


@dataclass(slots=True)
class TableCursor:
    """What is stored for one table. Times are seconds since the epoch.

    Attributes:
        lookback_at_s: when the look-back window was last listed.
        all_at_s: when everything below the table's prefixes was last listed.
        rest_at_s: when exports to load, added kinds of work and files to compact were last examined.
        exports_at_s: when incremental exports were last examined.
        applied_listing: digest of the listing of the recent hours when every object in it was applied.
        hours_behind_utc: the hours by which the local time of the table's folders is behind UTC.
        requests: the last request by kind of work.
    """

    lookback_at_s: int = 0
    all_at_s: int = 0
    rest_at_s: int = 0
    exports_at_s: int = 0
    applied_listing: str = ""
    hours_behind_utc: int = 0
    requests: dict[str, Request] = field(default_factory=dict)

    def should_request(self, kind: str, state: str, now_s: int) -> bool:
        """Whether to request work now.

        In a new state, at once. In the state of the last request the work was not done, because its run failed or never
        started: it is requested again after pauses that double, up to `LONGEST_PAUSE_S`.
        """
        last = self.requests.get(kind)
        if last is None or last.state != state:
            return True
        pause_s: int = min(FIRST_PAUSE_S * 2 ** min(last.tries - 1, 16), LONGEST_PAUSE_S)
        return now_s - last.at_s >= pause_s

    def record_request(self, kind: str, state: str, now_s: int) -> int:
        """Store a request; returns how often the work was requested in this state."""
        last = self.requests.get(kind)
        tries = last.tries + 1 if last is not None and last.state == state else 1
        self.requests[kind] = Request(state, tries, now_s)
        return tries


@dataclass(slots=True)
class SensorCursor:
    """The sensor's cursor. `resume_at`: the table to begin with, where the last tick ran out of time."""

    resume_at: str | None = None
    tables: dict[str, TableCursor] = field(default_factory=dict)

    def table(self, name: str) -> TableCursor:
        """The cursor of a table, to be changed in place."""
        return self.tables.setdefault(name, TableCursor())

    def rotated(self, tables: Iterable[str]) -> list[str]:
        """The tables, beginning where the last tick stopped."""
        names = list(tables)
        start = names.index(self.resume_at) if self.resume_at in names else 0
        return names[start:] + names[:start]

    def dump(self, tables: Iterable[str]) -> str:
        """The text for Dagster, with the cursors of `tables` only."""
        kept = {name: _packed(self.tables[name]) for name in tables if name in self.tables}
        document = {"v": _VERSION, "next": self.resume_at, "t": kept}
        return json.dumps(document, separators=(",", ":"), sort_keys=True)

    @classmethod
    def load(cls, text: str | None) -> SensorCursor:
        """The inverse of `dump`. Never raises: see `parse_cursor` for a text that `dump` did not write."""
        return parse_cursor(text)[0]


def parse_cursor(text: str | None) -> tuple[SensorCursor, str | None]:
    """Read the text of a cursor, also one that was damaged or that another program wrote.

    Args:
        text: what Dagster stores; None or empty before the first tick.

    Returns:
        The cursor, and why the text was not used. A text that is not exactly of the form that `SensorCursor.dump` writes is not
        used at all: the cursor is empty, so everything is listed again. No exception is raised.
    """
    if not text:
        return SensorCursor(), None
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            return SensorCursor(), f"it is a JSON {type(document).__name__}, and no object"
        if document.get("v") != _VERSION:
            return SensorCursor(), f"its version is not {_VERSION}"
        resume_at = document["next"]
        if not (resume_at is None or isinstance(resume_at, str)):
            return SensorCursor(), "it has values of other types"
        return SensorCursor(resume_at, {name: _unpacked(packed) for name, packed in document["t"].items()}), None
    except json.JSONDecodeError:
        return SensorCursor(), "it is no JSON"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return SensorCursor(), "it has values of other types"


def _packed(table: TableCursor) -> list[Any]:
    """A list without names: a cursor of thousands of tables stays small."""
    requests = {kind: [one.state, one.tries, one.at_s] for kind, one in table.requests.items()}
    return [
        table.lookback_at_s,
        table.all_at_s,
        table.rest_at_s,
        table.applied_listing,
        requests,
        table.exports_at_s,
        table.hours_behind_utc,
    ]


def _unpacked(packed: list[Any]) -> TableCursor:
    lookback_at_s, all_at_s, rest_at_s, applied_listing, requests, exports_at_s, hours_behind_utc = packed
    times_s = (lookback_at_s, all_at_s, rest_at_s, exports_at_s)
    if not all(_is_int(value, 0, _LATEST_S) for value in times_s) or not _is_int(hours_behind_utc, -48, 48):
        raise ValueError("a time is no number of seconds, or too large")
    if not isinstance(applied_listing, str):
        raise TypeError("a digest is a text")
    found = {_RENAMED_KINDS.get(kind, kind): _request(*one) for kind, one in requests.items()}
    return TableCursor(*times_s, applied_listing, hours_behind_utc, found)


def _request(state: Any, tries: Any, at_s: Any) -> Request:
    if not isinstance(state, str) or not _is_int(tries, 1, _MOST_TRIES) or not _is_int(at_s, 0, _LATEST_S):
        raise ValueError("no request")
    return Request(state, tries, at_s)


def _is_int(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
