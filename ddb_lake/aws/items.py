"""Items of DynamoDB tables read and written through the API: what verifying, repairing and restoring do.

Reads are strongly consistent and give DynamoDB JSON. Every call takes a `Pace` in capacity units; what DynamoDB does
not process is asked again, ever more slowly.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.core.operations.rate_limit import Pace
from ddb_lake.core.values.attributes import from_boto, key_text
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.conversions import to_boto
from ddb_lake.errors import ConfigError, TerminalError, TransientError, UsageError

BATCH_GET = 100
MAX_TRIES = 12
LONGEST_WAIT_S = 20.0
CLOCK_SLACK_US = 2_000_000
"""The service says the time to the second, and the clocks of its hosts differ a little."""

_THROTTLED = ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded")


@dataclass(slots=True)
class Consumed:
    """Capacity units that calls took, and between which instants of the service's clock they were made."""

    units: float = 0.0
    requests: int = 0
    from_us: int | None = None
    to_us: int | None = None

    def add(self, units: float, served_us: int) -> None:
        """One answered request."""
        self.units += units
        self.requests += 1
        self.from_us = served_us if self.from_us is None else min(self.from_us, served_us)
        self.to_us = served_us if self.to_us is None else max(self.to_us, served_us)


@dataclass(slots=True)
class TableItems:
    """The items of one table. `client`: of DynamoDB. `pace`: of capacity units."""

    client: Any
    name: str
    pace: Pace
    consumed: Consumed = field(default_factory=Consumed)
    sleep: Callable[[float], None] = time.sleep

    def served_us(self) -> int:
        """The service's clock now, less what it may be off: writes before this instant are visible to later reads."""
        answer = self._call("describe_table", 0, TableName=self.name)
        return _served_us(answer) - CLOCK_SLACK_US

    def get(self, keys: Sequence[Item]) -> Iterator[tuple[Item, Item | None]]:
        """Each key with its item, or None where there is none, in batches. Keys are distinct."""
        for first in range(0, len(keys), BATCH_GET):
            asked = keys[first : first + BATCH_GET]
            names = sorted(asked[0])  # numbers may come back in another spelling than they were asked in
            found = {key_text(item, names): item for item in self._get_batch(asked)}
            for key in asked:
                yield key, found.get(key_text(key, names))

    def scan(self, segment: int = 0, segments: int = 1, limit: int | None = None) -> Iterator[list[Item]]:
        """Pages of a segment of a strongly consistent scan. `limit`: items in the first page, which is the last then."""
        start: dict[str, Any] = {}
        while True:
            options = start | ({"Limit": limit} if limit else {})
            if segments > 1:
                options |= {"Segment": segment, "TotalSegments": segments}
            page = self._call("scan", 1, TableName=self.name, ConsistentRead=True, **options)
            yield [_item(found) for found in page.get("Items", ())]
            last = page.get("LastEvaluatedKey")
            if not last or limit:
                return
            start = {"ExclusiveStartKey": last}

    def put(self, items: Sequence[Item]) -> None:
        """Put a batch of at most 25 distinct items. Idempotent."""
        waiting = [{"PutRequest": {"Item": {name: to_boto(value) for name, value in item.items()}}} for item in items]
        for tries in range(MAX_TRIES):
            answer = self._call("batch_write_item", len(waiting), RequestItems={self.name: waiting})
            left = answer.get("UnprocessedItems", {}).get(self.name, [])
            if not left:
                return
            waiting = left
            self.sleep(_pause(tries))
        raise TransientError(f"{self.name}: DynamoDB left {len(waiting)} items unwritten for long; run again to go on")

    def is_empty(self) -> bool:
        """Whether there is no item."""
        page: list[Item] = next(self.scan(limit=1))
        return not page

    def _get_batch(self, keys: Sequence[Item]) -> Iterator[Item]:
        waiting = [{name: to_boto(value) for name, value in key.items()} for key in keys]
        for tries in range(MAX_TRIES):
            request = {self.name: {"Keys": waiting, "ConsistentRead": True}}
            answer = self._call("batch_get_item", len(waiting), RequestItems=request)
            yield from (_item(found) for found in answer.get("Responses", {}).get(self.name, ()))
            waiting = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            if not waiting:
                return
            self.sleep(_pause(tries))
        raise TransientError(f"{self.name}: DynamoDB left {len(waiting)} keys unread for long; run again")

    def _call(self, operation: str, least_units: float, **arguments: Any) -> dict[str, Any]:
        """One request at the pace, tried again while DynamoDB throttles it."""
        if operation != "describe_table":
            arguments["ReturnConsumedCapacity"] = "TOTAL"
        for tries in range(MAX_TRIES):
            wait_s = self.pace.wait_s(time.monotonic())
            if wait_s:
                self.sleep(wait_s)
            try:
                answer: dict[str, Any] = getattr(self.client, operation)(**arguments)
            except (ClientError, BotoCoreError) as error:
                if _code(error) in _THROTTLED and tries < MAX_TRIES - 1:
                    self.sleep(_pause(tries))
                    continue
                raise _explained(error, self.name, operation) from error
            units = _units(answer) or least_units
            self.pace.spent(units, time.monotonic())
            self.consumed.add(units, _served_us(answer))
            return answer
        raise AssertionError("unreachable")


def make_table(client: Any, name: str, key: Sequence[tuple[str, str]], sleep: Callable[[float], None]) -> None:
    """Create an on-demand table with a key of (attribute, S | N | B), and wait until it is active."""
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
        for _ in range(300):
            if client.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE":
                return
            sleep(1.0)
    except (ClientError, BotoCoreError) as error:
        raise _explained(error, name, "create_table") from error
    raise TransientError(f"{name}: not active five minutes after it was created; run again to go on")


def _item(found: dict[str, Any]) -> Item:
    return {name: from_boto(value) for name, value in found.items()}


def _units(answer: dict[str, Any]) -> float:
    consumed = answer.get("ConsumedCapacity") or []
    entries = consumed if isinstance(consumed, list) else [consumed]
    return math.fsum(entry.get("CapacityUnits", 0) for entry in entries)


def _served_us(answer: dict[str, Any]) -> int:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    moment = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return int(moment.timestamp() * 1_000_000)


def _pause(tries: int) -> float:
    return random.uniform(0.5, 1.0) * min(LONGEST_WAIT_S, 0.05 * 2.0**tries)


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _explained(error: Exception, name: str, operation: str) -> Exception:
    code = _code(error)
    if code == "ResourceNotFoundException":
        return UsageError(f"table {name}: DynamoDB has no such table in this Region")
    if code == "AccessDeniedException":
        action = "".join(part.capitalize() for part in operation.split("_"))
        return ConfigError(f"table {name}: dynamodb:{action} is not allowed; grant it to the role that is used")
    if code in _THROTTLED or isinstance(error, BotoCoreError):
        return TransientError(f"table {name}: {operation}: {code or type(error).__name__}; try again")
    return TerminalError(f"table {name}: {operation}: {code}")
