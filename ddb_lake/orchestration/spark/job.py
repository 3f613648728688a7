"""The job itself, run by spark-submit, EMR Serverless or Glue: one step of one table, with its parameters from Dagster Pipes.

It says how far it is in the run's log, and in the end what it did, or why it refuses, as a custom message: so a refusal
reaches Dagster as the error that it is, and fails the check that it would fail there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dagster_pipes import PipesCliArgsParamsLoader, PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes

from ddb_lake.config import parse_settings
from ddb_lake.errors import DdbLakeError
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.open_lake import Lake

LOG_EVERY_S = 5.0


def main() -> None:
    """Run the step that the parameters of Pipes name, and report its result."""
    # a job of Glue gets arguments, because it has no environment to set
    has_arguments = any(argument.startswith("--dagster-pipes") for argument in sys.argv)
    loader: Any = PipesCliArgsParamsLoader if has_arguments else PipesEnvVarParamsLoader
    with open_dagster_pipes(params_loader=loader()) as pipes:
        extras = pipes.extras
        settings = parse_settings(extras["lake"], "the lake in Dagster's parameters").with_engine("spark")
        with open_lake(settings, _LoggedProgress(pipes), pipes.log.warning) as lake:
            pipes.report_custom_message(answer(lake, extras))


def answer(lake: Lake, request: Mapping[str, Any]) -> dict[str, Any]:
    """The result of the step, or the error of ours that ended it, as a message for Dagster."""
    try:
        return {"result": work(lake, request["table"], request["action"], request["uris"], request["options"])}
    except DdbLakeError as error:
        return {"error": type(error).__name__, "said": str(error)}


def work(lake: Lake, table: str, action: str, uris: list[str], options: dict[str, bool]) -> Any:
    """Run one step. Returns its result as JSON values."""
    if action == "load":
        return asdict(load_export(lake, table, uris[0], **options))
    if action == "apply":
        return asdict(apply_objects(lake, table, uris))
    return asdict(update_current(lake, table))


class _LoggedProgress:
    """Progress in the run's log, a line every few seconds at most."""

    def __init__(self, pipes: PipesContext) -> None:
        self._pipes = pipes
        self._last_s = float("-inf")

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= LOG_EVERY_S:
            self._last_s = now_s
            self._pipes.log.info(f"{what}: {done:,}" + (f" of {total:,}" if total is not None else ""))


if __name__ == "__main__":
    main()
