"""Each function's role allows exactly what its handler calls, run in the environment that it is deployed with."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from ddb_lake.aws.session import session
from ddb_lake.lambdas import forward, load_aurora, replicate
from ddb_lake.mysql.connection import Database, Server
from ddb_lake.mysql.csv_rows import write_row
from ddb_lake.sandbox import Sandbox
from ddb_lake.sandbox.firehose import Delivery
from ddb_lake_tests.support.aws_calls import ACCOUNT, REGION, Call, Recorder
from ddb_lake_tests.support.iam_evaluation import Grant, attached, direct, refused, unused
from ddb_lake_tests.support.kms_uses import allowed_uses, uses
from ddb_lake_tests.support.mariadb import MariaDb
from ddb_lake_tests.support.templates import Template, environments, text

Text = Callable[[Any], str]
SERVICE = {"WriteLogs", "DecryptEnvironment", "ManageInterfaces", "Trace"}
"""Statements of what the Lambda service does for every function."""

FAILING = {"KeepFailedBatches", "ListFailedBatches", "UseBucketKey"}
"""Statements of what the Lambda service does with a batch that the function cannot handle."""

FEEDING = {
    "forward": {"ReadStream", "ListStreams", "UseStreamKey", *FAILING},
    "replicate": {"ReadStream", "UseStreamKey", *FAILING},
    "load_aurora": {"ReceiveFiles", "DecryptMessages"},
}
"""Statements of what the Lambda service does to feed a function, and to say what failed."""

PRODUCER, CONSUMER = "111122223333", "444455556666"
SEQUENCE = 49590338271490256608559692538361571095921575989136588898


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(region=REGION) as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        forget()
        yield running
    forget()


def forget() -> None:
    for kept in (session, forward._forwarder, replicate._replicator, load_aurora._loader):
        kept.cache_clear()


@pytest.fixture
def recorder(sandbox: Sandbox) -> Iterator[Recorder]:
    with Recorder().watching() as watching:
        yield watching


def deployed(
    monkeypatch: pytest.MonkeyPatch, template: Template, handler: str, written: Text, **having: str
) -> dict[str, str]:
    """Let this process have the environment of a function; of several with that handler, of the one `having` these."""
    (environment,) = [one for one in environments(template)[handler] if one.items() >= having.items()]
    found = {name: written(value) for name, value in environment.items()}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def here(template: Template, account: str = ACCOUNT, **named: str) -> Text:
    """Writes references as what they are on the emulator: buckets, queues, streams and tables by their names."""
    known = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": account, **named}
    arns = {
        "AWS::S3::Bucket": ("BucketName", "arn:aws:s3:::{}"),
        "AWS::DynamoDB::Table": ("TableName", f"arn:aws:dynamodb:{REGION}:{account}:table/{{}}"),
    }
    for kind, (member, arn) in arns.items():
        for id, properties in template.resources(kind).items():
            if member in properties:
                known[f"{id}.Arn"] = arn.format(text(properties[member]))
    return lambda value: re.sub(r"\$\{([^}]+)\}", lambda m: known.get(m[1], m[0]), text(value))


def grants_of(template: Template, policy: str, written: Text) -> list[Grant]:
    return attached(template.policy_of(policy), written)


def of_the_handler(grants: list[Grant], handler: str) -> list[Grant]:
    """Without what the Lambda service does, whose statements there have to be."""
    sids = {grant.sid for grant in grants}
    assert SERVICE | FEEDING[handler] <= sids
    return [grant for grant in grants if grant.sid not in SERVICE | FEEDING[handler]]


def assert_exact(grants: list[Grant], calls: set[Call]) -> None:
    """The grants allow the calls and nothing more, of keys neither."""
    assert refused(grants, calls) == set()
    assert unused(grants, calls) == set()
    assert all(grant.through for grant in grants if grant.action.startswith("kms:"))
    assert allowed_uses(grants) == {use for call in calls for use in uses(call.operation)}
    assert direct(grants)


@pytest.mark.parametrize("name", ["streams-to-aurora", "replicate-target"])
def test_forwarder_calls_what_its_role_allows(
    name: str, sandbox: Sandbox, recorder: Recorder, templates: dict[str, Template], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = here(templates[name])
    environment = deployed(monkeypatch, templates[name], "forward", written)
    bucket = environment["DDB_LAKE_OVERSIZE_URI"].split("/")[2]
    make_bucket(sandbox, bucket)
    sandbox.delivery_stream(Delivery(name=environment["DDB_LAKE_DELIVERY_STREAM"], bucket=bucket))
    with recorder.recording() as calls:
        assert forward.handler({"Records": [streamed(10), streamed(1_100_000)]}, None) == {"batchItemFailures": []}
    assert_exact(of_the_handler(grants_of(templates[name], "OrdersForwardRolePolicy", written), "forward"), calls)


REPLICATED: dict[str, list[dict[str, Any]]] = {
    "Orders": [{"customer": "ann", "order_id": 1}, {"customer": "bob", "order_id": 2}],
    "Events": [{"what": "click"}, {"what": "x" * 500_000}],
}
"""Payloads, by table. Of Orders the newest of a key stays; of Events each is an item, and DynamoDB refuses one."""


@pytest.mark.parametrize(("id", "account", "failed"), [("Orders", CONSUMER, 0), ("Events", PRODUCER, 1)])
def test_replicator_calls_what_its_roles_allow(
    id: str,
    account: str,
    failed: int,
    sandbox: Sandbox,
    recorder: Recorder,
    templates: dict[str, Template],
    adopting: dict[str, Template],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stacks = templates if id == "Orders" else adopting
    source, target = stacks["replicate-source"], stacks["replicate-target"]
    table = target.one("AWS::DynamoDB::Table", f"{id}Table")
    named = {"DDB_LAKE_TARGET_TABLE": table["TableName"]}
    environment = deployed(monkeypatch, source, "replicate", here(source), **named)
    make_table(sandbox, environment["DDB_LAKE_TARGET_ROLE_ARN"], table)
    records = [in_kinesis(SEQUENCE + number, payload) for number, payload in enumerate(REPLICATED[id])]
    with recorder.recording() as calls:
        assert len(replicate.handler({"Records": records}, None)["batchItemFailures"]) == failed
    own = of_the_handler(grants_of(source, f"{id}ReplicateRolePolicy", here(source)), "replicate")
    assert_exact(own, {call for call in calls if call.by is None})
    assumed = grants_of(target, f"{id}TargetPolicy", here(target, account))
    assert_exact(assumed, {call for call in calls if call.by == environment["DDB_LAKE_TARGET_ROLE_ARN"]})


def test_loader_calls_what_its_role_allows(
    sandbox: Sandbox,
    recorder: Recorder,
    mariadb: MariaDb,
    templates: dict[str, Template],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template = templates["streams-to-aurora"]
    endpoint = {"Aurora.Endpoint.Address": "cluster.example", "Aurora.DBClusterResourceId": Cluster.resource_id}
    environment = deployed(monkeypatch, template, "load_aurora", here(template, **endpoint))
    cluster = Cluster(mariadb, tmp_path)
    monkeypatch.setattr(load_aurora, "open_database", cluster.open)
    bucket, key = cluster.bucket(template), f"{environment['DDB_LAKE_AURORA_PREFIX']}2026/03/01/09/one.csv"
    make_bucket(sandbox, bucket)
    sandbox.client("s3").put_object(Bucket=bucket, Key=key, Body=b"of no matter: the server reads it")
    with recorder.recording() as calls:
        assert load_aurora.handler(arrived(bucket, key), None) == {"batchItemFailures": []}
    assert cluster.asked_for == f"s3-{REGION}://{bucket}/{key}"
    grants = grants_of(template, "OrdersLoadRolePolicy", here(template, **endpoint))
    assert_exact(of_the_handler(grants, "load_aurora"), calls | cluster.logins)


@pytest.mark.parametrize(
    ("name", "policy"), [("same-account", "TransformRole"), ("streams-to-aurora", "OrdersValidateRole")]
)
def test_transforming_functions_are_allowed_nothing_but_what_lambda_does_for_them(
    name: str, policy: str, templates: dict[str, Template]
) -> None:
    assert {grant.sid for grant in grants_of(templates[name], policy, text)} == SERVICE


@dataclass(slots=True)
class Cluster:
    """MariaDB as Aurora: entered with IAM's tokens, which no call to AWS makes, and reading files from S3 by itself."""

    mariadb: MariaDb
    folder: Path
    logins: set[Call] = field(default_factory=set)
    asked_for: str = ""
    resource_id: ClassVar[str] = "cluster-1"

    def open(self, server: Server, token: str) -> Database:
        """What opening a connection is, to IAM: `rds-db:connect` as the user whom the token is for."""
        signed = parse_qs(urlsplit(f"https://{token}").query)
        assert (server.host, signed["Action"]) == ("cluster.example", ["connect"])
        user = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:{self.resource_id}/{signed['DBUser'][0]}"
        self.logins.add(Call("rds-db:connect", user, None, "rds-db:connect"))
        inner = self.mariadb.fresh()
        database = Reading(inner, self.mariadb.open(inner).driver)
        database.cluster = self
        database.execute(
            "CREATE TABLE orders (_key BINARY(32) PRIMARY KEY, _seq DECIMAL(40,0) NOT NULL, customer VARCHAR(20),"
            " order_id VARCHAR(20))"
        )
        return database

    @staticmethod
    def bucket(template: Template) -> str:
        """The bucket whose new objects start the function."""
        pattern = template.one("AWS::Events::Rule", "OrdersArrived")["EventPattern"]
        (name,) = pattern["detail"]["bucket"]["name"]
        return str(name)


