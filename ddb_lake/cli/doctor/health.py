"""What the doctor says of signs of life: of each table's capture, and of the sensor where a Dagster home is known."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import (
    Finding,
    Report,
    State,
    failing,
)

if TYPE_CHECKING:
    from ddb_lake.config import LakeSettings
    from ddb_lake.core.capture.health import Sign

_STATES: dict[str, State] = {"alive": "ok", "dead": "fail", "unknown": "skip"}


def examine_capture(report: Report, settings: LakeSettings) -> None:
    """The signs of life of every table whose changes land in S3. Only what AWS says: asked for where AWS answers."""
    from ddb_lake.pipeline.capture.health import capture_signs, error_sign
    from ddb_lake.pipeline.open_lake import open_lake

    captured = [t for t in settings.tables if t.changes is not None and (t.changes.uri or "").startswith("s3://")]
    if not captured:
        return
    with failing(report, "signs of life", "mend what the checks above say first"), open_lake(settings) as lake:
        for table in captured:
            signs = capture_signs(lake, table)
            if table.changes is not None and table.changes.errors_uri is not None:
                signs += (error_sign(lake, table),)
            for sign in signs:
                report(_finding(table.name, sign))


def examine_sensors(report: Report) -> None:
    """Whether the sensors of the instance in DAGSTER_HOME tick; nothing is said where there is none to ask."""
    if not os.environ.get("DAGSTER_HOME"):
        return
    import time

    from dagster import DagsterInstance

    from ddb_lake.orchestration.checks.health import sensor_sign

    with failing(report, "sensors", "mend DAGSTER_HOME"), DagsterInstance.get() as instance:
        names = sorted({s.instigator_name for s in instance.all_instigator_state()})
        for name in (name for name in names if name.endswith("_arrivals")):
            report(_finding(name, sensor_sign(instance, name, time.time_ns() // 1000)))


def _finding(what: str, sign: Sign) -> Finding:
    state = _STATES[sign.state]
    first, _, rest = sign.said.partition(": ")
    step = (rest or "see the guide to liveness") if state == "fail" else None
    return Finding(f"{what}: {sign.name}", state, (first if step and rest else sign.said).rstrip("."), step)
