"""A table of DynamoDB as a scan meets it: pages, segments, lagging reads, and writes between pages. It has its own clock.

It answers `scan` and `describe_table` as boto3's client does, and keeps every write, so that a test knows the table's state at each
instant and the change records of its stream.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from threading import RLock
from typing import Any

from ddb_lake_tests.support.landed_files import Image, change

TABLE = "orders"
ARN = f"arn:aws:dynamodb:eu-west-1:111122223333:table/{TABLE}"
TABLE_ID = "11991185-e7ab-4da5-8bab-03f0db0b7bfd"
SECOND_US = 1_000_000


@dataclass(frozen=True)
class Write:
    """A put or a delete (`item` is None) of one key."""

    at_us: int
    key: str
    item: Image | None


@dataclass
class ScannedTable:
    """The table. `before_page`: called before each page is read; it may write. `lag_us`: of eventually consistent reads."""

    now_us: int
    before_page: Callable[[], None] = lambda: None
    lag_us: Callable[[], int] = lambda: 0
    writes: list[Write] = field(default_factory=list)
    pages: int = 0
    strong_pages: int = 0
    fail_at_page: int | None = None
    _lock: RLock = field(default_factory=RLock)

    # --- the application

    def write(self, key: str, value: int | None, after_us: int = 1) -> None:
        """Put an item with the value, or delete the item, `after_us` later than the last event."""
        self.now_us += after_us
        item = None if value is None else self.item(key, value)
        self.writes.append(Write(self.now_us, key, item))

    @staticmethod
    def item(key: str, value: int) -> Image:
        return {"customer": {"S": key}, "order_id": {"N": "1"}, "value": {"N": str(value)}}

    def state(self, at_us: int | None = None) -> dict[str, Image]:
        """The items at an instant (inclusive); by default now."""
        found: dict[str, Image | None] = {}
        for write in self.writes:
            if at_us is None or write.at_us <= at_us:
                found[write.key] = write.item
        return {key: item for key, item in found.items() if item is not None}

    def records(self, from_us: int = 0) -> list[Image]:
        """The change records of the writes since an instant (inclusive). A delete of an absent item has none."""
        found, before = [], dict[str, Image | None]()
        for number, write in enumerate(self.writes):
            old = before.get(write.key)
            if write.at_us >= from_us and (write.item or old) and write.item != old:
                found.append(change(number, write.at_us, write.item, old))
            before[write.key] = write.item
        return found

    # --- boto3's client

    def describe_table(self, TableName: str) -> dict[str, Any]:
        assert TableName == TABLE
        return {"Table": {"TableName": TABLE}, **self._metadata()}

    def scan(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self.before_page()
            if self.pages == self.fail_at_page:
                self.fail_at_page = None
                raise ConnectionError("the network is gone")
            self.pages += 1
            self.strong_pages += request["ConsistentRead"]
            at_us = self.now_us if request["ConsistentRead"] else self.now_us - self.lag_us()
            segments = request.get("TotalSegments", 1)
            items = sorted(
                (hashed(key), item)
                for key, item in self.state(at_us).items()
                if hashed(key) % segments == request.get("Segment", 0)
            )
            after = request.get("ExclusiveStartKey")
            if after:
                items = [one for one in items if one[0] > hashed(after["customer"]["S"])]
            page = items[: request.get("Limit", 1000)]
            self.now_us += SECOND_US
            answer = {
                "Items": [item for _, item in page],
                "ConsumedCapacity": {"CapacityUnits": 0.5 * max(1, len(page))},
            }
            if len(page) < len(items):
                answer["LastEvaluatedKey"] = {name: page[-1][1][name] for name in ("customer", "order_id")}
            return {**answer, **self._metadata()}

    def _metadata(self) -> dict[str, Any]:
        served = datetime.fromtimestamp(self.now_us // SECOND_US, UTC)
        return {"ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(served, usegmt=True)}}}


def hashed(key: str) -> int:
    """The place of a key in the order of a scan."""
    return zlib.crc32(key.encode())
