"""Items of DynamoDB tables, read and written through the API: for verification, repair and restore.

Reads are strongly consistent by default, and return DynamoDB JSON. Each request waits for a
`RateLimit` in capacity units. Throttled requests and the unprocessed part of a batch are repeated by `retry_policy.DYNAMODB`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from ddb_lake.aws.error_codes import error_code
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.rate_limit import RateLimit
from ddb_lake.core.operations.retry_policy import DYNAMODB
from ddb_lake.core.protection.rules import Protection
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.conversions import from_boto, to_boto
from ddb_lake.core.values.primary_key import key_text
from ddb_lake.errors import ConfigError, TerminalError, TransientError, UsageError

BATCH_GET = 100
"""The number of keys of a BatchGetItem.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html
"""

CLOCK_SLACK_US = 2_000_000
"""The service's `Date` header has whole seconds, and the clocks of its hosts differ slightly."""

ACTIVE_WITHIN_S = 300

_THROTTLED = ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded")


@dataclass(slots=True)
class Consumed:
    """Capacity units of some requests, and the first and last time (inclusive, the service's clock) of their responses."""

    units: float = 0.0
    requests: int = 0
    from_us: int | None = None
    to_us: int | None = None

    def add(self, units: float, served_us: int) -> None:
        """Add one request."""
        self.units += units
        self.requests += 1
        self.from_us = served_us if self.from_us is None else min(self.from_us, served_us)
        self.to_us = served_us if self.to_us is None else max(self.to_us, served_us)


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """A page of a scan: the segment, the key after which it begins (None: the first page), and how it reads.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
    """

    segment: int = 0
    segments: int = 1
    start_key: Item | None = None
    consistent: bool = True
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class ScanPage:
    """The items of a page without those that are left out, the key after which the next page begins (None: it is the last), and its
    capacity units.

    `served_us`: the service's time of the response.
    """

    items: list[Item]
    next_key: Item | None
    units: float
    served_us: int


