from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.errors import ConfigError
from ddb_lake.lambdas import firehose_batch
from ddb_lake.lambdas.transform import Transform, handler
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.decoded_changes import CHANGE, one
from ddb_lake_tests.support.firehose_events import BLOCKED, firehose_samples, records_of, results, transformed
from ddb_lake_tests.support.samples import SAMPLES
from ddb_lake_tests.support.strategies import json_values

KINESIS = envelopes.METADATA["sequenceNumber"]
ARRIVED_US = 1664028793294000


def in_mode(mode: str, **environment: str) -> Any:
    transform = Transform.from_environment({"DDB_LAKE_MODE": mode, **environment})
    return lambda event, _context: firehose_batch.process_batch(event, transform.process)


both = pytest.mark.parametrize("mode", ["envelope", "flatten"])
flat = pytest.mark.parametrize("mode", ["flatten", "nested"])


@given(envelopes.changes(), st.sampled_from((envelopes.kds, envelopes.streams)))
def test_envelope_is_the_record_byte_for_byte_with_its_arrival(change: envelopes.Change, form: Any) -> None:
    data = envelopes.compact(form(change))
    ((result, line),) = transformed(in_mode("envelope"), data)
    assert (result, line[: len(data) - 1], line[-2:]) == ("Ok", data[:-1], b"}\n")
    stamp = {"kinesis_sequence": KINESIS, "shard": "shardId-000000000001", "arrived_us": ARRIVED_US}
    assert records_of(line) == [replace(one(form(change)), **stamp)]


@flat
@given(envelopes.changes())
def test_flattened_line_is_read_as_the_same_change(mode: str, change: envelopes.Change) -> None:
    ((result, line),) = transformed(in_mode(mode), envelopes.compact(envelopes.kds(change)))
    assert result == "Ok"
    (record,) = records_of(line)
    captured = one(envelopes.kds(change))
    assert isinstance(record, ChangeRecord)
    assert (record.event_name, record.changed_us, record.keys, record.kinesis_sequence, record.arrived_us) == (
        (captured.event_name, captured.changed_us, captured.keys, KINESIS, ARRIVED_US)
    )
    assert set(record.new_image or {}) == set(captured.new_image or {})


@both
@given(content=st.binary(max_size=40) | json_values().map(lambda v: json.dumps(v).encode()), change=envelopes.changes())
def test_any_bytes_come_back_and_what_is_ok_is_one_change_record(mode: str, content: bytes, change: Any) -> None:
    good = envelopes.compact(envelopes.kds(change))
    (kept, (_, bad_line), cut, spoiled) = transformed(in_mode(mode), good, content, good[:-7], content + good)
    assert kept[0] == "Ok"
    assert cut == ("ProcessingFailed", good[:-7])
    for result, line in ((kept[0], kept[1]), spoiled):
        if result == "Ok":
            assert [type(outcome) for outcome in records_of(line)] == [ChangeRecord]
    assert bad_line in (content, b"") or b'"dynamodb"' in content


@given(event=json_values() | st.builds(lambda r: {"records": r}, st.lists(json_values(), max_size=4)))
def test_any_event_gets_an_answer(event: Any) -> None:
    records = event.get("records") if isinstance(event, dict) else None
    answer = handler(event, None)["records"]
    assert len(answer) == (len(records) if isinstance(records, list) else 0)


@both
def test_sample_firehose_events_come_back_record_by_record(mode: str) -> None:
    events = firehose_samples()
    assert sum(len(event["records"]) for event in events) >= 4
    for event in events:
        assert all(result["result"] == "ProcessingFailed" for result in results(in_mode(mode), event))  # no changes


@both
def test_sample_kinesis_records_are_ok(mode: str) -> None:
    lines = (SAMPLES / "kds_records" / "microsecond.jsonl").read_bytes().splitlines()
    event = json.loads((SAMPLES / "kds_records" / "kinesis_event.json").read_bytes())
    lines += [base64.b64decode(record["kinesis"]["data"]) for record in event["Records"]]
    found = transformed(in_mode(mode), *lines)
    assert [result for result, _ in found] == ["Ok"] * 5
    delivered = records_of(b"".join(line for _, line in found))
    captured = records_of(b"\n".join(lines))
    assert [(r.keys, r.changed_us, r.new_image) for r in delivered if isinstance(r, ChangeRecord)] == [
        (r.keys, r.changed_us, r.new_image) for r in captured if isinstance(r, ChangeRecord)
    ]


def test_record_over_several_lines_becomes_one_line() -> None:
    pretty = json.dumps(envelopes.kds(CHANGE), indent=1).replace("\n", "\r\n").encode()
    ((result, line),) = transformed(in_mode("envelope"), b"\n" + pretty + b"\n")
    assert result == "Ok"
    assert line.count(b"\n") == 1 and b"\r" not in line
    assert [replace(r, kinesis_sequence=None, shard=None, arrived_us=None) for r in records_of(line)] == [  # type: ignore[type-var]
        one(envelopes.kds(CHANGE))
    ]


@both
def test_first_stamp_stays(mode: str) -> None:
    first = {"sequenceNumber": "123", "shardId": "shardId-9", "approximateArrivalTimestamp": 1_664_028_000_001}
    ((_, line),) = transformed(
        in_mode(mode), envelopes.compact({**envelopes.kds(CHANGE), "kinesisRecordMetadata": first})
    )
    (record,) = records_of(line)
    assert isinstance(record, ChangeRecord)
    assert (record.kinesis_sequence, record.shard, record.arrived_us) == ("123", "shardId-9", 1_664_028_000_001_000)


