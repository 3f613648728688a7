import gzip
import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ddb_lake.core.decode.ion_lines import json_line
from ddb_lake.core.layout.export_manifest import parse_summary
from ddb_lake.sandbox import ExportOptions, Sandbox
from ddb_lake.sandbox.awserror import AwsError
from ddb_lake.sandbox.export_requests import window_us
from ddb_lake.sandbox.history import TableHistory
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.sandbox_steps import (
    BUCKET,
    export,
    key,
    make_bucket,
    make_table,
    objects,
    put,
    read_export,
    scan,
)

DAY = datetime(2024, 5, 14, 11, tzinfo=UTC)


def items_of(lines: list[dict[str, Any]]) -> list[str]:
    return sorted(canonical(line["Item"]) for line in lines)


def fault_of(call: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(ClientError) as raised:
        call(*args, **options)
    return str(raised.value.response["Error"]["Code"])


def test_full_export_has_every_file_and_the_items_of_the_table(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    for number in range(8):
        put(sandbox, f"k{number}", number, b={"B": b"\x00\xff"}, s={"SS": ["b", "a"]}, m={"M": {"n": {"N": "1.50"}}})
    described = export(sandbox, arn, S3Prefix="exports/daily")
    summary, files, lines = read_export(sandbox, described)
    assert items_of(lines) == scan(sandbox)
    folder = f"exports/daily/AWSDynamoDB/{summary.export_id}"
    assert re.fullmatch(r"0\d{13}-[0-9a-f]{8}", summary.export_id)
    stored = objects(sandbox)
    assert set(stored) == {file.key for file in files} | {
        f"{folder}/{name}"
        for name in (
            "_started",
            "manifest-summary.json",
            "manifest-summary.md5",
            "manifest-files.json",
            "manifest-files.md5",
        )
    }
    assert stored[f"{folder}/_started"] == b""
    assert not stored[f"{folder}/manifest-summary.json"].endswith(b"\n")
    assert stored[f"{folder}/manifest-files.json"].endswith(b"}\n")
    assert all(re.fullmatch(rf"{folder}/data/[a-z2-7]{{26}}\.json\.gz", file.key) for file in files)
    assert len(files) == 3
    assert {"b": {"B": "AP8="}, "m": {"M": {"n": {"N": "1.5"}}}}.items() <= lines[0]["Item"].items()


def test_export_in_ion_has_the_same_items(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    put(sandbox, "a", b={"B": b"\x00\xff"}, n={"N": "1.5"}, s={"SS": ["x"]})
    _, _, in_json = read_export(sandbox, export(sandbox, arn))
    before = set(objects(sandbox))
    described = export(sandbox, arn, ExportFormat="ION")
    written = {key: data for key, data in objects(sandbox).items() if key not in before and key.endswith(".ion.gz")}
    lines = [line for data in written.values() for line in gzip.decompress(data).splitlines()]
    assert [json.loads(json_line(line)) for line in lines] == in_json
    assert (described["ExportFormat"], len(written)) == ("ION", 3)


def test_full_export_gives_the_etags_that_s3_gives(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    _, files, _ = read_export(sandbox, export(sandbox, arn))
    for file in files:
        head = sandbox.client("s3").head_object(Bucket=BUCKET, Key=file.key)
        assert head["ETag"] == f'"{file.etag}"'
        assert file.etag.endswith("-1")


def test_full_export_of_an_empty_table_has_empty_files_and_no_prefix(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    described = export(sandbox, arn)
    summary, files, lines = read_export(sandbox, described)
    assert (summary.prefix, summary.item_count, lines, [file.item_count for file in files]) == (None, 0, [], [0, 0, 0])
    assert summary.manifest_files_key.startswith("AWSDynamoDB/")
    assert json.loads(objects(sandbox)[described["ExportManifest"]])["s3Prefix"] is None


def test_full_export_describes_itself_as_dynamodb_does(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    put(sandbox, "a")
    described = export(sandbox, arn, ClientToken="token")
    summary, _, _ = read_export(sandbox, described)
    client = sandbox.client("dynamodb")
    assert described["ExportStatus"] == "COMPLETED"
    assert described["ExportTime"] == described["StartTime"]
    assert described["ItemCount"] == 1
    assert described["TableId"] == client.describe_table(TableName="things")["Table"]["TableId"] == summary.table_id
    assert summary.export_time_us == round(described["ExportTime"].timestamp() * 1e6)
    assert "ExportType" not in described
    assert "FailureCode" not in described
    assert described["ExportArn"] == f"{arn}/export/{summary.export_id}"


def test_full_export_at_a_time_shows_the_table_then() -> None:
    options = ExportOptions(seconds=0)
    with Sandbox(start=DAY, exports=options) as sandbox:
        arn = make_table(sandbox)
        make_bucket(sandbox)
        states: dict[datetime, list[str]] = {}
        for hour in range(1, 5):
            put(sandbox, "changed", v={"N": str(hour)})
            put(sandbox, f"added {hour}")
            if hour == 3:
                sandbox.client("dynamodb").delete_item(TableName="things", Key=key("added 1"))
            sandbox.clock.set(DAY + timedelta(hours=hour))
            states[DAY + timedelta(hours=hour)] = scan(sandbox)
        for at, state in states.items():
            summary, _, lines = read_export(sandbox, export(sandbox, arn, ExportTime=at))
            assert items_of(lines) == state
            assert summary.export_time_us == round(at.timestamp() * 1e6)


def test_incremental_export_has_one_line_for_every_key_changed_in_the_window() -> None:
    with Sandbox(start=DAY, exports=ExportOptions(seconds=0)) as sandbox:
        arn = make_table(sandbox)
        make_bucket(sandbox)
        client = sandbox.client("dynamodb")
        for name in ("kept", "changed", "removed"):
            put(sandbox, name, v={"N": "1"})
        sandbox.clock.set(DAY + timedelta(hours=1))
        put(sandbox, "changed", v={"N": "2"})
        put(sandbox, "changed", v={"N": "3"})
        put(sandbox, "added", v={"B": b"\xff"})
        put(sandbox, "passing")
        for name in ("passing", "removed"):
            client.delete_item(TableName="things", Key=key(name))
        sandbox.clock.set(DAY + timedelta(hours=2))
        put(sandbox, "kept", v={"N": "9"})
        window = {"ExportFromTime": DAY + timedelta(hours=1), "ExportToTime": DAY + timedelta(hours=2)}
        described = export(
            sandbox, arn, ExportType="INCREMENTAL_EXPORT", IncrementalExportSpecification=window, S3Prefix="inc"
        )
        summary, files, lines = read_export(sandbox, described)
        news = export(
            sandbox,
            arn,
            ExportType="INCREMENTAL_EXPORT",
            IncrementalExportSpecification=window | {"ExportViewType": "NEW_IMAGE"},
        )
        new_summary, _, new_lines = read_export(sandbox, news)
    assert all(file.key.startswith("inc/AWSDynamoDB/data/") for file in files)
    assert summary.manifest_files_key == f"inc/AWSDynamoDB/{summary.export_id}/manifest-files.json"
    assert (summary.export_type, summary.version, summary.output_view) == (
        "INCREMENTAL",
        "2023-08-01",
        "NEW_AND_OLD_IMAGES",
    )
    hour_us = 3_600_000_000
    assert (summary.from_us, summary.to_us) == tuple(int(DAY.timestamp()) * 1_000_000 + n * hour_us for n in (1, 2))
    assert "ExportTime" not in described
    by_key = {line["Keys"]["pk"]["S"]: line for line in lines}
    written = [line["Metadata"]["WriteTimestampMicros"]["N"] for line in lines]
    assert all(summary.from_us <= int(text) < summary.to_us for text in written)
    images = {name: (line.get("OldImage"), line.get("NewImage")) for name, line in by_key.items()}
    assert images == {
        "changed": (key("changed") | {"v": {"N": "1"}}, key("changed") | {"v": {"N": "3"}}),
        "added": (None, key("added") | {"v": {"B": "/w=="}}),
        "removed": (key("removed") | {"v": {"N": "1"}}, None),
    }
    assert list(by_key["changed"]) == ["Metadata", "Keys", "OldImage", "NewImage"]
    assert new_summary.output_view == "NEW_IMAGE"
    assert sorted(list(line) for line in new_lines) == [["Metadata", "Keys"]] + 2 * [["Metadata", "Keys", "NewImage"]]


def test_export_takes_its_time_and_shows_the_table_of_its_start() -> None:
    with Sandbox(exports=ExportOptions(seconds=0.3)) as sandbox:
        arn = make_table(sandbox)
        make_bucket(sandbox)
        put(sandbox, "before")
        client = sandbox.client("dynamodb")
        asked = client.export_table_to_point_in_time(TableArn=arn, S3Bucket=BUCKET)["ExportDescription"]
        put(sandbox, "after")
        assert asked["ExportStatus"] == "IN_PROGRESS"
        assert not {"ExportManifest", "EndTime", "ItemCount"} & set(asked)
        statuses = []
        while not statuses or statuses[-1] == "IN_PROGRESS":
            described = client.describe_export(ExportArn=asked["ExportArn"])["ExportDescription"]
            statuses.append(described["ExportStatus"])
            time.sleep(0.05)
        _, _, lines = read_export(sandbox, described)
    assert len(statuses) > 2
    assert [line["Item"]["pk"]["S"] for line in lines] == ["before"]


def test_export_into_a_bucket_that_is_missing_fails_later(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    described = export(sandbox, arn)
    assert (described["ExportStatus"], described["FailureCode"]) == ("FAILED", "S3NoSuchBucket")
    assert "ExportManifest" not in described


def test_export_with_the_same_token_is_the_same_export(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    client = sandbox.client("dynamodb")
    first, again = (export(sandbox, arn, ClientToken="t", S3Prefix="p") for _ in range(2))
    assert first == again
    fault = fault_of(client.export_table_to_point_in_time, TableArn=arn, S3Bucket=BUCKET, ClientToken="t", S3Prefix="q")
    assert fault == "ExportConflictException"
    assert export(sandbox, arn)["ExportArn"] != export(sandbox, arn)["ExportArn"]


def test_export_without_point_in_time_recovery_is_refused(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    client = sandbox.client("dynamodb")
    recovery = {"PointInTimeRecoveryEnabled": False}
    client.update_continuous_backups(TableName="things", PointInTimeRecoverySpecification=recovery)
    fault = fault_of(client.export_table_to_point_in_time, TableArn=arn, S3Bucket=BUCKET)
    assert fault == "PointInTimeRecoveryUnavailableException"


def test_export_that_dynamodb_would_refuse_is_refused() -> None:
    elsewhere = "arn:aws:dynamodb:us-east-1:123456789012:table/things"
    incremental = {"ExportType": "INCREMENTAL_EXPORT"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"TableArn": "things"}, "ValidationException"),
        ({"TableArn": "arn:aws:dynamodb:eu-west-1:123456789012:table/nothings"}, "TableNotFoundException"),
        ({"TableArn": elsewhere}, "TableNotFoundException"),
        ({"TableArn": "arn:aws:dynamodb:eu-west-1:999999999999:table/things"}, "AccessDeniedException"),
        ({"ExportFormat": "CSV"}, "ValidationException"),
        (incremental, "ValidationException"),
        (incremental | {"IncrementalExportSpecification": {}}, "ValidationException"),
        (incremental | {"IncrementalExportSpecification": {"ExportFromTime": DAY}}, "InvalidExportTimeException"),
        ({"IncrementalExportSpecification": {"ExportFromTime": DAY}}, "ValidationException"),
        ({"ExportTime": DAY - timedelta(hours=1)}, "InvalidExportTimeException"),
        ({"ExportTime": DAY + timedelta(days=9)}, "InvalidExportTimeException"),
    ]
    with Sandbox(start=DAY) as sandbox:
        arn = make_table(sandbox)
        call = sandbox.client("dynamodb").export_table_to_point_in_time
        for options, code in cases:
            assert (options, fault_of(call, **{"TableArn": arn, "S3Bucket": BUCKET} | options)) == (options, code)


@pytest.mark.parametrize(
    ("start_minutes", "end_minutes", "accepted"),
    [
        (0, 15, True),
        (0, 14, False),
        (0, 24 * 60, True),
        (0, 24 * 60 + 1, False),
        (60, 60, False),
        (60, 0, False),
        (-1, 60, False),
        (24 * 60, 27 * 60, False),
        (25 * 60, None, True),
    ],
)
def test_incremental_window_is_of_15_minutes_to_24_hours_and_past(
    start_minutes: int, end_minutes: int | None, accepted: bool
) -> None:
    start_s = int(DAY.timestamp())
    history = TableHistory("id", start_s * 1_000_000 + 5, start_s * 1_000_000 + 6)
    now_us = (start_s + 26 * 3600) * 1_000_000
    asked = {"ExportFromTime": start_s + 60 * start_minutes}
    if end_minutes is not None:
        asked["ExportToTime"] = start_s + 60 * end_minutes
    if accepted:
        from_us, to_us = window_us(asked, ExportOptions(), history, now_us)
        assert from_us == asked["ExportFromTime"] * 1_000_000
        assert to_us == asked.get("ExportToTime", now_us // 1_000_000) * 1_000_000
    else:
        with pytest.raises(AwsError) as raised:
            window_us(asked, ExportOptions(), history, now_us)
        assert raised.value.code == "InvalidExportTimeException"


def test_describe_export_of_another_arn_is_not_found(sandbox: Sandbox) -> None:
    client = sandbox.client("dynamodb")
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/things"
    assert fault_of(client.describe_export, ExportArn=f"{arn}/export/0123-abc") == "ExportNotFoundException"
    assert fault_of(client.describe_export, ExportArn=arn + "x" * 20) == "ValidationException"


def test_list_exports_is_newest_first_in_pages_and_of_the_present_table(sandbox: Sandbox) -> None:
    arn = make_table(sandbox)
    make_bucket(sandbox)
    client = sandbox.client("dynamodb")
    arns = [export(sandbox, arn)["ExportArn"] for _ in range(3)]
    first = client.list_exports(TableArn=arn, MaxResults=2)
    pages = [first, client.list_exports(TableArn=arn, MaxResults=2, NextToken=first["NextToken"])]
    assert [len(page["ExportSummaries"]) for page in pages] == [2, 1]
    assert [s["ExportArn"] for page in pages for s in page["ExportSummaries"]] == arns[::-1]
    assert pages[0]["ExportSummaries"][0]["ExportType"] == "FULL_EXPORT"
    client.delete_table(TableName="things")
    make_table(sandbox)
    assert client.list_exports(TableArn=arn)["ExportSummaries"] == []
    assert client.describe_export(ExportArn=arns[0])["ExportDescription"]["ExportStatus"] == "COMPLETED"


def test_continuous_backups_state_the_window_of_exports() -> None:
    with Sandbox(start=DAY) as sandbox:
        make_table(sandbox)
        sandbox.clock.set(DAY + timedelta(hours=2))
        described = sandbox.client("dynamodb").describe_continuous_backups(TableName="things")
    recovery = described["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert DAY <= recovery["EarliestRestorableDateTime"] < DAY + timedelta(minutes=1)
    assert DAY + timedelta(hours=2) <= recovery["LatestRestorableDateTime"] < DAY + timedelta(hours=3)


def test_sandbox_stopped_during_an_export_does_not_wait_for_it() -> None:
    with Sandbox(exports=ExportOptions(seconds=86_400)) as sandbox:
        arn = make_table(sandbox)
        make_bucket(sandbox)
        sandbox.client("dynamodb").export_table_to_point_in_time(TableArn=arn, S3Bucket=BUCKET)


def test_export_has_ended_when_the_clock_moves_beyond_its_duration() -> None:
    with Sandbox(exports=ExportOptions(seconds=3600)) as sandbox:
        arn = make_table(sandbox)
        make_bucket(sandbox)
        client = sandbox.client("dynamodb")
        asked = client.export_table_to_point_in_time(TableArn=arn, S3Bucket=BUCKET)["ExportDescription"]
        statuses = []
        for minutes in (30, 31):
            sandbox.advance(timedelta(minutes=minutes))
            described = client.describe_export(ExportArn=asked["ExportArn"])["ExportDescription"]
            statuses.append(described["ExportStatus"])
    assert statuses == ["IN_PROGRESS", "COMPLETED"]


def test_export_of_many_files_deals_the_items_out() -> None:
    with Sandbox(exports=ExportOptions(seconds=0, files=8)) as wide:
        arn = make_table(wide)
        make_bucket(wide)
        for number in range(3):
            put(wide, f"k{number}")
        summary, files, _ = read_export(wide, export(wide, arn))
        assert len(files) == 8
        assert summary.item_count == 3
        assert sum(file.item_count == 0 for file in files) >= 5
        manifest = f"{summary.manifest_files_key.rpartition('/')[0]}/manifest-summary.json"
        assert parse_summary(objects(wide)[manifest]) == summary
