"""The check `content`: every key of the lake against the source, or against an export of it.

It takes long and may cost money. So it is not one of the hourly checks: it runs on request, or by its own schedule.
"""

from ddb_lake.aws.export_requests import start_export, wait_for_export
from ddb_lake.checks.check import Subject
from ddb_lake.checks.verification import differing_keys, explained_text
from ddb_lake.config import FullCheckSettings, TableSettings, seconds
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.verify.outcome import Listing, Outcome, judged, unknown
from ddb_lake.errors import UsageError
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.exports_to_load import newest_full_export
from ddb_lake.pipeline.protection import remedy
from ddb_lake.pipeline.read.verification_report import Report, keep_report
from ddb_lake.pipeline.verify.full import verify_export, verify_scan

_MEANING = {
    "missing": "the source has the item, the lake has not",
    "extra": "the lake has an item that the source has not",
    "stale": "the lake has an older image",
    "wrong": "the lake has an image that no record or export has",
    "doubled": "the lake has several rows of one key",
}


def content_is_equal(subject: Subject) -> Outcome:
    """Every key is equal. The report is kept in the lake."""
    lake, table = subject.lake, subject.table
    wanted = table.checks.full or FullCheckSettings()
    settle_s = seconds(wanted.settle)
    if wanted.against == "scan":
        report = verify_scan(lake, table.name, read_rate=table.checks.read_rate, settle_s=settle_s)
    else:
        report = verify_export(lake, table.name, _export(lake, table, wanted), settle_s)
    keep_report(lake, report)
    if table.filter is not None and not report.compared:
        return unknown("`filter` leaves out every item of the source, so nothing was compared")
    return content_outcome(report)


def _export(lake: Lake, table: TableSettings, wanted: FullCheckSettings) -> str:
    if wanted.against == "new_export":
        what = f"{table.name}: seconds waited for DynamoDB"
        return wait_for_export(table, start_export(table), lambda waited: lake.progress(what, waited)).manifest_uri
    manifest = newest_full_export(lake, table)
    if manifest is None:
        place = table.export.bucket if table.export is not None else "nowhere"
        raise UsageError(
            f"no finished full export of {table.source_name} in {place}: take one (`ddb-lake export {table.name}`), or set"
            " `checks.full.against` to new_export or scan"
        )
    return manifest


def content_outcome(report: Report) -> Outcome:
    """The outcome of a full report: how many keys differ and how, and the first of them by the key's hash."""
    figures: dict[str, str | int | float | Listing] = {
        "compared with": report.source,
        "keys compared": report.compared,
        "differences": report.total,
        "in doubt": report.doubtful,
        "changed meanwhile": report.explained,
        "read units": report.cost.read_units,
        "seconds": round(report.seconds, 3),
    }
    if report.outcome == "equal":
        text = f"The rows of {count_text(report.compared, 'key')} were compared with {report.source}: all are equal."
        return judged(True, f"{text}{explained_text(report)}", figures)
    kinds = sorted(report.kinds.items(), key=lambda kind: -kind[1])
    rows = tuple((kind, count, _MEANING[kind]) for kind, count in kinds)
    figures |= {
        "kinds": Listing(("difference", "keys", "meaning"), rows),
        "first keys at fault": differing_keys(report),
    }
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds)
    text = f"{count_text(report.total, 'key differs', 'keys differ')} from {report.source}: {counted}."
    text += f" {report.doubtful} of them may be changing." if report.doubtful else ""
    text += explained_text(report)
    text += f" {remedy(report.table, report.changed_rules)}"
    return judged(False, text, figures, certain=report.outcome == "different")
