"""Whether a sample of the keys equals the source, and how keys that differ are shown."""

from ddb_lake.checks.check import Subject
from ddb_lake.core.verify.outcome import Listing, Outcome, judged
from ddb_lake.pipeline.read.verification_report import Report, keep_report
from ddb_lake.pipeline.verify.sample import verify_sample

SHOWN = 25
"""The keys that an evaluation lists at most."""


def sample_matches_source(subject: Subject) -> Outcome:
    """The keys of a sample are equal, read from the source with strong consistency. The report is kept in the lake."""
    table = subject.table
    report = verify_sample(subject.lake, table.name, table.checks.sample, read_rate=table.checks.read_rate)
    keep_report(subject.lake, report)
    return sample_outcome(report)


def sample_outcome(report: Report) -> Outcome:
    """The outcome of a report on a sample. Differences that may be changes under way are not certain."""
    figures: dict[str, float | int | Listing] = {
        "keys compared": report.compared,
        "differences": report.total,
        "in doubt": report.doubtful,
        "changed meanwhile": report.explained,
        "read units": report.cost.read_units,
    }
    if report.outcome == "equal":
        text = f"The rows of {report.compared} keys were compared with {report.source}: all are equal."
        return judged(True, f"{text}{explained_text(report)}", figures)
    figures["keys at fault"] = differing_keys(report)
    differing = f"{report.total} of {report.compared} keys differ from {report.source}"
    differing += f", {report.doubtful} of them perhaps because they are changing" if report.doubtful else ""
    text = f"{differing}.{explained_text(report)} `ddb-lake verify {report.table}` names them, `ddb-lake repair` repairs them."
    return judged(False, text, figures, certain=report.outcome == "different")


def explained_text(report: Report) -> str:
    """A sentence about the keys that differ because of a change, or nothing."""
    return f" {report.explained} of them changed around the time of the read." if report.explained else ""


def differing_keys(report: Report) -> Listing:
    """The first keys that differ, by their hash: the UI shows no values of items."""
    rows = tuple((str(d.key_hash), d.kind, d.certain, d.cause) for d in report.differences[:SHOWN])
    return Listing(("_key_hash", "difference", "certain", "of"), rows)
