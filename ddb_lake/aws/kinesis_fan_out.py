"""Kinesis Data Streams by enhanced fan-out: the service pushes a shard's records to a registered consumer.

It implements `aws.streams.StreamSource`, so that the reader keeps the same checkpoints as with GetRecords: a change of the way of
reading loses nothing and reads nothing twice. A thread for each shard receives events; `FanOutStream.records` gives the next one
without waiting. A subscription ends after five minutes, and the thread subscribes again at the position of the last event.

There is no way back to GetRecords: if the consumer cannot be used, the table fails, and that is reported.

https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html
https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShardEvent.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Final

from botocore.eventstream import ParserError
from botocore.exceptions import ClientError
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ddb_lake.aws.kinesis_source import KinesisStream
from ddb_lake.aws.streams import (
    ExpiredIteratorError,
    Page,
    StreamGoneError,
    ThrottledError,
    TrimmedError,
    translated_errors,
)
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.shards import ShardPosition
from ddb_lake.errors import TransientError

RENEWAL_S: Final = 1.0
"""The least time between two calls of SubscribeToShard for a shard: the service allows one in a second."""

ABANDONED_S: Final = 30.0
"""A subscription ends if `page` was not called for so many seconds: a follower that lost its lease leaves the consumer to the next one."""

TAKEN_OVER: Final = 5
"""If other readers take the consumer over so many times in succession, that is an error. A handover between followers takes one or two."""

STEADY_S: Final = 60.0
"""A subscription that was taken over after so many seconds was no dispute: its reader read, and the take-overs before it do not count.

