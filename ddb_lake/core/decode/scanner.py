"""Where the JSON value at a position ends, or where it breaks: the slow, exact reader of damaged bytes.

One pass over the tokens with a stack, linear in the bytes it passes, whatever they are. It accepts a little more
than JSON (any bytes within a string): what it finds is decoded before it is believed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

MAX_LEVELS: Final = 1000  # orjson stops at 1024

_SPACE: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_VALUE: Final = rb"(?:(?P<scalar>" + _STRING + rb"|" + _NUMBER + rb"|true|false|null)|(?P<open>[{\[]))"

_MEMBER: Final = re.compile(_SPACE + _STRING + _SPACE + rb":" + _SPACE + _VALUE)
_ELEMENT: Final = re.compile(_SPACE + _VALUE)
_CLOSE: Final = {"{": re.compile(_SPACE + rb"\}"), "[": re.compile(_SPACE + rb"\]")}
_AFTER: Final = {
    "{": re.compile(_SPACE + rb"(?:,|(?P<close>\}))"),
    "[": re.compile(_SPACE + rb"(?:,|(?P<close>\]))"),
}


@dataclass(slots=True)
class Scan:
    """What was found at a position that holds `{` or `[`.

    `complete` says whether the value ended; `resume` is its (exclusive) end if so, else the first position where
    another value may begin: behind everything that can only break again in the same way. `objects` are the
    spans (end exclusive) of the outermost complete objects: the value itself if it is one, else those
    in the arrays and open objects around the break.
    """

    complete: bool = False
    resume: int = 0
    objects: list[tuple[int, int]] = field(default_factory=list)


def scan(data: bytes, start: int) -> Scan:
    """Read the object or array that begins at `start`; never raises, whatever the bytes are."""
    found = Scan()
    kinds: list[str] = []
    opened: list[tuple[int, int]] = []  # where each open value begins; how many complete objects preceded it
    position, opening = start, True
    resume = start + 1
    while len(kinds) < MAX_LEVELS:
        if opening:
            kinds.append(chr(data[position]))
            opened.append((position, len(found.objects)))
            resume = position = position + 1
            after = _CLOSE[kinds[-1]].match(data, position)
            closed = after is not None
        else:
            after = _AFTER[kinds[-1]].match(data, position)
            if after is None:
                break
            closed = after["close"] is not None
        if after is not None:
            position = after.end()
            if closed or not opening:
                resume = position
        if closed:
            _close(found, kinds.pop(), opened.pop(), position)
            if not kinds:
                return Scan(True, position, found.objects)
            opening = False
            continue
        value = (_MEMBER if kinds[-1] == "{" else _ELEMENT).match(data, position)
        if value is None:
            break
        opening = value["open"] is not None
        position = value.end() - 1 if opening else value.end()
        resume = position if opening else value.start()  # a string cut short may have swallowed a record's start
    if len(kinds) == MAX_LEVELS:  # not broken but too deep: what begins half-way down may be whole
        resume, preceding = opened[MAX_LEVELS // 2]
        del found.objects[preceding:]
    found.resume = max(resume, start + 1)
    return found


def _close(found: Scan, kind: str, opened: tuple[int, int], end: int) -> None:
    start, before = opened
    if kind == "{":  # an array hands its complete objects on to what is around it, an object stands for its own
        del found.objects[before:]
        found.objects.append((start, end))
