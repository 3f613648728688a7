"""The lake's steps, run once on the emulator as production runs them, each with the calls that it made.

One configuration has everything in it. Its table is reached through a role, so that one run shows what the role of the
source's account calls and what the lake's own does; by whom is left out where roles of one account are looked at.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import pytest

from ddb_lake.aws.session import session
from ddb_lake.cli.commands.iam import IamOptions, lake_estate
from ddb_lake.config import LakeSettings, parse_settings
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.operations.policies import Estate, Place
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.sandbox import Delivery, ExportOptions, Sandbox
from ddb_lake_tests.support.aws_calls import ACCOUNT, REGION, Call, Recorder

NAME = "things"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/source"
START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
CANARY = {"id": {"S": "canary"}}
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:arrivals"
KEYS = {
    "arn:aws:s3:::landing/*": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/landing",
    "arn:aws:s3:::lake/*": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/lake",
    f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{NAME}*": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/table",
    QUEUE: f"arn:aws:kms:{REGION}:{ACCOUNT}:key/queue",
}
"""A customer's key for each place, but for exports, whose key the configuration has.

The table that is restored into is made under none.
"""


@dataclass(frozen=True)
class Seen:
    """The configuration of a lake whose stages ran, and the calls of each of them. It outlives the emulator."""

    settings: LakeSettings
    ran: dict[str, set[Call]]

    def key_of(self, resource: str) -> str | None:
        """The customer's key that a resource is under."""
        export = self.settings.table(NAME).export
        keys = {**KEYS, "arn:aws:s3:::exports/*": str(export.kms_key_id if export else None)}
        return next((key for pattern, key in keys.items() if fnmatchcase(resource, pattern)), None)

    def made(self, *stages: str, by: str | None = "anybody") -> set[Call]:
        """The calls of these steps (of all steps if none is named), without the callers unless they are requested.

        Only the caller assumes a role. DynamoDB writes exports in the name of who starts them.
        """
        found = {_in_its_name(call) for stage in stages or self.ran for call in self.ran[stage]}
        if by == "anybody":
            return {replace(call, by=None) for call in found if call.action != "sts:AssumeRole"}
        return {call for call in found if call.by == by}


def _in_its_name(call: Call) -> Call:
    exported = call.resource.startswith("arn:aws:s3:::exports/") and call.action != "s3:GetObject"
    return replace(call, by=ROLE) if exported else call


@dataclass(slots=True)
class Stand:
    """A source, its delivery and a lake on S3. `ran`: the calls of each stage that ran."""

    sandbox: Sandbox
    lake: Lake
    queue_url: str
    recorder: Recorder
    ran: dict[str, set[Call]] = field(default_factory=dict)

    def run(self, stage: str, work: Callable[[], Any]) -> Any:
        """Do something and keep what was called."""
        with self.recorder.recording() as calls:
            found = work()
        self.ran.setdefault(stage, set()).update(calls)
        return found

    def put(self, id: str, **attributes: str) -> None:
        """An item of the source, put by another client."""
        item = {"id": {"S": id}, **{name: {"N": value} for name, value in attributes.items()}}
        self.sandbox.client("dynamodb").put_item(TableName=NAME, Item=item)

    def wait(self, minutes: float = 20) -> None:
        self.sandbox.clock.advance(timedelta(minutes=minutes))


def keep_calls(folder: Path) -> None:
    """Run every stage, and keep what `kept_calls` reads in a new folder."""
    with stand() as on:
        run_everything(on)
        kept = pickle.dumps(Seen(on.lake.settings, on.ran))
    folder.mkdir()
    (folder / "seen").write_bytes(kept)


def kept_calls(folder: Path) -> Seen:
    """What `keep_calls` kept, in the same version of the code."""
    seen: Seen = pickle.loads((folder / "seen").read_bytes())
    return seen


