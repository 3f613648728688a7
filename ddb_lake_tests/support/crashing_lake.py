"""Shared by the tests of change sources: a lake that crashes after each of its steps, and what it holds in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.quarantine import list_quarantine
from ddb_lake_tests.support.iceberg_readers import count_rows
from ddb_lake_tests.support.killed_steps import instrumented

NO_OBJECT = "Firehose error Lambda.ProcessingFailedStatus: no JSON object"
"""The reason of an entry for a record that Firehose's Lambda function could not read."""


class Crash(BaseException):
    """The end of a run in the middle of its work; nothing may catch it."""


def apply_with_crashes(opened: Callable[[], AbstractContextManager[Lake]], table: str, uris: Sequence[str]) -> int:
    """Apply objects, crashing after the first step that leaves something, then after the second, and so on.

    Each run goes on from what the one before it left. Gives the number of crashes before a run came through.
    """
    crashes = 0
    while True:
        passed = 0

        def step(_name: str, last: int = crashes + 1) -> None:
            nonlocal passed
            passed += 1
            if passed == last:
                raise Crash

        try:
            with opened() as lake, instrumented(step):
                apply_objects(lake, table, uris)
        except Crash:
            crashes += 1
        else:
            return crashes


def quarantined(lake: Lake, table: str) -> dict[str, int]:
    """How many entries there are for each reason."""
    return {group.reason: group.count for group in list_quarantine(lake, table)}


def changelog_rows(lake: Lake, table: str) -> int:
    """How many records the changelog has."""
    return count_rows(lake, f"{table}_changes")
