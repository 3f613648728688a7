"""How many cases a run of the tests tries: few in `make test`, many in `.ci/run`, most in `make trust`.

`pytest --effort` chooses between four:

quick        (the default, and `make test`) every test except those marked `exhaustive`; property tests try few examples
exhaustive   only what `quick` left out: tests marked `exhaustive`, and property tests of `examples` with many examples
most         the tests of `exhaustive`, with more cases where a case takes long: `make trust`
all          every test, with the cases of `most`

Mark a test `@pytest.mark.exhaustive` if it takes seconds and a smaller test guards the same property in `make test`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings

T = TypeVar("T")

EFFORTS: Final = ("quick", "exhaustive", "most", "all")
MARKERS: Final = (
    "exhaustive: takes long, and a smaller test guards the same property: runs with --effort exhaustive, most or all",
    "more_examples: tries more examples with --effort exhaustive, most or all (set by support.effort.examples)",
)

BY_CHANCE: Final = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
    HealthCheck.filter_too_much,
)
"""Health checks of Hypothesis that fail on a busy machine, or by the choice of examples."""

PROFILE: Final[dict[str, Any]] = {"deadline": None, "suppress_health_check": BY_CHANCE}
"""What every profile has: no example may fail because it took long."""

SHARED_FIXTURE: Final = (*BY_CHANCE, HealthCheck.function_scoped_fixture)
"""`suppress_health_check` of a property test whose examples share a fixture on purpose."""

LONG: Final = (
    "browser/test_ui.py",
    "cli/test_demo_run.py",
    "dbt/test_columns.py",
    "dbt/test_dagster.py",
    "dbt/test_history.py",
    "dbt/test_models.py",
    "engine/native/test_without_kernel.py",
    "infra/test_calls.py",
    "infra/test_templates.py",
    "integration/test_damage.py",
    "integration/test_features.py",
    "integration/test_foreign_cleanup.py",
    "integration/test_memory.py",
    "integration/test_readme.py",
    "spark/test_misfits.py",
    "spark/test_spark.py",
    "trust/test_losing.py",
    "trust/test_run_death.py",
    "trust/test_verify_s3_faults.py",
)
"""Modules with a test or a fixture that takes 10 s of processor time or more, in `make test` or in an exhaustive run."""

_effort = EFFORTS[0]


def add_option(parser: pytest.Parser) -> None:
    """Add `--effort` to pytest's options."""
    parser.addoption("--effort", choices=EFFORTS, default=EFFORTS[0], help="how many cases the tests try")


def configure(config: pytest.Config) -> None:
    """Read `--effort` and register the markers. Call it before test modules are imported."""
    global _effort
    _effort = config.getoption("--effort")
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remove from `items` the tests that the effort leaves out."""

    def chosen(item: pytest.Item) -> bool:
        exhaustive = item.get_closest_marker("exhaustive") is not None
        if _effort == "quick":
            return not exhaustive
        return _effort == "all" or exhaustive or item.get_closest_marker("more_examples") is not None

    left_out = [item for item in items if not chosen(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if chosen(item)]


def start_long_first(items: list[pytest.Item]) -> None:
    """Sort the tests of `LONG` before the others: at the end, a process would work on a long one while the others have nothing left."""
    items.sort(key=lambda item: not item.nodeid.partition("::")[0].endswith(LONG))


def by_effort(quick: T, exhaustive: T, every: T | None = None) -> T:
    """The first value in `make test`, the second one with `--effort` exhaustive, the third one with most and all (default: the second)."""
    if _effort == "quick":
        return quick
    return exhaustive if _effort == "exhaustive" or every is None else every


def cases(values: Iterable[Any], quick: Container[Any], exhaustive: Container[Any] | None = None) -> list[Any]:
    """Cases of `parametrize`: those in `quick` run always, the others are exhaustive. A tuple is several arguments.

    `exhaustive`: the others that run with `--effort exhaustive`. The rest runs with most and all only.
    """
    found = []
    for value in values:
        marks = () if value in quick else (pytest.mark.exhaustive,)
        if marks and exhaustive is not None and value not in exhaustive and _effort in EFFORTS[:2]:
            continue
        found.append(pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks))
    return found


def examples(
    quick: int, exhaustive: int, every: int | None = None, *, suppress: Iterable[HealthCheck] = BY_CHANCE
) -> Callable[[Any], Any]:
    """Decorate a property test: the number of its examples in `make test`, in an exhaustive run, and in `make trust`.

    Place it above `@given`. `suppress` replaces the profile's `suppress_health_check`.
    """
    chosen = settings(max_examples=by_effort(quick, exhaustive, every), suppress_health_check=list(suppress))

    def decorate(test: Any) -> Any:
        return pytest.mark.more_examples(chosen(test))

    return decorate
