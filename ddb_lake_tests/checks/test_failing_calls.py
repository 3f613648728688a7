"""Each check with each of its calls of AWS denied, unreachable or absent is never green. The calls are recorded, not listed.

The statements of a database are counted, and the connection is lost before each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from ddb_lake.checks.check import Check, Subject
from ddb_lake.checks.registry import CHECKS
from ddb_lake.core.verify.outcome import GREEN
from ddb_lake.mysql import comparison
from ddb_lake.mysql.replication import replicate
from ddb_lake_tests.support.green_checks import CHECKED, SETTINGS, due_again, fill, outcome
from ddb_lake_tests.support.landed_files import order
from ddb_lake_tests.support.mariadb import PASSWORD, Dying, MariaDb
from ddb_lake_tests.support.mysql_lakes import PASSWORD_ENV, Replicated
from ddb_lake_tests.support.recorded_calls import watching
from ddb_lake_tests.support.sandbox_lake import orders_lake, orders_source
from ddb_lake_tests.support.verified_source import Stand

NO_CALLS = {"continuity", "entities_complete", "quarantine_empty"}
"""The checks that read the lake alone."""


def denied(service: str, operation: str) -> Exception:
    answer: Any = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
    return ClientError(answer, operation)


def absent(service: str, operation: str) -> Exception:
    code = "NoSuchBucket" if service == "s3" else "ResourceNotFoundException"
    answer: Any = {"Error": {"Code": code, "Message": "it does not exist"}}
    return ClientError(answer, operation)


def unreachable(service: str, operation: str) -> Exception:
    return EndpointConnectionError(endpoint_url=f"https://{service}.example")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A source and a lake on which each check is green."""
    with (
        pytest.MonkeyPatch.context() as patch,
        orders_source(patch) as sandbox,
        orders_lake(sandbox, tmp_path_factory.mktemp("lake"), **SETTINGS) as lake,
    ):
        stand = Stand(sandbox, lake)
        fill(stand)
        yield stand


@pytest.mark.parametrize("check", CHECKED, ids=lambda check: check.name)
def test_check_is_green_and_with_any_of_its_calls_failing_it_is_not(
    stand: Stand, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_again(stand, check)
    with watching(monkeypatch) as calls:
        found = outcome(stand, check)
    assert found.state in GREEN, found.text
    assert bool(calls) == (check.name not in NO_CALLS)
    print(check.name, sorted(calls))

    green = []
    for call in sorted(calls):
        for error in (denied, absent, unreachable):
            due_again(stand, check)
            with watching(monkeypatch, lambda *made, call=call, error=error: error(*made) if made == call else None):  # type: ignore[misc]
                found = outcome(stand, check)
            if found.state in GREEN:
                green.append((call, error.__name__, found.text))
    assert not green


# --- a database


DATABASE_CHECKS = [check for check in CHECKS if check.asset == "aurora"]


@pytest.mark.parametrize("check", DATABASE_CHECKS, ids=lambda check: check.name)
def test_check_of_a_database_is_not_green_with_any_of_its_statements_failing(
    mariadb: MariaDb, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    replicated = Replicated(tmp_path, mariadb, mariadb.fresh())
    replicated.export(order("ann", 1), order("bob", 2))
    with replicated.lake() as lake:
        subject = Subject(lake, lake.table("orders"))
        assert check.outcome(subject).state not in GREEN  # nothing is replicated
        replicate(lake, "orders")
        found = check.outcome(subject)
        assert found.state in GREEN, found.text
        states = []
        for statements in range(50):
            with monkeypatch.context() as patch:
                dying_after(patch, statements)
                states.append(check.outcome(subject).state)
            if states[-1] in GREEN:
                break
        assert 5 < len(states) < 50 and not GREEN.intersection(states[:-1])
        monkeypatch.setenv(PASSWORD_ENV, "wrong")
        assert check.outcome(subject).state not in GREEN


def test_check_of_a_database_without_rows_compares_nothing(
    mariadb: MariaDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    replicated = Replicated(tmp_path, mariadb, mariadb.fresh())
    replicated.export()
    with replicated.lake() as lake:
        replicate(lake, "orders")
        states = {check.name: check.outcome(Subject(lake, lake.table("orders"))).state for check in DATABASE_CHECKS}
    assert states == {"rows_match_lake": "pass", "content_matches_lake": "unknown"}


def dying_after(patch: pytest.MonkeyPatch, statements: int) -> None:
    """Lose the connection of a comparison before its nth statement."""
    connect = comparison.connect_replica

    @contextmanager
    def dying(settings: Any) -> Iterator[Any]:
        with connect(settings) as database:
            yield Dying(database, statements)

    patch.setattr(comparison, "connect_replica", dying)
