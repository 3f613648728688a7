"""Rows that are staged several times, against a model in Python."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.engine.session import connect
from ddb_lake.pipeline.apply.deduplication import RECORD_IDENTITY, NewRows

PLACES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 4)), max_size=40, unique=True)
"""Rows: the number of the record, the object and the offset in it."""


@given(PLACES)
@settings(max_examples=30)
def test_of_repeated_rows_the_first_of_the_first_object_is_left(rows: list[tuple[int, int, int]]) -> None:
    columns = {
        "record_id": pa.array([f"record {number}" for number, _, _ in rows], pa.string()),
        "changed_at": pa.array([number for number, _, _ in rows], pa.timestamp("us")),
        "_object": pa.array([place for _, place, _ in rows], pa.int64()),
        "offset": pa.array([offset for _, _, offset in rows], pa.int64()),
    }
    first: dict[int, tuple[int, int]] = {}
    for number, *place in rows:
        first[number] = min(first.get(number, (9, 9)), (place[0], place[1]))
    with connect() as session:
        session.con.register("staged", pa.table(columns))
        new = NewRows.first_of_each(session, RECORD_IDENTITY, "staged")
        found = session.rows(f'SELECT record_id, _object, "offset" FROM {new} ORDER BY 1')
    assert found == [(f"record {number}", *place) for number, place in sorted(first.items())]
