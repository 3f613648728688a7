"""Whether a sample of the keys equals the source, and how keys that differ are shown."""

from ddb_lake.checks.check import Subject
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import Listing, Outcome, judged, unknown
from ddb_lake.pipeline.protection import remedy
from ddb_lake.pipeline.read.verification_report import Report
from ddb_lake.pipeline.verify.daily_sample import DailySample, sample_daily

SHOWN = 25
"""The keys that an evaluation lists at most."""


def sample_matches_source(subject: Subject) -> Outcome:
    """The keys of the day's sample are equal. In the hours between two samples, the last result is shown with its time."""
    return sample_outcome(sample_daily(subject.lake, subject.table))


def sample_outcome(sample: DailySample) -> Outcome:
    """The outcome of a sample. Differences that may be changes under way are not certain."""
    report = sample.report
    sampled, judged_at = (time_text(us, unit="min") for us in (sample.sampled_us, sample.judged_us))
    figures: dict[str, str | float | int | Listing] = {
        "keys compared": report.compared,
        "differences": report.total,
        "in doubt": report.doubtful,
        "changed meanwhile": report.explained,
        "read units": report.cost.read_units,
        "sampled": sampled,
        "newest change in the lake": time_text(report.watermark_us, unit="s"),
        "newest read of the source": time_text(report.read_to_us, unit="s"),
    }
    no_newer = f" No newer sample can be taken: {sample.fault}." if sample.fault else ""
    if report.outcome == "equal" and sample.fault:
        last = f"the last one, at {sampled}, found {count_text(report.compared, 'key')} equal"
        return unknown(f"no newer sample can be taken ({sample.fault.rstrip('.')}); {last}", figures)
    if not report.compared:
        return unknown(
            f"at {sampled}, neither the lake nor what was read of {report.source} had a key to compare", figures
        )
    if report.outcome == "equal":
        text = f"At {sampled}, the rows of {count_text(report.compared, 'key')} were compared with {report.source}: all are equal."
        return judged(True, f"{text}{explained_text(report)}", figures)
    figures["keys at fault"] = differing_keys(report)
    text = (
        f"At {sampled}, {count_text(report.compared, 'key was', 'keys were')} compared with the source."
        f" {report.total} differ, read again at {judged_at}"
        f" from {report.source}."
    )
    if report.doubtful:
        text += f" {report.doubtful} of them are still being judged: a change under way may explain them."
    text += f" {remedy(report.table, report.changed_rules)}"
    return judged(False, f"{text}{no_newer}", figures, certain=report.outcome == "different")


def explained_text(report: Report) -> str:
    """A sentence about the keys that differ because of a change, or nothing."""
    return f" {report.explained} more have a change that explains a difference." if report.explained else ""


def differing_keys(report: Report) -> Listing:
    """The first keys that differ, by their hash: the UI shows no values of items."""
    rows = tuple((str(d.key_hash), d.kind, d.certain, d.cause) for d in report.differences[:SHOWN])
    return Listing(("_key_hash", "difference", "certain", "of"), rows)
