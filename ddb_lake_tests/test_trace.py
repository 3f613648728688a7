"""The path of the data does not get longer unnoticed (`ddb_lake_tests.support.trace`, decision 0056)."""

from __future__ import annotations

from pathlib import Path

from ddb_lake_tests.support.trace import run_commands

LIMITS = {"load": (62, 300), "apply": (68, 395), "query": (17, 36)}
"""The most files that a command may enter, and the most calls between files: a little above what it does now.

Raise a limit only for a feature that a reader of the command has to meet. First look for steps that are done twice:
`python -m ddb_lake_tests.support.trace -v`.
"""


def test_commands_stay_within_their_files_and_calls(tmp_path: Path) -> None:
    run_commands(tmp_path / "first")  # imports, and what is loaded once in a process
    traces = run_commands(tmp_path / "second")
    found = {name: (len(trace.files), trace.hops.total()) for name, trace in traces.items()}
    assert found.keys() == LIMITS.keys()
    too_long = {
        name: figures
        for name, figures in found.items()
        if any(f > m for f, m in zip(figures, LIMITS[name], strict=True))
    }
    assert too_long == {}, "\n".join(f"{name}: {traces[name].details()}" for name in too_long)
