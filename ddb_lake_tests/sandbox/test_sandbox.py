import json
import socket
import threading
import urllib.request
from datetime import timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from ddb_lake.errors import UsageError
from ddb_lake.sandbox import Delivery, Sandbox, Traffic, create_orders_table, serve
from ddb_lake_tests.support.sandbox_steps import (
    BUCKET,
    export,
    key,
    make_bucket,
    make_stream,
    make_table,
    objects,
    put,
    scan,
)


def test_environment_points_plain_clients_at_the_sandbox(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    make_table(sandbox)
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("dynamodb")
    assert client.list_tables()["TableNames"] == ["things"]
    client.close()
    assert f"export AWS_ENDPOINT_URL={sandbox.endpoint_url}\n" in sandbox.environment_text()


def test_other_services_pass_through_to_moto(sandbox: Sandbox) -> None:
    assert sandbox.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert sandbox.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    assert sandbox.client("glue").get_databases()["DatabaseList"] == []


def test_two_sandboxes_at_once_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="another sandbox"):
        Sandbox().start()


def test_sandbox_begins_empty_after_another(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    put(sandbox, "a")
    sandbox.stop()
    with pytest.raises(UsageError, match="not running"):
        _ = sandbox.endpoint_url
    with Sandbox() as another:
        assert another.client("dynamodb").list_tables()["TableNames"] == []
        assert another.client("s3").list_buckets()["Buckets"] == []


def test_sandbox_stopped_twice_or_never_started_is_fine() -> None:
    stopped = Sandbox()
    stopped.stop()
    with stopped:
        make_table(stopped)
    stopped.stop()
    with stopped:
        assert stopped.client("dynamodb").list_tables()["TableNames"] == []


def test_sandbox_on_a_taken_port_says_so_and_another_can_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError, match="choose another"):
        Sandbox(port=taken.getsockname()[1]).start()
    with Sandbox() as sandbox:
        assert sandbox.endpoint_url.startswith("http://127.0.0.1:")


def test_reset_leaves_an_empty_sandbox_that_serves_on(sandbox: Sandbox) -> None:
    for _ in range(2):
        arn = make_table(sandbox)
        make_bucket(sandbox)
        put(sandbox, "a")
        assert export(sandbox, arn)["ItemCount"] == 1
        sandbox.reset()
    assert sandbox.client("dynamodb").list_tables()["TableNames"] == []
    assert sandbox.client("s3").list_buckets()["Buckets"] == []


