"""Names of metrics that alarms and health checks name, beside the process that exports them."""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "ddb_lake"
"""The beginning of the names, and the namespace in CloudWatch."""

LAG: Final = f"{NAMESPACE}_lag_seconds"
"""How far the lake is behind the source, in seconds; dimensions `table` and `source`."""

FOLLOWED: Final = f"{NAMESPACE}_followed"
"""1 if this follower has the table, 0 if another one has it; dimension `table`."""

OPEN_GAPS: Final = f"{NAMESPACE}_open_gaps"
"""Intervals in which change records may be missing; dimension `table`."""

STEP_AGE: Final = f"{NAMESPACE}_step_age_seconds"
"""Seconds since a follower last ended a turn or a piece of work; of the process, so `table` is empty."""
