"""The Athena table of landed objects finds every object that Firehose writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.layout.firehose_paths import expand_prefix
from ddb_lake.core.layout.landing_table import LandingForm, LandingTable
from ddb_lake.lambdas import transform
from ddb_lake.sandbox import Delivery, Sandbox
from ddb_lake_tests.support.athena_partitions import projected_location
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.sandbox_steps import BUCKET, make_bucket, make_stream, make_table, objects, put

SINCE = datetime(2024, 1, 1)
TIMES = st.datetimes(SINCE, datetime(2035, 1, 1))
PREFIXES = st.sampled_from(["", "orders/", "lake/orders/", "orders"])


@examples(50, 1000)
@given(at=TIMES, prefix=PREFIXES, explicit=st.booleans())
def test_template_resolves_to_the_prefix_of_each_hour(at: datetime, prefix: str, explicit: bool) -> None:
    table = LandingTable("t", f"s3://bucket/{prefix}", since=SINCE)
    firehose = f"{prefix}!{{timestamp:yyyy/MM/dd/HH/}}" if explicit else prefix
    expected = f"s3://bucket/{expand_prefix(firehose, at.replace(tzinfo=UTC))}"
    assert projected_location(table.properties, at) == expected
    assert expected.startswith(table.location)
    assert projected_location(table.properties, at - timedelta(days=365 * 12)) is None


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.mark.parametrize("form", ["envelope", "flatten"])
def test_every_object_of_firehose_is_in_a_partition_and_its_lines_have_the_columns(
    sandbox: Sandbox, form: LandingForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(sandbox)
    make_bucket(sandbox)
    arn = make_stream(sandbox, "things")
    monkeypatch.setenv("DDB_LAKE_MODE", form)
    sandbox.delivery_stream(
        Delivery(
            name="hose", bucket=BUCKET, prefix="things/", source=arn, transform=lambda e: transform.handler(e, None)
        )
    )
    began = sandbox.clock.now()
    for number in range(3):
        put(sandbox, f"k{number}", address={"M": {"city": {"S": "Bonn"}}})
        sandbox.flush()
        sandbox.clock.advance(timedelta(hours=1))
    members = ("pk", "sk", "address__city")
    table = LandingTable(
        "things_landing", f"s3://{BUCKET}/things/", form, members, began.replace(tzinfo=None) - timedelta(1)
    )
    hours = [began + timedelta(hours=hour) for hour in range(4)]
    locations = {projected_location(table.properties, hour) for hour in hours}
    stored = objects(sandbox)
    assert len({name.rpartition("/")[0] for name in stored}) == 3
    assert [name for name in stored if f"s3://{BUCKET}/{name.rpartition('/')[0]}/" not in locations] == []
    for line in b"".join(stored.values()).decode().splitlines():
        record = json.loads(line)
        assert "\x01" not in line
        if form == "flatten":
            assert {*table.columns.values()} == {*record}
        else:
            assert record["dynamodb"]["NewImage"]["address"] == {"M": {"city": {"S": "Bonn"}}}

    glue = sandbox.client("glue")
    glue.create_database(DatabaseInput={"Name": "lake"})
    glue.create_table(DatabaseName="lake", TableInput=table.table_input())
    found: Any = glue.get_table(DatabaseName="lake", Name=table.name)["Table"]
    assert {name: found[name] for name in table.table_input()} == table.table_input()


def test_statement_is_of_athena_and_keeps_the_names_case() -> None:
    table = LandingTable("orders_landing", "s3://b/orders/", "flatten", ("ID", "id", "it's", "datehour", "a__b"), SINCE)
    assert table.columns == {
        "event": "Event",
        "ingestion_timestamp": "ingestion_timestamp",
        "_ddb_lake": "_ddb_lake",
        "id": "ID",
        "it_s": "it's",
        "datehour_": "datehour",
        "a__b": "a__b",
    }
    assert table.left_out == ["id"]
    statement = table.sql("ddb_lake")
    assert "'mapping.it_s' = 'it\\'s'" in statement and "'case.insensitive' = 'false'" in statement
    for form in ("envelope", "flatten"):
        parsed = sqlglot.parse_one(LandingTable("t", "s3://b/t/", form, ("id",)).sql("lake"), dialect="athena")
        assert isinstance(parsed, sqlglot.exp.Create)
