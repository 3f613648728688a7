"""Examinations of what should be running: the capture of each table's changes, and the sensors of a Dagster instance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import Finding, fail, ok, unknown
from ddb_lake.cli.doctor.subject import LakeSubject

if TYPE_CHECKING:
    from ddb_lake.core.capture.health import Sign


def examine_capture(subject: LakeSubject) -> Iterator[Finding]:
    """The capture of every table whose changes land on S3 is alive."""
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.capture.health import capture_signs, error_sign

    with open_lake(subject.settings) as lake:
        for table in subject.settings.tables:
            if table.changes is None or not (table.changes.uri or "").startswith("s3://"):
                continue
            signs = capture_signs(lake, table)
            if table.changes.errors_uri is not None:
                signs += (error_sign(lake, table),)
            for sign in signs:
                yield _finding(table.name, sign)


def examine_sensors() -> Iterator[Finding]:
    """The sensors of the Dagster instance in DAGSTER_HOME tick. Without DAGSTER_HOME there is no finding."""
    if not os.environ.get("DAGSTER_HOME"):
        return
    import time

    from dagster import DagsterInstance

    from ddb_lake.orchestration.checks import read_sensor_sign

    with DagsterInstance.get() as instance:
        for name in sorted({state.instigator_name for state in instance.all_instigator_state()}):
            if name.endswith("_arrivals"):
                yield _finding(name, read_sensor_sign(instance, name, time.time_ns() // 1000))


def _finding(subject: str, sign: Sign) -> Finding:
    """A sign of life as a finding; the next step of a failed one follows the colon in its text."""
    check = f"{subject}: {sign.name}"
    if sign.state == "pass":
        return ok(sign.text.rstrip("."), check)
    if sign.state == "unknown":
        return unknown(f"whether {sign.name} works", sign.text, check)
    found, _, step = sign.text.partition(": ")
    return fail(found.rstrip("."), step or "see the guide to liveness", check)
