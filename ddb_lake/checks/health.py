"""Whether capture, deliveries and the sensor work, or only seem to because nothing changes; and a canary.

The signs are read by `pipeline.capture.health` and judged by `core.capture.health`. Here they become outcomes of checks.
"""

from ddb_lake.checks.check import Subject
from ddb_lake.core.capture.health import merged_signs
from ddb_lake.core.verify.outcome import Outcome, unknown
from ddb_lake.pipeline.capture.health import capture_signs, error_sign, source_freshness
from ddb_lake.pipeline.verify.canary import canary_sign


def capture_alive(subject: Subject) -> Outcome:
    """The source table, its Kinesis destination, replication and delivery."""
    return merged_signs(capture_signs(subject.lake, subject.table))


def fresh_as_source(subject: Subject) -> Outcome:
    """The lake has changes as new as those that the source's stream accepted."""
    return source_freshness(subject.lake, subject.table)


def no_failed_deliveries(subject: Subject) -> Outcome:
    """Firehose put nothing below its error prefix lately."""
    return merged_signs((error_sign(subject.lake, subject.table),))


def sensor_ticks(subject: Subject) -> Outcome:
    """The lake's sensor ticks."""
    if subject.read_sensor is None:
        return unknown("no Dagster instance is at hand")
    return merged_signs((subject.read_sensor(int(subject.lake.now().timestamp() * 1_000_000)),))


def canary_arrives(subject: Subject) -> Outcome:
    """The last canary arrived in `current`; a new one is written."""
    return merged_signs((canary_sign(subject.lake, subject.table),))
