"""All readers of items accept the same texts and read the same values: SQL, Python, the fast path and the Lambda functions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.captures import NOWHERE
from ddb_lake.core.identity import canonical_json
from ddb_lake.core.schema import Column, TableSchema
from ddb_lake.core.validation import Validator
from ddb_lake.core.values import ITEM_MEMBER, read_item
from ddb_lake.engine import projection as projecting
from ddb_lake.engine.connection import Session, connect
from ddb_lake.engine.linecheck import LineCheck
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.restoration import complete, item_sql
from ddb_lake.errors import UndecodableError
from ddb_lake.lambdas.transform import Captured
from ddb_lake.stages.read import GroupReader
from ddb_lake_tests.values import CASES, Case, texts

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


def loaded(session: Session, value: str, tag: str, column_type: str, nulls: bool) -> bytes | None:
    """What loading a line with the value gives back."""
    schema, check = schema_of(tag, column_type), LineCheck()
    projection = Projection(schema, [("x",)] if nulls else [], ITEM_MEMBER, check)
    projection.register(session.con)
    line = f'{{"Item":{item_text(value)}}}'
    session.con.register("lines", pa.table({"item": [line]}))
    try:
        session.con.execute(
            f"CREATE OR REPLACE TABLE projected AS {projection.select('(SELECT item::JSON AS item FROM lines)')}"
        )
    except duckdb.Error:  # JSON that DuckDB does not read
        return None
    if check.faults:
        return None
    item, rescued = session.rows(f"SELECT {item_sql(schema)}, _rescued FROM projected")[0]
    return shown(complete(item, rescued))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text[:40])
def test_definition_accepts_and_says_why_not(case: Case) -> None:
    if case.reason is None:
        read_item(item_text(case.text).encode())
    else:
        with pytest.raises(UndecodableError) as raised:
            read_item(item_text(case.text).encode())
        assert case.reason in str(raised.value)


@pytest.mark.parametrize("looked_up", [50, 0])
@pytest.mark.parametrize(("tag", "column_type"), SCHEMAS)
def test_loading_accepts_what_the_definition_accepts(
    session: Session, monkeypatch: pytest.MonkeyPatch, tag: str, column_type: str, looked_up: int
) -> None:
    monkeypatch.setattr(projecting, "LOOKED_UP", looked_up)
    for case in CASES:
        for nulls in (False, True):
            assert loaded(session, case.text, tag, column_type, nulls) == strictly(case.text), (case.text, nulls)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(texts(), st.sampled_from(SCHEMAS), st.booleans())
@example('{"S": 5 }', ("S", "string"), False)
@example('{"NULL":false}', ("S", "string"), True)
@example('{"L":[{"M":{"a":{"S":"x"},"a":{"S":"x"}}}]}', ("L", "json"), False)
def test_loading_and_the_definition_agree(session: Session, value: str, column: tuple[str, str], nulls: bool) -> None:
    assert loaded(session, value, *column, nulls) == strictly(value)


def changes(values: Sequence[str]) -> bytes:
    """Change records of Kinesis whose new images have these values, on a line each."""
    lines = [
        f'{{"eventName":"INSERT","eventID":"{number}","tableName":"t","dynamodb":{{"ApproximateCreationDateTime":1700000000000,'
        f'"Keys":{{"id":{{"S":"k"}}}},"NewImage":{item_text(value)}}}}}'
        for number, value in enumerate(values)
    ]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def images(values: Sequence[str], fast: bool) -> dict[int, bytes]:
    """The canonical images of the changes that were read, by number."""
    data = changes(values)
    with tempfile.TemporaryDirectory() as folder:
        validator = None if fast else Validator([])
        reader = GroupReader(Path(folder), "t", {"t": "t"}, lambda _: ("id",), validators=lambda _: validator)
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


@settings(deadline=None, max_examples=60)
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
        record = Captured.read(changes([case.text]), NOWHERE).record
    except UndecodableError:
        assert strictly(case.text) is None
    else:
        assert record.new_image is not None
        assert shown(orjson.dumps(record.new_image)) == strictly(case.text)
