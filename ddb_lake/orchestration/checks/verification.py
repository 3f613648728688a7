"""Checks that the lake equals its source, and that no change records are missing. On `current/<table>`."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import TerminalError, UsageError
from ddb_lake.orchestration.checks.evaluation import OpenLake, check_op, judged
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.gap_log import open_gaps
from ddb_lake.pipeline.capture.kinesis_monitor import watch
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.report import Report, keep_report
from ddb_lake.pipeline.verify.sample import verify_sample

NO_GAPS = "no_gaps"
SAMPLE = "sample_matches_source"
SHOWN = 25

_DESCRIPTIONS = {
    NO_GAPS: "No change records are missing: the stream ran throughout, or what it missed was mended by an export.",
    SAMPLE: "Keys of the lake and of the source, read with strong consistency, are equal attribute by attribute.",
}


def trust_checks(lake: str, tables: Mapping[str, TableAssets], open_lake: OpenLake) -> list[dg.AssetChecksDefinition]:
    """The checks of all tables, in an op of their own: they ask AWS and may take their time."""
    return check_op(f"{lake}_trust_checks", tables, open_lake, _check_specs, _evaluate)


def _check_specs(assets: TableAssets) -> list[dg.AssetCheckSpec]:
    changes = assets.table.changes
    names = [NO_GAPS] if changes is not None and changes.uri is not None else []
    names += [SAMPLE] if assets.table.checks.sample else []
    return [dg.AssetCheckSpec(name, asset=assets.key("current"), description=_DESCRIPTIONS[name]) for name in names]


def _evaluate(
    _context: dg.AssetCheckExecutionContext, lake: Lake, table: TableSettings, spec: dg.AssetCheckSpec
) -> dg.AssetCheckResult:
    """Evaluate one check."""

    def judge() -> tuple[bool, str, dict[str, Any], bool]:
        if spec.name == NO_GAPS:
            return *no_gaps(lake, table), False
        report = _sampled(lake, table)
        return *sample_matches_source(report), report.outcome == "in doubt"

    return judged(spec, table, judge)


def no_gaps(lake: Lake, table: TableSettings) -> tuple[bool, str, dict[str, Any]]:
    """Whether no gap is open, after a look at the source's stream."""
    try:
        gaps = watch(lake, table.name)
    except TerminalError as error:
        gaps = open_gaps(lake, table.name)
        if not gaps:
            raise UsageError(f"the stream of {table.source_name} cannot be looked at: {error}") from error
    if not gaps:
        return True, "No change records are missing.", {"gaps": 0}
    said = f"{len(gaps)} stretches in which changes may be missing; `ddb-lake repair {table.name} --gaps` mends them."
    return False, said, {"gaps": len(gaps), "open gaps": dg.TableMetadataValue(_gap_rows(gaps), _GAP_SCHEMA)}


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


def _sampled(lake: Lake, table: TableSettings) -> Report:
    report = verify_sample(lake, table.name, table.checks.sample, read_rate=table.checks.read_rate)
    keep_report(lake, report)
    return report


def sample_matches_source(report: Report) -> tuple[bool, str, dict[str, Any]]:
    """Whether a sample is equal. Keys are named by their hash: the UI shows no values of items."""
    figures: dict[str, Any] = {
        "keys compared": report.compared,
        "differences": report.total,
        "in doubt": report.doubtful,
        "changed meanwhile": report.explained,
        "read units": report.cost.read_units,
    }
    if report.outcome == "equal":
        return True, f"{report.compared} keys are equal.", figures
    figures["keys at fault"] = differing_keys(report)
    said = f"{report.total} of {report.compared} keys differ"
    said += f", {report.doubtful} of them perhaps because they are changing" if report.doubtful else ""
    return False, f"{said}. `ddb-lake verify {report.table}` names them, `ddb-lake repair` mends them.", figures


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
