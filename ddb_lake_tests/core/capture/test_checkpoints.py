from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.checkpoints import Checkpoint, StreamPosition, dump, load, observe_streams, trimmed
from ddb_lake.core.capture.shards import RETENTION_US, SLACK_US, Shard, ShardPosition, Stream
from ddb_lake.errors import TerminalError

NOW_US = 1_772_357_400_000_000
HOUR_US = 3_600_000_000

_NUMBERS = st.none() | st.integers(10**20, 10**39).map(str)
_PLACES = st.builds(ShardPosition, st.none() | st.text(), _NUMBERS, _NUMBERS, st.integers(0, NOW_US), st.booleans())
_TIMES = st.integers(0, NOW_US)
_STREAMS = st.builds(StreamPosition, st.text(), _TIMES, _TIMES, _TIMES, st.dictionaries(st.text(), _PLACES, max_size=3))
_CHECKPOINTS = st.builds(Checkpoint, st.none() | st.text(), st.lists(_STREAMS, max_size=3).map(tuple), _TIMES, _TIMES)


@given(checkpoint=_CHECKPOINTS)
def test_checkpoint_survives_its_json(checkpoint: Checkpoint) -> None:
    assert load(dump(checkpoint), "here") == checkpoint


@given(data=st.binary(max_size=30) | st.sampled_from((b"{}", b"[]", b'{"format": 2}', b'{"format": 1}', b"null")))
def test_what_is_no_checkpoint_says_where_and_what_next(data: bytes) -> None:
    with pytest.raises(TerminalError, match=r"^here: "):
        load(data, "here")


def _stream(arn: str, created_us: int, running: bool = True, *shards: Shard) -> Stream:
    return Stream(arn, created_us, running, "NEW_AND_OLD_IMAGES", shards or (Shard("a", None, "10"),))


def test_first_look_takes_the_newest_stream_from_what_it_has_left() -> None:
    old, new = _stream("old", NOW_US - 90 * HOUR_US, False), _stream("new", NOW_US - 50 * HOUR_US)
    place, gaps = observe_streams(None, [new, old], "t", NOW_US)
    assert [one.arn for one in place.streams] == ["new"]
    assert (place.began_us, gaps) == (NOW_US - RETENTION_US, [])
    young, _ = observe_streams(None, [_stream("new", NOW_US - HOUR_US)], "t", NOW_US)
    assert young.began_us == NOW_US - HOUR_US


def test_stream_that_followed_another_leaves_a_gap_from_when_that_was_last_seen_running() -> None:
    before, _ = observe_streams(None, [_stream("one", NOW_US - 9 * HOUR_US)], "t", NOW_US)
    off, on = _stream("one", NOW_US - 9 * HOUR_US, False), _stream("two", NOW_US + HOUR_US)
    place, gaps = observe_streams(before, [off, on], "t", NOW_US + 2 * HOUR_US)
    assert [one.arn for one in place.streams] == ["one", "two"]
    assert [(gap.kind, gap.from_us, gap.to_us) for gap in gaps] == [("stream_changed", NOW_US, NOW_US + HOUR_US)]
    again, nothing = observe_streams(place, [off, on], "t", NOW_US + 3 * HOUR_US)
    assert ([one.arn for one in again.streams], nothing) == (["one", "two"], [])


def test_stream_that_went_unread_is_a_gap_and_is_not_reported_again() -> None:
    before, _ = observe_streams(None, [_stream("one", NOW_US - 9 * HOUR_US)], "t", NOW_US)
    now_us = NOW_US + 60 * HOUR_US
    place, gaps = observe_streams(before, [], "t", now_us)
    assert {gap.kind for gap in gaps} == {"trimmed", "stream_off"}
    _, later = observe_streams(place, [], "t", now_us + HOUR_US)
    assert {gap.kind for gap in later} == {"stream_off"}
    back, gaps = observe_streams(place, [_stream("two", now_us + HOUR_US)], "t", now_us + 2 * HOUR_US)
    assert [one.arn for one in back.streams] == ["two"]
    assert [(gap.kind, gap.from_us, gap.to_us) for gap in gaps] == [("stream_changed", NOW_US, now_us + HOUR_US)]


def test_table_of_another_id_is_a_gap_since_ever() -> None:
    before, _ = observe_streams(None, [_stream("one", NOW_US - 9 * HOUR_US)], "t", NOW_US)
    _, gaps = observe_streams(before, [_stream("two", NOW_US + HOUR_US)], "u", NOW_US + 2 * HOUR_US)
    assert ("lost", 0, NOW_US + HOUR_US) in [(gap.kind, gap.from_us, gap.to_us) for gap in gaps]


def test_only_what_is_older_than_a_day_can_have_been_trimmed() -> None:
    edge_us = NOW_US - RETENTION_US + SLACK_US
    assert trimmed(edge_us, NOW_US, "") == []
    (gap,) = trimmed(edge_us - 1, NOW_US, "")
    assert (gap.from_us, gap.to_us) == (edge_us - 1, edge_us)
