"""Enhanced fan-out with a service that ends subscriptions at any event: each record is read once, in order, and nothing is silent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from threading import active_count
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import EventStreamError
from hypothesis import given
from hypothesis import strategies as st
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from ddb_lake.aws import kinesis_fan_out
from ddb_lake.aws.kinesis_fan_out import (
    ABANDONED_S,
    STEADY_S,
    TAKEN_OVER,
    FanOutStream,
    Position,
    Subscription,
    TakenOverError,
    starting_position,
)
from ddb_lake.aws.streams import ExpiredIteratorError, StreamGoneError, ThrottledError, TrimmedError
from ddb_lake.config import parse_settings
from ddb_lake.core.capture.shards import ShardPosition
from ddb_lake.errors import TransientError
from ddb_lake_tests.support.effort import examples

ARN = "arn:aws:kinesis:eu-west-1:111122223333:stream/changes"
STREAM = f"{ARN}@1"
CHILDREN = [{"ShardId": "child", "ParentShards": ["shard"], "HashKeyRange": {}}]


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    """Subscriptions are renewed without a pause."""
    with mock.patch.object(kinesis_fan_out, "RENEWAL_S", 0.0):
        yield


class _Shard:
    """A closed shard with the records 1 to `count`. A subscription gives `length` events of `size` records and ends as `ends` says.

    `next_unread`: an event's position is that of the first record that was not read; otherwise that of the last one that was.
    """

    def __init__(self, count: int, next_unread: bool, plan: list[tuple[int, int, str]]) -> None:
        self.count, self.next_unread, self.plan = count, next_unread, plan
        self.begun: list[Position] = []

    def __call__(self, start: Position) -> Iterator[Mapping[str, Any]]:
        self.begun.append(start)
        length, size, end = self.plan.pop(0) if self.plan else (99, 99, "ends")
        at = int(start.get("SequenceNumber", 1)) + (start["Type"] == "AFTER_SEQUENCE_NUMBER")
        for _ in range(length):
            found = [{"SequenceNumber": str(one)} for one in range(max(at, 1), min(at + size, self.count + 1))]
            at = max(at, 1) + len(found)
            event: dict[str, Any] = {"Records": found, "MillisBehindLatest": (self.count + 1 - at) * 10}
            if at > self.count:
                yield {**event, "ChildShards": CHILDREN}
                return
            yield {**event, "ContinuationSequenceNumber": str(at if self.next_unread else at - 1)}
        if end == "no position":
            yield {"Records": [{"SequenceNumber": str(at)}], "MillisBehindLatest": 5}
        elif end != "ends":
            raise {"throttled": ThrottledError, "taken over": TakenOverError, "gone": StreamGoneError}[end](end)


def _read(subscription: Subscription) -> tuple[list[int], list[str]]:
    """The numbers of all records to the end of the shard, and the errors on the way."""
    found: list[int] = []
    errors: list[str] = []
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            page = subscription.page("it")
        except (ThrottledError, StreamGoneError) as error:
            errors.append(str(error))
            continue
        found += [int(record["SequenceNumber"]) for record in page.records]
        if page.next_iterator is None:
            return found, errors
        if not page.records:
            assert page.behind_ms, "an empty page of a shard that has more does not say that nothing is left"
            time.sleep(0.0005)
    raise AssertionError("the shard did not end")


_ENDS = st.sampled_from(("ends", "throttled", "taken over", "gone", "no position"))


@examples(25, 300)
@given(
    count=st.integers(0, 12),
    after=st.none() | st.integers(0, 12),
    next_unread=st.booleans(),
    plan=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), _ENDS), max_size=4),
)
def test_each_record_is_read_once_and_in_order_whatever_ends_a_subscription(
    count: int, after: int | None, next_unread: bool, plan: list[tuple[int, int, str]]
) -> None:
    shard = _Shard(count, next_unread, list(plan))
    begin = ShardPosition() if after is None else ShardPosition(after=str(after))
    found, errors = _read(Subscription(shard, starting_position(begin)))
    assert found == list(range((after or 0) + 1, count + 1))
    ended = [end for _, _, end in plan if end != "ends"][: len(errors)]
    assert [error if len(error) < 11 else "no position" for error in errors] == ended


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it did not happen")


def test_subscription_that_is_not_read_ends_and_is_begun_again_where_it_was_read_to() -> None:
    now = [0.0]
    shard = _Shard(9, next_unread=False, plan=[(9, 1, "ends")] * 5)
    subscription = Subscription(shard, {"Type": "TRIM_HORIZON"}, lambda: now[0])
    before = active_count()
    _until(lambda: bool(subscription.page("it").records))
    now[0] += ABANDONED_S + 1
    _until(lambda: active_count() == before)
    assert len(shard.begun) == 1
    assert _read(subscription) == (list(range(2, 10)), [])
    assert [start["Type"] for start in shard.begun] == ["TRIM_HORIZON", "AT_SEQUENCE_NUMBER"]


def test_quiet_shard_states_what_the_last_event_stated_and_a_failed_one_for_how_long() -> None:
    now = [0.0]
    plan: list[Any] = [{"Records": [], "MillisBehindLatest": 0, "ContinuationSequenceNumber": "5"}, ThrottledError("x")]
    go_on = [False, False, False]

    def subscribe(_: Position) -> Iterator[Mapping[str, Any]]:
        for number, event in enumerate(plan):
            _until(lambda number=number: go_on[number])
            if isinstance(event, Exception):
                raise event
            yield event
        _until(lambda: go_on[2])

    subscription = Subscription(subscribe, {"Type": "TRIM_HORIZON"}, lambda: now[0])
    subscription.page("it")
    now[0] = 2.0
    assert subscription.page("it").behind_ms == 2000
    go_on[0] = True
    _until(lambda: subscription.page("it").behind_ms == 0)
    now[0] = 9.0
    assert subscription.page("it").behind_ms == 0
    go_on[1] = True
    with pytest.raises(ThrottledError):
        _until(lambda: subscription.page("it").behind_ms != 0)
    assert subscription.page("it").behind_ms == 7000
    go_on[2] = True
    subscription.close()


# --- the client


class _Answers:
    """A client of Kinesis: `events` are the events or errors of one subscription after another."""

    def __init__(self, *events: Any, consumers: tuple[Any, ...] = ("ACTIVE",), register: Any = "CREATING") -> None:
        self.subscriptions, self.consumers, self.register = list(events), list(consumers), register
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.exceptions = mock.Mock(
            ResourceNotFoundException=_NotFound,
            ResourceInUseException=_InUse,
            LimitExceededException=_Limit,
        )

    def describe_stream_consumer(self, **named: Any) -> dict[str, Any]:
        self.calls.append(("describe", named))
        status = self.consumers.pop(0) if len(self.consumers) > 1 else self.consumers[0]
        if status is None:
            raise _NotFound(_code("ResourceNotFoundException"), "DescribeStreamConsumer")
        return {"ConsumerDescription": {"ConsumerARN": f"{ARN}/consumer/lake:1", "ConsumerStatus": status}}

    def register_stream_consumer(self, **named: Any) -> dict[str, Any]:
        self.calls.append(("register", named))
        if isinstance(self.register, Exception):
            raise self.register
        return {"Consumer": {"ConsumerARN": f"{ARN}/consumer/lake:1", "ConsumerStatus": self.register}}

    def subscribe_to_shard(self, **named: Any) -> dict[str, Any]:
        self.calls.append(("subscribe", named))
        return {"EventStream": _Stream(self.subscriptions.pop(0) if self.subscriptions else [])}


class _Stream:
    def __init__(self, events: list[Any]) -> None:
        self.events = events

    def __iter__(self) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield {"SubscribeToShardEvent": event}

    def close(self) -> None:
        self.events = []


class _NotFound(EventStreamError):
    pass


class _InUse(EventStreamError):
    pass


class _Limit(EventStreamError):
    pass


def _code(code: str) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": "said so"}}


def _raised(code: str) -> EventStreamError:
    return EventStreamError(_code(code), "SubscribeToShard")


def _stream(answers: _Answers) -> FanOutStream:
    changes = {"kinesis": ARN, "fan_out": "lake"}
    settings = parse_settings({"warehouse": "w", "tables": [{"name": "orders", "changes": changes}]}, "test")
    with mock.patch("ddb_lake.aws.kinesis_source.client", return_value=answers):
        return FanOutStream(settings.tables[0])


def _first_error(stream: FanOutStream, position: ShardPosition) -> Exception:
    """The error that the reading of a shard meets first."""
    name = stream.iterator(STREAM, "shard", position)
    for _ in range(20_000):
        try:
            stream.records(name)
        except Exception as error:  # whatever it is: the test looks at it
            return error
        time.sleep(0.001)
    raise AssertionError("there was no error")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (_raised("ResourceInUseException"), ThrottledError),
        (_raised("LimitExceededException"), ThrottledError),
        (_raised("InternalFailureException"), ThrottledError),
        (_raised("KMSThrottlingException"), ThrottledError),
        (ProtocolError("connection broken"), ThrottledError),
        (_raised("ResourceNotFoundException"), StreamGoneError),
        (_raised("InvalidArgumentException"), TrimmedError),
        (_raised("KMSAccessDeniedException"), EventStreamError),
    ],
    ids=lambda one: str(one)[:60] if isinstance(one, Exception) else one.__name__,
)
def test_fault_of_a_subscription_has_the_kind_that_the_reader_knows(fault: Exception, kind: type[Exception]) -> None:
    assert type(_first_error(_stream(_Answers([fault])), ShardPosition(after="5"))) is kind


def test_connection_that_is_silent_for_a_minute_is_made_again_without_an_error() -> None:
    silent = ReadTimeoutError(mock.Mock(), "", "timed out")
    last = {"Records": [{"SequenceNumber": "7"}], "MillisBehindLatest": 0, "ChildShards": CHILDREN}
    answers = _Answers([silent], [last])
    stream = _stream(answers)
    name = stream.iterator(STREAM, "shard", ShardPosition(after="5"))
    pages = iter(lambda: stream.records(name), None)
    assert next(page.records for page in pages if page.next_iterator is None) == last["Records"]
    begun = [named["StartingPosition"] for call, named in answers.calls if call == "subscribe"]
    assert begun == [{"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "5"}] * 2
    with pytest.raises(ExpiredIteratorError):
        stream.records(name)


def test_consumer_that_another_reader_takes_again_and_again_is_an_error_that_names_it() -> None:
    stream = _stream(_Answers(*([_raised("ResourceInUseException")] for _ in range(TAKEN_OVER))))
    name, met = stream.iterator(STREAM, "shard", ShardPosition()), []
    while len(met) < TAKEN_OVER:
        try:
            stream.records(name)
        except TransientError as error:
            met.append(error)
    assert [type(error) for error in met] == [ThrottledError] * (TAKEN_OVER - 1) + [TakenOverError]
    assert "another reader uses the consumer lake" in str(met[-1])


@pytest.mark.parametrize("read_s", [STEADY_S - 1, STEADY_S])
def test_take_overs_before_a_minute_of_reading_do_not_count(read_s: float) -> None:
    """A follower that is replaced many times in its life is in no dispute; two lakes take the consumer from each other within seconds."""
    clock, met = [0.0], []

    def subscribe(_: Position) -> Iterator[Mapping[str, Any]]:
        clock[0] += read_s
        yield from ()
        raise TakenOverError("taken")

    subscription = Subscription(subscribe, {"Type": "TRIM_HORIZON"}, lambda: clock[0])
    with mock.patch.object(kinesis_fan_out, "ABANDONED_S", 10 * STEADY_S):
        while len(met) < TAKEN_OVER:
            try:
                subscription.page("it")
            except TransientError as error:
                met.append(type(error))
    assert met == [ThrottledError] * (TAKEN_OVER - 1) + [TakenOverError if read_s < STEADY_S else ThrottledError]


def test_consumer_is_registered_once_and_awaited() -> None:
    answers = _Answers(consumers=(None, "CREATING", "ACTIVE"))
    stream = _stream(answers)
    for _ in range(2):
        with pytest.raises(ThrottledError, match="CREATING"):
            stream.iterator(STREAM, "shard", ShardPosition())
    stream.iterator(STREAM, "shard", ShardPosition())
    stream.iterator(STREAM, "other", ShardPosition())
    assert [call for call, _ in answers.calls] == ["describe", "register", "describe", "describe"]
    assert answers.calls[1][1] == {"StreamARN": ARN, "ConsumerName": "lake"}


def test_stream_with_too_many_consumers_is_an_error_and_not_read_in_another_way() -> None:
    limit = _Limit(_code("LimitExceededException"), "RegisterStreamConsumer")
    stream = _stream(_Answers(consumers=(None,), register=limit))
    with pytest.raises(TransientError, match="cannot be registered") as caught:
        stream.iterator(STREAM, "shard", ShardPosition())
    assert not isinstance(caught.value, ThrottledError)


def test_consumer_that_was_deregistered_is_registered_again() -> None:
    answers = _Answers([_raised("ResourceNotFoundException")], consumers=("ACTIVE", None), register="ACTIVE")
    stream = _stream(answers)
    assert isinstance(_first_error(stream, ShardPosition()), StreamGoneError)
    stream.iterator(STREAM, "shard", ShardPosition())
    assert [call for call, _ in answers.calls if call != "subscribe"] == ["describe", "describe", "register"]
