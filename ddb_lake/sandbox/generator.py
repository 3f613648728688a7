"""The data generator: a stated number of changes of one shape, at a stated rate.

A shape writes to a DynamoDB table, or to a Kinesis stream. Each change is a real one: it makes exactly one change record.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from botocore.exceptions import ClientError

from ddb_lake.errors import UsageError
from ddb_lake.sandbox import employees, web_analytics
from ddb_lake.sandbox.employees import EmployeeTraffic
from ddb_lake.sandbox.traffic import Traffic
from ddb_lake.sandbox.web_analytics import WebTraffic

Kind: TypeAlias = Literal["insert", "update", "delete", "put"]
Clients: TypeAlias = Callable[[str], Any]
"""Returns the client of a service."""

_WEIGHTS: Final[Mapping[Kind, int]] = {"insert": 6, "update": 3, "delete": 1}
_FIRST_MS: Final = 1_700_000_000_000


class Source(Protocol):
    """Makes one change at a time."""

    def change(self, kind: Kind) -> bool:
        """Make a change of a kind; False if there is no item for it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of data: what it writes to by default, and the key that the table needs. `key` is empty for a Kinesis stream."""

    about: str
    target: str
    key: tuple[str, ...]
    open: Callable[[Clients, str, int], Source]


@dataclass(frozen=True, slots=True)
class Generated:
    """What was generated: the number of changes by kind."""

    shape: str
    target: str
    seed: int
    changes: Mapping[str, int]

    @property
    def total(self) -> int:
        """The number of all changes."""
        return sum(self.changes.values())


def generate(
    shape: str,
    clients: Clients,
    target: str,
    count: int,
    *,
    seed: int = 0,
    rate: float | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Generated:
    """Make `count` changes of a shape, at most `rate` a second (None: as fast as possible).

    The same seed makes the same changes; only the orders' times are those of the run.

    Raises:
        UsageError: the table or the stream does not exist, or the table has another key.
    """
    found = SHAPES[shape]
    _check_target(found, clients, target)
    source = found.open(clients, target, seed)
    pick = random.Random(f"kinds {seed}")
    done: Counter[str] = Counter()
    started = time.monotonic()
    for number in range(count):
        if rate is not None:
            time.sleep(max(0.0, started + number / rate - time.monotonic()))
        kind: Kind = pick.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0] if found.key else "put"
        if not source.change(kind):
            kind = "insert"
            source.change(kind)
        done[f"{kind}s"] += 1
        progress("changes", number + 1, count)
    return Generated(shape, target, seed, dict(sorted(done.items())))


def _check_target(shape: Shape, clients: Clients, target: str) -> None:
    what = f"table {target}" if shape.key else f"Kinesis stream {target}"
    try:
        if not shape.key:
            clients("kinesis").describe_stream_summary(StreamName=target)
            return
        schema = clients("dynamodb").describe_table(TableName=target)["Table"]["KeySchema"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        raise UsageError(f"the sandbox has no {what}", hint=_creation(shape, target)) from None
    names = tuple(part["AttributeName"] for part in sorted(schema, key=lambda part: str(part["KeyType"])))
    if names != shape.key:
        raise UsageError(
            f"{what} has another key",
            expected=", ".join(shape.key),
            found=", ".join(names),
            hint="choose another --shape, or create another table",
        )


def _creation(shape: Shape, target: str) -> str:
    if not shape.key:
        return f"create it with `aws kinesis create-stream --stream-name {target} --shard-count 1`"
    kinds = zip(shape.key, ("HASH", "RANGE"), strict=False)
    schema = " ".join(f"AttributeName={name},KeyType={kind}" for name, kind in kinds)
    attributes = " ".join(f"AttributeName={name},AttributeType=S" for name in shape.key)
    return (
        f"create it with `aws dynamodb create-table --table-name {target} --key-schema {schema} "
        f"--attribute-definitions {attributes} --billing-mode PAY_PER_REQUEST`"
    )


class _Employees:
    def __init__(self, clients: Clients, target: str, seed: int) -> None:
        self._traffic = EmployeeTraffic(clients("dynamodb"), target, seed=seed)

    def change(self, kind: Kind) -> bool:
        if kind == "insert":
            self._traffic.insert()
            return True
        return self._traffic.update() if kind == "update" else self._traffic.delete()


class _Orders:
    def __init__(self, clients: Clients, target: str, seed: int) -> None:
        self._traffic = Traffic(clients("dynamodb"), target, seed=seed)

    def change(self, kind: Kind) -> bool:
        return bool(getattr(self._traffic, kind)(1))


class _Pages:
    def __init__(self, clients: Clients, target: str, seed: int) -> None:
        self._traffic = WebTraffic(clients("dynamodb"), target, seed=seed)
        self._live = 0

    def change(self, kind: Kind) -> bool:
        if kind == "insert":
            self._traffic.view(1)
            self._live += 1
            return True
        if self._live == 0:
            return False
        if kind == "update":
            self._traffic.view_again(1)
        else:
            self._traffic.forget(1)
            self._live -= 1
        return True


class _Clicks:
    """Web events of an AWS example that replicates a Kinesis stream: who saw which page, when, from where."""

    def __init__(self, clients: Clients, target: str, seed: int) -> None:
        self._kinesis = clients("kinesis")
        self._stream = target
        self._random = random.Random(seed)
        self._serial = 0

    def change(self, kind: Kind) -> bool:  # noqa: ARG002  # a stream has puts only
        pick = self._random
        self._serial += 1
        user = f"user{pick.randrange(40):02d}@example.com"
        event = {
            "event": pick.choice(("page view", "click", "donation")),
            "session_id": str(uuid.UUID(int=pick.getrandbits(128), version=4)),
            "user_email": user,
            "page": f"/fundraising/{pick.randrange(500)}",
            "amount": pick.choice((None, 5, 10.5)),
            "referrer": pick.choice(("", "https://example.com/?q=søk")),
            "nano_timestamp": (_FIRST_MS + self._serial * 137) * 1_000_000,
        }
        data = json.dumps(event, ensure_ascii=False).encode()
        self._kinesis.put_record(StreamName=self._stream, Data=data, PartitionKey=user)
        return True


SHAPES: Final[Mapping[str, Shape]] = {
    "employees": Shape("employees with a nested address", employees.TABLE, ("id",), _Employees),
    "orders": Shape(
        "orders with maps, sets, lists, binary and a Time to Live", "orders", ("customer", "order_id"), _Orders
    ),
    "web-analytics": Shape(
        "page views with a JSON document in a string", web_analytics.TABLE, ("page_id", "activity_dt"), _Pages
    ),
    "clicks": Shape("JSON events of a web site, into a Kinesis stream", "web-analytics", (), _Clicks),
}
"""The shapes by name."""
