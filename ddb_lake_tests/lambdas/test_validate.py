from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import ConfigError
from ddb_lake.lambdas import firehose_batch
from ddb_lake.lambdas.validate import Validation, handler
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.csv_changes import read_rows
from ddb_lake_tests.support.firehose_events import firehose_samples, records_of, results, transformed
from ddb_lake_tests.support.samples import SAMPLES
from ddb_lake_tests.support.strategies import json_values

SCHEMA = {"type": "object", "properties": {"Hits": {"type": "integer"}}, "required": ["Hits"]}
RULES = {"web_analytics": {"schema": SCHEMA, "attribute": "payload"}}
COLUMNS = {"web_analytics": {"page_id": "/page_id", "hits": "/payload/Hits", "country": "/payload/device/country"}}
PAYLOAD = {"Hits": 3, "device": {"country": "NO"}}
SEQUENCE = "1405400000000002063282832"


def environment(output: str = "csv", schemas: Any = RULES, columns: Any = COLUMNS) -> dict[str, str]:
    return {
        "DDB_LAKE_SCHEMAS": json.dumps(schemas),
        "DDB_LAKE_OUTPUT": output,
        "DDB_LAKE_COLUMNS": json.dumps(columns),
    }


def handle(**settings: Any) -> Any:
    validation = Validation.from_environment(environment(**settings))
    return lambda event, _context: firehose_batch.process_batch(event, validation.process)


def change(payload: Any = PAYLOAD, event_name: str = "INSERT") -> envelopes.Change:
    keys: Any = {"page_id": {"S": 'p,"1"'}}
    item = {**keys, "payload": {"S": payload if isinstance(payload, str) else json.dumps(payload)}}
    return envelopes.Change(
        event_name, keys, None if event_name == "REMOVE" else item, None, 1_720_742_302_000_000, "e1"
    )


def record(payload: Any = PAYLOAD, event_name: str = "INSERT") -> bytes:
    captured = envelopes.streams(change(payload, event_name))
    return envelopes.compact({**captured, "eventSourceARN": envelopes.ARN.replace("/orders/", "/web_analytics/")})


def test_csv_row_has_event_sequence_and_columns_of_the_document() -> None:
    (inserted, removed) = transformed(handle(), record(), record(event_name="REMOVE"))
    assert inserted == ("Ok", f'"INSERT","{SEQUENCE}","p,""1""","3","NO"\n'.encode())
    assert removed == ("Ok", f'"REMOVE","{SEQUENCE}","p,""1""",NULL,NULL\n'.encode())


