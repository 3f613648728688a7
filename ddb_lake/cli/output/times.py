"""Instants and lengths of time on the command line: reading `--as-of`, writing the results' microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNIT_US = {"us": 1, "µs": 1, "μs": 1, "ms": 1_000, "s": 1_000_000}
_NUMBER = re.compile(r"(\d{1,17})(us|µs|μs|ms|s)?", re.ASCII)
_DIGITS_UNIT = {9: "s", 10: "s", 11: "s", 12: "ms", 13: "ms", 14: "ms", 15: "us", 16: "us", 17: "us"}

RULE = (
    "ISO 8601, UTC unless it names a zone (2024-05-14T11:14:20.608Z, 2024-05-14), or time since 1970 with a unit:"
    " 1700000000s, 1700000000123ms, 1700000000123456us. A bare integer is taken by its digits:"
    " 9 to 11 are seconds, 12 to 14 milliseconds, 15 to 17 microseconds"
)


def parse_moment(value: str) -> int:
    """Microseconds since 1970 of an instant as `RULE` has it. Raises ValueError."""
    spelled = value.strip()
    number = _NUMBER.fullmatch(spelled)
    unit = number and (number[2] or _DIGITS_UNIT.get(len(number[1])))
    if number and unit:
        return int(number[1]) * _UNIT_US[unit]
    try:
        moment = datetime.fromisoformat(spelled)
    except ValueError:
        raise ValueError(f"{value!r} is no time: expected {RULE}") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


class Moment(click.ParamType[int]):
    """An option's value that is an instant; gives microseconds since 1970."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the instant. Fails with exit status 2."""
        if isinstance(value, int):
            return value
        try:
            return parse_moment(value)
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[float]):
    """An option's value such as `90s`, `5m`, `2h`; gives seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the duration. Fails with exit status 2."""
        if isinstance(value, int | float):
            return float(value)
        from ddb_lake.config import seconds

        try:
            return float(seconds(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def moment_text(time_us: int | None, unknown: str = "-") -> str:
    """An instant in microseconds as `2024-05-14 11:14:20.608Z`, without trailing zeros."""
    if time_us is None:
        return unknown
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return f"{time_us}us"
    whole, _, fraction = moment.replace(tzinfo=None).isoformat(" ").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


def iso_text(time_us: int | None) -> str | None:
    """An instant in microseconds in ISO 8601, UTC."""
    return None if time_us is None else moment_text(time_us).replace(" ", "T")