def test_sandbox_that_a_client_resets_forgets_everything(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_stream(sandbox, "things")
    put(sandbox, "a")
    with urllib.request.urlopen(f"{sandbox.endpoint_url}/moto-api/reset", data=b"", timeout=120) as answer:
        assert json.loads(answer.read()) == {"status": "ok"}
    make_table(sandbox)
    described = sandbox.client("dynamodb").describe_kinesis_streaming_destination(TableName="things")
    assert described["KinesisDataStreamDestinations"] == []


def test_describe_table_gives_each_incarnation_its_id(sandbox: Sandbox) -> None:
    client = sandbox.client("dynamodb")
    ids = []
    for _ in range(2):
        make_table(sandbox)
        first, again = (client.describe_table(TableName="things")["Table"]["TableId"] for _ in range(2))
        assert first == again
        ids.append(first)
        client.delete_table(TableName="things")
    assert ids[0] != ids[1]


def test_numbers_are_stored_as_dynamodb_spells_them(sandbox: Sandbox) -> None:
    make_table(sandbox)
    client = sandbox.client("dynamodb")
    put(sandbox, "a", n={"N": "01.50"}, s={"NS": ["1E3", "2.0"]}, l={"L": [{"N": "-0"}]})
    client.update_item(
        TableName="things",
        Key=key("a"),
        UpdateExpression="SET n = n + :n",
        ExpressionAttributeValues={":n": {"N": "0.50"}},
    )
    item = client.get_item(TableName="things", Key=key("a"))["Item"]
    assert (item["n"], item["l"], sorted(item["s"]["NS"])) == ({"N": "2"}, {"L": [{"N": "0"}]}, ["1000", "2"])


def test_numbers_of_more_than_38_digits_are_refused(sandbox: Sandbox) -> None:
    make_table(sandbox)
    put(sandbox, "a", n={"N": "9" * 38}, m={"M": {"N": {"N": "1" + "0" * 60}}})
    for value in ({"N": "9" * 39}, {"NS": ["1", "1." + "1" * 38]}, {"L": [{"M": {"x": {"N": "9" * 39}}}]}):
        with pytest.raises(ClientError, match="38 significant digits"):
            put(sandbox, "b", n=value)
    assert len(scan(sandbox)) == 1


@pytest.mark.parametrize("value", [{"": {"S": "x"}}, {"m": {"": {"S": "x"}}}, {"l": {"L": [{"M": {"": {"N": "1"}}}]}}])
def test_attributes_without_a_name_are_refused(sandbox: Sandbox, value: dict[str, Any]) -> None:
    make_table(sandbox)
    item = value if "" in value or "l" in value else {"m": {"M": value["m"]}}
    for write in (
        lambda client: client.put_item(TableName="things", Item=key("a") | item),
        lambda client: client.batch_write_item(RequestItems={"things": [{"PutRequest": {"Item": key("a") | item}}]}),
        lambda client: client.update_item(
            TableName="things",
            Key=key("a"),
            UpdateExpression="SET v = :v",
            ExpressionAttributeValues={":v": {"M": item}},
        ),
    ):
        with pytest.raises(ClientError, match="attribute name is empty"):
            write(sandbox.client("dynamodb"))
    assert scan(sandbox) == []


def test_many_threads_writing_and_reading_at_once_are_all_served(sandbox: Sandbox) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    arn = make_stream(sandbox, "things")
    sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, source=arn, buffer_seconds=0))
    client = sandbox.client("dynamodb")
    faults: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            for number in range(8):
                put(sandbox, f"w{worker}", number)
                client.scan(TableName="things")
                sandbox.pump()
        except BaseException as error:
            faults.append(error)

    workers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    sandbox.flush()
    assert faults == []
    assert len(scan(sandbox)) == 32
    assert sum(data.count(b'"eventID"') for data in objects(sandbox).values()) == 32


def test_expire_of_a_missing_table_is_a_usage_error(sandbox: Sandbox) -> None:
    with pytest.raises(UsageError, match="nothings"):
        sandbox.expire("nothings")


def test_serve_delivers_and_expires_by_itself_until_stopped() -> None:
    stop, ready = threading.Event(), threading.Event()
    found: dict[str, int] = {}

    def on_ready(sandbox: Sandbox) -> None:
        client = sandbox.client("dynamodb")
        create_orders_table(client)
        make_bucket(sandbox)
        arn = make_stream(sandbox, "orders")
        sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, source=arn, buffer_seconds=0))
        Traffic(client, now=lambda: sandbox.clock.now() - timedelta(days=1)).insert(20)

        def watch() -> None:
            while not stop.wait(0.1):
                found["orders"] = client.describe_table(TableName="orders")["Table"]["ItemCount"]
                found["records"] = sum(data.count(b'"eventID"') for data in objects(sandbox).values())
                if found["orders"] < 20 < found["records"]:
                    ready.set()
                    stop.set()

        threading.Thread(target=watch, daemon=True).start()

    server = threading.Thread(target=serve, args=(0, on_ready), kwargs={"stop": stop})
    server.start()
    assert ready.wait(120), found
    server.join(20)
    assert not server.is_alive()


def test_commit_over_another_one_is_refused_by_the_glue_catalog(sandbox: Sandbox) -> None:
    glue = sandbox.client("glue")
    glue.create_database(DatabaseInput={"Name": "lake"})
    glue.create_table(DatabaseName="lake", TableInput={"Name": "orders"})
    version = glue.get_table(DatabaseName="lake", Name="orders")["Table"]["VersionId"]
    glue.update_table(DatabaseName="lake", TableInput={"Name": "orders", "Description": "one"}, VersionId=version)
    with pytest.raises(ClientError) as caught:
        glue.update_table(DatabaseName="lake", TableInput={"Name": "orders", "Description": "two"}, VersionId=version)
    assert caught.value.response["Error"]["Code"] == "ConcurrentModificationException"
    table = glue.get_table(DatabaseName="lake", Name="orders")["Table"]
    assert (table["Description"], table["VersionId"] == version) == ("one", False)
    glue.update_table(DatabaseName="lake", TableInput={"Name": "orders", "Description": "three"})
