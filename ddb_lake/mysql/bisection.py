"""Load numbered records into staging and apply them to the target; halve a range that contains a rejected record.

So each record that the database rejects is found, and all others are applied, within the caller's transaction. The
callers, `replica_table` and `change_files`, put the rejected ones into `<table>_rejected`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ddb_lake.errors import DatabaseError
from ddb_lake.mysql import statements as sql
from ddb_lake.mysql.statements import Target

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Database

SAVEPOINT: Final = "ddb_lake"


@dataclass
class Bisection:
    """Records by their numbers (both ends of a range inclusive): call `stage`, then `apply`.

    Args:
        what: the name of the records in errors of `load`.
        load: loads a range of records into staging.
        put: applies a range of staged records to the target and returns a count; `applied` is the sum of the counts.
        one_by_one: apply each record with a statement of its own.
        rejected: the numbers of the rejected records, with the reason of each.
    """

    database: Database
    target: Target
    what: str
    load: Callable[[int, int], object]
    put: Callable[[int, int], int]
    one_by_one: bool = False
    rejected: dict[int, str] = field(default_factory=dict)
    applied: int = 0

    def stage(self, first: int, last: int) -> None:
        """Load a range of records into staging, without those that the database rejects."""
        if first > last:
            return
        try:
            self.load(first, last)
        except DatabaseError as error:
            if not error.is_row_error:
                raise
            self.database.execute(sql.unstage(self.target, first, last))
            if first == last:
                self.rejected.setdefault(first, _reason_of(error, self.what))
            else:
                middle = (first + last) // 2
                self.stage(first, middle)
                self.stage(middle + 1, last)

    def apply(self, first: int, last: int) -> None:
        """Apply a range of staged records to the target. The effect of `put` must not depend on their order."""
        if first > last:
            return
        if first == last or not self.one_by_one:
            self.database.execute(f"SAVEPOINT {SAVEPOINT}")
            try:
                self.applied += self.put(first, last)
                return
            except DatabaseError as error:
                if not error.is_row_error:
                    raise
                self.database.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
                if first == last:
                    self.rejected[first] = _reason_of(error, str(self.database.server))
                    return
        middle = (first + last) // 2
        self.apply(first, middle)
        self.apply(middle + 1, last)

    def retry_rejected(self) -> None:
        """Apply the rejected records again until none succeeds: the row that they conflicted with may have been removed."""
        before = None
        while self.rejected and len(self.rejected) != before:
            tried, self.rejected = self.rejected, {}
            before = len(tried)
            for record in sorted(tried):
                self.apply(record, record)


def _reason_of(error: DatabaseError, what: str) -> str:
    """Why one record was rejected, without its number, which the row of the rejected record has."""
    message = str(error).removeprefix(f"{what}: ").removesuffix("; nothing of it was applied")
    return re.sub(r"^record \d+(, |: )", "", message)
