"""What a check is, what its evaluation gives, and how that becomes a result in Dagster.

`checks.registry` lists every check; the other modules of this package evaluate them. What is green is decided here alone
(`GREEN`). Asset checks in Dagster: https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import dagster as dg

from ddb_lake.config import TableSettings
from ddb_lake.errors import TransientError, UsageError
from ddb_lake.orchestration.failures import error_text, failures, is_unreachable
from ddb_lake.orchestration.heartbeats import beating
from ddb_lake.orchestration.sensor import sensor_name
from ddb_lake.orchestration.specs import Stage, TableAssets
from ddb_lake.pipeline.open_lake import Lake

OpenLake: TypeAlias = Callable[[Any], AbstractContextManager[Lake]]

TODO = "what to do"
"""The label of the advice in the metadata of an evaluation that is not green."""

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN

State: TypeAlias = Literal["pass", "fail", "unknown", "not evaluated"]
"""`unknown`: the evaluation found no sign of either. `not evaluated`: an error ended it."""

GREEN: frozenset[State] = frozenset({"pass", "unknown"})
"""The states that Dagster shows as passed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one evaluation found.

    Attributes:
        state: see `State`.
        text: sentences for people, without values of items.
        figures: metadata of the evaluation in Dagster.
        severity: replaces the check's own, where what was found is less certain or less severe.
    """

    state: State
    text: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    severity: dg.AssetCheckSeverity | None = None


def outcome(passed: bool, text: str, figures: Mapping[str, Any] | None = None) -> Outcome:
    """The outcome of a check that passed or failed."""
    return Outcome("pass" if passed else "fail", text, figures or {})


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check is evaluated on: a table of an open lake.

    `just_written`: the same run has written the asset. `sensor`: the name of the lake's sensor. `instance`: Dagster's, for
    the checks of Dagster itself.
    """

    lake: Lake
    table: TableSettings
    just_written: bool = False
    sensor: str = ""
    instance: dg.DagsterInstance | None = None


def not_evaluated(error: Exception) -> Outcome:
    """An error ended the evaluation: nothing is known, and the check is as severe as if it had failed."""
    return Outcome("not evaluated", f"Not evaluated: {error_text(error)}")


def not_evaluated_lake(error: Exception) -> Outcome:
    """As `not_evaluated`. Where AWS cannot be reached, nothing is known to be wrong: a warning."""
    if is_unreachable(error):
        return Outcome("not evaluated", f"Not evaluated: AWS cannot be called ({error_text(error)}).", severity=WARN)
    return not_evaluated(error)


def not_evaluated_source(error: Exception) -> Outcome:
    """As `not_evaluated`. Where the source cannot be read, or not yet be compared: a warning."""
    doubtful = is_unreachable(error) or isinstance(error, TransientError | UsageError)
    return Outcome("not evaluated", f"Not evaluated: {error_text(error)}", severity=WARN if doubtful else None)


def not_evaluated_database(error: Exception) -> Outcome:
    """As `not_evaluated`. A database that does not answer now is a warning."""
    severity = WARN if isinstance(error, TransientError) else None
    return Outcome("not evaluated", f"Not evaluated: {error_text(error)}", severity=severity)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a table.

    Attributes:
        name: its name in Dagster, unique for the asset.
        asset: the stage of the asset on which it is shown.
        compares: its description in Dagster: what it compares with what.
        advice: what to do if it is not green, step by step; `{table}` is replaced.
        applies: whether a table has the check.
        op: the op that evaluates it, without the lake's name. Empty: the op that writes the asset evaluates it.
        evaluate: the evaluation, where `op` is not empty.
        severity: of a failure.
        on_error: the outcome if the evaluation raises an error. Other checks and tables are evaluated all the same.
        blocking: whether a failure stops the assets downstream.
    """

    name: str
    asset: Stage
    compares: str
    advice: tuple[str, ...]
    applies: Callable[[TableAssets], bool]
    op: str = ""
    evaluate: Callable[[Subject], Outcome] | None = None
    severity: dg.AssetCheckSeverity = ERROR
    on_error: Callable[[Exception], Outcome] = not_evaluated
    blocking: bool = False

    def spec(self, assets: TableAssets) -> dg.AssetCheckSpec:
        """The check of a table, as Dagster shows it."""
        key = assets.key(self.asset)
        return dg.AssetCheckSpec(self.name, asset=key, description=self.compares, blocking=self.blocking)

    def result(self, assets: TableAssets, found: Outcome) -> dg.AssetCheckResult:
        """An outcome as the check's result, with the advice if it is not green."""
        passed = found.state in GREEN
        return dg.AssetCheckResult(
            asset_key=assets.key(self.asset),
            check_name=self.name,
            passed=passed,
            severity=found.severity or self.severity,
            description=found.text,
            metadata={**found.figures, **({} if passed else advice_metadata(self.advice, assets.table))},
        )


def advice_metadata(steps: Sequence[str], table: TableSettings) -> dict[str, Any]:
    """The steps as a numbered table: Dagster's UI shows tables, and hides Markdown behind a click."""
    rows = [
        dg.TableRecord({"step": number, "do": step.format(table=table.name)})
        for number, step in enumerate(steps, start=1)
    ]
    return {TODO: dg.TableMetadataValue(rows, _ADVICE_SCHEMA)}


_ADVICE_SCHEMA = dg.TableSchema([dg.TableColumn("step", "int"), dg.TableColumn("do")])


def check_op(
    lake: str, checks: Sequence[Check], tables: Mapping[str, TableAssets], open_lake: OpenLake
) -> dg.AssetChecksDefinition | None:
    """One op that evaluates some checks of all tables, each selectable alone; None if no table has any."""
    by_table = {
        name: {check.spec(assets).key: check for check in checks if check.applies(assets)}
        for name, assets in tables.items()
    }
    specs = [check.spec(tables[name]) for name, found in by_table.items() for check in found.values()]
    if not specs:
        return None

    @dg.multi_asset_check(name=f"{lake}_{checks[0].op}", specs=specs, can_subset=True)
    def evaluate_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selected = context.selected_asset_check_keys
        with failures(), beating(context), open_lake(context.log) as opened:
            for name, assets in tables.items():
                for key, check in by_table[name].items():
                    if key in selected:
                        just_written = key.asset_key in (context.run.asset_selection or ())
                        subject = Subject(opened, assets.table, just_written, sensor_name(lake), context.instance)
                        yield check.result(assets, _evaluated(check, subject))

    return evaluate_checks


def _evaluated(check: Check, subject: Subject) -> Outcome:
    assert check.evaluate is not None, f"{check.name} is evaluated by the op that writes its asset"
    try:
        return check.evaluate(subject)
    except Exception as error:  # whatever it is, it is this table's: other tables and checks are evaluated
        return check.on_error(error)