@dataclass(slots=True)
class TableItems:
    """The items of one table.

    Args:
        client: a boto3 client of DynamoDB.
        name: the table's name or ARN.
        pace: the limit of capacity units a second.
        consistent: whether `get` and `scan` are strongly consistent. Eventually consistent reads cost half, and may return an
            image that is older by some seconds:
            https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html
        protection: what is applied to each item that is read; an item that the filter leaves out is read as absent.
        consumed: counts the capacity units of all requests.
        sleep: waits for seconds.
    """

    client: Any
    name: str
    pace: RateLimit
    consistent: bool = True
    protection: Protection = field(default_factory=Protection)
    consumed: Consumed = field(default_factory=Consumed)
    sleep: Callable[[float], None] = time.sleep
    _counting: Lock = field(default_factory=Lock, repr=False)

    def served_us(self) -> int:
        """The service's time now minus `CLOCK_SLACK_US`: later reads see every write before this instant."""
        return _served_us(self._call("describe_table", 0, TableName=self.name)) - CLOCK_SLACK_US

    def get(self, keys: Sequence[Item]) -> Iterator[tuple[Item, Item | None]]:
        """Each key with its item, or None if there is none. `keys` must be distinct."""
        for first in range(0, len(keys), BATCH_GET):
            batch = keys[first : first + BATCH_GET]
            names = sorted(batch[0])  # compared by key text: DynamoDB may spell a number differently than the request
            items = {key_text(item, names): item for item in self._get_batch(batch)}
            for key in batch:
                yield key, items.get(key_text(key, names))

    def scan(self, segment: int = 0, segments: int = 1, limit: int | None = None) -> Iterator[list[Item]]:
        """Pages of one segment of a scan. With `limit`, one page of at most so many items."""
        start: Item | None = None
        while True:
            page = self.scan_page(ScanRequest(segment, segments, start, limit=limit, consistent=self.consistent))
            yield page.items
            start = page.next_key
            if start is None or limit:
                return

    def scan_page(self, request: ScanRequest) -> ScanPage:
        """One page of a scan. Threads may call it at the same time; they share the pace."""
        options: dict[str, Any] = {"Limit": request.limit} if request.limit else {}
        if request.segments > 1:
            options |= {"Segment": request.segment, "TotalSegments": request.segments}
        if request.start_key is not None:
            options["ExclusiveStartKey"] = {name: to_boto(value) for name, value in request.start_key.items()}
        least = 1 if request.consistent else 0.5
        page = self._call("scan", least, TableName=self.name, ConsistentRead=request.consistent, **options)
        last = page.get("LastEvaluatedKey")
        items = self._admitted(page.get("Items", ()))
        return ScanPage(items, _item(last) if last else None, _units(page) or least, _served_us(page))

    @property
    def _least_units(self) -> float:
        """The read units of an item of up to 4 KB."""
        return 1.0 if self.consistent else 0.5

    def put(self, items: Sequence[Item]) -> None:
        """Put at most 25 distinct items. Idempotent. Raises TransientError if DynamoDB leaves some of them unprocessed."""
        requests = [{"PutRequest": {"Item": {name: to_boto(value) for name, value in item.items()}}} for item in items]

        def write(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
            response = self._call("batch_write_item", len(requests), RequestItems={self.name: requests})
            unprocessed: list[dict[str, Any]] = response.get("UnprocessedItems", {}).get(self.name, [])
            return unprocessed

        if left := DYNAMODB.drain(requests, write, sleep=self.sleep):
            raise TransientError(
                f"{self.name}: DynamoDB left {count_text(len(left), 'item')} unprocessed", hint="run the command again"
            )

    def is_empty(self) -> bool:
        """Whether the table has no item."""
        page: list[Item] = next(self.scan(limit=1))
        return not page

    def _get_batch(self, keys: Sequence[Item]) -> list[Item]:
        items: list[Item] = []

        def read(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
            request = {self.name: {"Keys": keys, "ConsistentRead": self.consistent}}
            response = self._call("batch_get_item", len(keys) * self._least_units, RequestItems=request)
            items.extend(self._admitted(response.get("Responses", {}).get(self.name, ())))
            unprocessed: list[dict[str, Any]] = response.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            return unprocessed

        requests = [{name: to_boto(value) for name, value in key.items()} for key in keys]
        if left := DYNAMODB.drain(requests, read, sleep=self.sleep):
            raise TransientError(
                f"{self.name}: DynamoDB left {count_text(len(left), 'key')} unprocessed", hint="run the command again"
            )
        return items

    def _admitted(self, entries: Sequence[dict[str, Any]]) -> list[Item]:
        """Items of a response, without those that the filter leaves out, and with protected attributes."""
        items = [_item(entry) for entry in entries]
        return [self.protection.protect(item) for item in items if not self.protection.leaves_out(item)]

    def _call(self, operation: str, least_units: float, **arguments: Any) -> dict[str, Any]:
        """Send one request at the pace; repeat it while DynamoDB throttles it.

        `least_units`: the capacity units to count if the response has none.
        """
        if operation != "describe_table":
            arguments["ReturnConsumedCapacity"] = "TOTAL"

        def send() -> dict[str, Any]:
            wait_s = self.pace.wait_s(time.monotonic())
            if wait_s:
                self.sleep(wait_s)
            response: dict[str, Any] = getattr(self.client, operation)(**arguments)
            return response

        try:
            response = DYNAMODB.call(send, lambda error: error_code(error) in _THROTTLED, self.sleep)
        except (ClientError, BotoCoreError) as error:
            raise _translated(error, self.name, operation) from error
        units = _units(response) or least_units
        with self._counting:
            self.pace.spend(units, time.monotonic())
            self.consumed.add(units, _served_us(response))
        return response


def make_table(client: Any, name: str, key: Sequence[tuple[str, str]]) -> None:
    """Create an on-demand table with a key of (attribute, S | N | B), and wait until it is active.

    Raises TransientError if it is not active within `ACTIVE_WITHIN_S`.
    """
    try:
        client.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": attribute, "AttributeType": tag} for attribute, tag in key],
            KeySchema=[
                {"AttributeName": attribute, "KeyType": role}
                for (attribute, _), role in zip(key, ("HASH", "RANGE"), strict=False)
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        waiter = client.get_waiter("table_exists")
        waiter.wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": ACTIVE_WITHIN_S})
    except WaiterError as error:
        if "Error" in error.last_response:
            raise _translated(ClientError(error.last_response, "DescribeTable"), name, "describe_table") from error
        raise TransientError(
            f"not active {ACTIVE_WITHIN_S} s after it was created", table=name, hint="run the command again"
        ) from error
    except (ClientError, BotoCoreError) as error:
        raise _translated(error, name, "create_table") from error


def _item(attributes: dict[str, Any]) -> Item:
    return {name: from_boto(value) for name, value in attributes.items()}


def _units(response: dict[str, Any]) -> float:
    consumed = response.get("ConsumedCapacity") or []
    entries = consumed if isinstance(consumed, list) else [consumed]
    return math.fsum(entry.get("CapacityUnits", 0) for entry in entries)


def _served_us(response: dict[str, Any]) -> int:
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    time_served = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return int(time_served.timestamp() * 1_000_000)


def _translated(error: Exception, name: str, operation: str) -> Exception:
    code = error_code(error)
    if code == "ResourceNotFoundException":
        return UsageError("DynamoDB has no such table in this Region", table=name)
    if code == "AccessDeniedException":
        action = "".join(part.capitalize() for part in operation.split("_"))
        return ConfigError(f"dynamodb:{action} is not allowed", table=name, hint="grant it to the role that is used")
    if code in _THROTTLED or isinstance(error, BotoCoreError):
        return TransientError(f"{operation}: {code or type(error).__name__}", table=name, hint="try again")
    return TerminalError(f"{operation}: {code}", table=name)
