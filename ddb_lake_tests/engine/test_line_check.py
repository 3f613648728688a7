"""All readers of items accept the same texts and read the same values: SQL, Python, the fast path and the Lambda functions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.decode.arrival_stamp import UNKNOWN_ARRIVAL
from ddb_lake.core.decode.export_lines import ITEM_MEMBER, read_full_line
from ddb_lake.core.decode.routing import Routes
from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.core.values.json_schema import Validator
from ddb_lake.engine import projection as projecting
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.session import Session, connect
from ddb_lake.errors import UndecodableError
from ddb_lake.lambdas.transform import Captured
from ddb_lake.pipeline.apply.object_reader import GroupReader, ReadOptions, TableDefinition, only
from ddb_lake_tests.support.dynamodb_values import CASES, Case, texts
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples
from ddb_lake_tests.support.line_check import Recording
from ddb_lake_tests.support.staged_objects import record_kernel

TYPES = {
    "S": ("string",),
    "N": ("long", "decimal(38,2)", "string", "double"),
    "B": ("binary",),
    "BOOL": ("boolean",),
    "SS": ("list<string>",),
    "NS": ("list<long>", "list<decimal(38,1)>", "list<string>"),
    "BS": ("list<binary>",),
    "L": ("json",),
    "M": ("json", "flattened"),
}
SCHEMAS = [(tag, column_type) for tag, types in TYPES.items() for column_type in types]
KEY = Column(("id",), "S", "id", "string")


def schema_of(tag: str, column_type: str) -> TableSchema:
    if column_type == "flattened":
        columns = (Column(("x", "a"), "S", "x__a", "string"), Column(("x", "b"), "N", "x__b", "long"))
        return TableSchema(("id",), (KEY, *columns))
    return TableSchema(("id",), (KEY, Column(("x",), tag, "x", column_type)))


def item_text(value: str) -> str:
    return f'{{"id":{{"S":"k"}},"x":{value}}}'


def read_item(text: bytes) -> dict[str, Any]:
    return read_full_line(b'{"Item":%b}' % text)


def strictly(value: str) -> bytes | None:
    """The canonical item that the definition reads; None if the text is not one."""
    try:
        return shown(orjson.dumps(read_item(item_text(value).encode())))
    except (UndecodableError, UnicodeEncodeError):
        return None


def shown(item: bytes) -> bytes:
    """The canonical JSON; a false NULL, which DynamoDB does not have, shows."""
    return canonical_json(orjson.loads(item.replace(b'{"NULL":false}', b'{"S":"false NULL"}')))


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect() as opened:
        yield opened


def loaded(session: Session, values: Sequence[str], tag: str, column_type: str, nulls: bool) -> list[bytes | None]:
    """What loading lines with these values gives back; None for a line that is refused."""
    schema, check = schema_of(tag, column_type), Recording()
    projection = Projection(schema, [("x",)] if nulls else [], ITEM_MEMBER, check)
    projection.register(session.con)
    lines = [f'{{"Item":{item_text(value)}}}' for value in values]
    session.con.register("lines", pa.table({"line": lines}))
    source = "(SELECT line::JSON AS item, line FROM lines)"
    try:
        session.con.execute(f"CREATE OR REPLACE TABLE projected AS {projection.select(source, ['line'])}")
    # JSON that DuckDB does not read, or what is no value of the column; DuckDB may cut a message within a character
    except (duckdb.Error, UnicodeDecodeError):
        if len(values) == 1:
            return [None]
        return [loaded(session, [value], tag, column_type, nulls)[0] for value in values]
    rows = session.rows(f"SELECT line, {item_sql(schema)}, _rescued FROM projected")
    assert check.faults == len([line for line in lines if line in check.invalid])
    found = {line: (item, rescued) for line, item, rescued in rows}
    return [None if line in check.invalid else shown(complete(*found[line])) for line in lines]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text[:40])
def test_definition_accepts_and_says_why_not(case: Case) -> None:
    if case.reason is None:
        read_item(item_text(case.text).encode())
    else:
        with pytest.raises(UndecodableError) as raised:
            read_item(item_text(case.text).encode())
        assert case.reason in str(raised.value)


READABLE = [
    case.text for case in CASES if "\\ud800" not in case.text and ",]" not in case.text and "NaN}" not in case.text
]
"""Cases whose JSON DuckDB reads, so that they are tried together."""


@pytest.mark.parametrize("way", ["read by the kernel", "looked up", "transformed", "in Python"])
@pytest.mark.parametrize(("tag", "column_type"), SCHEMAS)
def test_loading_accepts_what_the_definition_accepts(
    session: Session, monkeypatch: pytest.MonkeyPatch, tag: str, column_type: str, way: str
) -> None:
    monkeypatch.setattr(projecting, "LOOKED_UP", 50 if way == "looked up" else 0)
    monkeypatch.setattr(projecting, "MOST_IN_SQL", 0 if way == "in Python" else 200)
    with record_kernel("on" if way == "read by the kernel" else "off"):
        assert loaded(session, READABLE, tag, column_type, True) == [strictly(value) for value in READABLE]


@pytest.mark.parametrize("value", [case.text for case in CASES if case.text not in READABLE])
def test_loading_refuses_what_is_not_json(session: Session, value: str) -> None:
    assert loaded(session, [value], "S", "string", False) == [strictly(value)]


@examples(15, 60, suppress=SHARED_FIXTURE)
@given(st.lists(texts(), min_size=1, max_size=20), st.sampled_from(SCHEMAS), st.booleans())
@example(['{"S": 5 }'], ("S", "string"), False)
@example(['{"NULL":true}', '{"S""S":"0\\u001f\\\\\x80"}'], ("S", "string"), False)
@example(['{"NULL":false}'], ("S", "string"), True)
@example(['{"L":[{"M":{"a":{"S":"x"},"a":{"S":"x"}}}]}'], ("L", "json"), False)
def test_loading_and_the_definition_agree(
    session: Session, values: list[str], column: tuple[str, str], nulls: bool
) -> None:
    distinct = list(dict.fromkeys(values))
    assert loaded(session, distinct, *column, nulls) == [strictly(value) for value in distinct]


def changes(values: Sequence[str]) -> bytes:
    """Change records of DynamoDB Streams whose new images have these values, on a line each: Kinesis encodes binary twice."""
    lines = [
        f'{{"eventName":"INSERT","eventID":"{number}","eventVersion":"1.1","dynamodb":{{"ApproximateCreationDateTime":1700000000,'
        f'"Keys":{{"id":{{"S":"k"}}}},"NewImage":{item_text(value)}}}}}'
        for number, value in enumerate(values)
    ]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def images(values: Sequence[str], fast: bool) -> dict[int, bytes]:
    """The canonical images of the changes that were read, by number."""
    data = changes(values)
    with tempfile.TemporaryDirectory() as folder:
        validator = None if fast else Validator([])
        reader = GroupReader(
            Path(folder), ReadOptions("t", Routes({"t": "t"})), only({"t": TableDefinition(("id",), validator)})
        )
        group = reader.read([(ObjectRef("s3://b/o", "1", len(data), 0), data)])
        with duckdb.connect() as con:
            rows = con.execute(
                f"SELECT event_id, new_image FROM read_parquet('{group.tables['t'].changes.path}')"
            ).fetchall()
    return {int(number): shown(image.encode()) for number, image in rows}


@pytest.mark.parametrize("fast", [False, True])
def test_change_records_accept_what_the_definition_accepts(fast: bool) -> None:
    values = [case.text for case in CASES if "\n" not in case.text]
    wanted = {number: found for number, value in enumerate(values) if (found := strictly(value)) is not None}
    assert images(values, fast) == wanted


@examples(15, 60)
@given(st.lists(texts(), min_size=1, max_size=8), st.booleans())
def test_change_records_and_the_definition_agree(values: list[str], fast: bool) -> None:
    whole = [value for value in values if "\n" not in value and _is_json(value)]
    wanted = {number: found for number, value in enumerate(whole) if (found := strictly(value)) is not None}
    if whole:
        assert images(whole, fast) == wanted


def _is_json(value: str) -> bool:
    """Whether the text is one JSON text: a broken one changes where its record ends."""
    try:
        json.loads(item_text(value))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text[:40])
def test_lambda_functions_accept_what_the_definition_accepts(case: Case) -> None:
    try:
        record = Captured.read(changes([case.text]), UNKNOWN_ARRIVAL).record
    except UndecodableError:
        assert strictly(case.text) is None
    else:
        assert record.new_image is not None
        assert shown(orjson.dumps(record.new_image)) == strictly(case.text)
