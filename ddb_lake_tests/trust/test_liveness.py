"""A capture that has stopped is noticed: each kind of stop, on the emulator, through the checks and the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from ddb_lake.cli.doctor.health import examine_capture, examine_sensors
from ddb_lake.cli.doctor.subject import LakeSubject
from ddb_lake.core.capture.health import Sign
from ddb_lake.errors import ConfigError
from ddb_lake.orchestration.checks import read_sensor_sign
from ddb_lake.pipeline.capture.health import capture_signs, error_sign
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify.canary import canary_sign
from ddb_lake_tests.support.sandbox_lake import BUCKET, orders_lake, orders_source
from ddb_lake_tests.support.verified_source import LANDING, Stand

KEY = {"customer": {"S": "ddb-lake"}, "order_id": {"S": "canary"}}
CHANGES = {
    "uri": f"s3://{BUCKET}/{LANDING}",
    "errors_uri": f"s3://{BUCKET}/failed/",
    "delivery_stream": "hose",
}


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stand]:
    settings = {"changes": CHANGES, "checks": {"canary": {"key": KEY}}}
    with orders_source(monkeypatch) as sandbox, orders_lake(sandbox, tmp_path, **settings) as lake:
        stand = Stand(sandbox, lake)
        stand.put("o1", total="1")
        stand.deliver()
        stand.wait()
        load_export(lake, "orders", stand.export())
        yield stand


def signs(stand: Stand) -> dict[str, Sign]:
    found = capture_signs(stand.lake, stand.lake.table("orders"))
    return {sign.name: sign for sign in found}


def measure(stand: Stand, namespace: str, metric: str, dimension: tuple[str, str], value: float) -> None:
    data: dict[str, Any] = {"MetricName": metric, "Value": value, "Timestamp": stand.sandbox.clock.now()}
    data["Dimensions"] = [{"Name": dimension[0], "Value": dimension[1]}]
    stand.sandbox.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[data])
    stand.wait(2)


def test_capture_that_stands_still_is_noticed_by_each_of_its_signs(stand: Stand) -> None:
    first = {name: sign.state for name, sign in signs(stand).items()}
    assert first == {
        "the source table": "pass",
        "the Kinesis destination": "pass",
        "replication to Kinesis": "pass",
        "delivery to S3": "pass",
    }
    measure(stand, "AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", ("TableName", "orders"), 5_000)
    measure(stand, "AWS/Firehose", "DeliveryToS3.DataFreshness", ("DeliveryStreamName", "hose"), 60)
    assert {sign.state for sign in signs(stand).values()} == {"pass"}
    measure(stand, "AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", ("TableName", "orders"), 7_200_000)
    measure(stand, "AWS/Firehose", "DeliveryToS3.DataFreshness", ("DeliveryStreamName", "hose"), 7_200)
    found = signs(stand)
    assert {name for name, sign in found.items() if sign.state == "fail"} == {
        "replication to Kinesis",
        "delivery to S3",
    }
    assert "7200 s" in found["delivery to S3"].text
    arn = stand.sandbox.client("kinesis").describe_stream(StreamName="changes")["StreamDescription"]["StreamARN"]
    stand.client.disable_kinesis_streaming_destination(TableName="orders", StreamArn=arn)
    assert signs(stand)["the Kinesis destination"].state == "fail"


def test_doctor_says_what_is_dead_and_what_to_do(stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(stand, "AWS/Firehose", "DeliveryToS3.DataFreshness", ("DeliveryStreamName", "hose"), 7_200)
    monkeypatch.setattr("ddb_lake.executors.open_lake", lambda settings: nullcontext(stand.lake))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    findings = [*examine_capture(LakeSubject(Path("ddb_lake.yaml"), stand.lake.settings)), *examine_sensors()]
    states = {finding.check: finding.state for finding in findings}
    assert states["orders: delivery to S3"] == "fail" and states["orders: failed deliveries"] == "ok"
    assert states["orders: replication to Kinesis"] == "ok"
    assert all(finding.next_step for finding in findings if finding.state == "fail")


def test_source_that_was_created_again_is_noticed(stand: Stand) -> None:
    from ddb_lake.sandbox import create_orders_table

    stand.client.delete_table(TableName="orders")
    create_orders_table(stand.client)
    sign = signs(stand)["the source table"]
    assert sign.state == "fail" and "created again" in sign.text


def test_objects_below_the_error_prefix_are_noticed(stand: Stand) -> None:
    table = stand.lake.table("orders")
    assert error_sign(stand.lake, table).state == "pass"
    stand.sandbox.client("s3").put_object(Bucket=BUCKET, Key="failed/processing-failed/x", Body=b"{}")
    assert error_sign(stand.lake, table).state == "fail"
    stand.lake.now = lambda: datetime.now(UTC) + timedelta(days=2)
    assert error_sign(stand.lake, table).state == "pass"


def test_canary_goes_round_and_is_missed_when_it_does_not_come_back(stand: Stand) -> None:
    table = stand.lake.table("orders")
    assert canary_sign(stand.lake, table).state == "unknown"
    assert "is not in current yet" in canary_sign(stand.lake, table).text
    stand.deliver()
    assert "is in current" in canary_sign(stand.lake, table).text
    stand.wait(60)
    assert canary_sign(stand.lake, table).state == "fail"
    stand.deliver()
    assert canary_sign(stand.lake, table).state == "pass"
    stand.client.put_item(TableName="orders", Item=KEY)
    with pytest.raises(ConfigError, match="no canary"):
        canary_sign(stand.lake, table)


@pytest.mark.parametrize(
    ("status", "age_s", "state"), [("RUNNING", 20, "pass"), ("RUNNING", 3600, "fail"), ("STOPPED", 20, "fail")]
)
def test_sensor_that_does_not_tick_is_dead(status: str, age_s: int, state: str) -> None:
    known = SimpleNamespace(
        instigator_name="lake_arrivals",
        instigator_origin_id="origin",
        selector_id="selector",
        status=SimpleNamespace(value=status),
    )
    instance: Any = SimpleNamespace(
        schedule_storage=True,
        all_instigator_state=lambda: [known, SimpleNamespace(instigator_name="another")],
        get_ticks=lambda origin, selector, limit: [SimpleNamespace(timestamp=1000.0)][:limit],
    )
    assert read_sensor_sign(instance, "lake_arrivals", (1000 + age_s) * 10**6).state == state


def test_sensor_that_never_ticked_is_neither_alive_nor_dead(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert read_sensor_sign(instance, "lake_arrivals", 0).state == "unknown"
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert read_sensor_sign(instance, "lake_arrivals", 0).state == "unknown"
