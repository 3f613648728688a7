"""Health of a capture: pure functions that judge its signs, one function per sign.

A sign passes if it was read and shows life, and fails if it shows a fault. One that could not be read is `unknown`
(`core.verify.outcome`). Times are UTC microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import Outcome, State, judged, unknown, worst_state

MISSED_TICKS: Final = 10
"""A sensor may be late by a few of its intervals: its host was busy, or a tick took long."""

MINUTE_US: Final = 60_000_000

FRESHNESS_US: Final = 24 * 60 * MINUTE_US
"""How far back the minutes in which the stream accepted records are read."""

FRESHNESS_SLACK_US: Final = 2 * MINUTE_US
"""A record is accepted after its change, normally within a second; the minutes of CloudWatch and clocks differ."""


@dataclass(frozen=True, slots=True)
class Sign:
    """One sign of life.

    `text`: a sentence for people, with the next step after a colon if it fails; a clause with the reason if it is unknown.
    It has no values of items.
    """

    name: str
    state: State
    text: str
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric's newest value, and the end of the period it is of."""

    value: float
    at_us: int


def replication_sign(age_ms: Measure | None, max_lag_s: int, table: str) -> Sign:
    """DynamoDB to Kinesis: `AgeOfOldestUnreplicatedRecord` (ms), None where CloudWatch has no value: no record waits.

    CloudWatch has a value while a record waits:
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/kds_using-shards-and-metrics.html
    """
    name = "replication to Kinesis"
    if age_ms is None:
        return Sign(name, "pass", f"CloudWatch shows no record of {table} that waited for Kinesis in the last 30 min.")
    age_s = age_ms.value / 1000
    figures = {"replication age seconds": round(age_s, 3)}
    if age_s <= max_lag_s:
        return Sign(name, "pass", f"The oldest record that waits for Kinesis is {age_s:.0f} s old.", figures)
    text = (
        f"A record of {table} waits for Kinesis since {age_s:.0f} s, max_lag is {max_lag_s} s: give the stream more"
        " shards, and look at its policy and key."
    )
    return Sign(name, "fail", text, figures)


def delivery_sign(freshness_s: Measure | None, is_listed: bool, max_lag_s: int, stream: str) -> Sign:
    """Firehose to S3: `DeliveryToS3.DataFreshness` (s), None where CloudWatch has no value: Firehose holds no record.

    `is_listed`: whether CloudWatch had a value in the last two weeks. If not, the stream may be in another Region or account.
    https://docs.aws.amazon.com/firehose/latest/dev/monitoring-with-cloudwatch-metrics.html
    """
    name = "delivery to S3"
    if freshness_s is None and is_listed:
        return Sign(name, "pass", f"CloudWatch shows no record that Firehose's {stream} held in the last 30 min.")
    if freshness_s is None:
        return Sign(
            name, "unknown", f"CloudWatch lists no DeliveryToS3.DataFreshness of {stream} in this Region and account"
        )
    figures = {"data freshness seconds": freshness_s.value}
    if freshness_s.value <= max_lag_s:
        return Sign(name, "pass", f"Firehose's oldest record is {freshness_s.value:.0f} s old.", figures)
    text = (
        f"Firehose's {stream} holds a record for {freshness_s.value:.0f} s, max_lag is {max_lag_s} s: look at its errors"
        " in CloudWatch Logs, at its role, and at the bucket's policy."
    )
    return Sign(name, "fail", text, figures)


def identity_sign(found: str | None, known: str | None, table: str) -> Sign:
    """Whether the source is the table that the lake was loaded from, by its id. None: not known."""
    name = "the source table"
    if found is None or known is None:
        return Sign(name, "unknown", "the id of the source table, or of the export that was loaded, is not known")
    if found == known:
        return Sign(name, "pass", "The source is the table that the lake was loaded from.")
    text = (
        f"{table} was deleted and created again (its id is {found}, the lake's items are of {known}): take a full export"
        " of the new table and load it with `ddb-lake load --recreated`."
    )
    return Sign(name, "fail", text)


def destination_sign(stream: str | None, status: str, seen: str | None, table: str) -> Sign:
    """Whether the table still feeds a Kinesis stream, and the one that was seen before (None: none was)."""
    name = "the Kinesis destination"
    if stream is None and seen is None:
        return Sign(name, "unknown", f"{table} feeds no Kinesis stream, and none was ever observed")
    if stream is None or status not in ("ACTIVE", "UPDATING"):
        text = f"The Kinesis destination of {table} is {status}: enable it again, then `ddb-lake repair --gaps`."
        return Sign(name, "fail", text)
    if seen is not None and stream != seen:
        text = f"{table} feeds another Kinesis stream than before: see that it is delivered too, then `ddb-lake repair --gaps`."
        return Sign(name, "fail", text)
    return Sign(name, "pass", f"The Kinesis destination is {status}.")


