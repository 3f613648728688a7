"""Wide items are projected in Python: as `core.schema.table_schema.project` and the SQL do, in slices, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import MAX_COLUMNS, SchemaOptions, TableSchema
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.projection import MOST_IN_SQL, Projection
from ddb_lake.engine.session import Session, connect
from ddb_lake.engine.wide_projection import ColumnProjector
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.strategies import values

KEY = ("pk",)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect() as opened:
        yield opened


@st.composite
def wide_items(draw: st.DrawFn) -> list[Item]:
    """A few items that have about as many attributes as are projected in SQL, or far more than there are columns."""
    width = draw(st.sampled_from([MOST_IN_SQL - 1, MOST_IN_SQL, MOST_IN_SQL + 1, MAX_COLUMNS + 200]))
    drawn = draw(st.lists(values(), min_size=3, max_size=12))
    return [
        {
            "pk": {"S": str(row)},
            **{f"a{n}": drawn[n * (row + 1) % len(drawn)] for n in range(width - 1) if n % (row + 1) == 0},
        }
        for row in range(draw(st.integers(1, 4)))
    ]


def fitted(rows: list[Item], overrides: dict[str, str] | None = None) -> TableSchema:
    seen = Inference(SchemaOptions(overrides=overrides or {}))
    for row in rows:
        seen.observe(row)
    return seen.schema(KEY)


def projected(session: Session, rows: list[Item], schema: TableSchema) -> list[tuple[Any, ...]]:
    """The rows' columns, what they do not hold, and the items that both give back."""
    session.con.register("given_items", pa.table({"item": [orjson.dumps(row).decode() for row in rows]}))
    session.con.execute("CREATE OR REPLACE TABLE items AS SELECT row_number() OVER () AS n, item FROM given_items")
    projection = Projection(schema)
    projection.register(session.con)
    session.keep("wide", projection.select("items", ["n"]))
    found = session.rows(f"SELECT * EXCLUDE (n), {item_sql(schema)} FROM wide ORDER BY n")
    return [
        (
            # DuckDB writes the hexadecimal digits of an escape in upper case, orjson in lower case
            *(
                orjson.loads(value) if column.type == "json" and value is not None else value
                for column, value in zip(schema.columns, values, strict=True)
            ),
            canonical_json(orjson.loads(rescued)) if rescued else None,
            canonical_json(orjson.loads(complete(item, rescued))),
        )
        for *values, rescued, item in found
    ]


@examples(3, 15)
@given(
    rows=wide_items(),
    overrides=st.dictionaries(st.sampled_from(["a0", "a1", "a2", "a7"]), st.sampled_from(["string", "json"])),
)
def test_wide_items_give_the_same_columns_in_sql_and_in_python(
    session: Session, rows: list[Item], overrides: dict[str, str]
) -> None:
    schema = fitted(rows, overrides)
    assert len(schema.columns) <= MAX_COLUMNS
    found = projected(session, rows, schema)
    assert [row[-1] for row in found] == [canonical_json(row) for row in rows]
    if len(schema.columns) <= MOST_IN_SQL + 1:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ddb_lake.engine.projection.MOST_IN_SQL", 0 if len(schema.columns) <= MOST_IN_SQL else 10_000)
            assert projected(session, rows, schema) == found


def test_item_of_twenty_thousand_attributes_has_a_thousand_columns_and_the_rest_is_rescued(session: Session) -> None:
    rows: list[Item] = [{"pk": {"S": "1"}, **{f"a{n}": {"S": "text"} for n in range(20_000)}}, {"pk": {"S": "2"}}]
    schema = fitted(rows)
    assert len(schema.columns) == MAX_COLUMNS
    found = projected(session, rows, schema)
    assert [row[-1] for row in found] == [canonical_json(row) for row in rows]
    assert len(orjson.loads(found[0][-2])) == 20_001 - MAX_COLUMNS


@examples(5, 20)
@given(rows=st.lists(st.dictionaries(st.sampled_from("abcdefg"), values()), max_size=6), size=st.integers(1, 200))
def test_slices_change_nothing(rows: list[Item], size: int) -> None:
    texts = pa.array([orjson.dumps(row).decode() for row in rows] + [None], pa.string())
    projector = ColumnProjector(fitted(rows))
    whole = projector.project_texts(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddb_lake.engine.wide_projection.SLICE_BYTES", size)
        assert projector.project_texts(texts).equals(whole)


def test_document_without_the_item_has_no_values() -> None:
    projector = ColumnProjector(fitted([{"pk": {"S": "1"}}]), "Item")
    texts = pa.array(['{"Item":{"pk":{"S":"1"},"x":{"N":"1"}}}', "{}", None])
    assert projector.project_texts(texts).to_pylist() == [
        {"0": "1", "1": '{"/x":{"N":"1"}}'},
        {"0": None, "1": None},
        {"0": None, "1": None},
    ]
