"""Which test covers which fault, in which stages, and how it ends: what the documentation's table is made of."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import pytest

Ending: TypeAlias = Literal["exact", "refused"]
"""exact: the stage ends, then or when it is run again, as if nothing had happened. refused: it says what to do, and
nothing is committed."""

STAGES: Final = (
    "load",
    "increment",
    "apply",
    "compact",
    "replay",
    "streams",
    "follow",
    "dump",
    "verify",
    "repair",
    "restore",
    "run",
)
"""The table's columns. increment: loading an incremental export. replay: of quarantine. run: Dagster's, of all stages."""

LINE: Final = "fault(name, stages, ending): the fault that a test injects, for the table in the documentation"


def fault(name: str, *stages: str, ending: Ending = "exact") -> Any:
    """Mark a test. `name`: a row of the table, the same words wherever the fault is the same."""
    unknown = set(stages) - set(STAGES)
    assert not unknown and stages, f"stages {unknown} are no columns of the table"
    return pytest.mark.fault(name, stages, ending)
