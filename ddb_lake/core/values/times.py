"""Times of records as UTC microseconds since the epoch, in the unit that their envelope declares.

A number is read only in the declared unit: one stream can mix units, so the size of a number does not show its unit. A time
that is impossible in that unit is an error; the error names the unit in which the number would be a possible time. ISO 8601
text needs no unit. No float arithmetic is used.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final

from ddb_lake.errors import UndecodableError

UNIT_US: Final = {"SECOND": 1_000_000, "MILLISECOND": 1_000, "MICROSECOND": 1}
"""Microseconds in one unit, by the names of `ApproximateCreationDateTimePrecision`."""

UNIT_NAMES: Final = {"seconds": "SECOND", "milliseconds": "MILLISECOND", "microseconds": "MICROSECOND"}
"""The units as `ddb-lake quarantine replay --time-unit` names them."""

EARLIEST_US: Final = 1_326_844_800_000_000
"""2012-01-18, the day on which DynamoDB was launched: no change is older.

https://aws.amazon.com/about-aws/whats-new/2012/01/18/aws-announces-dynamodb/
"""

LATEST_AFTER_ARRIVAL_US: Final = 86_400_000_000
"""A change is captured before it arrives. Clock skew does not explain a change that is later than its arrival by more than this."""

_TOO_EARLY: Final = "earlier than 2012-01-18, when DynamoDB began"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END_US: Final = 253_402_300_800_000_000  # the year 10000: what follows no timestamp column of the lake can hold
_NUMERIC: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII).fullmatch
_ISO_8601: Final = re.compile(
    r"(?:\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,12})?)?|\d{8}[Tt]\d{4}(?:\d\d(?:[.,]\d{1,12})?)?)"
    r"(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
).fullmatch


def time_us(value: Any, unit_us: int) -> int:
    """A time in microseconds. Fractions below a microsecond are dropped.

    Args:
        value: a number (int, float, or its text) of units, ISO 8601 text with a zone (`2024-05-14T12:00:00.000Z`), or
            a datetime, which is UTC if it has no zone.
        unit_us: microseconds in a unit of a number.

    Raises:
        UndecodableError: not a time from 1970 to 9999.
    """
    if type(value) is int:
        time = value * unit_us if 0 <= value < _END_US else -1
    elif isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        time = (aware - _EPOCH) // timedelta(microseconds=1)
    elif isinstance(value, float):
        time = _decimal_us(repr(value), unit_us) if 0 <= value < _END_US else -1
    elif isinstance(value, str):
        time = _decimal_us(value, unit_us) if _NUMERIC(value) else _iso_us(value, None)
    else:
        time = -1
    if 0 <= time < _END_US:
        return time
    raise UndecodableError("no time from 1970 to 9999 in the declared unit")


def _decimal_us(text: str, unit_us: int) -> int:
    number = Decimal(text)
    return int((number * unit_us).to_integral_value(ROUND_FLOOR)) if number < _END_US else -1


def _iso_us(text: str, zone: str | None) -> int:
    """ISO 8601 text in microseconds. `zone`: the zone of a text that has none; by default such a text is an error."""
    found = _ISO_8601(text)
    if found is None:
        raise UndecodableError("neither a number nor an ISO 8601 time such as 2024-05-14T12:00:00.000Z")
    if found["zone"] is None and zone is None:
        raise UndecodableError("an ISO 8601 time without a zone: expected Z or an offset such as +00:00 behind it")
    try:
        time = datetime.fromisoformat(text.upper() + ("" if found["zone"] else zone or ""))
        return (time - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise UndecodableError("no ISO 8601 time: there is no such date or time of day") from None


def change_time_us(value: Any, unit: str, otherwise: str | None = None) -> int:
    """The time of a change, as `time_us` reads it, in the declared `unit` (a name of `UNIT_US`).

    Args:
        otherwise: the unit for a number that is an impossible time in the declared unit.

    Raises:
        UndecodableError: no time, or a time before DynamoDB; it names the unit in which a number would be possible.
    """
    if type(value) is int and EARLIEST_US <= (usual := value * UNIT_US[unit]) < _END_US:
        return usual
    if value is None:
        raise UndecodableError("missing")
    try:
        time, problem = time_us(value, UNIT_US[unit]), _TOO_EARLY
    except UndecodableError as error:
        time, problem = -1, str(error)
    if time >= EARLIEST_US:
        return time
    fits = [name for name in UNIT_US if name != unit and _is_possible(value, name)]
    if otherwise is not None and otherwise in fits:
        return time_us(value, UNIT_US[otherwise])
    declared = "" if isinstance(value, str) and not _NUMERIC(value) else f" ({unit})"
    raise UndecodableError(f"{problem}{declared}{_advice(fits)}")


def _is_possible(value: Any, unit: str) -> bool:
    """Whether a number is a time from 2012 to 2999 in this unit; ISO 8601 text and datetimes have no unit."""
    if not isinstance(value, int | float | str) or (isinstance(value, str) and not _NUMERIC(value)):
        return False
    time = time_us_or_none(value, UNIT_US[unit])
    return time is not None and EARLIEST_US <= time < 32_503_680_000_000_000


def _advice(fits: list[str]) -> str:
    if not fits:
        return ""
    option = next(option for option, name in UNIT_NAMES.items() if name == fits[0])
    return f"; as a number of {option} it is a possible time: `ddb-lake quarantine replay TABLE --time-unit {option}` reads it so"


def check_not_before(changed_us: int) -> None:
    """Raise UndecodableError if a change is older than DynamoDB."""
    if changed_us < EARLIEST_US:
        raise UndecodableError(_TOO_EARLY)


def check_not_after(changed_us: int, arrived_us: int | None) -> None:
    """Raise UndecodableError if a change is more than a day later than its arrival; None is an unknown arrival."""
    if arrived_us is not None and changed_us > arrived_us + LATEST_AFTER_ARRIVAL_US:
        raise UndecodableError(
            "the time of the change is more than a day later than its arrival: correct the time or its unit in the entry"
            " (`ddb-lake quarantine show TABLE --json`), then `ddb-lake quarantine replay TABLE --from FILE`"
        )


def time_us_or_none(value: Any, unit_us: int) -> int | None:
    """As `time_us`, and None for what is no such time."""
    try:
        return time_us(value, unit_us)
    except UndecodableError:
        return None


def arrival_us_or_none(value: Any, unit_us: int) -> int | None:
    """The arrival of a record, as `time_us` reads it; None if it is no time or an impossible one (a wrong unit)."""
    time = time_us_or_none(value, unit_us)
    return time if time is not None and time >= EARLIEST_US else None


def utc_text_us(text: Any) -> int:
    """An ISO 8601 time with `T` or a space (`2022-03-01 10:11:12.345678`), UTC unless it has an offset.

    Raises:
        UndecodableError: not such a text, or a time that is not from 1970 to 9999.
    """
    if not isinstance(text, str):
        raise UndecodableError("no ISO 8601 time")
    time = _iso_us(text, "+00:00")
    if 0 <= time < _END_US:
        return time
    raise UndecodableError("no time from 1970 to 9999")
