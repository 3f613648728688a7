"""Reading and writing items through the API: requests that DynamoDB leaves unprocessed are repeated within the rate limit."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from ddb_lake.aws.items import BATCH_GET, TableItems
from ddb_lake.core.operations.rate_limit import RateLimit
from ddb_lake.core.operations.retry_policy import DYNAMODB
from ddb_lake.errors import ConfigError, TransientError, UsageError


class Service:
    """A DynamoDB table that does at most `each` of what a batch asks, and throttles every other request."""

    def __init__(self, each: int = 7, throttles: bool = True) -> None:
        self.each, self.throttles = each, throttles
        self.items: dict[str, Any] = {}
        self.calls = 0

    def _asked(self) -> None:
        self.calls += 1
        if self.throttles and self.calls % 2:
            raise refusal("ThrottlingException")

    def batch_write_item(self, RequestItems: Any, ReturnConsumedCapacity: str) -> Any:
        self._asked()
        ((table, requests),) = RequestItems.items()
        for request in requests[: self.each]:
            item = request["PutRequest"]["Item"]
            self.items[item["id"]["S"]] = item
        left = requests[self.each :]
        used = [{"TableName": table, "CapacityUnits": float(min(self.each, len(requests)))}]
        return {"UnprocessedItems": {table: left} if left else {}, "ConsumedCapacity": used}

    def batch_get_item(self, RequestItems: Any, ReturnConsumedCapacity: str) -> Any:
        self._asked()
        ((table, wanted),) = RequestItems.items()
        assert wanted["ConsistentRead"] and len(wanted["Keys"]) <= BATCH_GET
        now, left = wanted["Keys"][: self.each], wanted["Keys"][self.each :]
        found = [self.items[key["id"]["S"]] for key in now if key["id"]["S"] in self.items]
        answer = {"Responses": {table: found}, "UnprocessedKeys": {table: {"Keys": left}} if left else {}}
        return answer | {"ConsumedCapacity": [{"CapacityUnits": float(len(now))}]}


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Operation")


def table_of(service: Any, rate: float | None = None) -> tuple[TableItems, list[float]]:
    slept: list[float] = []
    return TableItems(service, "orders", RateLimit(rate), sleep=slept.append), slept


def test_unprocessed_items_and_keys_are_requested_again_until_all_is_done() -> None:
    items, slept = table_of(Service())
    wanted = [{"id": {"S": f"k{n}"}, "b": {"M": {"x": {"B": "aGk="}}}, "s": {"BS": ["AA=="]}} for n in range(25)]
    items.put(wanted)
    found = {key["id"]["S"]: item for key, item in items.get([{"id": one["id"]} for one in wanted])}
    assert [found[f"k{n}"] for n in range(25)] == wanted
    assert list(items.get([{"id": {"S": "other"}}])) == [({"id": {"S": "other"}}, None)]
    assert slept and items.consumed.units == 51


def test_rate_makes_requests_wait() -> None:
    items, slept = table_of(Service(each=25, throttles=False), rate=10)
    for _ in range(3):
        items.put([{"id": {"S": f"k{n}"}} for n in range(25)])
    assert sum(slept) > 2.0


def test_batch_that_is_never_done_is_transient() -> None:
    service = Service(each=0, throttles=False)
    items, _ = table_of(service)
    with pytest.raises(TransientError, match="left 1 item unprocessed"):
        items.put([{"id": {"S": "k"}}])
    assert service.calls == DYNAMODB.attempts


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("ResourceNotFoundException", UsageError, "no such table"),
        ("AccessDeniedException", ConfigError, "dynamodb:BatchWriteItem is not allowed"),
        ("ThrottlingException", TransientError, "try again"),
    ],
)
def test_refusals_say_what_to_do(code: str, kind: type[Exception], said: str) -> None:
    class Refusing:
        def batch_write_item(self, **arguments: Any) -> Any:
            raise refusal(code)

    items, _ = table_of(Refusing())
    with pytest.raises(kind, match=said):
        items.put([{"id": {"S": "secret"}}])
