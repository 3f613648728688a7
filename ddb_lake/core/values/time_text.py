"""Instants as text for people and programs, both ways. The one formatter and the one parser of instants that users type.

Times of landed records are parsed by `core.values.times`, which follows the rules of their envelopes.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_US = {"us": 1, "µs": 1, "μs": 1, "ms": 1_000, "s": 1_000_000}
_NUMBER = re.compile(r"(\d{1,17})(us|µs|μs|ms|s)?", re.ASCII)
_DIGITS_UNIT = {9: "s", 10: "s", 11: "s", 12: "ms", 13: "ms", 14: "ms", 15: "us", 16: "us", 17: "us"}

TIME_RULE = (
    "ISO 8601, UTC unless it names a zone (2024-05-14T11:14:20.608Z, 2024-05-14), or time since 1970 with a unit:"
    " 1700000000s, 1700000000123ms, 1700000000123456us. A bare integer is taken by its digits:"
    " 9 to 11 are seconds, 12 to 14 milliseconds, 15 to 17 microseconds"
)

_SHOWN_US = {"min": 60_000_000, "s": 1_000_000, "us": 1}


def parse_time(value: str) -> int:
    """Parse an instant that a user typed, in one of the forms of `TIME_RULE`.

    Returns:
        Microseconds since 1970 (UTC).

    Raises:
        ValueError: the text is in no such form.
    """
    spelled = value.strip()
    number = _NUMBER.fullmatch(spelled)
    unit = number and (number[2] or _DIGITS_UNIT.get(len(number[1])))
    if number and unit:
        return int(number[1]) * _UNIT_US[unit]
    try:
        moment = datetime.fromisoformat(spelled)
    except ValueError:
        raise ValueError(f"{value!r} is no time: expected {TIME_RULE}") from None
    return microseconds(moment)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of a datetime; one without a zone is UTC. Exact: no float is involved."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def time_text(time_us: int | None, unknown: str = "-", unit: Literal["us", "s", "min"] = "us") -> str:
    """An instant for people, in UTC: `2024-05-14 11:14:20.608Z`.

    Args:
        time_us: Microseconds since 1970; None gives `unknown`.
        unknown: The text for None.
        unit: The smallest unit shown. `us` shows the fraction of a second without trailing zeros; smaller
            units are cut off. An instant beyond the year 9999 is shown as a number of microseconds.
    """
    if time_us is None:
        return unknown
    try:
        moment = _EPOCH + timedelta(microseconds=time_us // _SHOWN_US[unit] * _SHOWN_US[unit])
    except OverflowError:
        return f"{time_us}us"
    whole, _, fraction = moment.replace(tzinfo=None).isoformat(" ").partition(".")
    if unit == "min":
        return f"{whole[:-3]}Z"
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def iso_text(time_us: int | None) -> str | None:
    """An instant in microseconds in ISO 8601, UTC: `2024-05-14T11:14:20.608Z`. None gives None."""
    return None if time_us is None else time_text(time_us).replace(" ", "T")