class Reading(Database):
    """A connection to a server that reads files from S3."""

    __slots__ = ("cluster",)
    cluster: Cluster

    def load(self, sql: str, what: str) -> int:
        found = re.search(r"FROM S3 FILE '([^']+)'", sql)
        assert found, sql
        self.cluster.asked_for = found[1]
        path = self.cluster.folder / "read-by-the-server"
        path.write_text(write_row(["MODIFY", "1", "ann", "1"]))
        return super().load(sql.replace(found[0], f"LOCAL INFILE '{path}'"), what)


def arrived(bucket: str, key: str) -> dict[str, Any]:
    """What the queue hands to the function for a new object."""
    detail = {"bucket": {"name": bucket}, "object": {"key": key}}
    body = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
    return {"Records": [{"messageId": "m", "eventSource": "aws:sqs", "body": body}]}


def make_bucket(sandbox: Sandbox, name: str) -> None:
    where: Any = {"LocationConstraint": REGION}
    sandbox.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=where)


def make_table(sandbox: Sandbox, role_arn: str, properties: dict[str, Any]) -> None:
    """A table of a template, in the account of the role that writes it."""
    given = sandbox.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
    client: Any = boto3.client(
        "dynamodb",
        region_name=REGION,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    wanted = ("TableName", "KeySchema", "AttributeDefinitions", "BillingMode")
    client.create_table(**{name: properties[name] for name in wanted})
    client.close()


def streamed(size: int) -> dict[str, Any]:
    """A record of a DynamoDB stream, of about so many bytes."""
    image = {"id": {"S": str(size)}}
    body = {
        "ApproximateCreationDateTime": 1480642020,
        "Keys": image,
        "NewImage": {**image, "text": {"S": "x" * size}},
        "SequenceNumber": "1405400000000002063282832",
        "SizeBytes": size,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    return {"eventID": "0" * 32, "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
            "awsRegion": REGION, "dynamodb": body, "eventSourceARN": f"arn:aws:dynamodb:{REGION}:1:table/things/stream/x"}  # fmt: skip


def in_kinesis(sequence: int, payload: dict[str, Any]) -> dict[str, Any]:
    """A record of a Kinesis stream."""
    data = base64.b64encode(json.dumps(payload).encode()).decode()
    return {
        "eventID": f"shardId-000000000006:{sequence}",
        "kinesis": {
            "data": data,
            "sequenceNumber": str(sequence),
            "partitionKey": "p",
            "approximateArrivalTimestamp": 1.0,
        },
    }
