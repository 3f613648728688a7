"""Random attribute names from a vocabulary of SQL's words, ours and DuckDB's: each table of them goes through every step."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddb_lake_tests.support.hostile_names import duckdb_names, go, names_of_other_sql, spelled

WORDS = (
    *["id", "ID", "Id", "status", "Status", "address", "city", "name", "order", "total", "item", "key", "value"],
    "address__city",
    "order-no",
)
MOST_NAMES = 120


@dataclass
class NamesTried:
    """Tables that went through every step, the names that their items had, and the seeds of those that differed."""

    tables: int = 0
    names: int = 0
    differences: list[tuple[int, str]] = field(default_factory=list)

    def line(self) -> str:
        """The figures in a line."""
        return f"{self.tables} tables with {self.names} names, {len(self.differences)} differences"


def vocabulary() -> list[str]:
    """About 2,000 words, SQL's keywords among them."""
    return sorted({*duckdb_names(), *names_of_other_sql(), *WORDS})


def some_names(seed: int, words: Sequence[str]) -> tuple[str, list[str]]:
    """A key and the names of a table: words as they are, in another spelling, and joined."""
    chance = random.Random(seed)
    chosen = chance.sample(words, chance.randint(3, MOST_NAMES))
    found = [spelled(name, chance.choice((0, 0, 0, 1, 2, 3, 4))) for name in chosen]
    found += [spelled(name, chance.randrange(1, 5)) for name in chance.sample(chosen, len(chosen) // 4)]
    found += [chance.choice("_.- ").join(chance.sample(words, 2)) for _ in range(3)]
    names = list(dict.fromkeys(name for name in found if name))
    return names[0], names[1:]


def try_names(
    seed: int, *, tables: int | None = None, seconds: float | None = None, progress: Callable[[NamesTried], None]
) -> NamesTried:
    """Tables from `seed` on, until there are so many or the time is up."""
    tried, words, started = NamesTried(), vocabulary(), time.monotonic()
    while (tables is None or tried.tables < tables) and (seconds is None or time.monotonic() - started < seconds):
        key, names = some_names(seed + tried.tables, words)
        with tempfile.TemporaryDirectory() as folder:
            try:
                go(Path(folder), names, key)
            except Exception as error:  # whatever it is, it is a difference, and the others are tried
                tried.differences.append((seed + tried.tables, f"{type(error).__name__}: {str(error)[:2000]}"))
        tried.tables += 1
        tried.names += len(names) + 1
        progress(tried)
    return tried
