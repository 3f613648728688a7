"""The table of faults: which test covers which, and how it ended. Written into the documentation by `--write`."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from ddb_lake_tests.support.fault_marks import STAGES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "ddb_lake" / "docs" / "explanation" / "faults.md"
MODULES = (
    "ddb_lake_tests.trust.test_s3_faults",
    "ddb_lake_tests.trust.test_local_faults",
    "ddb_lake_tests.trust.test_verify_s3_faults",
    "ddb_lake_tests.trust.test_repair_faults",
    "ddb_lake_tests.trust.test_daemons",
    "ddb_lake_tests.integration.test_crash",
    "ddb_lake_tests.integration.test_concurrency",
    "ddb_lake_tests.pipeline.load.test_export_files",
    "ddb_lake_tests.pipeline.maintain.test_restore",
    "ddb_lake_tests.pipeline.capture.test_streams",
    "ddb_lake_tests.pipeline.follow.test_follower",
)
RECORD = "DDB_LAKE_FAULTS_FILE"
_CELLS = {"exact": "exact", "refused": "refused", None: "**failed**"}

INTRODUCTION = """\
# Faults, and how each step ends

`make trust` writes this page from the results of the tests that it names.

*exact*: the step ends with the same result as without the fault, at once or when it is run again. *refused*: the step ends with an
error that states the next action, and nothing is committed or lost; after that action, the result is exact. A dash: no test injects
the fault in this step, usually because the step does not use the component that fails.

Exact results are compared item by item with the true history: no record is lost or duplicated, and no removed key returns. A
verification is exact if it names the differing keys and no others. A verification that could not read everything reports this, and
never reports that all is equal.
"""


@dataclass(frozen=True, slots=True)
class Covered:
    """A test that injects a fault in some stages."""

    fault: str
    stages: tuple[str, ...]
    ending: str
    test: str


def covered() -> Iterator[Covered]:
    """Every marked test, in the order of modules and tests."""
    for name in MODULES:
        for function in vars(importlib.import_module(name)).values():
            if isinstance(function, FunctionType) and function.__module__ == name:
                marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "fault"]
                path = name.replace(".", "/") + ".py"
                yield from (Covered(*mark.args, test=f"{path}::{function.__name__}") for mark in marks)


@dataclass
class Recorder:
    """A pytest plugin: which marked tests passed, by path and name; and how many runs of tests there were.

    `-p ddb_lake_tests.trust.recording` registers one where `RECORD` names the file that it writes in the end.
    """

    passed: dict[str, bool] = field(default_factory=dict)
    runs: int = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        """Note how a marked test ended, set-up and tear-down included."""
        report = yield
        if any(item.iter_markers("fault")):
            name = item.nodeid.partition("[")[0]
            self.passed[name] = self.passed.get(name, True) and not report.failed
            self.runs += report.when == "call"
        return report

    def pytest_sessionfinish(self) -> None:
        """Write what was noted."""
        Path(os.environ[RECORD]).write_text(json.dumps({"passed": self.passed, "runs": self.runs}))


def pytest_configure(config: pytest.Config) -> None:
    """Pytest's hook: record, if that is wanted."""
    if os.environ.get(RECORD):
        config.pluginmanager.register(Recorder(), "faults")


def page(found: list[Covered], passed: Mapping[str, bool]) -> str:
    """The page. A test that did not run counts as failed."""
    cells: dict[str, dict[str, str | None]] = {}
    tests: dict[str, list[str]] = {}
    for one in found:
        ended = one.ending if passed.get(one.test) else None
        row = cells.setdefault(one.fault, {})
        for stage in one.stages:
            row[stage] = None if row.get(stage, ended) is None else _worse(row.get(stage), ended)
        tests.setdefault(one.fault, []).append(one.test)
    head = f"| fault | {' | '.join(STAGES)} |\n|{' --- |' * (len(STAGES) + 1)}\n"
    rows = "".join(
        f"| {fault} | {' | '.join(_cell(row, stage) for stage in STAGES)} |\n" for fault, row in cells.items()
    )
    listed = "".join(
        f"- {fault}: {', '.join(f'`{t}`' for t in dict.fromkeys(names))}\n" for fault, names in tests.items()
    )
    return f"{INTRODUCTION}\n{head}{rows}\n## The tests\n\n{listed}"


def _worse(known: str | None, ended: str | None) -> str | None:
    return ended if known is None else "refused" if "refused" in (known, ended) else ended


def _cell(row: Mapping[str, str | None], stage: str) -> str:
    return _CELLS[row[stage]] if stage in row else "–"
