"""Sensor ticks and runs in this process, on a real instance: what Dagster's daemon does, for the demo and for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

QUIET: Mapping[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration that keeps the run's log out of the terminal; it is in the instance's event log all the same."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended: why it was requested, what it materialized (asset and partition), and its checks.

    `metadata`: of each asset's last materialization.
    """

    reason: str
    success: bool
    materialized: tuple[tuple[str, str | None], ...]
    checks: tuple[dg.AssetCheckEvaluation, ...]
    metadata: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is started with. `assets`: those to materialize; all of the job by default."""

    run_config: Mapping[str, Any] | None = None
    assets: Sequence[dg.AssetKey] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SensorTick:
    """An evaluation of the sensor, and the runs that it requested. `skipped`: why it requested none."""

    runs: tuple[Run, ...]
    skipped: str | None


class InProcessDaemon:
    """Evaluates one sensor as Dagster's daemon does, keeps its cursor, and executes the runs that it requests.

    As with the daemon, a run key is used once.
    """

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance, sensor: str) -> None:
        self._defs = defs
        self._instance = instance
        self._sensor = defs.resolve_sensor_def(sensor)
        self._used: set[str | None] = set()
        self.cursor: str | None = None

    def requests(self) -> tuple[Sequence[dg.RunRequest], str | None]:
        """Evaluate the sensor once: the new run requests, and why there are none."""
        with dg.build_sensor_context(
            instance=self._instance, cursor=self.cursor, definitions=self._defs, sensor_name=self._sensor.name
        ) as context:
            data = self._sensor.evaluate_tick(context)
        self.cursor = data.cursor
        fresh = [request for request in data.run_requests or () if request.run_key not in self._used]
        self._used |= {request.run_key for request in fresh}
        return fresh, data.skip_message

    def tick(self) -> SensorTick:
        """Evaluate the sensor once, and execute the requested runs, one after the other."""
        requests, skipped = self.requests()
        return SensorTick(tuple(self.execute(request) for request in requests), skipped)

    def execute(self, request: dg.RunRequest) -> Run:
        """Execute one request. A failed run is a result, no exception."""
        assert request.job_name is not None, "the sensor has several jobs"
        tags = {**request.tags, "dagster/sensor_name": self._sensor.name}
        if request.run_key:
            tags["dagster/run_key"] = request.run_key
        return run_job(
            self._defs,
            self._instance,
            request.job_name,
            reason=request.tags.get("ddb_lake/reason", request.job_name),
            options=RunOptions(request.run_config, request.asset_selection, tags),
        )


def run_job(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    job: str,
    reason: str,
    options: RunOptions | None = None,
) -> Run:
    """Run a job in this process. `reason`: of the result, for people."""
    options = options or RunOptions()
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        run_config={**(options.run_config or {}), **QUIET},
        asset_selection=list(options.assets) if options.assets is not None else None,
        tags=dict(options.tags),
        raise_on_error=False,
    )
    metadata: dict[str, Mapping[str, Any]] = {}
    materialized: list[tuple[str, str | None]] = []
    for event in result.get_asset_materialization_events():
        assert event.asset_key is not None, "a materialization is one of an asset"
        name = event.asset_key.to_user_string()
        materialized.append((name, event.partition))
        metadata[name] = {label: value.value for label, value in event.materialization.metadata.items()}
    return Run(reason, result.success, tuple(materialized), tuple(result.get_asset_check_evaluations()), metadata)
