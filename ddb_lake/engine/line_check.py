"""Lines of a full export that SQL did not prove to hold a valid item, decided by `core.decode.export_lines`.

`Projection` reads the known attributes of a line. A line is proven without a second look if its text matches
`core.decode.fast_path.EXPORT_LINE_PATTERN` (each value is one), has exactly the length that these attributes take (so no name occurs
twice and nothing else is there), and no attribute that is kept as JSON text can have a name twice. Nearly all lines of
an export that DynamoDB wrote are proven. The others come here, a batch at a time.
"""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pyarrow as pa

from ddb_lake.core.decode.export_lines import read_full_line
from ddb_lake.core.decode.fast_path import EXPORT_LINE_PATTERN
from ddb_lake.core.operations.system import without_cycle_detection
from ddb_lake.errors import UndecodableError

_NUMBERS = itertools.count()
"""Each check's functions have their own names: DuckDB keeps a function until its connection closes."""


class LineCheck:
    """Functions of one projection. `faults`: how often a line without a valid item was found."""

    def __init__(self) -> None:
        number = next(_NUMBERS)
        self.valid, self.distinct = f"ddb_valid_line_{number}", f"ddb_distinct_names_{number}"
        self.faults = 0

    def register(self, con: Any) -> None:
        """Create `valid(line)` and `distinct(text)` in the connection."""
        con.create_function(self.valid, self._valid, ["VARCHAR"], "BOOLEAN", type="arrow")
        con.create_function(self.distinct, _distinct, ["VARCHAR"], "BOOLEAN", type="arrow")

    def _valid(self, lines: Any) -> pa.Array:
        """For each line, whether it holds a valid item."""
        import pyarrow.compute as pc  # slow to import, and hardly ever needed

        column = _whole(lines)
        texts = column.to_pylist()
        usual = pc.match_substring_regex(column, EXPORT_LINE_PATTERN).to_pylist()
        whole = _are_whole(texts)
        found = [(seen and whole) or _is_line(text) for seen, text in zip(usual, texts, strict=True)]
        self.faults += found.count(False)
        return pa.array(found, pa.bool_())


def _distinct(texts: Any) -> pa.Array:
    """For each JSON text, whether certainly no object in it has a name twice."""
    found = _whole(texts).to_pylist()
    if _are_whole(found):
        return pa.array([True] * len(found), pa.bool_())
    return pa.array([_are_whole([text]) for text in found], pa.bool_())


def _are_whole(texts: list[str]) -> bool:
    """Whether decoding and encoding reproduces the JSON texts, so that no object has a name twice.

    Valid texts with white space or escapes may not be reproduced.
    """
    joined = f"[{','.join(texts)}]".encode()
    try:
        with without_cycle_detection():
            return orjson.dumps(orjson.loads(joined)) == joined
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # not JSON, or nested too deeply for a quick look
        return False


def _is_line(text: str) -> bool:
    try:
        read_full_line(text.encode())
    except UndecodableError:
        return False
    return True


def _whole(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
