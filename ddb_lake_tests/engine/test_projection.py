"""The SQL projection does what `core.schema.table_schema.project` does, and its inverse gives every item back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import Column, SchemaOptions, TableSchema, project, restore
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.schema_fitting import SessionProjection, extend_schema, fit_schema, guess
from ddb_lake.engine.session import Session, connect
from ddb_lake.engine.sql import carried, shown
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.staged_objects import record_kernel
from ddb_lake_tests.support.strategies import declared_types, items, mixed_items

KEY = ("pk",)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect() as opened:
        yield opened


def spell_compactly(row: Item) -> str:
    return orjson.dumps(row).decode()


def source(session: Session, rows: Sequence[Item], spell: Callable[[Item], str] = spell_compactly) -> str:
    texts = [spell(row) for row in rows]
    session.con.register("given_items", pa.table({"item": texts, "_source": list(range(len(rows)))}))
    session.con.execute("CREATE OR REPLACE TABLE items AS SELECT * FROM given_items")
    return "items"


def keyed(rows: Sequence[Item]) -> list[Item]:
    return [{**row, "pk": {"S": str(number)}} for number, row in enumerate(rows)]


def schema_of(rows: Sequence[Item], options: SchemaOptions) -> TableSchema:
    inference = Inference(options)
    for row in rows:
        inference.observe(row)
    return inference.schema(KEY)


def expected(column: Column, value: Any) -> Any:
    """What DuckDB gives for a value of `project`."""
    if (
        value is None
        or column.role == "declared"
        or column.type in ("string", "binary", "boolean", "list<string>", "list<binary>")
    ):
        return value
    if column.type == "json":
        return canonical_json({"x": {column.tag: value}})
    if column.type.startswith("list<"):
        return [Decimal(member) for member in value]
    return float(value) if column.type == "double" else Decimal(value)


def actual(column: Column, value: Any) -> Any:
    if value is None or column.role == "declared":
        return value
    if column.type == "json":
        return canonical_json({"x": {column.tag: orjson.loads(value)}})
    if column.type.startswith("list<") and column.tag == "NS" and column.type != "list<string>":
        return [Decimal(member) for member in value]
    return Decimal(value) if column.type == "long" else value


many_items = st.one_of(st.lists(items(), min_size=1, max_size=6), st.lists(mixed_items(), min_size=2, max_size=8))
depths = st.integers(1, 4)


@st.composite
def typed_items(draw: st.DrawFn) -> tuple[list[Item], TableSchema]:
    """Items, and a schema that fits them in part: of other items, with the types of some columns declared."""
    rows, known = draw(many_items), draw(many_items)
    mixed = draw(st.lists(st.sampled_from(range(len(rows))), max_size=2))
    overrides = draw(declared_types([*rows, *known]))
    options = SchemaOptions(depth=draw(depths), overrides=overrides)
    return rows, schema_of(keyed([*known, *(rows[number] for number in mixed)]), options)


NULL_IN_A_MAP_WITHOUT_COLUMNS: tuple[list[Item], TableSchema] = (
    [{}, {"a": {"M": {"a": {"NULL": True}}}}, {"m": {"M": {"x": {"S": "1"}, "y": {"M": {"z": {"NULL": True}}}}}}],
    schema_of(keyed([{"m": {"M": {"x": {"S": "1"}}}}]), SchemaOptions(depth=2)),
)


@examples(37, 150)
@example(typed=NULL_IN_A_MAP_WITHOUT_COLUMNS, spell=spell_compactly, most={}, expect_nulls=True, kernel="on")
@example(typed=NULL_IN_A_MAP_WITHOUT_COLUMNS, spell=json.dumps, most={"LOOKED_UP": 0}, expect_nulls=True, kernel="off")
@given(
    typed=typed_items(),
    spell=st.sampled_from([spell_compactly, json.dumps]),
    most=st.sampled_from([{"LOOKED_UP": 0}, {}, {"MOST_IN_SQL": 0}]),
    expect_nulls=st.booleans(),
    kernel=st.sampled_from(["on", "off"]),
)
def test_project_of_many_items_equals_project_of_each(
    session: Session,
    typed: tuple[list[Item], TableSchema],
    spell: Callable[[Item], str],
    most: dict[str, int],
    expect_nulls: bool,
    kernel: str,
) -> None:
    """Attributes are read by the kernel, looked up, hashed, or read in Python. NULL values are expected where there are some, or
    nowhere."""
    rows, schema = typed
    nulls = guess(rows, schema, SchemaOptions())[1] if expect_nulls else set()
    with pytest.MonkeyPatch.context() as patch, record_kernel(kernel):
        for name, number in most.items():
            patch.setattr(f"ddb_lake.engine.projection.{name}", number)
        projection = Projection(schema, nulls)
    projection.register(session.con)
    names = ", ".join(carried(c.name) for c in schema.columns)
    query = projection.select(source(session, keyed(rows), spell), ["_source"])
    found = session.rows(f"SELECT {names}, _rescued FROM ({query}) ORDER BY _source")
    for row, item in zip(found, keyed(rows), strict=True):
        values, rescued = project(item, schema)
        assert [actual(c, v) for c, v in zip(schema.columns, row, strict=False)] == [
            expected(c, v) for c, v in zip(schema.columns, values, strict=True)
        ]
        held = orjson.loads(row[-1]) if row[-1] else {}
        assert {p: canonical_json({"x": v}) for p, v in held.items()} == {
            p: canonical_json({"x": v}) for p, v in rescued.items()
        }


EACH_KIND: tuple[AttributeValue, ...] = (
    {"S": 'it"s'}, {"S": ""}, {"N": "7"}, {"N": "1.50"}, {"N": "1E2"}, {"B": "AA=="}, {"B": "AB=="}, {"BOOL": True},
    {"BOOL": False}, {"NULL": True}, {"NULL": False}, {"SS": ["x"]}, {"NS": ["1"]}, {"BS": []}, {"L": []}, {"M": {}},
    {"L": [{"N": "1.5"}, {"S": "{}"}, {"NULL": True}]}, {"M": {"S": {"N": "1"}, "b": {"M": {}}}}, {"M": {"b": {"SS": ["x"]}}},
)  # fmt: skip


@pytest.mark.parametrize("most", [{"LOOKED_UP": 0}, {}, {"MOST_IN_SQL": 0}], ids=str)
@pytest.mark.parametrize(
    ("tag", "column_type"), [("S", "string"), ("N", "string"), ("B", "string"), ("BOOL", "string"), ("ANY", "json")]
)
def test_declared_column_has_each_kind_of_value(
    session: Session, monkeypatch: pytest.MonkeyPatch, most: dict[str, int], tag: str, column_type: str
) -> None:
    for name, number in most.items():
        monkeypatch.setattr(f"ddb_lake.engine.projection.{name}", number)
    schema = TableSchema(KEY, (Column(KEY, "S", "pk", "string"), Column(("x",), tag, "x", column_type, "declared")))
    rows = keyed([{"x": value} for value in EACH_KIND])
    projection = Projection(schema, {("x",)})
    projection.register(session.con)
    session.keep("declared_rows", projection.select(source(session, rows), ["_source"]))
    found = session.rows(f"SELECT {carried('x')}, _rescued, {item_sql(schema)} FROM declared_rows ORDER BY _source")
    for (value, rescued, item), row in zip(found, rows, strict=True):
        values, left = project(row, schema)
        assert (value, orjson.loads(rescued or "{}")) == (values[1], left)
        assert orjson.loads(complete(item, rescued)) == row


@examples(37, 150)
@given(typed=typed_items())
def test_restore_in_sql_gives_every_item_back(session: Session, typed: tuple[list[Item], TableSchema]) -> None:
    rows, schema = typed
    projection = Projection(schema)
    projection.register(session.con)
    query = projection.select(source(session, keyed(rows)), ["_source"])
    session.con.execute(f"CREATE OR REPLACE TABLE p AS {query}")
    found = session.rows(f"SELECT {item_sql(schema)}, _rescued FROM p ORDER BY _source")
    assert [orjson.loads(complete(item, rescued)) for item, rescued in found] == keyed(rows)


@examples(50, 200)
@given(typed=typed_items())
def test_restore_is_the_inverse_of_project(typed: tuple[list[Item], TableSchema]) -> None:
    rows, schema = typed
    for item in keyed(rows):
        assert restore(*project(item, schema), schema) == item


@examples(25, 100)
@given(rows=many_items, seed=st.randoms(use_true_random=False), data=st.data())
def test_fit_depends_on_the_set_of_items_alone(
    session: Session, rows: list[Item], seed: Any, data: st.DataObject
) -> None:
    options = SchemaOptions(overrides=data.draw(declared_types(rows)))
    fitted = []
    for _ in range(2):
        ordered = keyed(rows)
        seed.shuffle(ordered)
        source(session, ordered)

        def project_rows(projection: Projection) -> str:
            session.con.execute(f"CREATE OR REPLACE TABLE p AS {projection.select('items')}")
            return "p"

        first, nulls = guess(ordered[:1], TableSchema(KEY), options)
        fitted.append(fit_schema(first, TableSchema(KEY), nulls, SessionProjection(session, options, project_rows)))
    assert fitted[0] == fitted[1] == schema_of(keyed(rows), options)


@pytest.mark.parametrize(
    ("texts", "column_type"),
    [
        (["1", "-9223372036854775808"], "long"),
        (["9223372036854775808"], "decimal(38,0)"),
        (["1", "2.5"], "decimal(38,1)"),
        (["1E-130"], "string"),
        (["12345678901234567890123456789012345678"], "decimal(38,0)"),
        (["1.5", "1234567890123456789012345678901234567"], "decimal(38,1)"),
        (["1.25", "1234567890123456789012345678901234567"], "string"),
    ],
)
def test_number_column_is_the_narrowest_exact_type(texts: list[str], column_type: str) -> None:
    rows: list[Item] = [{"n": {"N": text}} for text in texts]
    assert schema_of(keyed(rows), SchemaOptions()).column(("n",)) == Column(("n",), "N", "n", column_type)


@pytest.mark.parametrize("text", ["1.5", "1.005", "9223372036854775808", "1E-130", "1e2", "-0", "007", "1.50"])
def test_number_that_a_column_would_round_is_exact_or_rescued(session: Session, text: str) -> None:
    """TRY_CAST turns 1.5 into 2 and 1E-130 into 0: neither may reach a column."""
    schema = TableSchema(KEY, (Column(("n",), "N", "n", "long"), Column(("d",), "N", "d", "decimal(38,2)")))
    projection = Projection(schema)
    projection.register(session.con)
    query = projection.select(source(session, [{"n": {"N": text}, "d": {"N": text}}]))
    ((whole, places, rescued),) = session.rows(f"SELECT n, d, _rescued FROM {shown(f'({query})')}")
    assert whole is None or Decimal(whole) == Decimal(text)
    assert places is None or places == Decimal(text)
    held = orjson.loads(rescued) if rescued else {}
    for column, name in ((whole, "/n"), (places, "/d")):
        assert held.get(name) == {"N": text} or (column is not None and str(column).rstrip("0").rstrip(".") == text)


@pytest.mark.parametrize("tag", ["SS", "NS", "BS"])
def test_empty_set_is_in_its_column_or_is_rescued(session: Session, tag: str) -> None:
    rows: list[Item] = [{"a": {tag: []}, "m": {"M": {"b": {tag: []}}}, "x": {tag: []}}]
    typed: list[Item] = [{"a": {tag: []}, "m": {"M": {"b": {tag: []}}}, "x": {"S": "text"}}]
    schema = schema_of(keyed(typed), SchemaOptions())
    projection = Projection(schema)
    projection.register(session.con)
    session.con.execute(f"CREATE OR REPLACE TABLE p AS {projection.select(source(session, keyed(rows)))}")
    assert session.rows(f"SELECT a, m__b, x, _rescued FROM {shown('p')}") == [
        ([], [], None, f'{{"/x":{{"{tag}":[]}}}}')
    ]
    ((text, rescued),) = session.rows(f"SELECT {item_sql(schema)}, _rescued FROM p")
    assert orjson.loads(complete(text, rescued)) == keyed(rows)[0]


def test_values_that_differ_by_case_or_quoting_keep_apart(session: Session) -> None:
    item: Item = {
        "ID": {"S": "1"},
        "id": {"N": "2"},
        "Id": {"BOOL": True},
        "a.b": {"S": "3"},
        'q"': {"S": "4"},
        "x;DROP": {"S": "5"},
    }
    schema = schema_of(keyed([item]), SchemaOptions())
    assert len({c.name.lower() for c in schema.columns}) == len(schema.columns)
    projection = Projection(schema)
    projection.register(session.con)
    session.con.execute(f"CREATE OR REPLACE TABLE p AS {projection.select(source(session, keyed([item])))}")
    ((text, rescued),) = session.rows(f"SELECT {item_sql(schema)}, _rescued FROM p")
    assert rescued is None
    assert orjson.loads(text) == keyed([item])[0]


def test_name_that_several_new_attributes_need_is_decided_by_all_rows_not_the_sample(session: Session) -> None:
    rare: Item = {"Status": {"S": "x"}, "status": {"S": "x"}}
    rows = keyed([rare, *[{"status": {"S": "y"}}] * 5])
    session.con.execute(f"CREATE OR REPLACE TABLE given AS SELECT * FROM {source(session, rows)}")

    def project_rows(projection: Projection) -> str:
        session.con.execute(f"CREATE OR REPLACE TABLE p AS {projection.select('given')}")
        return "p"

    options = SchemaOptions()
    first, nulls = guess(keyed([rare]), TableSchema(KEY), options)
    assert first.names[(("Status",), "")] == "Status"  # the sample has both equally often
    projection = SessionProjection(session, options, project_rows)
    fitted = fit_schema(first, TableSchema(KEY), nulls, projection)
    assert fitted.names[(("status",), "")] == "status"
    assert session.value(f"SELECT count(status) FROM {shown('p')}") == 6
    known = TableSchema(KEY, (Column(("Status",), "S", "Status", "string"),))
    kept = fit_schema(guess(rows, known, options)[0], known, nulls, projection)
    assert kept.names[(("Status",), "")] == "Status"


def test_new_attributes_become_columns_or_stay_rescued(session: Session) -> None:
    schema = TableSchema(KEY, (Column(("pk",), "S", "pk", "string"),))
    rows: list[Item] = [{"pk": {"S": "1"}, "n": {"N": "1"}, "m": {"M": {"x": {"S": base64.b64encode(b"x").decode()}}}}]
    source(session, rows)

    def project_rows(projection: Projection) -> str:
        session.con.execute(f"CREATE OR REPLACE TABLE p AS {projection.select('items')}")
        return "p"

    projection = SessionProjection(session, SchemaOptions(), project_rows)
    kept = extend_schema(schema, "rescue", projection)
    assert kept == schema
    assert session.value("SELECT _rescued FROM p") is not None
    wider = extend_schema(schema, "add_columns", projection)
    assert [c.name for c in wider.columns] == ["pk", "m__x", "n"]
    assert session.value("SELECT _rescued FROM p") is None
