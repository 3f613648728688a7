"""The results of checks: on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ddb_lake.cli.output.terminal import Styled, echo
from ddb_lake.core.values.time_text import time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.read.check_results import CheckResult


def checks_document(results: Sequence[CheckResult]) -> dict[str, Any]:
    """The results for `--json`: {"checks": {"red", "yellow", "green", "results": [...]}}, the worst result first."""
    from ddb_lake.pipeline.read.check_results import count_colors

    counts: dict[Any, Any] = {**count_colors(results)}
    shown = [
        {"check": result.name, "color": result.color, "text": result.text, "at_us": result.at_us} for result in results
    ]
    return {"checks": counts | {"results": shown}}


def print_problems(checks: Mapping[str, Sequence[CheckResult]]) -> None:
    """Print the results that are not green, the worst of all tables first."""
    from ddb_lake.core.verify.outcome import urgency

    bad = [(urgency(r.color), table, r) for table, results in checks.items() for r in results if r.color != "green"]
    for _, table, result in sorted(bad, key=lambda entry: (entry[0], entry[1], entry[2].name)):
        print_result(table, result)


def print_result(table: str, result: CheckResult) -> None:
    """Print one result: its color, the table, the check, when it was evaluated, and what was found."""
    color = Styled(f"{result.color:<6}", fg=result.color)
    seen = f" ({time_text(result.at_us, unit='min')})" if result.at_us is not None else ""
    echo(color, f"  {table}: {result.check}{seen}: {result.text}")
