"""An op that evaluates checks of many tables. What is checked, and how, is said by the modules that call it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import dagster as dg

from ddb_lake.config import TableSettings
from ddb_lake.errors import TransientError, UsageError
from ddb_lake.orchestration.checks.advice import advised
from ddb_lake.orchestration.failures import failures, is_unreachable, said_of
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake

OpenLake: TypeAlias = Callable[[Any], AbstractContextManager[Lake]]
SpecsOf: TypeAlias = Callable[[TableAssets], list[dg.AssetCheckSpec]]
Evaluate: TypeAlias = Callable[
    [dg.AssetCheckExecutionContext, Lake, TableSettings, dg.AssetCheckSpec], dg.AssetCheckResult
]

Judge: TypeAlias = Callable[[], tuple[bool, str, dict[str, Any], bool]]
"""Whether a check passes, what there is to say, figures, and whether what speaks against it is in doubt."""


def check_op(
    name: str, tables: Mapping[str, TableAssets], open_lake: OpenLake, specs_of: SpecsOf, evaluate: Evaluate
) -> list[dg.AssetChecksDefinition]:
    """One op for the checks of all tables, any of which can be asked for alone; none if there are no checks."""
    specs = [spec for assets in tables.values() for spec in specs_of(assets)]
    if not specs:
        return []

    @dg.multi_asset_check(name=name, specs=specs, can_subset=True)
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selected = context.selected_asset_check_keys
        with failures(), beating(context), open_lake(context.log) as opened:
            for assets in tables.values():
                for spec in specs_of(assets):
                    if spec.key in selected:
                        yield evaluate(context, opened, assets.table, spec)

    return [checks]


def judged(spec: dg.AssetCheckSpec, table: TableSettings, judge: Judge) -> dg.AssetCheckResult:
    """What a check of a table found. What keeps it from being evaluated fails it alone, not those of other tables."""
    try:
        passed, said, figures, doubtful = judge()
    except Exception as error:  # whatever it is, it is this table's
        passed, said, figures = False, f"Not evaluated: {said_of(error)}", {}
        doubtful = is_unreachable(error) or isinstance(error, TransientError | UsageError)
    return dg.AssetCheckResult(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN if doubtful else dg.AssetCheckSeverity.ERROR,
        description=said,
        metadata=figures | advised(spec.name, table, passed),
    )
