"""A doctor's finding: what was looked at, what was found, what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ddb_lake.errors import DdbLakeError

State = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `next_step` is given whenever `state` is warn or fail."""

    check: str
    state: State
    found: str
    next_step: str | None = None


Report = Callable[[Finding], None]
"""Takes findings as they are made."""


@contextmanager
def failing(report: Report, check: str, next_step: str) -> Iterator[None]:
    """Report an error of ours, or of the machine, as a failed check."""
    try:
        yield
    except (DdbLakeError, OSError) as error:
        report(Finding(check, "fail", str(error), next_step))
