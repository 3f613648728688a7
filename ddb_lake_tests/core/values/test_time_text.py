"""Instants on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.output.quantities import duration_text, size_text
from ddb_lake.core.values.time_text import parse_time, time_text

_US = 1_715_685_260_608_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-14T11:14:20.608Z", _US),
        ("2024-05-14T11:14:20.608", _US),
        ("2024-05-14 13:14:20.608+02:00", _US),
        ("2024-05-14", 1_715_644_800_000_000),
        ("20240514", 1_715_644_800_000_000),
        ("1700000000s", 1_700_000_000_000_000),
        ("1700000000123ms", 1_700_000_000_123_000),
        ("1700000000123456us", 1_700_000_000_123_456),
        ("1700000000123456µs", 1_700_000_000_123_456),
        ("7s", 7_000_000),
        ("1700000000", 1_700_000_000_000_000),
        ("1700000000123", 1_700_000_000_123_000),
        ("1700000000123456", 1_700_000_000_123_456),
    ],
)
def test_parse_moment_follows_the_rule(text: str, expected: int) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "17", "170000000012345678", "1700000000h", "-5s", "2024-13-01"])
def test_parse_moment_refuses_the_rest(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31)))
def test_moment_text_reads_back(moment: datetime) -> None:
    time_us = (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    assert parse_time(time_text(time_us)) == time_us


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (3.21, "3.2 s"),
        (250, "4 min 10 s"),
        (3600, "1 h 0 min"),
        (183_600, "2 d 3 h"),
        (-90, "-1 min 30 s"),
    ],
)
def test_span_text_has_the_two_largest_units(seconds: float | None, expected: str) -> None:
    assert duration_text(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (9 << 50, "9,216.0 TiB")]
)
def test_size_text_suits_the_size(size: int, expected: str) -> None:
    assert size_text(size) == expected
