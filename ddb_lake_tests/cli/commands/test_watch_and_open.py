"""`status --watch` and `open`, without waiting for a whole Dagster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddb_lake.cli.output.progress import rate_text
from ddb_lake.config.inventory import Inventory, InventoryTable, Search, write_inventory
from ddb_lake.errors import TerminalError, UsageError
from ddb_lake.orchestration import web_server
from ddb_lake.orchestration.open_project import configured_definitions, dagster_home, write_code
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.dagster_runs import DAGSTERS_OWN
from ddb_lake_tests.support.terminal import PATIENCE_S, on_terminal


def test_watch_goes_on_until_it_is_interrupted(project: Path) -> None:
    with on_terminal(project, "status", "--watch", "0.5") as (terminal, process):
        for _ in range(2):
            terminal.until("UTC, every 0.5 s; Ctrl-C ends it")
            terminal.until("customers")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("arguments", [["--watch", "0"], ["--watch", "5", "--json"]], ids=" ".join)
def test_wrong_watching_is_wrong_use(run: Run, project: Path, arguments: list[str]) -> None:
    assert run("status", *arguments).exit_code == 2


@pytest.mark.parametrize(
    ("per_second", "text"), [(None, ""), (0.0, ""), (0.5, "30/min"), (1.0, "1/s"), (12345.6, "12,346/s")]
)
def test_rate_is_shown_in_the_unit_that_suits_it(per_second: float | None, text: str) -> None:
    assert rate_text(per_second) == text


# --- open


@pytest.mark.filterwarnings(*DAGSTERS_OWN)
def test_definitions_are_those_of_the_configured_lake(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    home = dagster_home(project)
    code = write_code(home, project / "ddb_lake.yaml")

    assert home == project / ".dagster" and (home / "dagster.yaml").exists()
    namespace: dict[str, object] = {}
    exec(compile(code.read_text(), str(code), "exec"), namespace)
    keys = configured_definitions(project / "ddb_lake.yaml").resolve_asset_graph().get_all_asset_keys()
    assert {key.to_user_string() for key in keys} >= {"current/orders", "current/customers"}
    assert "defs" in namespace


@pytest.mark.filterwarnings(*DAGSTERS_OWN)
def test_definitions_have_the_discovered_tables(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('warehouse: lake\ntables: [{match: "prod-{name}"}]\n')
    found = InventoryTable(table="prod-users", arn="arn", key=("id",), key_types={"id": "S"})
    write_inventory(tmp_path / "a.tables.json", Inventory(searches=(Search(match="prod-{name}"),), tables=(found,)))

    keys = configured_definitions(tmp_path / "a.yaml").resolve_asset_graph().get_all_asset_keys()
    assert "current/users" in {key.to_user_string() for key in keys}


def test_home_of_the_environment_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mine"))

    assert dagster_home(tmp_path) == tmp_path / "mine"
    assert list(tmp_path.iterdir()) == []


def test_port_that_is_taken_is_wrong_use() -> None:
    with socket.create_server((web_server.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be had .*--port 0 takes any"):
            web_server.free_port(port)
    assert web_server.free_port(0) > 0


def test_dagster_that_ends_at_once_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TerminalError, match="Dagster ended with status 2 before its UI answered"):
        web_server.serve_ui(["--no-such-option"], 0, {})
    assert "no-such-option" in capfd.readouterr().err


DAGSTER = """\
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
child = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.{on_term}); print(1, flush=True); time.sleep(600)"
started = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
started.stdout.readline()
pathlib.Path({folder!r}, "group").write_text(str(started.pid))
time.sleep(600)
"""
"""Replaces a Dagster that is interrupted before it serves: it ends at once, but its code server continues."""


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The file in which the replacement of Dagster notes the process that it starts. The parameter says how the process handles SIGTERM."""
    (tmp_path / "dagster.py").write_text(DAGSTER.format(folder=str(tmp_path), on_term=request.param))
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "dagster.py"}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(web_server.sys, "executable", str(program))
    monkeypatch.setattr(web_server, "GROUP_END_S", 0.5)
    monkeypatch.setattr(web_server, "AGAIN_S", 1.0)
    yield tmp_path / "group"
    if (tmp_path / "group").exists() and lives(int((tmp_path / "group").read_text())):
        os.kill(int((tmp_path / "group").read_text()), signal.SIGKILL)


def lives(process: int) -> bool:
    """Whether a process exists and has not ended; a zombie has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("interpreter", ["SIG_DFL", "SIG_IGN"], indirect=True)
def test_interrupt_at_the_start_ends_every_process(interpreter: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)  # ignored where a shell runs the tests in its background

    def interrupt() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not (interpreter.exists() and interpreter.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert web_server.serve_ui([], 0, {}) == 0
    thread.join()

    assert not lives(int(interpreter.read_text()))
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("interpreter", ["SIG_DFL"], indirect=True)
def test_interrupt_while_the_process_is_made_ends_it(interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def interrupted(*args: object, **settings: object) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = real(*args, **settings)  # type: ignore[call-overload]
        made.append(process)
        signal.raise_signal(signal.SIGTERM)
        return process

    monkeypatch.setattr(web_server.subprocess, "Popen", interrupted)

    assert web_server.serve_ui([], 0, {}) == 0
    assert made[0].returncode is not None
    assert not interpreter.exists() or not lives(int(interpreter.read_text()))


def test_open_reports_a_fault_of_the_file_before_it_starts_anything(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("type: x\nattributes: {warehouse: lake, tables: [{nam: orders}]}\n")
    result = run("open")

    assert result.exit_code == 2 and "tables.0: " in result.stderr and "'nam'" in result.stderr


def test_open_without_the_ui_says_what_to_install_first(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server.importlib.util, "find_spec", lambda _name: None)
    result = run("open")

    assert (result.exit_code, result.stderr) == (
        2,
        "Error: Dagster's UI is not installed here: pip install dagster-webserver\n",
    )
    assert not (project / ".dagster").exists()