Two lakes with one consumer take it from each other every few seconds: Kinesis lets another caller subscribe after five.
"""

_EVENTS: Final = 1
"""The events of a shard that wait in the queue. The thread holds one more."""

_PUT_S: Final = 0.5
_SERVICE: Final = "Kinesis"


class TakenOverError(TransientError):
    """Another reader took the subscription over."""


Position = dict[str, str]
"""`StartingPosition` of SubscribeToShard."""


def starting_position(position: ShardPosition) -> Position:
    """The starting position of a subscription that continues a reader's position."""
    if position.after is None:
        return {"Type": "TRIM_HORIZON"}
    return {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": position.after}


@dataclass(slots=True)
class Subscription:
    """The events of one shard. `page` is for one thread; a thread of its own receives.

    Args:
        subscribe: calls SubscribeToShard with a starting position, and gives the events until the subscription ends. It raises
            `TakenOverError` and the errors of `aws.streams`.
        position: where to begin.
        clock: a clock that does not go back, in seconds.
    """

    subscribe: Callable[[Position], Iterator[Mapping[str, Any]]]
    position: Position
    clock: Callable[[], float] = time.monotonic
    _events: Queue[Mapping[str, Any] | Exception] = field(default_factory=lambda: Queue(_EVENTS))
    _thread: Thread | None = None
    _closed: Event = field(default_factory=Event)
    _polled_at: float = 0.0
    _received_at: float = 0.0
    _behind_ms: int | None = None
    _last: int = -1
    _taken_over: int = 0

    def __post_init__(self) -> None:
        self._polled_at = self._received_at = self.clock()
        if self.position["Type"] == "AFTER_SEQUENCE_NUMBER":
            self._last = int(self.position["SequenceNumber"])

    def close(self) -> None:
        """End the subscription: its thread ends with the next event, or when the service ends the connection."""
        self._closed.set()

    def page(self, iterator: str) -> Page:
        """The next event as a page, or an empty page if none has arrived.

        Raises the error that ended the subscription. The next call subscribes again.
        """
        self._polled_at = self.clock()
        # before the queue is read: a thread that ended before puts nothing into it
        running = self._thread is not None and self._thread.is_alive()
        try:
            found = self._events.get_nowait()
        except Empty:
            if not running:
                self._thread = Thread(target=self._receive, args=(self.position,), name="fan-out", daemon=True)
                self._thread.start()
            return Page([], iterator, self._waiting_ms())
        if isinstance(found, Exception):
            self._behind_ms = None
            raise found
        return self._take(found, iterator)

    def _waiting_ms(self) -> int:
        """How far the shard is behind, as the last event states it; the time since then if a subscription failed."""
        if self._behind_ms is not None:
            return self._behind_ms
        return max(1, round((self.clock() - self._received_at) * 1000))

    def _take(self, event: Mapping[str, Any], iterator: str) -> Page:
        # A subscription continues at a position inclusively, because the API does not state whether that record was sent already.
        records = [one for one in event["Records"] if int(one["SequenceNumber"]) > self._last]
        if records:
            self._last = int(records[-1]["SequenceNumber"])
        self._behind_ms, self._received_at = event["MillisBehindLatest"], self.clock()
        ended = bool(event.get("ChildShards"))
        if not ended:
            self.position = _following(event)
        return Page(records, None if ended else iterator, self._behind_ms)

    # --- the thread

    def _receive(self, position: Position) -> None:
        began = self.clock()
        try:
            while not self._is_abandoned():
                began = self.clock()
                for event in self.subscribe(position):
                    ended = bool(event.get("ChildShards"))
                    position = position if ended else _following(event)
                    if not self._put(event) or ended:
                        return
                self._taken_over = 0
                self._closed.wait(max(0.0, RENEWAL_S - (self.clock() - began)))
        except TakenOverError as error:
            self._taken_over = 1 if self.clock() - began >= STEADY_S else self._taken_over + 1
            self._put(error if self._taken_over >= TAKEN_OVER else ThrottledError(str(error)))
        except Exception as error:  # `page` raises it
            self._put(error)

    def _put(self, found: Mapping[str, Any] | Exception) -> bool:
        """Put an event or an error into the queue. False if the subscription is abandoned; the next thread then begins before the event."""
        while not self._is_abandoned():
            try:
                self._events.put(found, timeout=_PUT_S)
            except Full:
                continue
            return True
        return False

    def _is_abandoned(self) -> bool:
        return self._closed.is_set() or self.clock() - self._polled_at > ABANDONED_S


def _following(event: Mapping[str, Any]) -> Position:
    """Where a subscription continues after an event. Raises ThrottledError if the event does not state it."""
    number = event.get("ContinuationSequenceNumber")
    if not number:
        raise ThrottledError("Kinesis sent an event that states neither its position nor the end of its shard")
    return {"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": number}


class FanOutStream(KinesisStream):
    """The Kinesis stream of a table, `changes.kinesis`, read by the consumer `changes.fan_out`, which is registered if need be."""

    def __init__(self, table: TableSettings, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(table)
        assert table.changes is not None and table.changes.fan_out is not None, "the caller checked it"
        self.consumer = table.changes.fan_out
        self._clock = clock
        self._arns: dict[str, str] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._made = 0

    def consumer_status(self, arn: str) -> str | None:
        """The status of the consumer of a stream (`ACTIVE`, `CREATING`, `DELETING`); None if it is not registered."""
        found = self._describe_consumer(_stream_arn(arn))
        return None if found is None else str(found["ConsumerStatus"])

    def iterator(self, arn: str, shard_id: str, position: ShardPosition) -> str:
        """See `StreamSource`. The subscription begins when its records are read first."""
        consumer_arn = self._consumer_arn(arn)
        self._made += 1
        prefix = f"{shard_id}#"
        for name in [name for name in self._subscriptions if name.startswith(prefix)]:
            self._subscriptions.pop(name).close()
        name = f"{prefix}{self._made}"

        def subscribe(start: Position) -> Iterator[Mapping[str, Any]]:
            return self._events(consumer_arn, shard_id, start)

        self._subscriptions[name] = Subscription(subscribe, starting_position(position), self._clock)
        return name

    def records(self, iterator: str) -> Page:
        """See `StreamSource`. It does not wait: an empty page says that no event has arrived."""
        found = self._subscriptions.get(iterator)
        if found is None:
            raise ExpiredIteratorError(iterator)
        try:
            page = found.page(iterator)
        except StreamGoneError:
            self._arns.clear()  # the stream or its consumer is gone; a consumer of the same name has another ARN
            raise
        if page.next_iterator is None:
            self._subscriptions.pop(iterator).close()
        return page

    def _events(self, consumer_arn: str, shard_id: str, start: Position) -> Iterator[Mapping[str, Any]]:
        with self._subscription_errors(start):
            answer = self._client.subscribe_to_shard(ConsumerARN=consumer_arn, ShardId=shard_id, StartingPosition=start)
            stream = answer["EventStream"]
            try:
                for event in stream:
                    yield event["SubscribeToShardEvent"]
            finally:
                stream.close()

    @contextmanager
    def _subscription_errors(self, start: Position) -> Iterator[None]:
        try:
            with translated_errors(_SERVICE):
                yield
        except ReadTimeoutError:
            return  # nothing arrived for a minute: the connection may be dead, and the thread subscribes again
        except (HTTPError, ParserError) as error:
            raise ThrottledError(f"the subscription ended: {type(error).__name__}") from error
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ResourceInUseException":
                raise TakenOverError(
                    f"another reader uses the consumer {self.consumer} of the Kinesis stream {self._name}",
                    hint="let one lake use a consumer: give this table another name as `changes.fan_out`",
                ) from error
            if code == "InvalidArgumentException" and "SequenceNumber" in start:
                raise TrimmedError(f"{self._name}: the stream does not know the position") from error
            raise

    def _consumer_arn(self, arn: str) -> str:
        """The ARN of the active consumer, which is registered if there is none. Raises ThrottledError while it is being created."""
        if arn in self._arns:
            return self._arns[arn]
        stream_arn = _stream_arn(arn)
        with translated_errors(_SERVICE):
            found = self._describe_consumer(stream_arn) or self._register(stream_arn)
        if found["ConsumerStatus"] != "ACTIVE":
            raise ThrottledError(f"the consumer {self.consumer} is {found['ConsumerStatus']}")
        self._arns[arn] = str(found["ConsumerARN"])
        return self._arns[arn]

    def _describe_consumer(self, stream_arn: str) -> dict[str, Any] | None:
        try:
            answer = self._client.describe_stream_consumer(StreamARN=stream_arn, ConsumerName=self.consumer)
        except self._client.exceptions.ResourceNotFoundException:
            return None
        found: dict[str, Any] = answer["ConsumerDescription"]
        return found

    def _register(self, stream_arn: str) -> dict[str, Any]:
        exceptions = self._client.exceptions
        try:
            answer = self._client.register_stream_consumer(StreamARN=stream_arn, ConsumerName=self.consumer)
        except exceptions.ResourceInUseException as error:  # another process has registered it meanwhile
            raise ThrottledError(f"the consumer {self.consumer} is being registered") from error
        except exceptions.LimitExceededException as error:
            raise TransientError(
                f"the consumer {self.consumer} cannot be registered: the Kinesis stream {self._name} has as many as it may",
                hint=f"aws kinesis list-stream-consumers --stream-arn {stream_arn}, and deregister one; or remove"
                " `changes.fan_out`",
            ) from error
        found: dict[str, Any] = answer["Consumer"]
        return found


def _stream_arn(arn: str) -> str:
    """The ARN of the stream that `KinesisStream.streams` names."""
    return arn.partition("@")[0]