def failed_deliveries_sign(count: int, newest_us: int | None, hours: int, uri: str) -> Sign:
    """Whether Firehose put objects below its error prefix in the last `hours`."""
    name = "failed deliveries"
    if not count:
        return Sign(name, "pass", f"Nothing was put below {uri} in the last {hours} h.", {"objects": 0})
    text = (
        f"{count_text(count, 'object was', 'objects were')} put below {uri} in the last {hours} h: Firehose could not"
        " transform or deliver their"
        " records. What can be read of them is in the lake; the rest is in quarantine with its reason."
    )
    return Sign(name, "fail", text, {"objects": count, "newest": newest_us or 0})


def sensor_sign(last_us: int | None, now_us: int, interval_s: int, switched_off: bool, sensor: str) -> Sign:
    """Whether a sensor still ticks. `last_us`: its last tick, None if none is known."""
    name = "the sensor"
    if switched_off:
        return Sign(name, "fail", f"The sensor {sensor} is switched off: nothing new is applied; switch it on.")
    if last_us is None:
        return Sign(name, "unknown", f"no tick of the sensor {sensor} is known; start a Dagster daemon")
    age_s = max(0.0, (now_us - last_us) / 1e6)
    figures = {"seconds since its last tick": round(age_s, 1)}
    if age_s <= MISSED_TICKS * interval_s:
        return Sign(name, "pass", f"The sensor ticked {age_s:.0f} s ago.", figures)
    text = f"The sensor {sensor} has not ticked for {age_s:.0f} s, its interval is {interval_s} s: is the Dagster daemon alive?"
    return Sign(name, "fail", text, figures)


def freshness_outcome(
    accepted_us: Sequence[int], newest_us: int | None, now_us: int, max_lag_s: int, stream: str
) -> Outcome:
    """Compare the newest change in the lake with the newest records that the source's stream accepted.

    Args:
        accepted_us: the starts of the minutes of the last 24 hours in which the stream accepted records.
        newest_us: the newest change time in the lake; None without changes.
        now_us: the present.
        max_lag_s: younger records may still be under way.
        stream: the stream, in words.

    Returns:
        A failure is not certain: the stream may have records of other tables.
    """
    newest = "the lake has no change" if newest_us is None else f"the lake's newest change is of {_minute(newest_us)}"
    if not accepted_us:
        if newest_us is not None and newest_us > now_us - FRESHNESS_US + FRESHNESS_SLACK_US:
            return unknown(f"CloudWatch has no record that {stream} accepted in the last 24 h, although {newest}")
        return judged(True, f"CloudWatch has no record that {stream} accepted in the last 24 h; {newest}.")
    due = [at_us for at_us in accepted_us if at_us + MINUTE_US <= now_us - max_lag_s * 1_000_000]
    if not due:
        return judged(True, f"{stream} accepted records since {_minute(accepted_us[0])}, all within max_lag; {newest}.")
    text = f"Of the records older than max_lag, {stream} accepted the newest at {_minute(due[-1])}; {newest}."
    behind_us = due[-1] - FRESHNESS_SLACK_US - (newest_us or 0)
    return judged(behind_us <= 0, text, {"seconds behind": max(0, behind_us) // 1_000_000}, certain=False)


def _minute(at_us: int) -> str:
    return time_text(at_us, unit="min")


@dataclass(frozen=True, slots=True)
class CanaryStep:
    """What is to be done with a canary. `write`: write a new one now."""

    sign: Sign
    write: bool


def canary_step(written: tuple[str, int] | None, arrived: str | None, now_us: int, max_lag_s: int) -> CanaryStep:
    """What the canary says: (nonce, time written) as the source has it, and the nonce that `current` has.

    One that is under way is left alone, so that its age grows until it arrives or is late.
    """
    name = "the canary"
    if written is None:
        return CanaryStep(Sign(name, "unknown", "no canary was under way; the first one was written now"), True)
    nonce, at_us = written
    age_s = max(0.0, (now_us - at_us) / 1e6)
    figures = {"seconds since it was written": round(age_s, 1)}
    if arrived == nonce:
        return CanaryStep(
            Sign(name, "pass", "The last canary is in current; the next one was written now.", figures), True
        )
    if age_s <= max_lag_s:
        waits = f"the canary that was written {age_s:.0f} s ago is not in current yet, max_lag is {max_lag_s} s"
        return CanaryStep(Sign(name, "unknown", waits, figures), False)
    text = (
        f"The canary that was written {age_s:.0f} s ago is not in current, max_lag is {max_lag_s} s: changes do not get"
        " through. `ddb-lake doctor` and the checks beside this one say where they stop."
    )
    return CanaryStep(Sign(name, "fail", text, figures), False)


def merged_signs(signs: tuple[Sign, ...]) -> Outcome:
    """Several signs as the outcome of one check: the worst state, the text of the signs in that state, and all figures."""
    state = worst_state(sign.state for sign in signs)
    figures = {name: value for sign in signs for name, value in sign.figures.items()}
    texts = [sign.text for sign in signs if sign.state == state]
    if state == "unknown":
        return unknown("; ".join(text.rstrip(".") for text in texts) or "there is no sign", figures)
    return judged(state == "pass", " ".join(texts), figures)
