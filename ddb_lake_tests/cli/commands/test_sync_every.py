"""`ddb-lake sync --every`, in a process of its own, because signals end it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ddb_lake_tests.support.command_line import Run

CONFIGURATION = """\
warehouse: warehouse
tables:
  - {name: orders, key: [customer, order_id], changes: {uri: landed, layout: flat}}
"""


@contextmanager
def syncing(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ddb_lake.cli", "sync", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_pass(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    document: dict[str, Any] = json.loads(process.stdout.readline())
    return document


def next_work(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    while True:
        found = next_pass(process)
        if found["results"]:
            results: list[dict[str, Any]] = found["results"]
            return results


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_objects_are_applied_as_they_land_and_a_signal_ends_it(
    run: Run, project: Path, landing: Path, number: signal.Signals
) -> None:
    (project / "ddb_lake.yaml").write_text(CONFIGURATION)
    (project / "landed").mkdir()
    first, second = sorted(path for path in (landing / "changes").rglob("*") if path.is_file())
    shutil.copy(first, project / "landed/first")
    with syncing("--every", "1s", "--json") as process:
        assert [result["kind"] for result in next_work(process)] == ["apply"]
        shutil.copy(second, project / "landed/second")
        assert [result["kind"] for result in next_work(process)] == ["apply"]
        process.send_signal(number)
        _, told = process.communicate()
        assert process.returncode == 0, told
    assert "Ctrl-C ends this" in told
    assert json.loads(run("sync", "--json").stdout)["due"] == []


def test_failed_pass_is_reported_and_the_next_one_does_the_work(project: Path, landing: Path) -> None:
    (project / "ddb_lake.yaml").write_text(CONFIGURATION)
    with syncing("--every", "1s", "--json") as process:
        assert next_pass(process)["doubts"] != []  # nothing is at `changes.uri`
        (project / "landed").mkdir()
        shutil.copytree(landing / "changes", project / "landed/changes")
        assert [result["kind"] for result in next_work(process)] == ["apply"]


def test_wrong_configuration_ends_the_first_pass(project: Path, run: Run) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: [1]\n")
    assert run("sync", "--every", "1s").exit_code == 2
