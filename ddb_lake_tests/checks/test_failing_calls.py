"""Each check with each of its calls of AWS denied, unreachable or absent is never green. The calls are recorded, not listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from ddb_lake.checks.check import Check, Subject
from ddb_lake.checks.registry import CHECKS
from ddb_lake.core.verify.outcome import GREEN, Outcome
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify import daily_sample
from ddb_lake_tests.support.recorded_calls import watching
from ddb_lake_tests.support.sandbox_lake import BUCKET, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import LANDING, Stand

NO_CALLS = {"continuity", "quarantine_empty"}
"""The checks that read the lake alone."""

CHECKED = [
    check
    for check in CHECKS
    if check.evaluate is not None and not check.reads_dagster and check.asset not in ("aurora", "streams")
]
SETTINGS: dict[str, Any] = {
    "changes": {
        "uri": f"s3://{BUCKET}/{LANDING}",
        "errors_uri": f"s3://{BUCKET}/failed/",
        "delivery_stream": "hose",
    },
    "checks": {
        "full": {"against": "scan"},
        "canary": {"key": {"customer": {"S": "canary"}, "order_id": {"S": "canary"}}},
    },
}


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
        for number in range(20):
            stand.put(f"o{number}", total="1")
        stand.deliver()
        stand.wait(5)
        load_export(lake, "orders", stand.export())
        outcome(stand, next(check for check in CHECKED if check.name == "canary_arrives"))
        stand.wait(40)
        stand.put("o1", total="2")
        stand.deliver()
        stand.wait(120)
        yield stand


def outcome(stand: Stand, check: Check) -> Outcome:
    return check.outcome(Subject(stand.lake, stand.lake.table("orders")))


def due_again(stand: Stand, check: Check) -> None:
    """What a check needs to compare anew: a new day for the sample, and a canary that has arrived."""
    if check.name == "sample_matches_source":
        stand.wait(daily_sample.EVERY_S / 60)
    if check.name == "canary_arrives":
        stand.deliver()


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