@pytest.mark.parametrize("output", ["csv", "json", "envelope"])
def test_offender_fails_with_its_original_data_and_a_reason_without_values(
    output: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [record({"Hits": "my secret"}), record("{my secret"), record({"device": "my secret"})]
    with caplog.at_level(logging.DEBUG):
        found = transformed(handle(output=output), record(), *bad)
    assert found[0][0] == "Ok"
    assert found[1:] == [("ProcessingFailed", data) for data in bad]
    assert "1 × schema: the document in payload fails `type` at Hits" in caplog.text
    assert "1 × schema: the document in payload fails `required`" in caplog.text
    assert "secret" not in caplog.text


def test_json_and_envelope_are_those_of_the_transform() -> None:
    for output, kind in (("json", "flattened"), ("nested", "flattened"), ("envelope", "streams")):
        ((result, line),) = transformed(handle(output=output), record())
        (delivered,) = records_of(line)
        assert isinstance(delivered, ChangeRecord)
        assert (result, delivered.kind, delivered.new_image, delivered.sequence_number, delivered.shard) == (
            ("Ok", kind, change().new_image, SEQUENCE, "shardId-000000000001")
        )


def test_table_without_schema_fails_unless_it_is_named() -> None:
    other = envelopes.compact(envelopes.kds(change()))  # of the table orders
    assert transformed(handle(output="envelope"), other)[0][0] == "ProcessingFailed"
    assert transformed(handle(output="envelope", schemas={**RULES, "orders": []}), other)[0][0] == "Ok"


def test_record_without_its_tables_name_is_of_the_only_table() -> None:
    captured = {k: v for k, v in json.loads(record({"Hits": "x"})).items() if k != "eventSourceARN"}
    good = {k: v for k, v in json.loads(record()).items() if k != "eventSourceARN"}
    found = transformed(handle(output="envelope"), envelopes.compact(captured), envelopes.compact(good))
    assert [result for result, _ in found] == ["ProcessingFailed", "Ok"]


def test_nothing_is_validated_without_schemas() -> None:
    validation = Validation.from_environment({"DDB_LAKE_PARTITION_KEYS": "table"})
    (result,) = firehose_batch.process_batch(envelopes.firehose_event(record("{")), validation.process)["records"]
    assert (result["result"], result["metadata"]) == ("Ok", {"partitionKeys": {"table": "web_analytics"}})


@given(payload=st.text(max_size=8) | json_values(), content=st.binary(max_size=20), change=envelopes.changes())
def test_any_input_comes_back_and_what_is_ok_is_one_row(payload: Any, content: bytes, change: envelopes.Change) -> None:
    columns = {"web_analytics": COLUMNS["web_analytics"], "orders": list(change.keys)}
    anything = envelopes.compact(envelopes.kds(change))
    found = transformed(handle(schemas={**RULES, "orders": []}, columns=columns), record(payload), content, anything)
    for (result, data), original in zip(found, (record(payload), content, anything), strict=True):
        assert result != "ProcessingFailed" or data == original
        assert result != "Ok" or len(list(read_rows(data.decode()))) == 1
    assert found[2][0] == "Ok"


@given(event=json_values() | st.builds(lambda r: {"records": r}, st.lists(json_values(), max_size=4)))
def test_any_event_gets_an_answer(event: Any) -> None:
    records = event.get("records") if isinstance(event, dict) else None
    answer = handler(event, None)["records"]
    assert len(answer) == (len(records) if isinstance(records, list) else 0)


@pytest.mark.parametrize("output", ["csv", "json", "envelope"])
def test_sample_events_come_back_record_by_record(output: str) -> None:
    for event in firehose_samples():
        assert all(result["result"] == "ProcessingFailed" for result in results(handle(output=output), event))
    lines = (SAMPLES / "kds_records" / "microsecond.jsonl").read_bytes().splitlines()
    columns = {"readings": {"device": "/device", "humidity": "/humidity"}}
    schemas = {"readings": {"schema": {"properties": {"temperature": {"maximum": 50}}}}}
    found = transformed(handle(output=output, schemas=schemas, columns=columns), *lines)
    assert [result for result, _ in found] == ["Ok", "ProcessingFailed", "Ok"]  # 41.58, 58.07, removed
    if output == "csv":
        rows = [next(read_rows(data.decode())) for data in (found[0][1], found[2][1])]
        assert [(row[0], row[2:]) for row in rows] == [("INSERT", ["pump-2", "63.21"]), ("REMOVE", ["pump-1", None])]


def test_schemas_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text(json.dumps(SCHEMA))
    rules = {"web_analytics": [{"schema": "web.json", "attribute": "payload"}, {"schema": {"required": ["page_id"]}}]}
    (tmp_path / "schemas.json").write_text(json.dumps(rules))
    validation = Validation.from_environment({"DDB_LAKE_SCHEMAS": "schemas.json"}, tmp_path)
    answer = firehose_batch.process_batch(envelopes.firehose_event(record(), record({})), validation.process)
    assert [result["result"] for result in answer["records"]] == ["Ok", "ProcessingFailed"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"DDB_LAKE_OUTPUT": "xml"}, "DDB_LAKE_OUTPUT is 'xml'"),
        ({"DDB_LAKE_OUTPUT": "csv"}, "name the columns in DDB_LAKE_COLUMNS"),
        ({"DDB_LAKE_SCHEMAS": "none.json"}, "DDB_LAKE_SCHEMAS: 'none.json' is neither JSON nor a file"),
        ({"DDB_LAKE_SCHEMAS": "{"}, "DDB_LAKE_SCHEMAS: not JSON"),
        ({"DDB_LAKE_SCHEMAS": '{"t": {}}'}, "DDB_LAKE_SCHEMAS: table 't': expected"),
        ({"DDB_LAKE_SCHEMAS": '{"t": {"schema": {"prefixItems": []}}}'}, "draft-07 does not know"),
        ({"DDB_LAKE_SCHEMAS": '{"t": {"schema": {}, "attribute": 1}}'}, "the name of an attribute"),
        ({"DDB_LAKE_COLUMNS": '{"t": {"a": "b"}}'}, "JSON Pointer"),
        ({"DDB_LAKE_COLUMNS": '{"t": []}'}, "DDB_LAKE_COLUMNS: table 't': expected"),
    ],
)
def test_wrong_environment_is_named(variables: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        Validation.from_environment(variables, tmp_path)
    assert message in str(raised.value)


def test_handler_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    event = envelopes.firehose_event(record(), record({}))
    assert [result["result"] for result in handler(event, None)["records"]] == ["Ok", "ProcessingFailed"]
    row = base64.b64decode(handler(event, None)["records"][0]["data"])
    assert next(read_rows(row.decode()))[:2] == ["INSERT", SEQUENCE]


def test_sequence_that_no_column_holds_fails() -> None:
    long = json.loads(record())
    long["dynamodb"]["SequenceNumber"] = "1" * 41
    assert transformed(handle(), envelopes.compact(long))[0][0] == "ProcessingFailed"
