"""Change capture: the changes of each write request, from comparing the items before and after it.

Writes are taken one at a time. After each, the items it may have touched are read from moto and compared
with the history, which is complete because every write passes here: a write that changes nothing is no
change, an UpdateItem that makes its item is one INSERT, and a transaction that fails changes nothing.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from ddb_lake.sandbox import backend
from ddb_lake.sandbox.backend import Scope
from ddb_lake.sandbox.clock import Clock
from ddb_lake.sandbox.history import Change, TableHistory
from ddb_lake.sandbox.items import Item, Key, key_of

TableRef: TypeAlias = tuple[Scope, str]
Sink: TypeAlias = Callable[[TableRef, TableHistory, Change], None]

_WHOLE_TABLE = frozenset(
    {"ExecuteStatement", "ExecuteTransaction", "BatchExecuteStatement"}
    | {"RestoreTableToPointInTime", "RestoreTableFromBackup"}
)
_ALIVE_FOR_TTL_S = 5 * 365 * 24 * 3600


class Recorder:
    """Keeps the history of every table and passes each change to `sink` at once, in order.

    Hold `lock` while reading or changing a table or its history, so that they agree.
    """

    def __init__(self, clock: Clock, sink: Sink) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._sink = sink
        self._histories: dict[TableRef, TableHistory] = {}

    def forget(self) -> None:
        """Drop all histories."""
        with self.lock:
            self._histories.clear()

    def history(self, scope: Scope, table: Any) -> TableHistory:
        """The history of a moto table. It begins now, with the table's items, if there is none."""
        reference = (scope, str(table.name))
        if reference not in self._histories:
            begun = TableHistory(str(uuid.uuid4()), self._clock.now_us())
            for item in backend.read_items(table):
                begun.observe(key_of(item, list(table.table_key_attrs)), item, self._clock.now_us())
            self._histories[reference] = begun
        return self._histories[reference]

    def drop(self, scope: Scope, name: str) -> None:
        """End the history of a deleted table. A new table of the same name has its own."""
        self._histories.pop((scope, name), None)

    @contextmanager
    def observed(self, scope: Scope, operation: str, body: dict[str, Any]) -> Iterator[None]:
        """Capture what the request inside the block changes, even if it fails."""
        with self.lock:
            touched = _touched(operation, body)
            if operation in _WHOLE_TABLE:
                touched |= {table.name: [] for table in backend.tables(scope)}
            lengths = {name: self._before(scope, name) for name in touched}
            try:
                yield
            finally:
                for name, items in touched.items():
                    self._capture(scope, name, None if operation in _WHOLE_TABLE else items, lengths[name])

    def capture_all(self, scope: Scope, table: Any) -> TableHistory:
        """Capture changes that were made without a request (an import, code in this process). Returns the table's history."""
        self._capture(scope, table.name, None, backend.stream_length(table))
        return self.history(scope, table)

    def expire(self, scope: Scope, table: Any, now_s: int) -> int:
        """Delete the items that expired by `now_s`, as Time to Live does. Returns their number.

        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
        """
        attribute = backend.ttl_attribute(table)
        if attribute is None:
            return 0
        with self.lock:
            length = backend.stream_length(table)
            living = self.history(scope, table).living
            due = [key for key, item in living.items() if _expired(item, attribute, now_s)]
            changes = []
            for key in due:
                backend.delete_item(table, {name: {kind: text} for name, kind, text in key})
                changes += self._observe(scope, table, key, None, ttl=True)
            backend.rewrite_stream(table, length, changes)
            return len(changes)

    def _before(self, scope: Scope, name: str) -> int:
        """Ensure the table's history before a write. Returns the length of its stream."""
        table = backend.find_table(scope, name)
        if table is None:
            return 0
        self.history(scope, table)
        return backend.stream_length(table)

    def _capture(self, scope: Scope, name: str, requested: list[Item] | None, length: int) -> None:
        table = backend.find_table(scope, name)
        if table is None:
            return
        attributes = list(table.table_key_attrs)
        if requested is None:
            current = {key_of(item, attributes): item for item in backend.read_items(table)}
            gone = [key for key in self.history(scope, table).living if key not in current]
            after: dict[Key, Item | None] = dict.fromkeys(gone) | current
        else:
            keys = [item for item in requested if all(attribute in item for attribute in attributes)]
            after = {key_of(item, attributes): backend.read_item(table, item) for item in keys}
        changes = [change for key, item in after.items() for change in self._observe(scope, table, key, item)]
        backend.rewrite_stream(table, length, changes)

    def _observe(self, scope: Scope, table: Any, key: Key, item: Item | None, *, ttl: bool = False) -> list[Change]:
        history = self.history(scope, table)
        change = history.observe(key, item, self._clock.now_us(), ttl=ttl)
        if change is None:
            return []
        self._sink((scope, str(table.name)), history, change)
        return [change]


def _touched(operation: str, body: dict[str, Any]) -> dict[str, list[Item]]:
    """The tables that a request writes to, by name or ARN, each with its items or keys in the order of the request."""
    found: dict[str, list[Item]] = {}
    for name, item in _written(operation, body):
        found.setdefault(name.rpartition(":table/")[2], []).append(item)
    return found


def _written(operation: str, body: dict[str, Any]) -> Iterator[tuple[str, Item]]:
    if operation == "PutItem":
        yield body["TableName"], body.get("Item", {})
    elif operation in ("UpdateItem", "DeleteItem"):
        yield body["TableName"], body.get("Key", {})
    elif operation == "BatchWriteItem":
        for name, requests in body.get("RequestItems", {}).items():
            for request in requests:
                yield name, request.get("PutRequest", {}).get("Item") or request.get("DeleteRequest", {}).get("Key", {})
    elif operation == "TransactWriteItems":
        for action in body.get("TransactItems", []):
            for part in action.values():
                yield part["TableName"], part.get("Item") or part.get("Key", {})


def _expired(item: Item, attribute: str, now_s: int) -> bool:
    """Whether a number of epoch seconds has expired: it is past, but not by more than five years."""
    text = item.get(attribute, {}).get("N")
    return text is not None and now_s - _ALIVE_FOR_TTL_S <= float(text) <= now_s
