"""What an examination returns: findings, each with the next step if something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddb_lake.core.verify.outcome import unknown_text

State = Literal["ok", "warn", "fail", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Args:
        check: the name of the check; the registry fills it in where an examination leaves it empty.
        state: `unknown` if the check could not be made: that is never `ok`.
        found: the result, in words.
        next_step: what to do; present if `state` is `warn` or `fail`.
    """

    check: str
    state: State
    found: str
    next_step: str | None = None


def ok(found: str, check: str = "") -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", found)


def unknown(question: str, because: str, check: str = "") -> Finding:
    """The check could not be made. `question`: a clause that begins with "whether"; `because`: the reason, a clause."""
    return Finding(check, "unknown", unknown_text(question, because))


def warn(found: str, next_step: str, check: str = "") -> Finding:
    """The lake works, but something should be changed."""
    return Finding(check, "warn", found, next_step)


def fail(found: str, next_step: str, check: str = "") -> Finding:
    """Something does not work."""
    return Finding(check, "fail", found, next_step)
