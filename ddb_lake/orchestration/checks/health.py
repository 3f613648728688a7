"""Checks that catch what runs and is dead: capture, deliveries, the sensor, and a canary. On `current/<table>`."""

from collections.abc import Mapping

import dagster as dg

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.health import (
    Sign,
    State,
    merged,
    ticking,
)
from ddb_lake.orchestration.checks.advice import advised
from ddb_lake.orchestration.checks.evaluation import OpenLake, check_op
from ddb_lake.orchestration.failures import said_of
from ddb_lake.orchestration.sensor import INTERVAL_S, sensor_name
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.canary import canary_sign
from ddb_lake.pipeline.capture.health import capture_signs, error_sign
from ddb_lake.pipeline.open_lake import Lake

CAPTURE = "capture_alive"
DELIVERIES = "no_failed_deliveries"
SENSOR = "sensor_ticks"
CANARY = "canary_arrives"

_DESCRIPTIONS = {
    CAPTURE: "The source is the same table as ever, feeds the same stream, and neither Kinesis nor Firehose holds back.",
    DELIVERIES: "Firehose put nothing below its error prefix in the last 24 hours.",
    SENSOR: "The sensor that plans all work ticks.",
    CANARY: "An item that is written to the source arrives in current within `max_lag`.",
}


def liveness_checks(
    lake: str, tables: Mapping[str, TableAssets], open_lake: OpenLake
) -> list[dg.AssetChecksDefinition]:
    """The checks of all tables, in an op of their own."""

    def evaluate(
        context: dg.AssetCheckExecutionContext, opened: Lake, table: TableSettings, spec: dg.AssetCheckSpec
    ) -> dg.AssetCheckResult:
        return _evaluate(opened, table, spec, context.instance, sensor_name(lake))

    return check_op(f"{lake}_liveness_checks", tables, open_lake, _check_specs, evaluate)


def _check_specs(assets: TableAssets) -> list[dg.AssetCheckSpec]:
    changes = assets.table.changes
    names = [SENSOR] if changes is not None else []
    names += [CAPTURE] if changes is not None and (changes.uri or "").startswith("s3://") else []
    names += [DELIVERIES] if changes is not None and changes.errors_uri is not None else []
    names += [CANARY] if assets.table.checks.canary is not None else []
    return [dg.AssetCheckSpec(name, asset=assets.key("current"), description=_DESCRIPTIONS[name]) for name in names]


def _evaluate(
    lake: Lake, table: TableSettings, spec: dg.AssetCheckSpec, instance: dg.DagsterInstance, sensor: str
) -> dg.AssetCheckResult:
    """Evaluate one check. What keeps it from being evaluated fails it alone; what is not known passes, and says so."""
    state: State
    try:
        state, said, figures = merged(_signs(lake, table, spec.name, instance, sensor))
    except Exception as error:  # whatever it is, it is this table's
        state, said, figures = "dead", f"Not evaluated: {said_of(error)}", {}
    severity = dg.AssetCheckSeverity.WARN if spec.name == DELIVERIES else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=state != "dead",
        severity=severity,
        description=said,
        metadata={"state": state, **figures, **advised(spec.name, table, state != "dead")},
    )


def _signs(lake: Lake, table: TableSettings, name: str, instance: dg.DagsterInstance, sensor: str) -> tuple[Sign, ...]:
    if name == CAPTURE:
        return capture_signs(lake, table)
    if name == DELIVERIES:
        return (error_sign(lake, table),)
    if name == CANARY:
        return (canary_sign(lake, table),)
    return (sensor_sign(instance, sensor, int(lake.now().timestamp() * 1_000_000)),)


def sensor_sign(instance: dg.DagsterInstance, sensor: str, now_us: int) -> Sign:
    """Whether a sensor of that name ticks, as the instance knows it; unknown if it never did."""
    known = instance.all_instigator_state() if instance.schedule_storage is not None else []
    states = [state for state in known if state.instigator_name == sensor]
    last_us: list[int] = []
    for state in states:
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        last_us += [int(tick.timestamp * 1_000_000) for tick in ticks]
    off = bool(states) and all(state.status.value == "STOPPED" for state in states)
    return ticking(max(last_us, default=None), now_us, INTERVAL_S, off, sensor)
