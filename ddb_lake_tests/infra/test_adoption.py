"""What exists already is used and left alone: the same checks pass, and nothing of it is in the templates."""

from __future__ import annotations

from pathlib import Path

from ddb_lake.infra.nag_findings import compare
from ddb_lake_tests.support.templates import Template, text


def test_checks_pass_with_everything_adopted(adopting_assembly: Path) -> None:
    outcome = compare(adopting_assembly)
    assert (outcome.unacknowledged, outcome.unused) == ((), ())


def test_adopted_things_are_not_made(adopting: dict[str, Template]) -> None:
    template = adopting["same-account"]
    for kind in ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::EC2::VPC", "AWS::EC2::VPCEndpoint"):
        assert template.resources(kind) == {}
    assert [table["TableName"] for table in template.resources("AWS::DynamoDB::Table").values()] == ["events"]


def test_adopted_table_is_read_by_the_stream_that_the_deployment_names(adopting: dict[str, Template]) -> None:
    """Guards the stacks that read DynamoDB Streams: to create a table that exists fails the deployment."""
    named = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000"
    for name in ("streams-to-aurora", "replicate-target"):
        template = adopting[name]
        assert [table["TableName"] for table in template.resources("AWS::DynamoDB::Table").values()] == ["events"]
        assert template.one("AWS::Lambda::EventSourceMapping", "OrdersStream")["EventSourceArn"] == named
        read = [s["Resource"] for s in template.policy_of("OrdersForwardRole") if s["Sid"] == "ReadStream"]
        assert read == [named]


def test_adopted_tables_streaming_is_turned_on_by_the_command_in_the_output(adopting: dict[str, Template]) -> None:
    outputs = adopting["same-account"].document["Outputs"]
    command = text(outputs["OrdersEnableStreaming"]["Value"])
    assert command.startswith("aws dynamodb enable-kinesis-streaming-destination --table-name orders --stream-arn ")
    assert command.endswith("ApproximateCreationDateTimePrecision=MICROSECOND")


def test_each_table_has_a_way_of_its_own(adopting: dict[str, Template]) -> None:
    streams = adopting["same-account"].resources("AWS::Kinesis::Stream")
    modes = {stream["Name"]: stream["StreamModeDetails"]["StreamMode"] for stream in streams.values()}
    assert modes == {"ddb-lake-orders-changes": "ON_DEMAND", "ddb-lake-events-changes": "PROVISIONED"}
    assert len(adopting["same-account"].resources("AWS::KinesisFirehose::DeliveryStream")) == 2


def test_task_in_the_tables_account_exports_without_another_role(adopting: dict[str, Template]) -> None:
    attached = adopting["orchestration"].policy_of("TaskPolicy")
    assert not [s for s in attached if "sts:AssumeRole" in s["Action"]]
    assert [s for s in attached if "dynamodb:ExportTableToPointInTime" in s["Action"]]


def test_concurrency_is_reserved_where_it_is_configured_and_the_check_is_skipped_elsewhere(
    adopting: dict[str, Template],
) -> None:
    seen = set()
    for template in adopting.values():
        for id, function in template.resources("AWS::Lambda::Function").items():
            handler = function["Handler"].split(".")[-2]
            skips = {skip["id"] for skip in template.whole(id)["Metadata"]["checkov"]["skip"]}
            assert function.get("ReservedConcurrentExecutions") == (5 if handler == "transform" else None)
            assert ("CKV_AWS_115" in skips) is (handler != "transform")
            seen.add(handler)
    assert {"transform", "forward"} <= seen
