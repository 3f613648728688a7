"""The real reader on a simulated stream: whatever happens to stream and reader, every change lands or is in a gap."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.aws.streams import ThrottledError
from ddb_lake.core.capture.checkpoints import load
from ddb_lake.core.operations.retry_policy import STREAMS
from ddb_lake.errors import ConfigError, TerminalError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.streams import CHECKPOINT, Budget, StreamReader
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.simulator import same_items
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.streams_reader import STEPS, Reading, reading
from ddb_lake_tests.support.streams_service import DAY_US, HOUR_US, SimulatedKinesis, SimulatedStreams

_DAY_S, _HOUR_S = 24 * 3600, 3600

_WRITES = st.tuples(st.just("write"), st.integers(0, 9), st.integers(-1, 99))
_SHARDS = st.tuples(st.sampled_from(("split", "roll", "merge")), st.integers(0, 5), st.just(0))
_SHORT = st.tuples(st.just("wait"), st.sampled_from((1, 60, 1000, _HOUR_S)), st.just(0))
_LONG = st.tuples(st.just("wait"), st.sampled_from((1, 1000, 6 * _HOUR_S, 20 * _HOUR_S, 25 * _HOUR_S)), st.just(0))
_READ = st.tuples(st.just("read"), st.sampled_from((1, 300, 2000)), st.just(0))
_KILL = st.tuples(st.just("kill"), st.sampled_from(STEPS), st.integers(0, 1))
_FAULTS = st.tuples(st.sampled_from(("throttle", "empty")), st.integers(0, 4), st.just(0))
_SWITCH = st.tuples(st.sampled_from(("off", "on", "recreate")), st.just(0), st.just(0))


def _play(read: Reading, steps: list[tuple[str, Any, Any]]) -> None:
    service = read.service
    seen_at_once = read.read if isinstance(service, SimulatedKinesis) else lambda: None
    acts: dict[str, Callable[[Any, Any], Any]] = {
        "merge": lambda pick, _: service.merge(pick) if isinstance(service, SimulatedKinesis) else None,
        "write": service.write,
        "split": lambda pick, _: service.split(pick),
        "roll": lambda pick, _: service.roll(pick),
        "wait": lambda seconds, _: service.advance(seconds),
        "read": lambda size, _: read.read(Budget(seconds=600, most_bytes=size)),
        "kill": lambda step, after: read.read(Budget(seconds=600), step, after),
        "throttle": lambda count, _: setattr(service, "throttles", count),
        "empty": lambda count, _: setattr(service, "empty_pages", count),
        "off": lambda *_: (service.disable(), seen_at_once()),
        "on": lambda *_: (service.enable(), seen_at_once()),
        "recreate": lambda *_: (service.disable(), seen_at_once(), service.recreate(), seen_at_once()),
    }
    for name, one, other in steps:
        acts[name](one, other)
        service.advance(0.5)
    service.throttles = 0


def _read_all(read: Reading) -> None:
    for _ in range(20):
        result = read.read(Budget(seconds=3000))
        if result is not None and result.caught_up:
            return
    raise AssertionError("the reader does not come to an end")


_SERVICES = st.sampled_from((SimulatedStreams, SimulatedKinesis))


@examples(20, 120)
@given(
    steps=st.lists(st.one_of(_WRITES, _WRITES, _SHARDS, _SHORT, _READ, _KILL, _FAULTS), max_size=40),
    simulated=_SERVICES,
    roots=st.sampled_from((1, 2)),
)
def test_reader_that_is_never_away_for_a_day_lands_every_change_in_order(
    steps: list[tuple[str, Any, Any]], simulated: type[SimulatedStreams], roots: int
) -> None:
    service = simulated()
    service.enable(roots)
    with tempfile.TemporaryDirectory() as folder, reading(Path(folder), service) as read:
        read.read()
        for start in range(0, len(steps), 5):
            _play(read, steps[start : start + 5])
            read.read()  # at least every few hours
        _read_all(read)
        assert read.missing() == []
        assert list(read.gaps()) == []
        assert read.out_of_order() == []


@examples(16, 100)
@given(
    steps=st.lists(st.one_of(_WRITES, _WRITES, _SHARDS, _LONG, _READ, _KILL, _FAULTS, _SWITCH), max_size=40),
    simulated=_SERVICES,
    roots=st.sampled_from((1, 2)),
)
def test_every_change_lands_or_lies_in_a_recorded_gap(
    steps: list[tuple[str, Any, Any]], simulated: type[SimulatedStreams], roots: int
) -> None:
    service = simulated()
    service.enable(roots)
    with tempfile.TemporaryDirectory() as folder, reading(Path(folder), service) as read:
        read.read()
        _play(read, steps)
        service.enable()
        _read_all(read)
        assert read.missing() == []


@pytest.fixture
def service() -> SimulatedStreams:
    running = SimulatedStreams()
    running.enable()
    return running


def _write(service: SimulatedStreams, *values: int) -> None:
    for value in values:
        service.write(value % 10, value)
        service.advance(1)


def test_landed_objects_make_the_table(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        for number in range(0, 60, 10):
            _write(service, *range(number, number + 10))
            service.split(number)
            service.write(number % 7, -1)
            read.read(kill_at="landed" if number % 20 else None)
        _read_all(read)
        apply_objects(read.lake, "things", read.lake.settings.change_uris(read.lake.table("things")))
        expected: list[Any] = [
            {"id": {"N": str(key)}, "v": {"N": str(value)}, "b": {"B": _base64(value)}}
            for key, value in service.items.items()
        ]
        assert same_items((line.decode() for line in dump_items(read.lake, "things")), expected, ("id",)) == []


def _base64(value: int) -> str:
    import base64

    return base64.b64encode(bytes([value % 256])).decode()


@fault("SIGKILL after any step", "streams")
def test_reader_killed_before_the_checkpoint_reads_again_and_nothing_is_lost(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with reading(tmp_path, service) as read:
        read.read()
        _write(service, 1, 2, 3)
        assert read.read(kill_at="landed") is None
        assert len(read.landed()) == 3
        read.read()
        assert [record["eventID"] for record in read.landed()[3:]] == [r["eventID"] for r in read.landed()[:3]]
        assert (read.missing(), list(read.gaps())) == ([], [])


def test_children_wait_for_their_parent(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, *range(6))
        service.split()
        _write(service, *range(10, 16))
        service.split()
        _write(service, *range(20, 26))
        read.read(Budget(seconds=600, most_bytes=1))  # one page: of the root
        assert {record["dynamodb"]["NewImage"]["v"]["N"] for record in read.landed()} == {"0", "1", "2"}
        _read_all(read)
        assert (read.missing(), read.out_of_order()) == ([], [])


def test_expired_iterator_is_renewed_from_the_same_place(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, *range(9))
        pages = 0

        def slow() -> None:
            nonlocal pages
            pages += service.calls[-1] == "records"
            if pages == 2:
                service.advance(16 * 60)
                pages += 1

        service.every_call = slow
        read.read(Budget(seconds=4000))
        assert [int(r["dynamodb"]["NewImage"]["v"]["N"]) for r in read.landed()] == list(range(9))


def test_empty_pages_before_records_do_not_end_the_reading_of_a_closed_shard(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with reading(tmp_path, service) as read:
        service.empty_pages = 20
        _write(service, 1, 2)
        service.roll()
        read.read()
        assert len(read.landed()) == 2


@fault("DynamoDB throttles", "streams")
def test_throttled_calls_are_put_off_and_made_again(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, *range(5))
        service.throttles = STREAMS.attempts - 1
        result = read.read()
        assert result is not None
        assert (result.records, result.throttled, read.missing()) == (5, STREAMS.attempts - 1, [])
        service.throttles = STREAMS.attempts
        with pytest.raises(ThrottledError):
            read.read()


def test_trimmed_shard_is_a_gap_and_reading_goes_on(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1)
        read.read()
        _write(service, 2, 3)
        service.advance(25 * _HOUR_S)
        _write(service, 4)
        result = read.read()
        assert result is not None
        assert [gap.kind for gap in result.gaps] == ["trimmed"]
        assert [int(r["dynamodb"]["NewImage"]["v"]["N"]) for r in read.landed()] == [1, 4]
        assert read.missing() == []
        assert result.gaps[0].to_us <= service.now_us - DAY_US + HOUR_US  # a full export taken now closes it


def test_idle_stream_that_is_read_rarely_has_no_gap(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1)
        for _ in range(20):
            read.read()
            service.advance(6 * _HOUR_S)
        assert list(read.gaps()) == []


def test_shard_that_came_and_went_unseen_is_a_gap(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1)
        service.roll()
        _read_all(read)
        _write(service, 2)
        service.roll()
        _write(service, 3)
        service.roll()
        service.advance(_DAY_S + 10)
        _read_all(read)
        assert [gap.kind for gap in read.gaps()] == ["trimmed"]
        assert read.missing() == []


def test_stream_switched_off_and_on_is_read_to_its_end_and_leaves_a_gap(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1)
        read.read()
        _write(service, 2)
        service.disable()
        _write(service, 3)
        service.enable()
        _write(service, 4)
        _read_all(read)
        assert [int(r["dynamodb"]["NewImage"]["v"]["N"]) for r in read.landed()] == [1, 2, 4]
        assert [gap.kind for gap in read.gaps()] == ["stream_changed"]
        assert read.missing() == []
        before = read.gaps()
        service.advance(_DAY_S + 10)
        _write(service, 5)
        _read_all(read)
        assert [gap for gap in read.gaps() if gap.kind != "trimmed"] == list(before)


def test_stream_that_stays_off_is_a_growing_gap(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1)
        read.read()
        service.disable()
        for value in (2, 3):
            _write(service, value)
            read.read()
            (gap,) = read.gaps()
            assert (gap.kind, gap.to_us > service.now_us - HOUR_US) == ("stream_off", True)
        assert read.missing() == []


@fault("the source is deleted and created again", "streams", ending="refused")
def test_table_made_again_asks_for_a_full_export(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1, 2)
        read.read()
        service.recreate()
        _write(service, 3)
        _read_all(read)
        assert {gap.kind for gap in read.gaps()} == {"lost", "stream_changed"}
        assert min(gap.from_us for gap in read.gaps()) == 0
        assert read.missing() == []


@fault("another writer commits first", "streams")
def test_two_readers_lose_nothing_and_one_gives_way(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read, reading(tmp_path, service) as other:
        read.read()
        _write(service, *range(9))
        meddled = False

        def meddle() -> None:
            nonlocal meddled
            if not meddled and service.calls[-1] == "records":
                meddled = True
                other.read()

        service.every_call = meddle
        result = read.read()
        assert result is not None
        assert result.conflicts == 1
        assert (read.missing(), list(read.gaps())) == ([], [])


def test_reader_that_was_overtaken_continues_from_the_checkpoint_of_the_other(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1)
        slow = StreamReader.of(read.lake, "things", service, service.advance, service.clock)
        slow.start()
        while slow.read_pages():
            pass
        _write(service, 2)
        read.read()  # the other one
        slow.land()
        slow.settle()
        slow.land()
        checkpoint = load((tmp_path / "landing" / "things" / CHECKPOINT).read_bytes(), "here")
        (position,) = checkpoint.streams
        assert {shard.after for shard in position.lineage.values()} == {str(service.changes[-1].sequence)}
        assert slow.result.conflicts == 1
        assert read.missing() == []


def test_missing_checkpoint_is_a_gap_if_the_stream_may_have_lost_records_since(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with reading(tmp_path, service) as read:
        _write(service, 1)
        read.read()
        checkpoint = tmp_path / "landing" / "things" / CHECKPOINT
        checkpoint.unlink()
        read.read()
        assert list(read.gaps()) == []
        checkpoint.unlink()
        _write(service, 2)
        service.advance(26 * _HOUR_S)
        read.read()
        assert [gap.kind for gap in read.gaps()] == ["trimmed"]
        assert read.missing() == []


@fault("a checkpoint is damaged", "streams", ending="refused")
def test_damaged_checkpoint_says_what_to_do(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        read.read()
        path = tmp_path / "landing" / "things" / CHECKPOINT
        assert load(path.read_bytes(), "here").streams
        path.write_bytes(b"{}")
        with pytest.raises(TerminalError, match="remove it"):
            read.read()


def test_table_without_a_stream_is_refused_with_the_command(tmp_path: Path) -> None:
    with reading(tmp_path, SimulatedStreams()) as read, pytest.raises(ConfigError, match="update-table"):
        read.read()


def test_follow_reads_until_the_time_is_up(tmp_path: Path, service: SimulatedStreams) -> None:
    with reading(tmp_path, service) as read:
        service.every_call = lambda: service.write(len(service.calls) % 5, len(service.calls))
        result = read.read(Budget(seconds=60, follow=True))
        assert result is not None
        assert 60 <= result.seconds < 70
        assert len(result.uris) >= 5  # it lands as it goes


@pytest.fixture
def kinesis() -> SimulatedKinesis:
    running = SimulatedKinesis()
    running.enable(2)
    return running


def test_records_that_kinesis_trimmed_without_an_error_are_a_gap(tmp_path: Path) -> None:
    kinesis = SimulatedKinesis()
    kinesis.enable()  # one shard, which was read before: its position is no reason to look for lost records
    with reading(tmp_path, kinesis) as read:
        _write(kinesis, 1, 2)
        read.read()
        _write(kinesis, 3, 4)
        kinesis.advance(25 * _HOUR_S)
        _write(kinesis, 5)
        _read_all(read)
        assert [gap.kind for gap in read.gaps()] == ["trimmed"]
        assert len(read.landed()) == 3
        assert read.missing() == []


def test_idle_kinesis_stream_that_is_read_rarely_has_no_gap(tmp_path: Path, kinesis: SimulatedKinesis) -> None:
    with reading(tmp_path, kinesis) as read:
        _write(kinesis, 1)
        for _ in range(10):
            read.read()
            kinesis.advance(20 * _HOUR_S)
        _write(kinesis, 2)
        _read_all(read)
        assert list(read.gaps()) == []
        assert read.missing() == []


def test_merged_shard_waits_for_both_parents(tmp_path: Path, kinesis: SimulatedKinesis) -> None:
    with reading(tmp_path, kinesis) as read:
        read.read()
        kinesis.write(0, 1)  # the first parent
        for number in range(12):
            kinesis.write(4, number)  # the second parent, of buckets 4 to 7: it takes longer
        kinesis.merge()
        kinesis.write(0, 99)
        kinesis.write(4, 99)
        read.read(Budget(seconds=600, most_bytes=1))
        _read_all(read)
        assert read.out_of_order() == []
        assert read.missing() == []


def test_table_made_again_below_the_same_kinesis_stream_asks_for_a_full_export(
    tmp_path: Path, kinesis: SimulatedKinesis
) -> None:
    with reading(tmp_path, kinesis) as read:
        _write(kinesis, 1, 2)
        read.read()
        kinesis.disable()
        read.read()
        kinesis.recreate()
        _read_all(read)
        assert "lost" in {gap.kind for gap in read.gaps()}
        assert read.missing() == []
