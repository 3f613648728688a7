"""The prompt of `query`, by itself and on a real terminal; and what else only a terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ddb_lake.cli.shell.prompt import HELP, Prompt, history_file
from ddb_lake.errors import UsageError
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.terminal import PATIENCE_S, on_terminal


class Told:
    """Queries that record their statements."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def tables(self) -> Sequence[str]:
        return ["orders"]

    def columns(self, table: str) -> Sequence[tuple[str, str, str]]:
        if table != "orders":
            raise UsageError(f"there is no table {table!r}")
        return [("id", "varchar", "id")]

    def run(self, sql: str) -> None:
        self.ran.append(sql)
        if sql == "interrupt":
            raise KeyboardInterrupt
        if sql == "fail":
            raise UsageError("no such thing")


def conversation(*lines: str | type[BaseException]) -> tuple[list[str], list[str]]:
    """What was run, and the prompts that were shown, for some typed lines."""
    answers, prompts, typed = Told(), [], iter([*lines, EOFError])

    def read(prompt: str) -> str:
        prompts.append(prompt)
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    Prompt(answers, read=read).run()
    return answers.ran, prompts


def test_statement_may_take_several_lines() -> None:
    ran, prompts = conversation("SELECT", "1", "; SELECT 2;")

    assert ran == ["SELECT\n1", "SELECT 2"]
    assert prompts == ["lake> ", "  ... ", "  ... ", "lake> "]


def test_errors_and_interrupts_do_not_end_it(capsys: pytest.CaptureFixture[str]) -> None:
    ran, _ = conversation("fail;", "interrupt;", "half", KeyboardInterrupt, "SELECT 1;", ".schema nothing", ".what")

    assert ran == ["fail", "interrupt", "SELECT 1"]
    said = capsys.readouterr().err
    assert "Error: no such thing" in said and "Interrupted." in said
    assert "Error: there is no table 'nothing'" in said and "'.what'" in said


def test_dotted_commands(capsys: pytest.CaptureFixture[str]) -> None:
    ran, prompts = conversation(".tables", ".schema orders", ".help", ".quit", "SELECT 1;")

    shown = capsys.readouterr().out
    assert shown.startswith("orders\ncolumn  type     attribute\n")
    assert HELP in shown
    assert ran == [] and len(prompts) == 4


def test_history_has_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("DDB_LAKE_HISTORY", raising=False)
    assert history_file() == tmp_path / "ddb-lake" / "query_history"
    monkeypatch.setenv("DDB_LAKE_HISTORY", str(tmp_path / "mine"))
    assert history_file() == tmp_path / "mine"


# --- on a terminal


def test_prompt_on_a_terminal(project: Path, landing: Path, run: Run) -> None:
    assert run("load", "orders", "--export", landing / "export").exit_code == 0
    history = project / "history"
    with on_terminal(project, "query", DDB_LAKE_HISTORY=str(history)) as (terminal, process):
        terminal.until("lake> ")
        terminal.type(".tables")
        assert "orders" in terminal.until("lake> ")
        terminal.type("SELECT count(*) AS n")
        terminal.until("  ... ")
        terminal.type("FROM orders;")
        assert "(1 row)" in terminal.until("lake> ")
        terminal.type("SELECT nothing FROM orders;")
        assert "Error:" in terminal.until("lake> ")
        terminal.type("SELECT count(*) FROM orders_quarantine;")
        assert "(1 row)" in terminal.until("lake> ")
        terminal.type(".quit")
        assert process.wait(PATIENCE_S) == 0
    assert history.read_text().splitlines()[0] == ".tables"


def test_colour_is_for_terminals_that_want_it(project: Path) -> None:
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with on_terminal(project, "status", "nowhere", **environment) as (terminal, _):
            before = terminal.until("nowhere")
        assert ("\x1b[31m" in before) is coloured, environment


def test_query_without_sql_or_terminal_is_wrong_use(run: Run, project: Path) -> None:
    result = run("query")

    assert result.exit_code == 2
    assert "SQL is missing: give it as an argument, or run this on a terminal" in result.stderr
