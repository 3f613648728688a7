"""The types of options: instants, durations, numbers and pairs. A value that cannot be read ends with exit status 2."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

from ddb_lake.core.values.time_text import parse_time


class Time(click.ParamType[int]):
    """An instant, in microseconds since 1970."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the instant."""
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[float]):
    """A duration such as `90s`, `5m` or `2h`, in seconds."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the duration."""
        if isinstance(value, int | float):
            return float(value)
        from ddb_lake.config import seconds  # pydantic would slow the start of every command

        try:
            return float(seconds(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Rate(click.ParamType[Decimal]):
    """An exact decimal of 0 or more."""

    name = "NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """Read the number."""
        try:
            rate = Decimal(str(value))
        except ArithmeticError:
            self.fail(f"{value!r} is no number", param, ctx)
        if not rate.is_finite() or rate < 0:
            self.fail(f"{value!r} is no rate: expected 0 or more", param, ctx)
        return rate


class TablePair(click.ParamType[tuple[str, str]]):
    """`TABLE=ARN`, as a pair."""

    name = "TABLE=ARN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split the text at its first `=`."""
        if isinstance(value, tuple):
            return value
        table, separator, arn = value.partition("=")
        if not separator:
            self.fail(f"{value!r} is not the name of a table, `=` and the ARN of a key", param, ctx)
        return table, arn
