"""Whether change records are missing, and whether a sample of the keys equals the source."""

from typing import Any

import dagster as dg

from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import TerminalError, UsageError
from ddb_lake.orchestration.checks.evaluation import WARN, Outcome, Subject, outcome
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.kinesis_monitor import watch
from ddb_lake.pipeline.verify.report import Report, keep_report
from ddb_lake.pipeline.verify.sample import verify_sample

SHOWN = 25
"""The gaps or keys that an evaluation lists at most."""


def no_gaps(subject: Subject) -> Outcome:
    """No gap is open, after the source's stream was examined for new ones."""
    lake, table = subject.lake, subject.table
    try:
        gaps = watch(lake, table.name)
    except TerminalError as error:
        gaps = open_gaps(lake, table.name)
        if not gaps:
            raise UsageError(f"the stream of {table.source_name} cannot be looked at: {error}") from error
    if not gaps:
        return outcome(True, "No change records are missing.", {"gaps": 0})
    text = f"{len(gaps)} stretches in which changes may be missing; `ddb-lake repair {table.name} --gaps` repairs them."
    return outcome(False, text, {"gaps": len(gaps), "open gaps": dg.TableMetadataValue(_gap_rows(gaps), _GAP_SCHEMA)})


_GAP_SCHEMA = dg.TableSchema([dg.TableColumn(name) for name in ("kind", "from", "to", "reason")])


def _gap_rows(gaps: tuple[Gap, ...]) -> list[dg.TableRecord]:
    return [
        dg.TableRecord(
            {
                "kind": g.kind,
                "from": time_text(g.from_us, unit="s"),
                "to": time_text(g.to_us, unit="s"),
                "reason": g.reason,
            }
        )
        for g in gaps[:SHOWN]
    ]


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
