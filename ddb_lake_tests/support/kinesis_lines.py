"""Change records as Kinesis delivers them, one a line."""

from __future__ import annotations

from typing import Any


def record(number: int, table: str = "orders") -> dict[str, Any]:
    image = {"id": {"S": str(number)}, "n": {"N": str(number % 25)}}
    body = {"ApproximateCreationDateTime": 1_700_000_000_000 + number, "Keys": {"id": image["id"]}, "NewImage": image}
    return {"eventID": str(number), "eventName": "INSERT", "tableName": table, "dynamodb": body}