@contextmanager
def stand() -> Iterator[Stand]:
    """Everything set up, and nothing run yet."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        sandbox = stack.enter_context(Sandbox(start=START, region=REGION, exports=ExportOptions(seconds=0)))
        folder = stack.enter_context(TemporaryDirectory())
        for name, value in {**sandbox.environment(), "XDG_STATE_HOME": folder}.items():  # the folder of rebuilds
            patch.setenv(name, value)
        session.cache_clear()
        stack.callback(session.cache_clear)
        settings = settings_for(sandbox, sandbox.client("kms").create_key()["KeyMetadata"]["Arn"])
        _fill(sandbox)
        recorder = stack.enter_context(Recorder().watching())
        lake = stack.enter_context(open_lake(settings))
        lake.now = sandbox.clock.now
        url = settings.table(NAME).changes.notifications  # type: ignore[union-attr]  # set below
        yield Stand(sandbox, lake, str(url), recorder)


def settings_for(sandbox: Sandbox, key_arn: str) -> LakeSettings:
    """The lake's configuration, with all that a policy is made for."""
    described = {
        "name": NAME,
        "key": ["id"],
        "source": {"region": REGION, "role_arn": ROLE, "external_id": "ours"},
        "export": {"bucket": "exports", "prefix": "e", "bucket_owner": ACCOUNT, "kms_key_id": key_arn},
        "changes": {
            "uri": "s3://landing/t",
            "errors_uri": "s3://landing/t-failed/",
            "delivery_stream": "hose",
            "streams": True,
            "incremental_exports": {"every": "1h"},
            "notifications": sandbox.client("sqs").create_queue(QueueName="arrivals")["QueueUrl"],
        },
        "checks": {"canary": {"key": CANARY}},
    }
    return parse_settings({"warehouse": "s3://lake/warehouse", "catalog": {}, "tables": [described]}, "test")


def estate_of(settings: LakeSettings, behind_role: bool = False) -> Estate:
    """What `ddb-lake iam` makes of the configuration, with a key of its own for each place.

    `behind_role`: the table is reached through its role, as configured; else as if it were in the lake's account.
    """
    landing, warehouse, table, queue = KEYS.values()
    found = lake_estate(
        settings, IamOptions(ACCOUNT, REGION, kms_key_arn=warehouse, queue_arns=(QUEUE,), restored=("new",))
    )
    (source,) = found.sources
    read = str(settings.stream_landing(settings.table(NAME))).removeprefix("s3://lake/")
    source = replace(
        source,
        role_arn=source.role_arn if behind_role else None,
        kms_key_arn=table,
        stream_landing=Place("arn:aws:s3:::lake", read, warehouse),
    )
    places = [replace(p, kms_key_arn=landing) if p.bucket_arn.endswith(":landing") else p for p in found.landing]
    return replace(found, sources=(source,), landing=tuple(places), queue_key_arn=queue)


