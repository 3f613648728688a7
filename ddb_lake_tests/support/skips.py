"""Skipped tests: skip what needs an absent system package, say at the end what was skipped, and fail if all are required."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

import pytest

from ddb_lake_tests.support.system_packages import PACKAGES, REQUIRE, command, required

MARKER: Final = "needs(*names): system packages without which the test is skipped, of support.system_packages.PACKAGES"

NO_HISTORY: Final = (
    "an earlier release writes the lake, and this checkout has no history (`git fetch --unshallow` gets it)"
)
"""The reason of skips in a shallow checkout, which no package can change."""


@cache
def _is_installed(name: str) -> bool:
    return PACKAGES[name].find() is not None


def need(*names: str) -> None:
    """Skip the test or fixture that calls this, if a system package is absent."""
    for name in names:
        if not _is_installed(name):
            pytest.skip(PACKAGES[name].reason)


def need_of_marks(item: pytest.Item) -> None:
    """Skip a test whose mark `needs` names an absent package."""
    need(*(name for mark in item.iter_markers("needs") for name in mark.args))


def fail_if_required(report: Any) -> None:
    """Make a failure of the report of a skipped test or module, if `DDB_LAKE_REQUIRE=all`. A shallow checkout is no failure."""
    if report.skipped and not hasattr(report, "wasxfail") and required() and _reason(report) != NO_HISTORY:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, and {REQUIRE}=all makes a skip a failure. {_reason(report)}"


def _reason(report: Any) -> str:
    where = report.longrepr
    return str(where[2] if isinstance(where, (tuple, list)) else where).removeprefix("Skipped: ")


def summary(reports: Iterable[Any]) -> Iterator[str]:
    """The block at the end of a run: which tests were skipped, why, and the command that installs what they need."""
    by_reason: dict[str, Counter[str]] = {}
    for report in reports:
        by_reason.setdefault(_reason(report), Counter())[report.nodeid.partition("::")[0]] += 1
    if not by_reason:
        return
    yield f"Skipped: {sum(count.total() for count in by_reason.values())}. All other tests ran."
    for reason, modules in sorted(by_reason.items()):
        yield f"  {reason}. Tests: {modules.total()}"
        yield from (f"    {module}: {count}" for module, count in sorted(modules.items()))
    absent = [package for package in PACKAGES.values() if package.reason in by_reason]
    if absent:
        yield f"To run them on Debian or Ubuntu: {command(absent)}"
        yield "`make test` does this itself as root, or with passwordless sudo."
    yield f"{REQUIRE}=all makes a skip a failure, except that of a shallow checkout."
