"""The checks of a lake as asset checks of Dagster. They are defined and evaluated in `ddb_lake.checks`.

Asset checks: https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import dagster as dg

from ddb_lake.checks.check import Check, Subject
from ddb_lake.checks.kept import keep_outcomes
from ddb_lake.checks.registry import CHECKS, checks_of_writer
from ddb_lake.config import TableSettings
from ddb_lake.config.lake import LONGEST_SENSOR_S
from ddb_lake.core.capture.health import Sign, sensor_sign
from ddb_lake.core.operations.display_text import escape_controls, escape_markdown
from ddb_lake.core.verify.outcome import GREEN, Figures, Listing, Outcome
from ddb_lake.orchestration.failures import failures
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.sensor import sensor_name
from ddb_lake.orchestration.specs import TableAssets
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.stages import Stage

OpenLake: TypeAlias = Callable[[Any], AbstractContextManager[Lake]]

TODO = "what to do"
"""The label of the advice in the metadata of an evaluation that is not green."""

_ADVICE_SCHEMA = dg.TableSchema([dg.TableColumn("step", "int"), dg.TableColumn("do")])


def check_spec(check: Check, assets: TableAssets) -> dg.AssetCheckSpec:
    """A check of a table, as Dagster shows it."""
    key = assets.key(check.asset)
    return dg.AssetCheckSpec(check.name, asset=key, description=check.compares, blocking=check.blocking)


def writer_check_specs(assets: TableAssets, asset: Stage) -> list[dg.AssetCheckSpec]:
    """The checks of an asset that the op which writes it evaluates."""
    return [check_spec(check, assets) for check in checks_of_writer(assets.table, asset)]


def check_result(check: Check, assets: TableAssets, found: Outcome) -> dg.AssetCheckResult:
    """An outcome as the check's result, with the advice if it is not green. Yellow is a warning, red an error."""
    passed = found.state in GREEN
    is_red = found.color(check.severity) == "red" or (passed and check.severity == "error")
    return dg.AssetCheckResult(
        asset_key=assets.key(check.asset),
        check_name=check.name,
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if is_red else dg.AssetCheckSeverity.WARN,
        description=escape_markdown(found.sentence(check.question)),
        metadata={**_metadata(found.figures), **({} if passed else advice_metadata(check.advice, assets.table))},
    )


def check_event(result: dg.AssetCheckResult) -> Any:
    """A result as an event that an op logs for a check which the run did not select."""
    assert result.asset_key is not None and result.check_name is not None, "as `check_result` makes it"
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


def advice_metadata(steps: Sequence[str], table: TableSettings) -> dict[str, Any]:
    """The steps as a numbered table: Dagster's UI hides Markdown behind a click. Cells of a table are plain text in it."""
    rows = [
        dg.TableRecord({"step": number, "do": step.replace("`", '"').format(table=table.name)})
        for number, step in enumerate(steps, start=1)
    ]
    return {TODO: dg.TableMetadataValue(rows, _ADVICE_SCHEMA)}


def _metadata(figures: Figures) -> dict[str, Any]:
    return {name: _table(value) if isinstance(value, Listing) else _shown(value) for name, value in figures.items()}


def _shown(value: Any) -> Any:
    """A value as the UI shows it: a text without control characters."""
    return escape_controls(value) if isinstance(value, str) else value


def _table(listing: Listing) -> dg.TableMetadataValue:
    kinds = [_column_type(row[place] for row in listing.rows) for place in range(len(listing.columns))]
    columns = [dg.TableColumn(name, kind) for name, kind in zip(listing.columns, kinds, strict=True)]
    records = [dg.TableRecord(dict(zip(listing.columns, map(_shown, row), strict=True))) for row in listing.rows]
    return dg.TableMetadataValue(records, dg.TableSchema(columns))


def _column_type(values: Iterator[str | int | bool]) -> str:
    found = {type(value) for value in values}
    return "bool" if found == {bool} else "int" if found == {int} else "string"


def writer_results(lake: Lake, assets: TableAssets, outcomes: Mapping[Check, Outcome]) -> Iterator[dg.AssetCheckResult]:
    """The outcomes of checks that the op which writes an asset evaluated: they are kept, and are the results in Dagster."""
    if outcomes:
        keep_outcomes(lake, assets.table, outcomes)
    for check, found in outcomes.items():
        yield check_result(check, assets, found)


def check_definitions(
    lake: str, ops: Sequence[str], tables: Mapping[str, TableAssets], open_lake: OpenLake
) -> list[dg.AssetChecksDefinition]:
    """The ops of a lake that evaluate checks; one without any check is left out."""
    made = [_check_op(lake, op, tables, open_lake) for op in ops]
    return [definition for definition in made if definition is not None]


def _check_op(
    lake: str, op: str, tables: Mapping[str, TableAssets], open_lake: OpenLake
) -> dg.AssetChecksDefinition | None:
    """One op that evaluates some checks of all tables, each selectable alone; None if no table has any."""
    checks = [check for check in CHECKS if check.op == op]
    by_table = {
        name: {check_spec(check, assets).key: check for check in checks if check.applies(assets.table)}
        for name, assets in tables.items()
    }
    specs = [check_spec(check, tables[name]) for name, found in by_table.items() for check in found.values()]
    if not specs:
        return None

    @dg.multi_asset_check(name=f"{lake}_{op}", specs=specs, can_subset=True)
    def evaluate_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selected = context.selected_asset_check_keys

        def read_sensor(now_us: int) -> Sign:
            return read_sensor_sign(context.instance, sensor_name(lake), now_us)

        with failures(), beating(context), open_lake(context.log) as opened:
            for name, assets in tables.items():
                outcomes = {}
                for key, check in by_table[name].items():
                    if key in selected:
                        just_written = key.asset_key in (context.run.asset_selection or ())
                        outcomes[check] = check.outcome(Subject(opened, assets.table, just_written, read_sensor))
                        yield check_result(check, assets, outcomes[check])
                if outcomes:
                    keep_outcomes(opened, assets.table, outcomes)

    return evaluate_checks


def read_sensor_sign(instance: dg.DagsterInstance, sensor: str, now_us: int) -> Sign:
    """Whether a sensor of that name ticks, from the ticks in the instance; unknown if it never did.

    Args:
        instance: the Dagster instance.
        sensor: the sensor's name; several code locations may have one of that name, and the latest tick counts.
        now_us: the present (UTC microseconds).
    """
    known = instance.all_instigator_state() if instance.schedule_storage is not None else []
    states = [state for state in known if state.instigator_name == sensor]
    ticks_us = [
        int(tick.timestamp * 1_000_000)
        for state in states
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    ]
    is_off = bool(states) and all(state.status.value == "STOPPED" for state in states)
    return sensor_sign(max(ticks_us, default=None), now_us, LONGEST_SENSOR_S, is_off, sensor)
