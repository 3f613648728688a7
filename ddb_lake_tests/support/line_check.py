"""A line check that keeps the lines that it found to be invalid."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ddb_lake.engine.line_check import LineCheck


class Recording(LineCheck):
    """A check that keeps the lines that it found to be invalid."""

    def __init__(self) -> None:
        super().__init__()
        self.invalid: set[str] = set()

    def _valid(self, lines: Any) -> pa.Array:
        found = super()._valid(lines)
        self.invalid |= {line for line, valid in zip(lines.to_pylist(), found.to_pylist(), strict=True) if not valid}
        return found
