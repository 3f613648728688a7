"""A table of page views whose details are a JSON document in a string, and the traffic that fills it.

The items have the form of an AWS example that streams DynamoDB to Aurora. The same seed sends the same requests.
"""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

from ddb_lake.sandbox.items import Item

TABLE = "web_analytics"
_MAKES = ("Acme", "Globex", "Initech", "Umbrella", "Søren & Sønner", 'Quote "&" Comma, Ltd')
_COUNTRIES = ("IE", "IT", "CH", "JP", "BR", "US")
_FIRST_S = 1_700_000_000


def create_web_analytics_table(client: Any, name: str = TABLE) -> str:
    """Create the table, with a stream of new images and point-in-time recovery. Returns the stream's ARN."""
    created = client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("page_id", "activity_dt")],
        KeySchema=[
            {"AttributeName": "page_id", "KeyType": "HASH"},
            {"AttributeName": "activity_dt", "KeyType": "RANGE"},
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    client.get_waiter("table_exists").wait(TableName=name)
    recovery = {"PointInTimeRecoveryEnabled": True}
    client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    return str(created["TableDescription"]["LatestStreamArn"])


class WebTraffic:
    """Inserts, updates and deletes page views."""

    def __init__(self, client: Any, table: str = TABLE, *, seed: int = 0) -> None:
        self._client = client
        self._table = table
        self._random = random.Random(seed)
        self._serial = 0
        self._live: list[Item] = []

    def view(self, count: int = 1) -> None:
        """Put new items."""
        for _ in range(count):
            self._serial += 1
            page_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            minutes, seconds = divmod(self._serial, 60)
            moment = f"2026-03-01 {minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
            key: Item = {"page_id": {"S": page_id}, "activity_dt": {"S": moment}}
            self._put(key)
            self._live.append(key)

    def view_again(self, count: int = 1) -> None:
        """Put existing items again with other details."""
        for key in self._random.choices(self._live, k=count) if self._live else ():
            self._put(key)

    def forget(self, count: int = 1) -> None:
        """Delete items."""
        for _ in range(min(count, len(self._live))):
            key = self._live.pop(self._random.randrange(len(self._live)))
            self._client.delete_item(TableName=self._table, Key=key)

    def payload(self) -> dict[str, Any]:
        """The details of a view, as in the attribute `payload`."""
        pick = self._random
        start_ms = (_FIRST_S + pick.randrange(10_000_000)) * 1000
        return {
            "Hits": pick.randint(1, 10),
            "device": {
                "make": pick.choice(_MAKES),
                "platform": {"name": "Android", "version": pick.choice(("10.1.1", "4.0.3"))},
                "location": {
                    "latitude": f"{pick.uniform(-90, 90):.6f}",
                    "longitude": f"{pick.uniform(-180, 180):.6f}",
                    "country": pick.choice(_COUNTRIES),
                },
            },
            "session": {
                "session_id": str(uuid.UUID(int=pick.getrandbits(128), version=4)),
                "start_timestamp": str(start_ms),
                "stop_timestamp": str(start_ms + pick.randrange(3_600_000)),
            },
        }

    def _put(self, key: Item) -> None:
        item = {**key, "payload": {"S": json.dumps(self.payload(), ensure_ascii=False)}}
        self._client.put_item(TableName=self._table, Item=item)
