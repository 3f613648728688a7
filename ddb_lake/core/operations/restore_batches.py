"""Restoring items into a DynamoDB table: batches that DynamoDB takes, and the mark by which a restart goes on. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from ddb_lake.core.values.change_record import Item

BATCH_ITEMS = 25
BATCH_BYTES = 12 * 1024 * 1024
"""DynamoDB takes 25 items and 16 MB a batch; base64 and escapes make a request larger than its items."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a restore is. Items are written in the order of `_key_hash`.

    `fingerprint`: of what is restored; with another one it begins again. `written`:
    items that are certainly there; all of a hash up to `after_hash` (inclusive) are.
    """

    table: str
    target: str
    as_of_us: int
    fingerprint: str
    after_hash: int = -1
    written: int = 0
    done: bool = False

    def dump(self) -> bytes:
        """As it is stored."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> Mark:
        """The inverse of `dump`."""
        return cls(**json.loads(data))

    def is_of(self, other: Mark) -> bool:
        """Whether both restore the same items into the same table."""
        return (self.table, self.target, self.as_of_us, self.fingerprint) == (
            other.table,
            other.target,
            other.as_of_us,
            other.fingerprint,
        )


def batches(items: Iterable[tuple[int, Item, int]]) -> Iterator[list[tuple[int, Item, int]]]:
    """(key hash, item, size in bytes) in batches of at most 25 items and 12 MB, in order."""
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
