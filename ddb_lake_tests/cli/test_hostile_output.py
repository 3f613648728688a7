"""Names, keys, reasons and messages of any content: no command writes them to a terminal as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result

from ddb_lake.cli.output import progress
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export

HOSTILE = "x\x1b[2J\x1b]0;t\x07\n Error: none\r\u202e\u0085\u2028\x9b31m"


def assert_harmless(result: Result) -> None:
    for output in (result.stdout, result.stderr):
        assert all(character.isprintable() for character in output.replace("\n", "")), output
        assert "\n Error: none" not in output or output.startswith("Traceback")


@pytest.fixture(scope="module")
def hostile_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and landed objects whose names, attributes and tables have control characters."""
    folder = tmp_path_factory.mktemp("hostile")
    landing = folder / "landing"
    (folder / "ddb_lake.yaml").write_text(
        f"warehouse: {folder}/warehouse\ntables:\n  - {{name: orders, key: [customer, order_id], changes: {{uri: {landing}}}}}\n"
    )
    write_export(folder / "export", "orders", [order(HOSTILE, 1, **{HOSTILE: {"S": HOSTILE}})])
    attributes = {HOSTILE + "2": {"M": {HOSTILE: {"S": HOSTILE}}}}
    write_changes(
        landing / f"good{HOSTILE}".replace("/", ""), change(1, EXPORT_US + 1, order(HOSTILE, 2, **attributes))
    )
    write_changes(landing / "other", change(2, EXPORT_US + 2, order("ann", 2), table=HOSTILE))
    (landing / f"bad{HOSTILE}").write_bytes(b'{"dynamodb": {"Keys": {}}}' + HOSTILE.encode())
    return folder


def test_no_command_writes_data_that_controls_a_terminal(
    run: Run, hostile_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hostile_lake)
    commands: list[tuple[object, ...]] = [
        ("load", "orders", "--export", hostile_lake / "export"),
        ("sync", "--dry-run"),
        ("apply", "orders", hostile_lake / "landing"),
        ("sync",),
        ("status",),
        ("status", "orders"),
        ("quarantine", "list", "orders"),
        ("quarantine", "show", "orders"),
        ("quarantine", "replay", "orders"),
        ("query", "FROM orders"),
        ("query", "DESCRIBE orders"),
        ("query", "--output", f"{HOSTILE}.csv".replace("/", ""), "FROM orders"),
        ("query", f"SELECT '{HOSTILE}' AS \"{HOSTILE}\" FROM nowhere{HOSTILE}"),
        ("query", f"SELECT error('{HOSTILE}')"),
        ("compact", "orders"),
        ("verify", "orders", "--full", "--export", hostile_lake / "export"),
        ("repair", "orders"),
        ("repair", "orders", "--gaps"),
        ("doctor",),
        ("report", "--output", f"{HOSTILE}.html".replace("/", "")),
        ("cost", "orders"),
        ("quarantine", "discard", "orders", "--reason", HOSTILE, "--all"),
        # errors
        (HOSTILE,),
        ("status", HOSTILE),
        ("status", f"--{HOSTILE}"),
        ("load", "orders", "--export", HOSTILE),
        ("apply", "orders", HOSTILE),
        ("dump", "orders", "--as-of", HOSTILE),
        ("--config", HOSTILE, "status"),
        ("--debug", "load", "orders", "--export", HOSTILE),
    ]
    for command in commands:
        assert_harmless(run(*command))


def test_warning_and_progress_escape_their_texts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.warn(HOSTILE)
    progress.note(HOSTILE)
    written = capsys.readouterr().err
    assert written.count("\n") == 2 and written.replace("\n", "").isprintable()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.Reporter() as reporter:
        reporter.progress(f"[red]{HOSTILE}", 1, 2)
        assert reporter._progress is not None
        assert reporter._progress.tasks[0].description.isprintable()
        assert "[red]" in reporter._progress.columns[0](reporter._progress.tasks[0]).plain  # type: ignore[union-attr]
