"""The sample that a check compares with the source once a day, and its last result.

The check runs every hour. The sample is read once a day; in the hours between, the kept result is shown, and only keys that
differed are read again, so that a change that was under way, or a repair, is noticed within the hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.config import TableSettings
from ddb_lake.core.layout.table_names import REPORTS_FOLDER
from ddb_lake.errors import DdbLakeError
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.verification_report import Report, keep_report, last_report, report_of
from ddb_lake.pipeline.verify.compare import Reading
from ddb_lake.pipeline.verify.sample import KeysRead, verify_daily_sample, verify_keys

DOCUMENT = "sample.json"
EVERY_S = 24 * 3600 - 1800
"""An hourly check starts some minutes early or late: half an hour less than a day keeps the sample daily."""

VALID_S = 2 * 24 * 3600
"""After two days, a result says nothing about the present."""


@dataclass(frozen=True, slots=True)
class DailySample:
    """The last sample of a table. Times are UTC microseconds.

    Attributes:
        sampled_us: when the keys were chosen and read.
        judged_us: when keys that differed were read last; `sampled_us` if none did.
        report: what was found.
        read: the last reading of the keys that differ, for the next judgement.
        fault: why a newer sample could not be taken; None if it was.
    """

    sampled_us: int
    judged_us: int
    report: Report
    read: KeysRead
    fault: str | None = None


def sample_daily(lake: Lake, table: TableSettings) -> DailySample:
    """Take the sample of the day if it is due, or else judge its differing keys again.

    Returns:
        The last sample, which is at most `VALID_S` old.

    Raises:
        DdbLakeError: no sample can be taken, and the last one is too old, or there is none.
    """
    now_us = int(lake.now().timestamp() * 1_000_000)
    last = last_sample(lake, table.name)
    age_s = None if last is None else (now_us - last.sampled_us) / 1e6
    try:
        if last is None or age_s is None or age_s >= EVERY_S:
            read = verify_daily_sample(lake, table.name, table.checks.sample, read_rate=table.checks.read_rate)
            found = DailySample(now_us, now_us, read.report, read)
        elif last.report.differences:
            found = _judged_again(lake, table, last, now_us)
        else:
            return last
    except DdbLakeError as error:
        if last is None or age_s is None or age_s > VALID_S:
            raise
        return replace(last, fault=str(error))
    _keep(lake, table.name, found)
    return found


def last_sample(lake: Lake, name: str) -> DailySample | None:
    """The last sample; None without one."""
    data, _ = _place(lake, name).load(DOCUMENT)
    if data is None:
        return None
    document = orjson.loads(data)
    report = report_of(document["report"])
    read = KeysRead(report, Reading(document["from_us"], document["to_us"]), document["digests"])
    return DailySample(document["sampled_us"], document["judged_us"], report, read)


def _judged_again(lake: Lake, table: TableSettings, last: DailySample, now_us: int) -> DailySample:
    keys = [difference.key for difference in last.report.differences]
    again = verify_keys(lake, table.name, keys, read_rate=table.checks.read_rate, earlier=last.read)
    report = replace(again.report, compared=last.report.compared)
    return replace(last, judged_us=now_us, report=report, read=again)


def _keep(lake: Lake, name: str, found: DailySample) -> None:
    """Keep the sample. Its report is the table's last one, for `repair`, unless that has differences and this has none."""
    document = {"sampled_us": found.sampled_us, "judged_us": found.judged_us, "report": found.report.to_json()}
    document |= {
        "from_us": found.read.reading.from_us,
        "to_us": found.read.reading.to_us,
        "digests": found.read.digests,
    }
    _place(lake, name).put(DOCUMENT, orjson.dumps(document))
    known = last_report(lake, name)
    if known is None or known["outcome"] == "equal" or (known["strength"] != "full" and found.report.differences):
        keep_report(lake, found.report)


def _place(lake: Lake, name: str) -> Landing:
    return Landing(lake.objects, f"{lake.landing}/{REPORTS_FOLDER}/{name}")
