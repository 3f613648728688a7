"""Numbered records into staging and from there into the target, in halves where the database refuses some of them.

Each record that the database rejects is found, and the others are applied. All of it happens within the caller's transaction.
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
    """Records by their numbers (inclusive), first `stage`, then `apply`.

    Args:
        what: what the records are, as errors of `load` name it.
        load: brings records into staging.
        put: brings staged records into the target; gives a count, of which `applied` is the sum.
        one_by_one: apply each record by itself.
        rejected: numbers of the rejected records, and why.
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
        """Records into staging; those that the database rejects are not there afterwards."""
        if first > last:
            return
        try:
            self.load(first, last)
        except DatabaseError as error:
            if not error.of_a_row:
                raise
            self.database.execute(sql.unstage(self.target, first, last))
            if first == last:
                self.rejected.setdefault(first, _reason(error, self.what))
            else:
                middle = (first + last) // 2
                self.stage(first, middle)
                self.stage(middle + 1, last)

    def apply(self, first: int, last: int) -> None:
        """Staged records into the target; what `put` does must not depend on their order."""
        if first > last:
            return
        if first == last or not self.one_by_one:
            self.database.execute(f"SAVEPOINT {SAVEPOINT}")
            try:
                self.applied += self.put(first, last)
                return
            except DatabaseError as error:
                if not error.of_a_row:
                    raise
                self.database.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
                if first == last:
                    self.rejected[first] = _reason(error, str(self.database.server))
                    return
        middle = (first + last) // 2
        self.apply(first, middle)
        self.apply(middle + 1, last)

    def apply_again(self) -> None:
        """Apply the rejected records again while that succeeds for some: a row that was in the way may be gone."""
        before = None
        while self.rejected and len(self.rejected) != before:
            tried, self.rejected = self.rejected, {}
            before = len(tried)
            for record in sorted(tried):
                self.apply(record, record)


def _reason(error: DatabaseError, what: str) -> str:
    """Why one record was rejected, without the place, which its row names."""
    said = str(error).removeprefix(f"{what}: ").removesuffix("; nothing of it was applied")
    return re.sub(r"^record \d+(, |: )", "", said)
