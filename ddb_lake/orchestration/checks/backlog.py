"""Checks that a run cannot make of its own work: whether anything waits, and whether the source agrees.

They run with every run of a table and on a schedule of their own, so that they go red when runs fail or never come.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ddb_lake.aws.source import describe_source
from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.values.time_text import time_text
from ddb_lake.orchestration.checks.advice import advised
from ddb_lake.orchestration.checks.evaluation import OpenLake, check_op
from ddb_lake.orchestration.failures import is_unreachable, said_of
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.capture.incremental_exports import covered_until_s, wanted_increments
from ddb_lake.pipeline.maintain.quarantine import list_quarantine
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import Arrivals, Scope
from ddb_lake.pipeline.plan.arrivals import waiting as waiting_objects
from ddb_lake.pipeline.read.status import table_status

UP_TO_DATE = "up_to_date"
SOURCE_ROWS = "rows_match_source"
QUARANTINE = "quarantine_empty"
SHOWN = 10
"""Objects or reasons that an evaluation lists."""

_DESCRIPTIONS = {
    UP_TO_DATE: "No object that landed longer ago than `max_lag` waits, and all of the changelog is in `current`.",
    SOURCE_ROWS: "Living rows against DescribeTable's item count, which DynamoDB refreshes about every six hours.",
    QUARANTINE: "Nothing landed that could not be read.",
}


def check_specs(assets: TableAssets) -> list[dg.AssetCheckSpec]:
    """The specs of a table's checks."""
    found = (
        [(UP_TO_DATE, "current"), (SOURCE_ROWS, "current")] if "changes" in assets.specs else [(SOURCE_ROWS, "current")]
    )
    if "changes" in assets.specs:
        found.append((QUARANTINE, "changes"))
    return [
        dg.AssetCheckSpec(name, asset=assets.key(stage), description=_DESCRIPTIONS[name])  # type: ignore[arg-type]
        for name, stage in found
    ]


def lake_checks(lake: str, tables: Mapping[str, TableAssets], open_lake: OpenLake) -> dg.AssetChecksDefinition:
    """The checks of all tables of a lake, in one op: any of them can be asked for alone."""
    (checks,) = check_op(f"{lake}_checks", tables, open_lake, check_specs, _evaluate)
    return checks


def _scope(run: dg.DagsterRun, spec: dg.AssetCheckSpec) -> Scope:
    """A run that has just applied objects need not list two days again; the one of the schedule does."""
    return "near" if spec.asset_key in (run.asset_selection or ()) else "window"


def _evaluate(
    context: dg.AssetCheckExecutionContext, lake: Lake, table: TableSettings, spec: dg.AssetCheckSpec
) -> dg.AssetCheckResult:
    """Evaluate one check. What keeps it from being evaluated fails it alone, not those of other tables."""
    scope = _scope(context.run, spec)
    severity = dg.AssetCheckSeverity.ERROR if spec.name == UP_TO_DATE else dg.AssetCheckSeverity.WARN
    try:
        if spec.name == UP_TO_DATE:
            passed, said, figures = up_to_date(lake, table, scope)
        elif spec.name == SOURCE_ROWS:
            passed, said, figures = rows_match_source(lake, table)
        else:
            passed, said, figures = quarantine_empty(lake, table)
    except Exception as error:  # whatever it is, it is this table's
        passed, said, figures = False, f"Not evaluated: {said_of(error)}", {}
        if is_unreachable(error):  # nothing is known to be wrong, and nothing to be right
            severity, said = dg.AssetCheckSeverity.WARN, f"Not evaluated: AWS cannot be asked ({said_of(error)})."
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=passed,
        severity=severity,
        description=said,
        metadata=figures | advised(spec.name, table, passed),
    )


