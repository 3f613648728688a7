"""Partition keys of a change record, for Firehose's dynamic partitioning (`!{partitionKeyFromLambda:table}`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import ConfigError

UNKNOWN: Final = "_unknown"
"""The value of a key that the record does not say: Firehose fails a record that has none."""

_EPOCH: Final = datetime(1970, 1, 1)


PARTITION_KEYS: Final[Mapping[str, Callable[[ChangeRecord], str]]] = {
    "table": lambda record: record.table or UNKNOWN,
    "event": lambda record: record.event_name,
    "date": lambda record: (_EPOCH + timedelta(microseconds=record.changed_us)).date().isoformat(),
    "hour": lambda record: f"{record.changed_us // 3_600_000_000 % 24:02d}",
}
"""What can be asked for. `date` (yyyy-MM-dd) and `hour` (00 to 23) are of the change, in UTC."""


def parse_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list. Raises ConfigError for one that is none of PARTITION_KEYS."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in PARTITION_KEYS:
            raise ConfigError(f"partition key {name!r}: expected one of {', '.join(PARTITION_KEYS)}")
    return names


def partition_keys(record: ChangeRecord, names: Sequence[str]) -> dict[str, str]:
    """The values of the keys `names`, never empty."""
    return {name: PARTITION_KEYS[name](record) for name in names}
