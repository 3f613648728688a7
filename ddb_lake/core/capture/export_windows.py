"""Windows of incremental exports: which time range is exported next. Pure.

Times are whole seconds since the epoch (UTC); a window's start is inclusive and its end exclusive, as for DynamoDB. Which windows
are due follows from the existing windows alone, never from a cursor. So a crash repeats and skips none, and if two planners see the
same windows, only one export is started (`token` is the same for both).

An incremental export does not list an item that was inserted and removed within its window. Therefore a window must not begin
before the full export that it follows: the full export may have such an item, and nothing would remove it. For the same reason
the windows after a full export form an exact chain: each begins where the previous one ended. Other windows do no harm if they
end where a window of the chain ends: both state the same instant.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExportTableToPointInTime.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

SHORTEST_S = 15 * 60
LONGEST_S = 24 * 3600
"""The shortest and the longest window that DynamoDB accepts."""

KEPT_S = 90 * 24 * 3600
"""Windows that end within this time before the newest end are stored one by one; of older ones only the union is stored."""

_TOKENS = uuid.UUID("0f5d2c0a-8a1e-5d0b-9d3c-6a1f5b7e2c44")


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A time range: `from_s` inclusive, `to_s` exclusive, `from_s` before `to_s`."""

    from_s: int
    to_s: int

    @property
    def seconds(self) -> int:
        """Its length."""
        return self.to_s - self.from_s


def merged(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The union of windows, as windows in order that do not touch."""
    found: list[Window] = []
    for window in sorted(windows):
        if found and window.from_s <= found[-1].to_s:
            found[-1] = Window(found[-1].from_s, max(found[-1].to_s, window.to_s))
        else:
            found.append(window)
    return tuple(found)


def remembered(windows: Iterable[Window]) -> tuple[Window, ...]:
    """The windows to store: each of the last `KEPT_S` once, in order, and the union of the older ones."""
    distinct = set(windows)
    since_s = _kept_since_s(distinct)
    old = {window for window in distinct if window.to_s <= since_s}
    return tuple(sorted({*merged(old), *(distinct - old)}))


def _kept_since_s(windows: Iterable[Window]) -> int:
    return max((window.to_s for window in windows), default=0) - KEPT_S


def packed(windows: Sequence[Window]) -> list[list[int]]:
    """Windows as runs of [start, length, number of windows that follow each other]; mostly one run."""
    runs: list[list[int]] = []
    for window in windows:
        if runs and window.seconds == runs[-1][1] and window.from_s == runs[-1][0] + runs[-1][1] * runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([window.from_s, window.seconds, 1])
    return runs


def unpacked(runs: Iterable[Sequence[int]]) -> tuple[Window, ...]:
    """The inverse of `packed`."""
    return tuple(
        Window(from_s + length_s * number, from_s + length_s * (number + 1))
        for from_s, length_s, count in runs
        for number in range(count)
    )


def chain_end(base_s: int, windows: Sequence[Window]) -> int:
    """The end (exclusive) of the chain of windows after a full export taken at `base_s`.

    In the chain each window begins where the previous one ended. For windows that are not stored one by one, it is enough
    that they cover the time.
    """
    since_s = _kept_since_s(windows)
    end_s = base_s
    if base_s < since_s:
        old = merged(window for window in windows if window.to_s <= since_s)
        end_s = next((window.to_s for window in old if window.from_s <= base_s < window.to_s), base_s)
    following: dict[int, int] = {}
    for window in windows:
        following[window.from_s] = max(window.to_s, following.get(window.from_s, 0))
    while end_s in following:
        end_s = following[end_s]
    return end_s


def due_windows(base_s: int, until_s: int, every_s: int, taken: Iterable[Window]) -> Iterator[Window]:
    """The windows to start now, so that with `taken` they follow the full export at `base_s` without a gap.

    Each is `every_s` long, or after a pause a multiple of it, up to a day. The time left before `until_s` is shorter than
    `every_s`. If the chain is broken, because a full export falls in the middle of a window or a window is missing, one is
    added that begins there and ends where a later one ends.

    Args:
        until_s: the latest end of a window.
        every_s: from `SHORTEST_S` to `LONGEST_S`.
        taken: windows that are loaded, exported or being exported.
    """
    windows = list(taken)
    while True:
        end_s = chain_end(base_s, windows)
        last_s = max([base_s, *(window.to_s for window in windows)])
        ends = [window.to_s for window in windows if window.to_s - end_s >= SHORTEST_S]
        if end_s < last_s and ends:
            due = Window(end_s, min(*ends, end_s + LONGEST_S))
        else:
            length_s = min((until_s - last_s) // every_s * every_s, LONGEST_S // every_s * every_s)
            due = Window(last_s, last_s + length_s)
        if due.seconds <= 0 or due.to_s > until_s:
            return
        windows.append(due)
        yield due


def split(window: Window) -> list[Window]:
    """Windows of valid length that cover `window`: a long one in equal parts, a short one with a later end.

    None begins earlier: an export would not list an item that was inserted before the window and removed in it.
    """
    parts = -(-window.seconds // LONGEST_S)
    length_s = max(window.seconds, SHORTEST_S)
    edges = [window.from_s + length_s * part // parts for part in range(parts + 1)]
    return [Window(from_s, to_s) for from_s, to_s in pairwise(edges)]


def token(table: str, place: str, start: str, attempt: int) -> str:
    """The ClientToken of an export, 36 characters.

    DynamoDB returns the same export for the same token for eight hours, and refuses the token with other parameters. Because the
    token depends on the window's start alone, only one window can begin there, whatever its end.

    Args:
        place: the bucket and prefix of the export.
        start: the start of a planned window, or a requested window with both ends.
        attempt: the number of failed exports of this window.
    """
    return str(uuid.uuid5(_TOKENS, "\0".join((table, place, start, str(attempt)))))
