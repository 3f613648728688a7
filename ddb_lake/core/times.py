"""Times of records as UTC microseconds since the epoch, by the unit their envelope declares.

The unit is never guessed from the magnitude: one stream can mix units. No float arithmetic.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final

from ddb_lake.errors import UndecodableError

UNIT_US: Final = {"SECOND": 1_000_000, "MILLISECOND": 1_000, "MICROSECOND": 1}
"""Microseconds in one unit, by the names of `ApproximateCreationDateTimePrecision`."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END_US: Final = 253_402_300_800_000_000  # the year 10000: what follows no timestamp column of the lake can hold
_NUMERIC: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,20})?", re.ASCII).fullmatch


def time_us(value: Any, unit_us: int) -> int:
    """A time in units of `unit_us` microseconds (int, float or numeric text), or a datetime, in microseconds.

    Fractions below a microsecond are dropped. A datetime without a zone is UTC.

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
    elif isinstance(value, str) and _NUMERIC(value):
        time = _decimal_us(value, unit_us)
    else:
        time = -1
    if 0 <= time < _END_US:
        return time
    raise UndecodableError("no time from 1970 to 9999 in the declared unit")


def _decimal_us(text: str, unit_us: int) -> int:
    return int((Decimal(text) * unit_us).to_integral_value(ROUND_FLOOR))


def time_us_or_none(value: Any, unit_us: int) -> int | None:
    """As `time_us`, and None for what is no such time."""
    try:
        return time_us(value, unit_us)
    except UndecodableError:
        return None


def utc_text_us(text: Any) -> int:
    """An ISO 8601 time with `T` or a space (`2022-03-01 10:11:12.345678`), UTC unless it has an offset.

    Raises:
        UndecodableError: not such a text.
    """
    try:
        return time_us(datetime.fromisoformat(text), 1)
    except (TypeError, ValueError, OverflowError):
        raise UndecodableError("no ISO 8601 time") from None
