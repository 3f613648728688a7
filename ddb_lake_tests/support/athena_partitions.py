"""The partitions that Athena derives from the properties of a landing table.

https://docs.aws.amazon.com/athena/latest/ug/partition-projection.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from ddb_lake.core.layout.landing_table import PARTITION

_HOUR = "%Y/%m/%d/%H"


def projected_location(properties: Mapping[str, str], hour: datetime) -> str | None:
    """Where Athena looks for the objects of an hour, computed from table properties; None if they do not have the hour.

    Only the forms of `LandingTable.properties` are evaluated: a range up to NOW, which is not evaluated, in steps of an hour.
    """
    first = datetime.strptime(properties[f"projection.{PARTITION}.range"].partition(",")[0], _HOUR)
    start = hour.replace(minute=0, second=0, microsecond=0, tzinfo=None)
    if start < first or (start - first) % timedelta(hours=1):
        return None
    return properties["storage.location.template"].replace(f"${{{PARTITION}}}", f"{start:{_HOUR}}")
