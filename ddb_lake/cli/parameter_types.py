"""Click parameter types for instants and durations."""

from __future__ import annotations

from typing import Any

import click

from ddb_lake.core.values.time_text import parse_time


class Time(click.ParamType[int]):
    """An option's value that is an instant; gives microseconds since 1970."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the instant. Fails with exit status 2."""
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
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
