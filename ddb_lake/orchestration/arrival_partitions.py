"""The partitions of `changes/<table>`: the days, or the hours, in which objects landed. Time is UTC throughout.

They are Dagster's alone. The changelog is stored by arrival hour, whatever the partitions are.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import dagster as dg

from ddb_lake.config import PartitionsSettings
from ddb_lake.pipeline.plan.work import HOUR

_FORMATS = {"day": "%Y-%m-%d", "hour": "%Y-%m-%d-%H:%M"}
_LENGTHS = {"day": timedelta(days=1), "hour": HOUR}


class ArrivalPartitions:
    """The partitions of one table's changelog: each begins at its key's time and has one day or one hour."""

    def __init__(self, settings: PartitionsSettings) -> None:
        self._settings = settings
        self._format = _FORMATS[settings.every]

    @property
    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """The definition in Dagster. The present day or hour has a partition: objects land in it."""
        return _definition(self._settings)

    def key(self, hour: datetime) -> str:
        """The partition key of an arrival hour."""
        return hour.astimezone(UTC).strftime(self._format)

    def has(self, hour: datetime, now: datetime) -> bool:
        """Whether an arrival hour is in a partition at the time `now`."""
        return self._settings.first_hour <= hour <= now

    def hours(self, key: str) -> list[datetime]:
        """The arrival hours of a partition, in order: 24 of a day, also of the present one."""
        first = datetime.strptime(key, self._format).replace(tzinfo=UTC)
        return [first + HOUR * number for number in range(_LENGTHS[self._settings.every] // HOUR)]

    def keys(self, hours: Iterable[datetime]) -> list[str]:
        """The keys of the partitions that some arrival hours are in, in order, each once."""
        return sorted({self.key(hour) for hour in hours})


@lru_cache
def _definition(settings: PartitionsSettings) -> dg.TimeWindowPartitionsDefinition:
    """One object for all tables of the same settings: Dagster computes its keys once."""
    kind = dg.DailyPartitionsDefinition if settings.every == "day" else dg.HourlyPartitionsDefinition
    return kind(start_date=settings.first_hour, end_offset=1, timezone="UTC", fmt=_FORMATS[settings.every])
