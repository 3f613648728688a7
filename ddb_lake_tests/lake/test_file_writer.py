"""How many rows a row group has."""

from __future__ import annotations

import pytest

from ddb_lake.lake.file_writer import ROW_GROUP_BYTES, ROW_GROUP_ROWS, group_rows


@pytest.mark.parametrize(
    ("row_bytes", "expected"),
    [(0, ROW_GROUP_ROWS), (600, ROW_GROUP_ROWS), (20_000, 4_096), (400_000, 2_048), (2 * ROW_GROUP_BYTES, 2_048)],
)
def test_group_rows_are_whole_vectors_that_fit(row_bytes: int, expected: int) -> None:
    assert group_rows(row_bytes) == expected
