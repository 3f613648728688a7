"""Change records in many wrappers and containers, with times in many formats and units."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from ddb_lake_tests.support.cases import Case

Cases = Callable[[str], Case]


def reasons(case: Case) -> dict[str, int]:
    document = json.loads(case.ok("quarantine", "list", "t", "--json").stdout)
    return {group["reason"]: group["count"] for group in document["groups"]}


def test_wrapped_change_records_each_give_their_row(case: Cases) -> None:
    found = case("wrappers-mixed")
    found.ok("apply", "t", "landing")
    rows = {row["id"]: row["v"] for row in found.query("SELECT id, v FROM t")}
    assert rows == dict.fromkeys(
        [
            "awslabs_condensed", "body_only", "cli_getrecords", "eventbridge_detail", "fh_transform_event", "go_sdk",
            "json_string", "kinesis_getrecords_cli", "kinesis_lambda", "lambda_async_dest", "lambda_batch",
            "lambda_s3_failure_dest", "pipes_array", "pipes_firehose_record", "sns_lambda", "sqs_lambda",
        ],
        "new",
    )  # fmt: skip
    debezium, scan = sorted(reasons(found))
    assert debezium.startswith("a Debezium change event: ")
    assert scan.startswith("the output of Scan or Query: ")


def test_times_of_all_formats_are_read_and_impossible_ones_are_quarantined(case: Cases) -> None:
    found = case("times-mixed")
    found.ok("apply", "t", "landing")
    rows = {row["id"]: row["at"] for row in found.query("SELECT id, _changed_at::VARCHAR AS at FROM t")}
    second, millisecond, microsecond = (f"2024-05-14 12:00:00{part}" for part in ("", ".123", ".123456"))
    expected = {
        **dict.fromkeys(["st_iso", "st_iso_js", "st_iso_off", "st_sec_int", "st_sec_float"], second),
        **dict.fromkeys(["kds_iso", "kds_ms_int", "kds_ms_float", "kds_text_ms", "kds_prec_lower"], millisecond),
        **dict.fromkeys(["kds_us_int_prec", "kds_us_sci"], microsecond),
        "st_sec_frac": millisecond,
    }
    assert {name: at for name, at in rows.items() if name != "st_none"} == expected
    assert "st_none" in rows  # a stream record without a time: its sequence number orders it
    for unit in ("seconds", "milliseconds", "microseconds"):
        assert sum(f"--time-unit {unit}" in reason for reason in reasons(found)) == 1
        assert "1 record taken out of quarantine" in found.ok("quarantine", "replay", "t", "--time-unit", unit).stdout
    rows = {row["id"]: row["at"] for row in found.query("SELECT id, _changed_at::VARCHAR AS at FROM t")}
    assert {name: rows.get(name) for name in ("kds_sec_int", "st_ms_int", "kds_us_missing_prec")} == {
        "kds_sec_int": second, "st_ms_int": second, "kds_us_missing_prec": microsecond,
    }  # fmt: skip
    assert sum(reasons(found).values()) == 3  # an HTTP date, a leap second, and no time at all


def test_time_in_seconds_where_milliseconds_are_declared_never_loses_the_change(case: Cases) -> None:
    found = case("kds-seconds-lost")
    found.ok("load", "t", "--export", "exports/t")
    found.run("apply", "t", "landing")
    (reason,) = reasons(found)
    assert "earlier than 2012" in reason and "--time-unit seconds" in reason
    found.ok("quarantine", "replay", "t", "--time-unit", "seconds")
    assert found.query("SELECT id, a FROM t") == [{"id": "a", "a": "changed"}]
    assert reasons(found) == {}


def test_objects_in_many_containers_are_read(case: Cases) -> None:
    found = case("objects-mixed")
    found.ok("apply", "t", "landing")
    rows = {row["id"] for row in found.query("SELECT id FROM t WHERE v = 'new'")}
    assert rows == {
        "arr1", "arr2", "arrnl1", "arrnl2", "b64gz", "b64rec", "bom", "comma1", "comma2", "gz_member1", "gz_member2",
        "gz_named_plain", "gzip_twice", "literal_bs_n1", "literal_bs_n2", "plain_named_gz", "pretty", "pretty2",
        "rec_gz1", "rec_gz2", "tab", "trunc1", "trunc2", "utf16", "zipped",
    }  # fmt: skip
    document = json.loads(found.ok("quarantine", "show", "t", "--json").stdout)
    entries = [(entry["object"].rsplit("/", 1)[1], entry["reason"]) for entry in document["entries"]]
    assert not [reason for name, reason in entries if "3709ea1f" in name], "literal \\n between records"
    assert len(entries) == len({name for name, _ in entries}), "one entry for each object in which nothing can be read"


def test_change_more_than_a_day_later_than_its_arrival_is_quarantined(case: Cases) -> None:
    found = case("times-mixed")
    for path in found.folder.glob("landing/**/t-stream*"):
        text = path.read_bytes()
        path.write_bytes(text.replace(b"1715688000123,", b"1715900000000,"))  # two days and more later
        os.utime(path, (1715688600, 1715688600))
    found.ok("apply", "t", "landing")
    rows = {row["id"] for row in found.query("SELECT id FROM t")}
    assert "kds_ms_int" not in rows and "kds_us_int_prec" in rows
    assert any("more than a day later than its arrival" in reason for reason in reasons(found))
