"""Whether a sample of the keys equals the source, and how keys that differ are shown."""

from typing import Any

import dagster as dg

from ddb_lake.orchestration.checks.evaluation import WARN, Outcome, Subject, outcome
from ddb_lake.pipeline.verify.report import Report, keep_report
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
    """The outcome of a report on a sample. Differences that may be changes under way are a warning."""
    figures: dict[str, Any] = {
        "keys compared": report.compared,
        "differences": report.total,
        "in doubt": report.doubtful,
        "changed meanwhile": report.explained,
        "read units": report.cost.read_units,
    }
    if report.outcome == "equal":
        return outcome(True, f"{report.compared} keys are equal.", figures)
    figures["keys at fault"] = differing_keys(report)
    differing = f"{report.total} of {report.compared} keys differ"
    differing += f", {report.doubtful} of them perhaps because they are changing" if report.doubtful else ""
    text = f"{differing}. `ddb-lake verify {report.table}` names them, `ddb-lake repair` repairs them."
    return Outcome("fail", text, figures, severity_of(report))


def severity_of(report: Report) -> dg.AssetCheckSeverity | None:
    """A warning if no difference is certain."""
    return WARN if report.outcome == "in doubt" else None


def differing_keys(report: Report) -> dg.TableMetadataValue:
    """The first keys that differ, by their hash: the UI shows no values of items."""
    rows = [
        dg.TableRecord({"_key_hash": str(d.key_hash), "difference": d.kind, "certain": d.certain, "of": d.cause})
        for d in report.differences[:SHOWN]
    ]
    return dg.TableMetadataValue(rows, _KEY_SCHEMA)


_KEY_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("_key_hash"),
        dg.TableColumn("difference"),
        dg.TableColumn("certain", "bool"),
        dg.TableColumn("of"),
    ]
)
