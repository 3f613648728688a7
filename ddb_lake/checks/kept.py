"""Keeping the results of evaluated checks in the warehouse, where `status`, `report` and the overview read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ddb_lake.checks.check import Check, Subject
from ddb_lake.checks.registry import HOURLY_OPS, checks_of
from ddb_lake.config import TableSettings
from ddb_lake.core.operations.error_text import error_text
from ddb_lake.core.verify.outcome import Outcome
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.check_results import CheckResult, keep_results, worst_first

HOURLY_VALID_S = 3 * 3600
"""Checks that run every hour may miss two hours before their last result counts as unknown."""


def keep_outcomes(lake: Lake, table: TableSettings, outcomes: Mapping[Check, Outcome]) -> tuple[CheckResult, ...]:
    """Keep the outcomes of a table's checks; returns them, the worst first.

    A document that cannot be written is a warning: Dagster and the caller have the outcomes too.
    """
    now_us = int(lake.now().timestamp() * 1_000_000)
    found = [_result(check, outcome, now_us) for check, outcome in outcomes.items()]
    try:
        keep_results(lake, table.name, [_unevaluated(check) for check in checks_of(table)], found)
    except Exception as error:  # whatever it is, the outcomes are known
        lake.warn(f"{table.name}: the results of the checks cannot be kept for `ddb-lake status`: {error_text(error)}")
    return worst_first(found)


def evaluate_checks(subject: Subject) -> tuple[CheckResult, ...]:
    """Evaluate the hourly checks of a table, and keep and return their results, the worst first."""
    return keep_outcomes(subject.lake, subject.table, dict(_evaluated(subject)))


def _evaluated(subject: Subject) -> Iterator[tuple[Check, Outcome]]:
    checks = [check for check in checks_of(subject.table) if check.op in HOURLY_OPS]
    checks = [check for check in checks if subject.read_sensor is not None or not check.reads_dagster]
    for number, check in enumerate(checks):
        subject.lake.progress(f"{subject.table.name}: checks", number, len(checks))
        yield check, check.outcome(subject)


def _unevaluated(check: Check) -> CheckResult:
    valid_s = HOURLY_VALID_S if check.op in HOURLY_OPS else None
    return CheckResult(check.asset, check.name, check.question, valid_s=valid_s)


def _result(check: Check, outcome: Outcome, now_us: int) -> CheckResult:
    return replace(
        _unevaluated(check),
        color=outcome.color(check.severity),
        text=outcome.sentence(check.question),
        at_us=now_us,
    )
