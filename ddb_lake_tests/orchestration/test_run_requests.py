from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from ddb_lake.config import parse_settings
from ddb_lake.orchestration.run_requests import RANGE_END, RANGE_START, TABLES_PER_RUN, apply_op_name, sync_jobs
from ddb_lake.orchestration.specs import TableAssets, python_name
from ddb_lake.pipeline.plan.work import Work
from ddb_lake_tests.support.run_requests import requests

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def apply(table: str, *hours: datetime, digest: str = "d", tries: int = 1, everything: bool = False) -> Work:
    return Work(table, "apply", "2 objects", (), hours, everything, digest, tries=tries)


def keys(request: dg.RunRequest) -> list[str]:
    return [key.to_user_string() for key in request.asset_selection or ()]


@pytest.mark.parametrize(
    ("every", "first", "last"), [("day", "2026-03-03", "2026-03-04"), ("hour", "2026-03-03-06:00", "2026-03-04-12:00")]
)
def test_hours_are_read_in_one_run_of_their_partitions(every: str, first: str, last: str) -> None:
    work = apply("orders", NOON - 30 * HOUR, NOON - 7 * HOUR, NOON)

    (request,) = requests("orders", partitions={"every": every}).requests([work])

    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (first, last)
    hours = ["2026-03-03T06:00Z", "2026-03-04T05:00Z", "2026-03-04T12:00Z"]
    assert request.run_config == {"ops": {apply_op_name("lake", "orders"): {"config": {"hours": hours}}}}
    assert request.job_name == "lake_sync"
    assert keys(request) == ["changes/orders", "current/orders"]


@pytest.mark.parametrize(
    ("starts", "jobs"),
    [
        ("", []),
        ("2026-03-01", ["sync"]),
        ("- 2026-03-01 -", ["sync", "sync", "sync"]),
        ("2026-03-01 2026-03-02", ["sync", "sync_day_20260302"]),
        ("2026-03-01 2026-03-02 2026-03-02", ["sync_day_20260301", "sync", "sync"]),
        ("2026-03-01 2026-03-01 hour", ["sync", "sync", "sync_hour_20250101"]),
    ],
)
def test_most_frequent_partitions_have_the_job_with_the_plain_name(starts: str, jobs: list[str]) -> None:
    """`-`: a table without changes."""
    partitions = {"hour": {"every": "hour"}}
    changes = [
        {} if one == "-" else {"changes": {"uri": "s3://b/", "partitions": partitions.get(one, {"start": one})}}
        for one in starts.split()
    ]
    tables = [{"name": f"t{number}", "key": ["k"], **one} for number, one in enumerate(changes)]
    settings = parse_settings({"warehouse": "lake", "tables": tables}, "test")

    found = sync_jobs("lake", {table.name: TableAssets(table, {}) for table in settings.tables})

    assert found == {f"t{number}": f"lake_{job}" for number, job in enumerate(jobs)}


def test_tables_with_recent_objects_on_one_day_share_a_run() -> None:
    names = [f"t{number}" for number in range(TABLES_PER_RUN + 1)]

    found = list(
        requests(*names).requests([apply(name, NOON - number % 2 * HOUR) for number, name in enumerate(names)])
    )

    assert [len(request.asset_selection or ()) for request in found] == [2 * TABLES_PER_RUN, 2]


def test_tables_of_different_days_and_tables_with_old_objects_do_not_share_a_run() -> None:
    work = [apply("a", NOON), apply("b", NOON - 24 * HOUR), apply("c", NOON - 9 * HOUR, NOON)]

    found = list(requests("a", "b", "c").requests(work))

    assert sorted(keys(request)[0] for request in found) == ["changes/a", "changes/b", "changes/c"]


def test_run_key_names_the_state_and_the_try() -> None:
    made = requests("a", "b")
    work = [
        apply("a", NOON),
        apply("a", NOON, digest="other objects"),
        apply("a", NOON, tries=2),
        apply("b", NOON),
        apply("a", NOON - HOUR),
    ]

    found = [next(made.requests([one])).run_key for one in work]

    assert len(set(found)) == len(work)
    assert found[0] == next(made.requests([apply("a", NOON)])).run_key


def test_objects_without_an_hour_are_requested_by_configuration() -> None:
    (request,) = requests("orders").requests([apply("orders", NOON, everything=True)])

    assert request.run_config == {"ops": {apply_op_name("lake", "orders"): {"config": {"everything": True}}}}
    assert request.tags[RANGE_START] == request.tags[RANGE_END] == "2026-03-04"


def test_load_names_its_export_and_brings_current_up_to_date() -> None:
    work = Work("orders", "load", "export 1 is not loaded", ("s3://e/AWSDynamoDB/1/manifest-summary.json",), digest="d")

    (request,) = requests("orders").requests([work])

    assert keys(request) == ["snapshot/orders", "current/orders"]
    assert request.run_config["ops"]["lake__snapshot__orders"]["config"]["uri"] == work.uris[0]
    assert RANGE_START not in request.tags


def test_merge_is_of_current_alone() -> None:
    (request,) = requests("orders").requests([Work("orders", "merge", "current is behind its changelog")])

    assert keys(request) == ["current/orders"]
    assert RANGE_START not in request.tags


def test_compactions_of_a_tick_share_a_run() -> None:
    work = [Work(name, "compact", "small files") for name in ("a", "b")]

    (request,) = requests("a", "b").requests(work)

    assert request.job_name == "lake_compact"
    assert request.run_config["ops"]["lake_compact_tables"]["config"]["tables"] == ["a", "b"]


def test_runs_under_way_make_their_tables_busy() -> None:
    made = requests("a", "b", "c")
    with dg.DagsterInstance.ephemeral() as instance:
        for status, stage, table in (
            (dg.DagsterRunStatus.STARTED, "changes", "a"),
            (dg.DagsterRunStatus.STARTING, "snapshot", "b"),
            (dg.DagsterRunStatus.FAILURE, "changes", "c"),
        ):
            run = dg.DagsterRun(
                job_name="lake_sync",
                run_id=dg.DagsterRun("x").run_id,
                status=status,
                tags={"ddb_lake/lake": "lake"},
                asset_selection=frozenset({dg.AssetKey([stage, table])}),
            )
            instance.add_run(run)

        busy, _ = made.busy(instance, datetime.now(UTC).timestamp())

    assert set(busy.applying) == {"a"}
    assert set(busy.loading) == {"b"}
    assert not busy.compacting


@pytest.mark.parametrize("name", ["orders", "Orders.v2", "orders-v2", "1", "_", "x" * 255, "a.b-c"])
def test_names_of_tables_make_names_that_dagster_takes(name: str) -> None:
    dg.op(name=python_name(name))(lambda: None)


def test_names_that_differ_stay_different() -> None:
    assert len({python_name(name) for name in ("a.b", "a-b", "a_b", "a__b")}) == 4
