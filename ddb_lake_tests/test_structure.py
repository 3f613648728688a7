"""The structure of the tests: what they share is in `support`, and they mirror the product's packages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = sorted(path for path in TESTS.rglob("*.py") if path.name != "__init__.py")


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_module_imports_a_test_module_or_a_conftest(path: Path) -> None:
    modules = {name for name in imported(path) if name.startswith("ddb_lake_tests.") and is_module(name)}
    assert {name for name in modules if name.rsplit(".")[-1].startswith(("test_", "conftest"))} == set()


def is_module(name: str) -> bool:
    """Whether a dotted name below `ddb_lake_tests` is a module's."""
    return TESTS.joinpath(*name.split(".")[1:]).with_suffix(".py").is_file()


@pytest.mark.parametrize("package", ["aws_cdk", "dagster_aws", "dagster_dbt", "dbt"])
def test_collection_does_not_import_what_takes_seconds(package: str, imported_by_collection: frozenset[str]) -> None:
    """Each process of pytest-xdist imports all test modules. These packages are imported by the tests that need them."""
    assert package not in imported_by_collection


def settings_of_hypothesis(path: Path) -> set[str]:
    """The names of keyword arguments of `settings(…)` in a module."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "settings"]
    return {word.arg for call in named for word in call.keywords if word.arg}


def test_no_property_test_has_a_deadline_or_health_checks_of_its_own() -> None:
    """`support.effort.PROFILE` has them for all, so that no example fails because the machine is busy."""
    effort = TESTS / "support" / "effort.py"
    found = [path for path in MODULES if path != effort and "hypothesis.HealthCheck" in imported(path)]
    found += [path for path in MODULES if path != effort and "deadline" in settings_of_hypothesis(path)]
    assert found == []
