"""A table of employees with a nested address, and the traffic that changes it.

The items have the form of an AWS example that streams DynamoDB into a data lake: a string key `id`, a name, a designation. The same
seed sends the same requests.
"""

from __future__ import annotations

import random
from typing import Any

from ddb_lake.sandbox.items import Item

TABLE = "employees"
_NAMES = ("Adam", "Chris", "Praveen", "Abhishek", "Ashok", "Zoë", "Søren", 'Ann "Nan" O’Neil')
_DESIGNATIONS = ("Developer", "Consultant", "Architect")
_RANKS = ("", "Senior ", "Principal ")
_CITIES = (("Dublin", "IE"), ("Milano", "IT"), ("Zürich", "CH"), ("東京", "JP"))


class EmployeeTraffic:
    """Inserts, updates and deletes employees."""

    def __init__(self, client: Any, table: str = TABLE, *, seed: int = 0) -> None:
        self._client = client
        self._table = table
        self._random = random.Random(seed)
        self._serial = 0
        self._live: dict[str, Item] = {}

    def insert(self) -> None:
        """Put a new employee."""
        self._serial += 1
        key = f"{100_000 + self._serial}"
        city, country = self._random.choice(_CITIES)
        address: Item = {
            "city": {"S": city},
            "country": {"S": country},
            "geo": {"M": {"floor": {"N": str(self._random.randint(-2, 40))}}},
        }
        self._put(
            {
                "id": {"S": key},
                "name": {"S": self._random.choice(_NAMES)},
                "Designation": {"S": self._random.choice(_DESIGNATIONS)},
                "address": {"M": address},
                "salary": {"N": f"{self._random.randint(3_000_000, 9_999_999) / 100:.2f}"},
                "skills": {"SS": self._random.sample(("aws", "cdk", "python", "sql"), self._random.randint(1, 3))},
                "reviews": {"N": "0"},
            }
        )

    def update(self) -> bool:
        """Put an employee again, with one review more and perhaps another designation. False if there is none."""
        if not self._live:
            return False
        item = dict(self._live[self._random.choice(list(self._live))])
        item["Designation"] = {"S": self._random.choice(_RANKS) + self._random.choice(_DESIGNATIONS)}
        item["reviews"] = {"N": str(int(item["reviews"]["N"]) + 1)}
        self._put(item)
        return True

    def delete(self) -> bool:
        """Delete an employee. False if there is none."""
        if not self._live:
            return False
        key = self._random.choice(list(self._live))
        self._client.delete_item(TableName=self._table, Key={"id": {"S": key}})
        del self._live[key]
        return True

    def _put(self, item: Item) -> None:
        self._client.put_item(TableName=self._table, Item=item)
        self._live[item["id"]["S"]] = item
