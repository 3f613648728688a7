"""A realistic table of orders, and the traffic that changes it. Through DynamoDB's API only.

The items have the values that are difficult to project: a nested address, sets, a list of maps, money, binary, a Time
to Live, optional attributes. The same seed sends the same requests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from ddb_lake.sandbox.items import AttributeValue, Item

OrderKey: TypeAlias = tuple[str, str]
"""Customer and order id."""

TTL_ATTRIBUTE = "expires_at"
_BATCH = 25
_CUSTOMERS = 40
_STATUSES = ("placed", "paid", "packed", "shipped", "delivered", "returned")
_CITIES = (("Dublin", 53.349805, -6.26031), ("Milano", 45.464203, 9.189982), ("Zürich", 47.376887, 8.541694))
_PRODUCTS = ("kettle", "teapot", "cup", "saucer", "spoon", "tray", "sieve", "caddy")
_TAGS = ("gift", "fragile", "express", "loyalty", "second-hand")


def create_orders_table(client: Any, name: str = "orders", *, streams: bool = False) -> str:
    """Create the table, with point-in-time recovery and Time to Live. Returns its ARN."""
    attributes = ("customer", "order_id")
    options: dict[str, Any] = {}
    if streams:
        options["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    created = client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": attribute, "AttributeType": "S"} for attribute in attributes],
        KeySchema=[
            {"AttributeName": attribute, "KeyType": kind}
            for attribute, kind in zip(attributes, ("HASH", "RANGE"), strict=True)
        ],
        BillingMode="PAY_PER_REQUEST",
        **options,
    )
    client.get_waiter("table_exists").wait(TableName=name)
    recovery = {"PointInTimeRecoveryEnabled": True}
    client.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
    ttl = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=ttl)
    return str(created["TableDescription"]["TableArn"])


class Traffic:
    """Inserts, updates and deletes orders. `now` returns the time written into them."""

    def __init__(
        self,
        client: Any,
        table: str = "orders",
        *,
        seed: int = 0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._table = table
        self._random = random.Random(seed)
        self._now = now
        self._serial = 0
        self._live: dict[OrderKey, None] = {}

    @property
    def living(self) -> list[OrderKey]:
        """The orders inserted and not deleted by this traffic. Time to Live may have deleted some of them."""
        return list(self._live)

    def insert(self, count: int = 1) -> list[OrderKey]:
        """Insert new orders in batches."""
        keys = [self._new_key() for _ in range(count)]
        for start in range(0, count, _BATCH):
            batch = keys[start : start + _BATCH]
            puts = [{"PutRequest": {"Item": self._order(key)}} for key in batch]
            self._client.batch_write_item(RequestItems={self._table: puts})
            self._live |= dict.fromkeys(batch)
        return keys

    def update(self, count: int = 1) -> list[OrderKey]:
        """Update orders: a new status and total, the note set or removed, a tag added."""
        keys = self._some(count)
        for key in keys:
            self._update(key, self._random.choice(_STATUSES))
        return keys

    def delete(self, count: int = 1) -> list[OrderKey]:
        """Delete orders."""
        keys = self._some(count)
        for key in keys:
            self._client.delete_item(TableName=self._table, Key=_key_item(key))
            del self._live[key]
        return keys

    def recreate(self, count: int = 1) -> list[OrderKey]:
        """Delete orders and insert others with the same keys."""
        keys = self._some(count)
        for key in keys:
            self._client.delete_item(TableName=self._table, Key=_key_item(key))
            self._client.put_item(TableName=self._table, Item=self._order(key))
        return keys

    def burst(self, changes: int = 5, held: Callable[[], AbstractContextManager[None]] = nullcontext) -> OrderKey:
        """Change one order many times in succession; with `held` of a sandbox's clock, within a millisecond."""
        (key,) = self._some(1) or self.insert(1)
        with held():
            for number in range(changes):
                self._update(key, f"{_STATUSES[number % len(_STATUSES)]} #{number}")
        return key

    def rewrite(self, count: int = 1) -> list[OrderKey]:
        """Put unchanged orders again. DynamoDB writes no stream record for such a write."""
        keys = self._some(count)
        for key in keys:
            item = self._client.get_item(TableName=self._table, Key=_key_item(key), ConsistentRead=True).get("Item")
            if item is not None:
                self._client.put_item(TableName=self._table, Item=item)
        return keys

    def move(self, count: int = 1) -> list[OrderKey]:
        """Move orders to another customer, each in one transaction. Returns the new keys."""
        moved = []
        for key in self._some(count):
            found = self._client.get_item(TableName=self._table, Key=_key_item(key), ConsistentRead=True).get("Item")
            target = (self._customer(), key[1])
            if found is None or target == key:
                continue
            delete = {"Delete": {"TableName": self._table, "Key": _key_item(key)}}
            put = {"Put": {"TableName": self._table, "Item": found | _key_item(target)}}
            self._client.transact_write_items(TransactItems=[delete, put])
            del self._live[key]
            self._live[target] = None
            moved.append(target)
        return moved

    def run(self, steps: int) -> None:
        """A mixture of all operations, mostly inserts and updates."""
        for _ in range(steps):
            action = self._random.choices(
                (self.insert, self.update, self.delete, self.recreate, self.rewrite, self.move), (5, 9, 2, 1, 1, 1)
            )[0]
            action(self._random.randint(1, 3))

    def _customer(self) -> str:
        return f"c-{self._random.randrange(_CUSTOMERS):04d}"

    def _new_key(self) -> OrderKey:
        self._serial += 1
        return self._customer(), f"o-{self._serial:08d}"

    def _some(self, count: int) -> list[OrderKey]:
        return self._random.sample(self.living, min(count, len(self._live)))

    def _update(self, key: OrderKey, status: str) -> None:
        noted = self._random.random() < 0.5
        values = {":status": {"S": status}, ":total": self._money(), ":tag": {"SS": [self._random.choice(_TAGS)]}}
        if noted:
            values[":note"] = {"S": f"called about {self._random.choice(_PRODUCTS)}, “urgent”"}
        note = ", note = :note" if noted else " REMOVE note"
        self._client.update_item(
            TableName=self._table,
            Key=_key_item(key),
            UpdateExpression=f"SET #status = :status, #total = :total{note} ADD tags :tag",
            ExpressionAttributeNames={"#status": "status", "#total": "total"},
            ExpressionAttributeValues=values,
        )

    def _order(self, key: OrderKey) -> Item:
        order = _key_item(key) | {
            "status": {"S": "placed"},
            "placed_at": {"S": self._now().astimezone(UTC).isoformat(timespec="milliseconds")},
            "total": self._money(),
            "address": self._address(),
            "lines": {"L": [self._line() for _ in range(self._random.randint(1, 4))]},
            "gift": {"BOOL": self._random.random() < 0.2},
            "tags": {"SS": self._random.sample(_TAGS, self._random.randint(1, 3))},
        }
        return order | dict(self._optional())

    def _optional(self) -> Iterator[tuple[str, AttributeValue]]:
        """The attributes that only some orders have."""
        chance = self._random.random
        if chance() < 0.3:
            yield "note", self._random.choice(({"S": "leave at the door"}, {"S": ""}, {"NULL": True}))
        if chance() < 0.2:
            yield "thumbnail", {"B": self._random.randbytes(self._random.randint(0, 48))}
        if chance() < 0.25:
            # With a fraction each, so the column keeps the type that the checked-in dbt models have.
            yield "coupons", {"NS": [f"{number}.5" for number in self._random.sample(range(10_000), 2)]}
        if chance() < 0.1:
            yield "seals", {"BS": [self._random.randbytes(4), self._random.randbytes(5)]}
        if chance() < 0.3:
            expires = self._now() + timedelta(minutes=self._random.randint(1, 600))
            yield TTL_ATTRIBUTE, {"N": str(int(expires.timestamp()))}

    def _address(self) -> AttributeValue:
        city, latitude, longitude = self._random.choice(_CITIES)
        geo = {"lat": {"N": str(latitude)}, "lon": {"N": str(longitude)}}
        street = {"S": f"{self._random.randint(1, 200)} {self._random.choice(('High Street', 'Via Roma'))}"}
        address: Item = {"street": street, "city": {"S": city}, "geo": {"M": geo}}
        if self._random.random() < 0.5:
            address["zip"] = {"S": f"{self._random.randrange(100_000):05d}"}
        return {"M": address}

    def _line(self) -> AttributeValue:
        line: Item = {
            "sku": {"S": self._random.choice(_PRODUCTS)},
            "quantity": {"N": str(self._random.randint(1, 9))},
            "price": self._money(),
        }
        return {"M": line}

    def _money(self) -> AttributeValue:
        return {"N": f"{self._random.randint(1, 99_999) / 100:.2f}"}


def _key_item(key: OrderKey) -> Item:
    return {"customer": {"S": key[0]}, "order_id": {"S": key[1]}}
