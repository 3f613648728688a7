"""Dagster's automation conditions, evaluated tick by tick."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import dagster as dg


class Ticks:
    """Evaluates the conditions of some definitions as Dagster's daemon does, from one tick to the next."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance, now: datetime | None = None) -> None:
        self._defs, self._instance, self._now = defs, instance, now
        self._cursor: Any = None

    def tick(self, later: timedelta = timedelta(seconds=30)) -> dict[str, set[str | None]]:
        """The requested partitions by asset; None for an asset without partitions."""
        if self._now is not None:
            self._now += later
        result = dg.evaluate_automation_conditions(
            self._defs, self._instance, evaluation_time=self._now, cursor=self._cursor
        )
        self._cursor = result.cursor
        keys = self._defs.resolve_asset_graph().get_all_asset_keys()
        return {
            key.to_user_string(): set(result.get_requested_partitions(key))
            for key in keys
            if result.get_num_requested(key)
        }
