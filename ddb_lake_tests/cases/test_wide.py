"""Items of many attributes: the first 1,000 columns are typed, the rest is rescued, with the default memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ddb_lake_tests.support.cases import Case
from ddb_lake_tests.support.effort import cases

METADATA_COLUMNS = 4


def columns(case: Case) -> int:
    """How many columns the items have in the table."""
    return len(case.query("DESCRIBE t")) - METADATA_COLUMNS


@pytest.mark.parametrize(
    ("name", "attributes", "typed"),
    cases(
        [
            ("wide-1000-over-5-items", [201] * 5, 1000),
            ("wide-1200-export", [301, 1201], 1000),
            ("wide-900-one-item-export", [901], 901),
        ],
        quick=[("wide-1200-export", [301, 1201], 1000)],
    ),
)
def test_wide_export_is_loaded(case: Callable[[str], Case], name: str, attributes: list[int], typed: int) -> None:
    wide = case(name)
    wide.ok("load", "t", "--export", "exports/t")
    assert sorted(len(item) for item in wide.items()) == attributes
    assert columns(wide) == typed
    wide.ok("verify", "t", "--full", "--export", "exports/t")


def test_wide_changes_are_applied(case: Callable[[str], Case]) -> None:
    wide = case("wide-1200-changes")
    wide.ok("apply", "t", "landing")
    assert sorted(len(item) for item in wide.items()) == [2, 1201]
    assert columns(wide) == 1000
    wide.ok("compact", "t", "--force")
    assert sorted(len(item) for item in wide.items()) == [2, 1201]