def test_direct_put_is_stamped_with_its_arrival_alone() -> None:
    event = envelopes.firehose_event(envelopes.compact(envelopes.streams(CHANGE)))
    del event["records"][0]["kinesisRecordMetadata"]
    event["records"][0]["approximateArrivalTimestamp"] = 1664028793294
    (result,) = results(in_mode("envelope"), event)
    (record,) = records_of(base64.b64decode(result["data"]))
    assert record == replace(one(envelopes.streams(CHANGE)), arrived_us=ARRIVED_US)


@both
@pytest.mark.parametrize("content", [b"", b" \r\n\t"])
def test_white_space_alone_is_dropped(mode: str, content: bytes) -> None:
    assert transformed(in_mode(mode), content) == [("Dropped", b"")]


def test_item_with_a_reserved_name_comes_in_its_envelope() -> None:
    change = replace(CHANGE, new_image={**CHANGE.keys, "Event": {"S": "party"}}, old_image=None)
    ((result, line),) = transformed(in_mode("flatten"), envelopes.compact(envelopes.kds(change)))
    assert result == "Ok"
    (record,) = records_of(line)
    assert isinstance(record, ChangeRecord)
    assert (record.kind, record.new_image, record.kinesis_sequence) == ("kds", change.new_image, KINESIS)


@both
def test_partition_keys_are_of_the_change(mode: str) -> None:
    handle = in_mode(mode, DDB_LAKE_PARTITION_KEYS="table, date,hour, event")
    (result,) = results(handle, envelopes.firehose_event(envelopes.compact(envelopes.kds(CHANGE))))
    assert result["metadata"] == {
        "partitionKeys": {"table": "orders", "date": "2024-07-11", "hour": "23", "event": "MODIFY"}
    }


def test_partition_key_that_the_record_does_not_say_has_a_value() -> None:
    record = {name: member for name, member in envelopes.kds(CHANGE).items() if name != "tableName"}
    (result,) = results(
        in_mode("envelope", DDB_LAKE_PARTITION_KEYS="table"), envelopes.firehose_event(envelopes.compact(record))
    )
    assert result["metadata"] == {"partitionKeys": {"table": "_unknown"}}


@pytest.mark.parametrize("environment", [{"DDB_LAKE_MODE": "Envelope"}, {"DDB_LAKE_PARTITION_KEYS": "table,sk"}])
def test_wrong_environment_is_an_error_that_names_what_is_expected(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        Transform.from_environment(environment)


def test_handler_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    data = envelopes.compact(envelopes.kds(CHANGE))
    assert transformed(handler, data)[0][1].startswith(data[:-1])
    monkeypatch.setenv("DDB_LAKE_MODE", "flatten")
    assert transformed(handler, data)[0][1].startswith(b'{"Event":')


@both
def test_answer_stays_below_6_mb_and_what_does_not_fit_fails(mode: str) -> None:
    change = replace(CHANGE, new_image={**CHANGE.keys, "x": {"S": "x" * 2000}}, old_image=None)
    good, bad = envelopes.compact(envelopes.kds(change)), b"no record" * 100
    event = envelopes.firehose_event(*[good, bad] * 2000)
    found = results(in_mode(mode), event)  # this looks at the size
    kinds = [result["result"] for result in found[::2]]
    fitting = kinds.index("ProcessingFailed")
    assert kinds == ["Ok"] * fitting + ["ProcessingFailed"] * (2000 - fitting)
    assert fitting > 1500
    assert all(result["result"] == "ProcessingFailed" and "data" not in result for result in found[1::2])
    kept = sum(len(result.get("data", "")) for result in found)
    assert kept + len(base64.b64encode(good)) > 6 * 1024 * 1024 - 4000 * 70


def test_failures_are_logged_without_what_the_records_hold(caplog: pytest.LogCaptureFixture) -> None:
    change = replace(CHANGE, new_image={**CHANGE.keys, "note": {"S": "my secret"}}, keys={"id": {"S": "other secret"}})
    with caplog.at_level(logging.DEBUG):
        found = transformed(in_mode("envelope"), envelopes.compact(envelopes.kds(change)), b"third secret")
    assert [result for result, _ in found] == ["ProcessingFailed"] * 2
    assert "2 of 2 records failed" in caplog.text
    assert "NewImage: its key attributes are not those of Keys" in caplog.text
    assert "secret" not in caplog.text


def test_fault_of_ours_fails_its_record_alone(caplog: pytest.LogCaptureFixture) -> None:
    def process(data: bytes, _arrival: object) -> firehose_batch.Kept:
        if data == b"b":
            raise KeyError("a value")
        return firehose_batch.Kept(data)

    answer = firehose_batch.process_batch(envelopes.firehose_event(b"a", b"b", b"c"), process)
    assert [result["result"] for result in answer["records"]] == ["Ok", "ProcessingFailed", "Ok"]
    assert "unexpected KeyError" in caplog.text and "a value" not in caplog.text


@pytest.mark.parametrize("module", ["transform", "validate"])
def test_handler_needs_no_package_that_is_not_pure(module: str) -> None:
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        f"from ddb_lake.lambdas.{module} import handler\n"
        "print(handler({'records': []}, None))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{'records': []}\n", "")