def _fill(sandbox: Sandbox) -> None:
    for bucket in ("landing", "lake", "exports"):
        where: Any = {"LocationConstraint": REGION}
        sandbox.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    client = sandbox.client("dynamodb")
    client.create_table(
        TableName=NAME,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    recovery: Any = {"PointInTimeRecoveryEnabled": True}
    client.update_continuous_backups(TableName=NAME, PointInTimeRecoverySpecification=recovery)
    kinesis = sandbox.client("kinesis")
    kinesis.create_stream(StreamName="changes", ShardCount=1)
    arn = kinesis.describe_stream(StreamName="changes")["StreamDescription"]["StreamARN"]
    client.enable_kinesis_streaming_destination(TableName=NAME, StreamArn=arn)
    sandbox.delivery_stream(Delivery(name="hose", bucket="landing", prefix="t/", source=arn))
    sandbox.client("s3").put_object(Bucket="landing", Key="t-failed/2026/03/01/09/one", Body=b"{")


def run_everything(on: Stand) -> None:
    """A few days of a lake: every stage, in an order in which each has something to do."""
    for number in range(3):
        on.put(str(number), n="1")
    on.wait()
    _load(on)
    _change(on)
    _watch(on)
    _trust(on)
    _read(on)
    _rebuild(on)


def _load(on: Stand) -> None:
    from ddb_lake.aws.export_requests import start_export, wait_for_export
    from ddb_lake.pipeline.load.load import load_export

    table = on.lake.table(NAME)
    ended = on.run("export", lambda: wait_for_export(table, start_export(table), lambda _: None))
    on.run("load", lambda: load_export(on.lake, NAME, ended.manifest_uri))


def _change(on: Stand) -> None:
    from ddb_lake.aws.objects import split_s3
    from ddb_lake.pipeline.capture.incremental_exports import start_due
    from ddb_lake.pipeline.capture.streams import read_streams
    from ddb_lake.pipeline.follow.follower import follower
    from ddb_lake.pipeline.load.request_export import export_increments
    from ddb_lake.pipeline.maintain import compact
    from ddb_lake.pipeline.sync import sync
    from ddb_lake_tests.support.simulated_follower import Heard

    on.put("0", n="2")
    on.sandbox.flush()
    on.run("read streams", lambda: read_streams(on.lake, NAME))
    on.put("1", n="2")
    on.run("read streams", lambda: read_streams(on.lake, NAME))
    on.run("sync", lambda: list(sync(on.lake)))
    on.put("1", n="3")
    follower_of = follower(on.lake, [NAME], Heard())
    on.run("follow", follower_of.once)
    assert isinstance(follower_of.listener, Heard) and follower_of.listener.errors == []
    on.wait(180)
    on.run("start increments", lambda: start_due(on.lake, NAME))
    on.run("export increments", lambda: export_increments(on.lake, NAME))
    table = on.lake.current(NAME)
    assert table is not None
    bucket, key = split_s3(f"{table.location()}/data/orphan.parquet")
    on.sandbox.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    with mock.patch.object(compact, "ORPHAN_GRACE", timedelta(days=-36_500)):  # objects have the time of this machine
        result = on.run("compact", lambda: compact.compact_table(on.lake, NAME, force=True))
    assert result.orphans_removed > 0, result


def _watch(on: Stand) -> None:
    from ddb_lake.checks.check import Subject
    from ddb_lake.checks.registry import HOURLY_OPS, checks_of
    from ddb_lake.cli.doctor.registry import examine_lake
    from ddb_lake.cli.doctor.subject import LakeSubject
    from ddb_lake.pipeline.capture.health import capture_signs, error_sign
    from ddb_lake.pipeline.capture.kinesis_monitor import watch
    from ddb_lake.pipeline.verify.canary import canary_sign

    table = on.lake.table(NAME)
    _measure(on)
    on.run("signs", lambda: (capture_signs(on.lake, table), error_sign(on.lake, table)))
    on.run("watch", lambda: watch(on.lake, NAME))
    on.run("canary", lambda: canary_sign(on.lake, table))
    hourly = [c for c in checks_of(table) if c.op in HOURLY_OPS and c.name != "canary_arrives" and not c.reads_dagster]
    found = on.run("checks", lambda: {check.name: check.outcome(Subject(on.lake, table)) for check in hourly})
    assert len(found) > 10 and [name for name, one in found.items() if one.state == "unknown"] == []
    _notify(on)
    on.run("tick", lambda: _tick(on))
    subject = LakeSubject(Path("ddb_lake.yaml"), on.lake.settings)
    findings = on.run("doctor", lambda: list(examine_lake(subject)))
    wrong = {found.check: found.found for found in findings if found.state == "fail"}
    assert set(wrong) == {f"{NAME}: failed deliveries"}, wrong


def _measure(on: Stand) -> None:
    """What CloudWatch would have of a table and a delivery stream that are alive."""
    metrics = on.sandbox.client("cloudwatch")
    for namespace, metric, name, value in (
        ("AWS/DynamoDB", "AgeOfOldestUnreplicatedRecord", "TableName", NAME),
        ("AWS/DynamoDB", "FailedToReplicateRecordCount", "TableName", NAME),
        ("AWS/Firehose", "DeliveryToS3.DataFreshness", "DeliveryStreamName", "hose"),
    ):
        data: Any = {"MetricName": metric, "Value": 1, "Timestamp": on.sandbox.clock.now() - timedelta(minutes=5)}
        data["Dimensions"] = [{"Name": name, "Value": value}]
        metrics.put_metric_data(Namespace=namespace, MetricData=[data])


def _notify(on: Stand) -> None:
    place = {"bucket": {"name": "landing"}, "object": {"key": "t/2026/03/01/09/two"}}
    body = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": place})
    on.sandbox.client("sqs").send_message(QueueUrl=on.queue_url, MessageBody=body)


def _tick(on: Stand) -> None:
    """What Dagster's sensor does at a tick in which a notification waits."""
    from ddb_lake.pipeline.plan.cursor import SensorCursor
    from ddb_lake.pipeline.plan.notifications import receive_notifications
    from ddb_lake.pipeline.plan.planner import Busy, Planner, Tick

    received, busy = receive_notifications(on.lake), Busy()
    assert received.hints, "the notification is not understood"
    plan = Planner(on.lake).tick(Tick(SensorCursor(), busy, received.hints))
    assert not plan.failed, plan.failed
    assert not list(received.delete_handled(plan, busy))


def _trust(on: Stand) -> None:
    from ddb_lake.pipeline.capture.gap_log import record_gap
    from ddb_lake.pipeline.verify.full import verify_scan
    from ddb_lake.pipeline.verify.gap_repair import repair_gaps
    from ddb_lake.pipeline.verify.repair import repair_from_source
    from ddb_lake.pipeline.verify.sample import verify_sample

    on.run("verify", lambda: (verify_sample(on.lake, NAME, 2), verify_scan(on.lake, NAME)))
    on.run("repair", lambda: repair_from_source(on.lake, NAME, [{"id": {"S": "1"}}]))
    now_us = on.sandbox.clock.now_us()
    gap = Gap("too_large", now_us - 3_600_000_000, now_us - 1_800_000_000, "for the test", now_us)
    record_gap(on.lake, NAME, gap)
    on.run("repair gaps", lambda: repair_gaps(on.lake, NAME))


def _read(on: Stand) -> None:
    from ddb_lake.pipeline.maintain.restore import open_restore
    from ddb_lake.pipeline.read.dump import dump_items
    from ddb_lake.pipeline.read.files import check_files
    from ddb_lake.pipeline.read.query import run_query
    from ddb_lake.pipeline.read.status import table_status

    def query() -> None:
        with run_query(on.lake, f"SELECT * FROM {NAME}") as found:
            assert sum(map(len, found.batches())) == 3

    at_us = on.sandbox.clock.now_us()
    on.run("dump", lambda: list(dump_items(on.lake, NAME)))
    on.run("query", query)
    on.run("status", lambda: (check_files(on.lake, NAME), table_status(on.lake, NAME)))

    def restore() -> None:
        with on.lake.session() as session:
            open_restore(on.lake, session, NAME, "new", at_us).run(create=True)

    on.run("restore", restore)


def _rebuild(on: Stand) -> None:
    """The newest metadata is lost, so Glue's entry of the table is replaced."""
    from ddb_lake.pipeline.maintain.rebuild import rebuild_table

    table = on.lake.current(NAME)
    assert table is not None
    table.io.delete(table.metadata_location)
    rebuilt = on.run("rebuild", lambda: rebuild_table(on.lake, NAME))
    assert (rebuilt.rows, rebuilt.registered) == (3, (NAME,))
