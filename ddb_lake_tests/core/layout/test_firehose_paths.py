from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.layout.firehose_paths import (
    FirehoseKey,
    arrival_hour,
    expand_prefix,
    firehose_key,
    parse_firehose_key,
)
from ddb_lake.errors import ConfigError

AT = datetime(2018, 8, 27, 10, 30, 5, tzinfo=UTC)
UUID = "1f0e9d8c-7b6a-4958-8746-352413021100"

instants = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
stream_names = st.text("abcXYZ019_.-", min_size=1, max_size=64)
roots = st.lists(st.text("abc=.-_ é", min_size=1, max_size=8), max_size=3).map(
    lambda parts: "".join(f"{p}/" for p in parts)
)
layouts = st.sampled_from(
    [
        "",
        "!{timestamp:yyyy/MM/dd/HH}/",
        "year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/",
        "dt=!{timestamp:yyyy-MM-dd}/hr=!{timestamp:HH}/",
    ]
)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", "2018/08/27/10/"),
        ("changes/", "changes/2018/08/27/10/"),
        ("legacy", "legacy2018/08/27/10/"),
        ("!{timestamp:yyyy/MM/dd}", "2018/08/27"),
        ("a/year=!{timestamp:yyyy}/d=!{timestamp:dd}/", "a/year=2018/d=27/"),
        ("!{timestamp:'year='yyyy'/day='DDD}/", "year=2018/day=239/"),
        ("!{timestamp:yyyy'-'MM'-'dd}/", "2018-08-27/"),
        ("!{timestamp:yy M MMM MMMM E EEEE h a H mm ss SSS}/", "18 8 Aug August Mon Monday 10 AM 10 30 05 000/"),
        ("!{timestamp:HH''mm}/", "10'30/"),
        ("rand=!{firehose:random-string}/", "rand=0123456789a/2018/08/27/10/"),
        ("!{timestamp:HH}/!{firehose:random-string}/", "10/0123456789a/"),
        ("t=!{partitionKeyFromLambda:table}/!{timestamp:HH}/", "t=orders/10/"),
        ("t=!{partitionKeyFromQuery:table}/!{timestamp:HH}/", "t=orders/10/"),
    ],
)
def test_expand_prefix_evaluates_firehose_expressions(prefix: str, expected: str) -> None:
    actual = expand_prefix(prefix, AT, partition_keys={"table": "orders"}, random=lambda: "0123456789a")
    assert actual == expected


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", "processing-failed/2018/08/27/10/"),
        ("changes/", "changes/processing-failed/2018/08/27/10/"),
        ("failures/!{firehose:error-output-type}/", "failures/processing-failed/"),
        ("!{timestamp:yyyy}/!{firehose:error-output-type}/!{timestamp:dd}", "2018/processing-failed/27"),
    ],
)
def test_expand_prefix_of_an_error_prefix_follows_its_own_rules(prefix: str, expected: str) -> None:
    assert expand_prefix(prefix, AT, error_output_type="processing-failed") == expected


@pytest.mark.parametrize(
    ("prefix", "error_output_type", "fault"),
    [
        ("!{clock:yyyy}/", None, "namespace"),
        ("a!{timestamp:yyyy", None, "complete"),
        ("!{firehose:error-output-type}/", None, "no value"),
        ("!{firehose:random-string}/", None, "no value"),
        ("!{partitionKeyFromLambda:k}/", None, "no value"),
        ("!{timestamp:yyyy'}/", None, "quote"),
        ("!{timestamp:yyyy[MM]}/", None, "reserved"),
        ("!{timestamp:YYYY}/", None, "not supported"),
        ("errors/!{timestamp:yyyy}/", "processing-failed", "error-output-type"),
    ],
)
def test_expand_prefix_that_firehose_would_reject_is_a_config_error(
    prefix: str, error_output_type: str | None, fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        expand_prefix(prefix, AT, error_output_type=error_output_type)


def test_expand_prefix_without_a_time_zone_is_rejected() -> None:
    with pytest.raises(ConfigError, match="time zone"):
        expand_prefix("", datetime(2018, 8, 27))


def test_expand_prefix_in_another_time_zone_is_in_utc() -> None:
    assert expand_prefix("", AT.astimezone(timezone(timedelta(hours=9)))) == "2018/08/27/10/"


@given(instants, roots, stream_names, st.integers(1, 10**6), st.uuids(), st.sampled_from(["", ".gz", ".custom.log"]))
def test_parse_firehose_key_gives_back_what_firehose_key_was_given(
    at: datetime, root: str, stream: str, version: int, unique: object, extension: str
) -> None:
    key = firehose_key(root, stream, version, at, str(unique), extension)
    assert parse_firehose_key(key) == FirehoseKey(stream, version, at.replace(microsecond=0), str(unique), extension)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "changes/2018/08/27/10/",
        "part-00000.json.gz",
        f"changes-1-2018-13-27-10-30-05-{UUID}.gz",
        "changes-1-2018-08-27-10-30-05-nouuid.gz",
        f"changes-1-2018-08-27-10-30-05-{UUID}/part",
        f"x/changes-1-2018-08-27-10-30-05-{UUID}tail",
    ],
)
def test_parse_firehose_key_of_another_name_is_none(key: str) -> None:
    assert parse_firehose_key(key) is None


def test_parse_firehose_key_after_a_prefix_without_slash_keeps_its_end_in_the_stream() -> None:
    parsed = parse_firehose_key(f"dt=2018-08/x=legacychanges-2-2018-08-27-10-30-05-{UUID}")
    assert parsed == FirehoseKey("legacychanges", 2, AT, UUID, "")


@given(instants, roots, layouts, stream_names)
def test_arrival_hour_of_a_delivered_key_is_its_hour(at: datetime, root: str, layout: str, stream: str) -> None:
    folder = expand_prefix(root + layout, at)
    hour = at.replace(minute=0, second=0, microsecond=0)
    assert arrival_hour(firehose_key(folder, stream, 1, at, UUID, ".gz")) == hour
    assert arrival_hour(f"{folder}renamed.json.gz") == hour


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("2018/08/27/10/x", datetime(2018, 8, 27, 10, tzinfo=UTC)),
        ("a/dt=20180827/hour=7/x", datetime(2018, 8, 27, 7, tzinfo=UTC)),
        ("year=2018/month=8/day=7/hour=1/x", datetime(2018, 8, 7, 1, tzinfo=UTC)),
        ("2017/01/01/00/copied/2018/08/27/10/x", datetime(2018, 8, 27, 10, tzinfo=UTC)),
        ("2018/08/27/10/9999/99/99/99/x", datetime(2018, 8, 27, 10, tzinfo=UTC)),
        (f"2018/08/27/09/s-1-2018-08-27-10-30-05-{UUID}", datetime(2018, 8, 27, 10, tzinfo=UTC)),
        ("12018/08/27/10/x", None),
        ("2018/08/27/x", None),
        ("2018/08/27/10", None),
        ("records.json", None),
    ],
)
def test_arrival_hour_reads_the_name_then_the_folders(key: str, expected: datetime | None) -> None:
    assert arrival_hour(key) == expected
