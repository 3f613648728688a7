"""Followers on simulated streams: whatever dies when, the lake becomes the source, and no change is applied twice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.streams import ThrottledError
from ddb_lake.core.capture.leases import EXPIRY_S, RENEWAL_S
from ddb_lake.core.operations.retry_policy import STREAMS
from ddb_lake.errors import ConfigError, TransientError, UnreachableError
from ddb_lake.lake import compaction_policy
from ddb_lake.lake.commit import Commit
from ddb_lake.lake.compaction_policy import MAX_DELETE_FILES
from ddb_lake.lake.scan import live_files
from ddb_lake.pipeline.capture import streams
from ddb_lake.pipeline.capture.streams import LOOK_EVERY_S
from ddb_lake.pipeline.follow import follower as follow
from ddb_lake.pipeline.follow.follower import COMPACT_EVERY_S, ONCE_ATTEMPTS, TICK_S, Follower
from ddb_lake.pipeline.follow.leases import read_leases, working_followers
from ddb_lake.pipeline.follow.table import FollowedTable, FollowOptions
from ddb_lake.pipeline.maintain import compact
from ddb_lake.pipeline.plan.planner import Plan
from ddb_lake.pipeline.plan.work import Work
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.simulated_follower import NAME, STEPS, Following, following
from ddb_lake_tests.support.streams_reader import Killed, killed
from ddb_lake_tests.support.streams_service import SimulatedKinesis, SimulatedStreams

_WRITE = st.tuples(st.just("write"), st.integers(0, 9), st.integers(-1, 99))
_SHARDS = st.tuples(st.sampled_from(("split", "roll", "merge")), st.integers(0, 5), st.just(0))
_FAULT = st.tuples(st.sampled_from(("throttle", "empty")), st.integers(0, 4), st.just(0))
_WAIT = st.tuples(st.just("wait"), st.sampled_from((1, 20, 40, 1000)), st.just(0))
_FOLLOW = st.tuples(st.just("follow"), st.integers(0, 1), st.integers(1, 3))
_KILL = st.tuples(st.just("kill"), st.sampled_from(STEPS), st.integers(0, 4))
_ACTS = st.lists(st.one_of(_WRITE, _WRITE, _SHARDS, _FAULT, _WAIT, _FOLLOW, _FOLLOW, _KILL), min_size=4, max_size=20)


def _play(following: Following, acts: list[tuple[str, Any, Any]]) -> None:
    """Two followers at once: one of them may be killed, and another process takes its place."""
    service = following.service
    followers = [following.follower(), following.follower()]

    def kill(step: str, after: int) -> None:
        with killed(step, after), suppress(Killed):
            following.run(followers[0])
        followers[0] = following.follower()

    named: dict[str, Callable[[Any, Any], Any]] = {
        "write": service.write,
        "split": lambda pick, _: service.split(pick),
        "roll": lambda pick, _: service.roll(pick),
        "merge": lambda pick, _: service.merge(pick) if isinstance(service, SimulatedKinesis) else None,
        "throttle": lambda count, _: setattr(service, "throttles", count),
        "empty": lambda count, _: setattr(service, "empty_pages", count),
        "wait": lambda seconds, _: service.advance(seconds),
        "follow": lambda which, rounds: following.run(followers[which], rounds),
        "kill": kill,
    }
    for name, one, other in acts:
        named[name](one, other)
    service.throttles = 0


def _finish(following: Following) -> None:
    """A new follower, after the leases of dead ones expired, follows to the end of the stream."""
    follower = following.follower()
    follower.step()
    following.service.advance(EXPIRY_S + RENEWAL_S)
    follower.once()


@examples(4, 12, 60)
@given(acts=_ACTS, simulated=st.sampled_from((SimulatedStreams, SimulatedKinesis)), roots=st.sampled_from((1, 2)))
@fault("SIGKILL after any step", "follow")
def test_lake_becomes_the_source_whatever_dies_when(
    acts: list[tuple[str, Any, Any]], simulated: type[SimulatedStreams], roots: int
) -> None:
    service = simulated()
    service.enable(roots)
    with tempfile.TemporaryDirectory() as folder, following(Path(folder), service) as found:
        service.write(1, 1)
        _play(found, acts)
        _finish(found)
        assert [error for error in found.heard.errors if not isinstance(error, TransientError)] == []
        assert found.items() == found.expected()
        assert found.records == len(service.changes)


@pytest.fixture
def service() -> SimulatedStreams:
    running = SimulatedStreams()
    running.enable()
    return running


def test_quiet_table_lands_nothing_and_commits_nothing(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        service.write(1, 1)
        follower = found.follower()
        found.run(follower)
        landed = sorted((tmp_path / "landing").rglob("*.gz"))
        with killed("before landing"), killed("committed"):
            found.run(follower, rounds=200)
        assert sorted((tmp_path / "landing").rglob("*.gz")) == landed
        assert found.items() == found.expected()


def test_wrong_configuration_ends_a_new_follower_but_not_one_that_has_worked(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    fault = ConfigError("the stream has no new images")
    with following(tmp_path, service) as found:
        with mock.patch.object(streams, "check_view", side_effect=fault), pytest.raises(ConfigError):
            found.follower().run(Event())
        assert read_leases(found.lake) == {}
        follower = found.follower()
        found.run(follower)
        with mock.patch.object(streams, "check_view", side_effect=fault):
            service.advance(LOOK_EVERY_S)
            found.run(follower)
        assert set(found.heard.errors) == {fault}
        service.write(1, 1)
        service.advance(100)
        found.run(follower)
        assert found.items() == found.expected()


def test_changes_are_batched_by_the_interval(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        found.options = FollowOptions(interval_s=5)
        follower = found.follower()
        found.run(follower, rounds=2)
        for number in range(20):
            service.write(number % 3, number)
            found.run(follower, rounds=1)
        assert 3 <= len(found.heard.turns) <= 7
        service.advance(5)
        found.run(follower)
        assert found.items() == found.expected()


def test_second_follower_is_idle_and_takes_over_within_thirty_seconds(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with following(tmp_path, service) as found:
        first, second = found.follower(), found.follower()
        service.write(1, 1)
        for _ in range(40):
            found.run(first, rounds=1)
            second.step()
        assert read_leases(found.lake)[NAME].holder == _holder(first)
        service.write(2, 2)  # the first is gone now
        died_at = service.clock()
        while read_leases(found.lake)[NAME].holder != _holder(second):
            found.run(second, rounds=1)
            assert service.clock() - died_at < EXPIRY_S + 2 * RENEWAL_S
        found.run(second)
        assert found.items() == found.expected()


def test_waiting_follower_reports_each_minute_that_it_has_no_table_and_plans_at_once_when_it_has(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with following(tmp_path, service) as found:
        first = found.follower()
        first.step()
        found.heard.lags.clear()
        second = found.follower()
        for _ in range(10):
            second.step()
            service.advance(TICK_S / 4)
            first.step()
        assert found.heard.lags.count({}) == 3
        first.close()
        found.heard.lags.clear()
        service.advance(RENEWAL_S)
        while {NAME} not in [set(lags) for lags in found.heard.lags]:
            assert second.step(), "a table that it has from now on is planned for at once"


def test_throttled_start_of_a_follower_that_reads_once_is_tried_again(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with following(tmp_path, service) as found:
        found.follower().once()
        service.write(1, 1)
        service.throttles = 2 * STREAMS.attempts
        found.follower().once()
        assert [type(error) for error in found.heard.errors] == [ThrottledError] * 2
        assert found.items() == found.expected() != []


def test_follower_that_reads_once_gives_up_a_table_that_is_throttled_without_an_end(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with following(tmp_path, service) as found:
        found.follower().once()
        service.throttles = 10_000
        found.follower().once()
        assert [type(error) for error in found.heard.errors] == [ThrottledError] * ONCE_ATTEMPTS


def test_follower_that_is_stopped_begins_no_further_turn_and_no_planned_work(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    """Guards SIGTERM: with many tables, or a catalog that makes each commit wait, the process would be killed in a commit."""
    with following(tmp_path, service) as found:
        service.write(1, 1)
        follower, stop = found.follower(), Event()
        other = mock.Mock(spec=FollowedTable, reader=None, waiting_bytes=0)
        other.name = "other"
        follower.tables = {NAME: follower.tables[NAME], "other": other}
        follower.keeper = None
        with (
            mock.patch.object(found.heard, "turn", side_effect=lambda _: stop.set()),
            mock.patch.object(follow, "run_work") as planned,
            mock.patch.object(follow, "apply_planned", planned),
        ):
            follower.tables[NAME].turn()
            follower.tables[NAME].read(1 << 20)
            follower.run(stop)
        assert found.items() == found.expected() != []
        assert not other.turn.called
        assert not planned.called


def test_notifications_of_work_that_a_stop_left_stay_in_the_queue(tmp_path: Path, service: SimulatedStreams) -> None:
    """Guards late objects: without their notification, they would wait for the listing of everything."""
    with following(tmp_path, service) as found:
        follower, stop = found.follower(), Event()
        follower.keeper = None
        plan = Plan([Work(NAME, "merge", "first"), Work("other", "merge", "left")], examined={NAME, "other"})
        received = mock.Mock(hints={}, errors=[])
        received.delete_handled.return_value = []
        with (
            mock.patch.object(follow, "Planner") as planner,
            mock.patch.object(follow, "receive_notifications", return_value=received),
            mock.patch.object(follow, "run_work", side_effect=lambda *_: stop.set()),
        ):
            planner.return_value.tick.return_value = plan
            follower.run(stop)
        ((handled, _),) = [call.args for call in received.delete_handled.call_args_list]
        assert handled.examined == {NAME}


def test_follower_that_stops_hands_over_at_once(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        first, second = found.follower(), found.follower()
        found.run(first)
        second.step()
        first.close()
        service.advance(RENEWAL_S)
        second.step()
        assert read_leases(found.lake)[NAME].holder == _holder(second)


def test_follower_that_cannot_release_its_leases_reports_it_and_ends(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        service.write(1, 1)
        first, second = found.follower(), found.follower()
        found.run(first)
        away = UnreachableError("S3 does not answer")
        with mock.patch.object(Landing, "load", side_effect=away):
            first.close()
        assert found.heard.errors == [away]
        second.step()
        service.advance(EXPIRY_S + RENEWAL_S)
        second.step()
        assert read_leases(found.lake)[NAME].holder == _holder(second)


@fault("a paused process that continues", "follow")
def test_paused_follower_that_continues_after_another_took_over_does_no_harm(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with following(tmp_path, service) as found:
        first, second = found.follower(), found.follower()
        found.run(first)
        for number in range(5):
            service.write(number, number)
        assert first.tables[NAME].read(1 << 20)  # and now it is paused
        second.step()
        service.advance(EXPIRY_S + RENEWAL_S)
        found.run(second)
        service.write(1, 50)
        found.run(second)
        first.tables[NAME].turn()  # it continues in the middle of its step
        found.run(first)
        found.run(second)
        assert found.items() == found.expected()
        assert found.records == len(service.changes)
        assert first.tables[NAME].read(1 << 20) is False  # it gave the table up


@fault("the catalog cannot be reached", "follow")
def test_changes_go_on_landing_while_the_catalog_fails_and_are_applied_later(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with following(tmp_path, service) as found:
        follower = found.follower()
        found.run(follower)
        with mock.patch.object(Commit, "run", side_effect=UnreachableError("the catalog does not answer")):
            for number in range(6):
                service.write(number, number)
                found.run(follower, rounds=2)
            assert found.heard.errors
            service.advance(100)
            found.run(follower, rounds=2)
        assert list((tmp_path / "landing").rglob("*.gz"))
        service.advance(100)
        found.run(follower)
        assert found.items() == found.expected()
        assert found.records == len(service.changes)


@fault("the disk is full", "follow")
def test_object_that_cannot_be_written_is_read_again(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        follower = found.follower()
        found.run(follower)
        service.write(1, 1)
        with mock.patch.object(Landing, "put", side_effect=OSError(28, "No space left on device")):
            found.run(follower)
        assert [type(error) for error in found.heard.errors][:1] == [OSError]
        service.advance(100)
        found.run(follower)
        assert found.items() == found.expected()


def test_reading_stops_while_too_much_waits(tmp_path: Path, service: SimulatedStreams) -> None:
    service.page_size = 1
    with following(tmp_path, service) as found:
        follower = found.follower()
        found.run(follower)
        table = follower.tables[NAME]
        for number in range(30):
            service.write(number, number)
        while table.read(5000):
            pass
        assert 5000 <= table.waiting_bytes < 6000
        service.page_size = 10
        found.run(follower, rounds=5)
        assert found.items() == found.expected()


@pytest.mark.exhaustive
def test_expired_iterators_are_renewed(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        follower = found.follower()
        for number in range(3):
            found.run(follower)
            service.advance(20 * 60)
            service.write(number, number)
        found.run(follower)
        assert found.items() == found.expected()
        assert found.heard.errors == []


def test_table_made_again_and_stream_switched_off_and_on_are_reported_as_gaps(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    with following(tmp_path, service) as found:
        follower = found.follower()
        service.write(1, 1)
        found.run(follower)
        service.disable()
        service.advance(60)
        service.enable()
        service.write(2, 2)
        service.advance(60)
        found.run(follower)
        assert {gap.kind for gap in found.heard.turns[-1].gaps} == {"stream_changed"}
        service.recreate()
        service.advance(60)
        service.write(3, 3)
        found.run(follower)
        assert "lost" in {gap.kind for gap in found.heard.turns[-1].gaps}


def test_compaction_is_done_in_slices_between_turns(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        follower = found.follower()
        for number in range(5):
            service.write(number, number)
            found.run(follower, rounds=1)
        service.advance(COMPACT_EVERY_S)
        with (
            mock.patch.object(compaction_policy, "MAX_SMALL_FILES", 1),
            mock.patch.object(compaction_policy, "MAX_FILES_OF_LATEST_HOUR", 1),
            mock.patch.object(follow, "SLICE_BYTES", 1),
        ):
            for number in range(5, 9):  # two files become one in each slice, and a turn adds one
                service.write(number, number)
                follower.tables[NAME].read(1 << 20)
                turns = len(found.heard.turns)
                assert follower.step()
                assert (len(found.heard.turns), len(found.heard.works)) == (turns + 1, number - 4)
            for _ in range(8):
                follower.step()
        current, changes = found.lake.current(NAME), found.lake.changes(NAME)
        assert current is not None
        assert changes is not None
        assert (len(live_files(current).data), len(live_files(changes).data)) == (1, 1)
        assert found.items() == found.expected()


def test_cleaner_removes_files_that_no_snapshot_names(tmp_path: Path, service: SimulatedStreams) -> None:
    with (
        following(tmp_path, service) as found,
        mock.patch.object(follow, "CLEAN_EVERY_S", 0.01),
        mock.patch.object(compact, "ORPHAN_GRACE", timedelta(days=-1000)),  # the files have today's date
    ):
        service.write(1, 1)
        follower, stop = found.follower(), Event()
        found.run(follower)
        current = found.lake.current(NAME)
        assert current is not None
        named = Path(live_files(current).paths[0])
        orphan = named.with_name(f"{uuid4().hex}.parquet")
        orphan.write_bytes(named.read_bytes())
        found.heard.when_cleaned = stop.set
        follower.run(stop)
        assert (named.exists(), orphan.exists()) == (True, False)
        assert found.heard.errors == []
        assert found.items() == found.expected()


@pytest.mark.exhaustive
def test_files_are_compacted_beside_the_commits(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        follower = found.follower()
        for number in range(30):
            service.write(number % 5, number)
            found.run(follower, rounds=1)
            service.advance(COMPACT_EVERY_S / 20)
        assert "compact" in {work.kind for work in found.heard.works}
        table = found.lake.current(NAME)
        assert table is not None
        live = live_files(table)
        assert len(live.deletes) <= MAX_DELETE_FILES + 8
        assert found.items() == found.expected()


def test_working_followers_are_those_that_renewed_within_a_minute(tmp_path: Path, service: SimulatedStreams) -> None:
    with following(tmp_path, service) as found:
        follower = found.follower()
        service.write(1, 1)
        found.run(follower)
        assert working_followers(found.lake)[NAME].holder == _holder(follower)
        service.advance(61)
        assert working_followers(found.lake) == {}
        follower.step()
        assert set(working_followers(found.lake)) == {NAME}
        follower.close()
        assert read_leases(found.lake) == {}


def _holder(follower: Follower) -> str:
    assert follower.keeper is not None
    return follower.keeper.holder


def test_age_of_a_step_is_that_of_the_last_turn_or_work_of_an_idle_follower_too(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    """Guards the health check: it may not stop a follower that waits, and has to see one that hangs."""
    with following(tmp_path, service) as found:
        holder, idle = found.follower(), found.follower()
        for follower in (holder, idle):
            found.run(follower)
            assert follower.step_age_s() <= 1
        service.advance(500)
        assert holder.step_age_s() >= 500 and idle.step_age_s() >= 500
        idle.step()
        assert (idle.step_age_s(), holder.step_age_s() >= 500) == (0, True)
