"""Whether capture, deliveries and the sensor work, or only seem to because nothing changes; and a canary.

The signs are read by `pipeline.capture.health` and judged by `core.capture.health`. Here they become outcomes of checks.
"""

import dagster as dg

from ddb_lake.core.capture.health import Sign, merged_signs, sensor_sign
from ddb_lake.orchestration.checks.evaluation import Outcome, State, Subject
from ddb_lake.orchestration.failures import error_text
from ddb_lake.orchestration.sensor import INTERVAL_S
from ddb_lake.pipeline.capture.health import capture_signs, error_sign
from ddb_lake.pipeline.verify.canary import canary_sign

_STATES: dict[str, State] = {"alive": "pass", "dead": "fail", "unknown": "unknown"}


def capture_alive(subject: Subject) -> Outcome:
    """The source table, its Kinesis destination, replication and delivery."""
    return _outcome(*capture_signs(subject.lake, subject.table))


def no_failed_deliveries(subject: Subject) -> Outcome:
    """Firehose put nothing below its error prefix lately."""
    return _outcome(error_sign(subject.lake, subject.table))


def sensor_ticks(subject: Subject) -> Outcome:
    """The lake's sensor ticks."""
    now_us = int(subject.lake.now().timestamp() * 1_000_000)
    assert subject.instance is not None, "an op of Dagster evaluates this check"
    return _outcome(read_sensor_sign(subject.instance, subject.sensor, now_us))


def canary_arrives(subject: Subject) -> Outcome:
    """The last canary arrived in `current`; a new one is written."""
    return _outcome(canary_sign(subject.lake, subject.table))


def read_sensor_sign(instance: dg.DagsterInstance, sensor: str, now_us: int) -> Sign:
    """Whether a sensor of that name ticks, from the ticks in the instance; unknown if it never did.

    Args:
        instance: the Dagster instance.
        sensor: the sensor's name; several code locations may have one of that name, and the latest tick counts.
        now_us: the present (UTC microseconds).
    """
    known = instance.all_instigator_state() if instance.schedule_storage is not None else []
    states = [state for state in known if state.instigator_name == sensor]
    ticks_us = [
        int(tick.timestamp * 1_000_000)
        for state in states
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    ]
    is_off = bool(states) and all(state.status.value == "STOPPED" for state in states)
    return sensor_sign(max(ticks_us, default=None), now_us, INTERVAL_S, is_off, sensor)


def not_evaluated_health(error: Exception) -> Outcome:
    """An error ended the evaluation. Without a sign of life, the state that operators see is dead."""
    return Outcome("not evaluated", f"Not evaluated: {error_text(error)}", {"state": "dead"})


def _outcome(*signs: Sign) -> Outcome:
    state, text, figures = merged_signs(signs)
    return Outcome(_STATES[state], text, {"state": state, **figures})
