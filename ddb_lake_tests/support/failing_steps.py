"""A stage run while things fail: it ends, or says what to do; run again when they do not, it has lost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ddb_lake.cli.failures import error_text
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.simulator import Scenario
from ddb_lake_tests.support.iceberg_readers import count_rows

TRIES = 2


def explained(error: BaseException) -> str:
    """The message that a user gets for the error. Fails the test if that is only its type."""
    said = error_text(error)
    assert not said.startswith("unexpected"), f"the message names no next step: {said}\n{error!r}"
    return said


def through(stage: Callable[[], Any], calm: Callable[[], Any]) -> list[str]:
    """Run a stage in bad times, some attempts at most; then `calm` the times and run it once more. Gives the refusals."""
    refused: list[str] = []
    for _ in range(TRIES):
        try:
            stage()
        except Exception as error:  # whatever it is, a user must be able to act on it
            refused.append(explained(error))
        else:
            break
    calm()
    stage()
    return refused


def wrong(lake: Lake, scenario: Scenario) -> list[str]:
    """How the lake differs from the truth: items, and the number of records and of what is in quarantine."""
    found = scenario.differences(line.decode() for line in dump_items(lake, scenario.table))
    counts = (
        count_rows(lake, f"{scenario.table}_changes", "kind <> 'incremental'"),
        count_rows(lake, f"{scenario.table}_quarantine"),
    )
    expected = (scenario.expected_records, scenario.expected_garbage)
    return found if counts == expected else [*found, f"changelog and quarantine have {counts}, not {expected}"]
