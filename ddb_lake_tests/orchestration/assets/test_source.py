"""Observations of the source tables, with and without AWS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import boto3
import dagster as dg
import pytest

from ddb_lake import DynamoDBLakeComponent
from ddb_lake.aws.session import session
from ddb_lake.errors import DamagedError
from ddb_lake.orchestration.assets.source import source_metadata
from ddb_lake.orchestration.demo.home import surroundings
from ddb_lake.pipeline.capture import source_state
from ddb_lake.pipeline.capture.source_state import SourceState
from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.dagster_folders import EXPORT_US, HOUR_US, FolderLake, inserted
from ddb_lake_tests.support.no_aws import no_aws as no_aws

Make = Callable[..., FolderLake]
DAY = ("2025-02-03", "2025-02-03")


def observed(defs: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, dict[str, Any]]:
    """What the job that observes shows, by asset. It must succeed."""
    (job,) = (job.name for job in defs.jobs or () if job.name.endswith("_observe"))
    result = defs.resolve_job_def(job).execute_in_process(instance=instance)
    assert result.success
    return {
        event.asset_key.to_user_string(): {
            name: value.value for name, value in event.asset_observation_data.asset_observation.metadata.items()
        }
        for event in result.get_asset_observation_events()
        if event.asset_key is not None
    }


def test_without_aws_an_observation_succeeds_and_says_what_is_unknown(folder_lake: Make, no_aws: None) -> None:
    lake = folder_lake(others=[{"name": "idle", "key": ["id"], "source": {"region": "eu-west-1"}}])
    lake.land("2025/02/03/04/a", inserted(1), inserted(7))
    lake.run("changes/orders", hours=DAY)

    found = observed(lake.defs, lake.instance)

    assert found.keys() == {"dynamodb/orders", "dynamodb/idle"}
    for name, newest in (("orders", (EXPORT_US + HOUR_US + 7) / 1e6), ("idle", "none yet")):
        figures = found[f"dynamodb/{name}"]
        assert "the source table: " in figures.pop("why unknown")
        assert figures.pop("newest change in the lake") == newest
        assert set(figures.values()) == {"unknown"}
        assert figures.keys() == {"item count", "table status", "DynamoDB stream", "Kinesis destination"}


def test_catalog_that_cannot_be_called_is_unknown_too(no_aws: None) -> None:
    """The observation of a lake on S3 without AWS: the lake's newest change is unknown as the source is."""
    tables = [{"name": "orders", "key": ["id"], "source": {"region": "eu-west-1"}}]
    component = DynamoDBLakeComponent.resolve_from_dict({"warehouse": "s3://no-such-lake/w", "tables": tables})
    defs = dg.build_defs_for_component(component)

    with dg.DagsterInstance.ephemeral() as instance:
        (figures,) = observed(defs, instance).values()

    assert figures["newest change in the lake"] == "unknown"
    assert "the newest change in the lake: " in figures["why unknown"]


def test_damaged_changelog_is_not_unknown(folder_lake: Make, no_aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_table: object) -> None:
        raise DamagedError("a manifest is damaged")

    monkeypatch.setattr(source_state, "changes_state", damaged)
    lake = folder_lake()

    with pytest.raises(dg.Failure, match="a manifest is damaged"):
        observed(lake.defs, lake.instance)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as served, surroundings(served.environment()):
        yield served
    session.cache_clear()


def test_observation_shows_items_and_streams(folder_lake: Make, sandbox: Sandbox) -> None:
    dynamodb = boto3.client("dynamodb")
    dynamodb.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    for number in range(3):
        dynamodb.put_item(TableName="orders", Item={"id": {"S": f"{number}"}})
    lake = folder_lake()

    (figures,) = observed(lake.defs, lake.instance).values()

    assert figures == {
        "item count": 3,
        "table status": "active",
        "DynamoDB stream": "on, with new and old images",
        "Kinesis destination": "not set up",
        "newest change in the lake": "none yet",
    }


@pytest.mark.parametrize(
    ("state", "label", "shown"),
    [
        (SourceState(items=0), "item count", 0),
        (
            SourceState(status="INACCESSIBLE_ENCRYPTION_CREDENTIALS"),
            "table status",
            "inaccessible encryption credentials",
        ),
        (SourceState(status="ACTIVE"), "DynamoDB stream", "off"),
        (SourceState(stream_view="KEYS_ONLY"), "DynamoDB stream", "on, with keys only: no change can be applied"),
        (SourceState(stream_view="A_NEW_VIEW"), "DynamoDB stream", "A_NEW_VIEW"),
        (SourceState(destination="arn:x", destination_status="ACTIVE"), "Kinesis destination", "active: arn:x"),
        (SourceState(unknown={"the Kinesis destination": "denied"}), "Kinesis destination", "unknown"),
        (SourceState(unknown={"the Kinesis destination": "denied"}), "DynamoDB stream", "off"),
    ],
)
def test_states_are_shown_as_words(state: SourceState, label: str, shown: object) -> None:
    assert source_metadata(state)[label] == shown


# --- freshness


CANARY = {"canary": {"key": {"customer": {"S": "canary"}, "order_id": {"N": "0"}}}}


@pytest.mark.parametrize(
    ("orders", "limit"),
    [
        ({}, None),
        ({"checks": {"max_lag": "10m"}}, None),
        ({"checks": {"max_lag": "10m", **CANARY}}, timedelta(hours=2, minutes=10)),
        ({"checks": {"max_lag": "0s", "freshness": "3h", **CANARY}}, timedelta(hours=3)),
        ({"changes": {"incremental_exports": {"every": "1h"}}, "checks": {"max_lag": "10m"}}, timedelta(minutes=70)),
    ],
)
def test_freshness_is_that_of_what_arrives_regularly(folder_lake: Make, orders: dict[str, Any], limit: Any) -> None:
    """A table that may be idle has no policy: Dagster would report it as overdue, though nothing is missing."""
    graph = folder_lake(orders=orders).defs.resolve_asset_graph()
    policy = graph.get(dg.AssetKey(["current", "orders"])).freshness_policy
    assert policy == (None if limit is None else dg.FreshnessPolicy.time_window(fail_window=limit))


@pytest.mark.parametrize(
    ("automatic", "has_policy"), [(True, True), (["checks"], True), (["sensor"], False), (False, False)]
)
def test_overview_is_overdue_only_where_dagster_brings_it_up_to_date(automatic: Any, has_policy: bool) -> None:
    lake = {"warehouse": "w", "run_automatically": automatic, "tables": [{"name": "orders", "key": ["id"]}]}
    graph = dg.build_defs_for_component(DynamoDBLakeComponent.resolve_from_dict(lake)).resolve_asset_graph()
    (overview,) = (graph.get(key) for key in graph.get_all_asset_keys() if key.path[0] == "lake")
    assert (overview.freshness_policy is not None) == has_policy
