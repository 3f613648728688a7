"""What a check is, on what it is evaluated, and what an error of its evaluation means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ddb_lake.config import TableSettings
from ddb_lake.core.capture.health import Sign
from ddb_lake.core.operations.error_text import error_text
from ddb_lake.core.verify.outcome import Outcome, Severity, unknown
from ddb_lake.errors import CheckFailed, DamagedError, ExportError
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.stages import Stage, stages_of

_FINDINGS = (CheckFailed, DamagedError, ExportError)
"""Errors that state a fault of what was examined. Every other error only prevents a comparison."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a check is evaluated on: a table of an open lake.

    Attributes:
        lake: the open lake.
        table: the table's settings.
        just_written: whether the same run has written the asset.
        read_sensor: reads the sign of the lake's sensor at a time (UTC microseconds); None where there is no Dagster.
    """

    lake: Lake
    table: TableSettings
    just_written: bool = False
    read_sensor: Callable[[int], Sign] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a table.

    Attributes:
        name: its name, unique for the asset.
        asset: the stage on whose asset Dagster shows it.
        question: what it answers, a clause that begins with "whether"; an unknown outcome names it.
        compares: its description: what it compares with what.
        advice: what to do if it is not green, step by step; `{table}` is replaced.
        applies: whether the settings of a table give it the check. A check that reads AWS applies only to tables whose
            settings name something in AWS.
        op: the op that evaluates it, without the lake's name. Empty: the op that writes the asset evaluates it.
        evaluate: the evaluation, where `op` is not empty.
        severity: of a failure.
        blocking: whether a failure stops the assets downstream.
        reads_dagster: whether the evaluation needs an instance of Dagster.
    """

    name: str
    asset: Stage
    question: str
    compares: str
    advice: tuple[str, ...]
    applies: Callable[[TableSettings], bool]
    op: str = ""
    evaluate: Callable[[Subject], Outcome] | None = None
    severity: Severity = "error"
    blocking: bool = False
    reads_dagster: bool = False

    def outcome(self, subject: Subject) -> Outcome:
        """Evaluate the check. Does not raise: an error is this table's alone, and other checks are evaluated."""
        assert self.evaluate is not None, f"{self.name} is evaluated by the op that writes its asset"
        try:
            return self.evaluate(subject)
        except Exception as error:
            return error_outcome(error)


def error_outcome(error: Exception) -> Outcome:
    """The outcome of an evaluation that ended with an error: a fault if the error states one, else unknown."""
    return Outcome("fail", error_text(error)) if isinstance(error, _FINDINGS) else unknown(error_text(error))


def has_stage(stage: Stage) -> Callable[[TableSettings], bool]:
    """The rule that a table has the asset of a stage."""
    return lambda table: stage in stages_of(table)


def reads_aws(table: TableSettings) -> bool:
    """Whether the settings name a source or landing in AWS, so that its checks may read it.

    A table whose exports and changes lie in folders, and that names no `source`, has no checks that need AWS.
    """
    changes, export = table.changes, table.export
    lands_on_s3 = changes is not None and (changes.uri or "").startswith("s3://")
    captures = changes is not None and (changes.reads_stream or changes.incremental_exports is not None)
    exports = export is not None and not is_folder(export.bucket)
    return "source" in table.model_fields_set or lands_on_s3 or captures or exports


def is_folder(bucket: str) -> bool:
    """Whether the setting of a bucket is a folder of this machine. A bucket's name has no slash."""
    return "/" in bucket