def up_to_date(lake: Lake, table: TableSettings, scope: Scope) -> tuple[bool, str, dict[str, Any]]:
    """Whether nothing landed waits for longer than `max_lag`, and `current` has all of the changelog."""
    waiting = waiting_objects(lake, table, scope)
    age_s = 0.0 if waiting.oldest_us is None else max(0.0, lake.now().timestamp() - waiting.oldest_us / 1e6)
    pending = table_status(lake, table.name).pending_batches
    passed = age_s <= seconds(table.checks.max_lag) and pending == 0
    if waiting.refs:
        said = (
            f"{len(waiting.refs)} landed objects are not applied; the oldest landed {_span(age_s)} ago,"
            f" max_lag is {table.checks.max_lag}."
        )
    else:
        lookback = table.changes.lookback if table.changes and scope == "window" else "two hours"
        said = f"All objects that landed in the last {lookback} are applied."
    behind = _windows_behind(lake, table)
    if behind:
        passed, said = False, f"{said} {behind}"
    if pending:
        said += f" {pending} commits of the changelog are not in current: materialize it."
    figures: dict[str, Any] = {
        "lag seconds": round(age_s, 3),
        "objects waiting": len(waiting.refs),
        "pending batches": pending,
    }
    if waiting.refs:
        figures["first objects waiting"] = dg.TableMetadataValue(_waiting_rows(waiting), _WAITING_SCHEMA)
    return passed, said, figures


_WAITING_SCHEMA = dg.TableSchema([dg.TableColumn("landed"), dg.TableColumn("bytes", "int"), dg.TableColumn("object")])


def _waiting_rows(waiting: Arrivals) -> list[dg.TableRecord]:
    """The objects that have waited longest."""
    first = sorted(waiting.refs, key=lambda ref: ref.modified_us)[:SHOWN]
    return [
        dg.TableRecord({"landed": time_text(ref.modified_us, unit="s"), "bytes": ref.size_bytes, "object": ref.uri})
        for ref in first
    ]


def _windows_behind(lake: Lake, table: TableSettings) -> str | None:
    """Whether incremental exports are further behind than a window, the time it takes to export, and `max_lag`."""
    wanted, covered_s = wanted_increments(table), covered_until_s(lake, table)
    if wanted is None or covered_s is None:
        return None
    age_s = lake.now().timestamp() - covered_s
    if age_s <= seconds(wanted.every) + seconds(table.checks.max_lag):
        return None
    return (
        f"Incremental exports are loaded up to {_span(age_s)} ago; every {wanted.every} and max_lag"
        f" {table.checks.max_lag} are allowed."
    )


def rows_match_source(lake: Lake, table: TableSettings) -> tuple[bool, str, dict[str, Any]]:
    """Whether living rows and DescribeTable's count differ by no more than `count_tolerance`."""
    rows = table_status(lake, table.name).rows
    source = describe_source(table)
    if source.items is None:
        return False, f"Not compared: {table.source_name} cannot be reached ({source.unreachable}).", {"rows": rows}
    share = abs(rows - source.items) / max(source.items, 1)
    said = (
        f"{rows} living rows, DescribeTable says {source.items} items: {share:.2%} apart,"
        f" {table.checks.count_tolerance:.2%} allowed."
    )
    figures = {"rows": rows, "source items": source.items, "difference": rows - source.items}
    return share <= table.checks.count_tolerance, said, figures


def quarantine_empty(lake: Lake, table: TableSettings) -> tuple[bool, str, dict[str, Any]]:
    """Whether the quarantine is empty; else its reasons, which never hold an item's values."""
    groups = list_quarantine(lake, table.name)
    count = sum(group.count for group in groups)
    if not count:
        return True, "Everything that landed could be read.", {"quarantined": 0}
    reasons = "; ".join(f"{group.count} × {group.reason}" for group in groups[:5])
    said = f"{count} entries: {reasons}. See `ddb-lake quarantine show {table.name}`."
    rows = [
        dg.TableRecord(
            {
                "entries": g.count,
                "first": time_text(g.first_us, unit="s"),
                "last": time_text(g.last_us, unit="s"),
                "reason": g.reason,
            }
        )
        for g in groups[:SHOWN]
    ]
    return False, said, {"quarantined": count, "reasons": dg.TableMetadataValue(rows, _REASON_SCHEMA)}


_REASON_SCHEMA = dg.TableSchema(
    [dg.TableColumn("entries", "int"), dg.TableColumn("first"), dg.TableColumn("last"), dg.TableColumn("reason")]
)


def _span(span_s: float) -> str:
    minutes, rest = divmod(round(span_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
