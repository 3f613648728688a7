"""Decides whether lines of a full export hold a valid item, for lines that neither the record kernel nor SQL proves valid.

`engine.projection.Projection` reads the known attributes of a line. A line that the record kernel reads is valid
(`engine.native.items`). SQL proves another line valid if three conditions hold:

- its text matches `core.decode.fast_path.EXPORT_LINE_PATTERN`, so each value is valid by itself;
- it has exactly the length that the known attributes take, so no name occurs twice and nothing else is there;
- no attribute that is stored as JSON text can have a name twice.

This proves nearly all lines of an export that DynamoDB wrote. The others are decided here, a batch at a time, by
`core.decode.export_lines`. A valid value that its column cannot hold goes to `_rescued`: see `core.schema.table_schema`.
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
"""Each check's functions have names of their own, because DuckDB keeps a function until its connection closes."""


class LineCheck:
    """The SQL functions that check the lines of one projection.

    Attributes:
        valid: the name of the function that decides whether a line holds a valid item.
        distinct: the name of the function that decides whether no object in a JSON text has a name twice.
        faults: the number of lines without a valid item so far.
        unkeyed: the number of rows without the table's key. The reader of the lines sets it, after it wrote the rows.
    """

    def __init__(self) -> None:
        number = next(_NUMBERS)
        self.valid, self.distinct = f"ddb_valid_line_{number}", f"ddb_distinct_names_{number}"
        self.faults = self.unkeyed = 0

    def register(self, con: Any) -> None:
        """Create the two functions in a connection."""
        con.create_function(self.valid, self._valid, ["VARCHAR"], "BOOLEAN", type="arrow")
        con.create_function(self.distinct, _distinct, ["VARCHAR"], "BOOLEAN", type="arrow")

    def _valid(self, lines: Any) -> pa.Array:
        """For each line, whether it holds a valid item."""
        import pyarrow.compute as pc  # slow to import, and rarely needed

        column = _as_array(lines)
        texts = column.to_pylist()
        matches = pc.match_substring_regex(column, EXPORT_LINE_PATTERN).to_pylist()
        reproduced = _are_reproduced(texts)
        valid = [(match and reproduced) or _is_valid_line(text) for match, text in zip(matches, texts, strict=True)]
        self.faults += valid.count(False)
        return pa.array(valid, pa.bool_())


def _distinct(texts: Any) -> pa.Array:
    """For each JSON text, whether it is certain that no object in it has a name twice."""
    values = _as_array(texts).to_pylist()
    if _are_reproduced(values):
        return pa.array([True] * len(values), pa.bool_())
    return pa.array([_are_reproduced([text]) for text in values], pa.bool_())


def _are_reproduced(texts: list[str]) -> bool:
    """Whether decoding and encoding reproduces the JSON texts. If so, no object in them has a name twice.

    The converse does not hold: valid texts with white space or escapes may not be reproduced.
    """
    joined = f"[{','.join(texts)}]".encode()
    try:
        with without_cycle_detection():
            return orjson.dumps(orjson.loads(joined)) == joined
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # not JSON, or nested too deeply for orjson
        return False


def _is_valid_line(text: str) -> bool:
    try:
        read_full_line(text.encode())
    except UndecodableError:
        return False
    return True


def _as_array(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
