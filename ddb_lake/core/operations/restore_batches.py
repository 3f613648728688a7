"""Restoring items into a DynamoDB table: batches that DynamoDB accepts, and the progress from which a restart continues. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from ddb_lake.core.values.change_record import Item

BATCH_ITEMS = 25
BATCH_BYTES = 12 * 1024 * 1024
"""DynamoDB accepts 25 items and 16 MB per batch. Base64 and escapes make a request larger than its items.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
"""


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """How far a restore is. Items are written in the order of `_key_hash`.

    `fingerprint`: of the items that are restored; if it differs, the restore begins again. `after_hash`: all items with a hash
    up to it (inclusive) are written. `written`: the number of items that are certainly written.
    """

    table: str
    target: str
    as_of_us: int
    fingerprint: str
    after_hash: int = -1
    written: int = 0
    done: bool = False

    def dump(self) -> bytes:
        """The JSON document that is stored."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> RestoreProgress:
        """The inverse of `dump`."""
        return cls(**json.loads(data))

    def restores_same(self, other: RestoreProgress) -> bool:
        """Whether both restore the same items into the same table."""
        return (self.table, self.target, self.as_of_us, self.fingerprint) == (
            other.table,
            other.target,
            other.as_of_us,
            other.fingerprint,
        )


def batches(items: Iterable[tuple[int, Item, int]]) -> Iterator[list[tuple[int, Item, int]]]:
    """Entries (key hash, item, size in bytes) in batches of at most 25 items and 12 MB, in order."""
    batch: list[tuple[int, Item, int]] = []
    size = 0
    for entry in items:
        if batch and (len(batch) == BATCH_ITEMS or size + entry[2] > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry[2]
    if batch:
        yield batch
