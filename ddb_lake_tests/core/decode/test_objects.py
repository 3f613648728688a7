from __future__ import annotations

import gzip

from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.numbered_records import RECORDS, rejected
from ddb_lake_tests.support.samples import SAMPLES


def test_flattened_numbers_keep_every_digit() -> None:
    text = b'{"id":12345678901234567890123456789012345678,"x":1.10,'
    text += b'"Event":"INSERT","ingestion_timestamp":"2022-03-01 10:11:12"}'
    for data in (text, text + text, b"junk" + text, envelopes.compact(envelopes.kinesis_event(text))):
        record = list(read_object(data, key_names=("id",)))[-1].outcome
        assert isinstance(record, ChangeRecord)
        assert record.new_image == {"id": {"N": "12345678901234567890123456789012345678"}, "x": {"N": "1.10"}}


def test_deeply_nested_flattened_record_is_rejected() -> None:
    text = b'{"Event":"INSERT","ingestion_timestamp":"2022-03-01 10:11:12","id":' + b"[" * 1020 + b"]" * 1020 + b"}"
    assert len(rejected(text)) == 1


def test_located_offset_is_where_the_object_begins_in_the_decompressed_data() -> None:
    data = b"\xef\xbb\xbf\n" + RECORDS[0] + b"junk\n  " + RECORDS[1] + RECORDS[2]
    for located in read_object(gzip.compress(data)):
        raw = RECORDS[int(located.outcome.keys["id"]["N"])] if isinstance(located.outcome, ChangeRecord) else b"junk"
        assert data.startswith(raw, located.offset)


def test_rejected_bytes_are_the_landed_bytes() -> None:
    line = b'{"Hello" : "World","n":1.0}'
    (only,) = rejected(b" " + line + b"\r\n")
    assert only.raw == line


def test_samples_every_record_is_read_or_rejected() -> None:
    kds = (SAMPLES / "kds_records/microsecond.jsonl").read_bytes()
    records = [located.outcome for located in read_object(kds)]
    assert [r.event_name for r in records if isinstance(r, ChangeRecord)] == ["INSERT", "MODIFY", "REMOVE"]
    errors = (SAMPLES / "firehose_error_records/processing_failed.jsonl").read_bytes()
    assert [r.reason.split(":")[0] for r in rejected(errors)] == [
        f"Firehose error {code}"
        for code in ("Lambda.FunctionTimedOut", "Lambda.FunctionError", *["Lambda.FunctionTimedOut"] * 3)
    ]
    (export,) = (SAMPLES / "pitr_full_export").rglob("*.json.gz")
    assert ["`ddb-lake load`" in r.reason for r in rejected(export.read_bytes())] == [True] * 3
