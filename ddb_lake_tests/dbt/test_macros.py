"""The macros give the value that the lake's column has, for each value of DynamoDB JSON in each spelling."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ddb_lake.core.schema.table_schema import Column, Role, TableSchema
from ddb_lake.dbt import models
from ddb_lake.engine.projection import Projection
from ddb_lake.engine.session import Session, connect
from ddb_lake.engine.sql import carried
from ddb_lake_tests.dbt.athena import FUNCTIONS, translated
from ddb_lake_tests.support.dynamodb_values import CASES
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples

MACROS = Path(models.__file__).parent / "package" / "macros" / "dynamodb.sql"
PACKAGE = "ddb_lake"
NUMBERS = (
    "long", "decimal(38,0)", "decimal(38,2)", "decimal(38,37)", "decimal(18,4)", "decimal(9,0)", "decimal(4,2)", "double",
    "string",
)  # fmt: skip
TYPES = {
    "S": ("string",),
    "N": NUMBERS,
    "B": ("binary",),
    "BOOL": ("boolean",),
    "SS": ("list<string>",),
    "NS": tuple(f"list<{name}>" for name in NUMBERS if name != "double"),
    "BS": ("list<binary>",),
}
COLUMNS = [(tag, name) for tag, names in TYPES.items() for name in names]
SPELLINGS = (
    "1E+2", "1e2", "1E2", "-1.5e-130", "1E-38", "1E-39", "1E+37", "1E+38", "1E+39", "9.9E+125", "0E+999", "0e-999", "-0", "-0.00",
    "+5", "+.5E+1", "007", "0000000000000000000000000000000000000000000000007", ".5", "5.", "-.5e1", "100e-2", "1.10", "0.10E+1",
    "9223372036854775807", "-9223372036854775808", "9223372036854775808", "922337203685477580.7E1", "12345678901234567890e-10",
    "1" + "0" * 60 + "e-40", "1" + "0" * 60 + "e-60", "0." + "0" * 60 + "1e61", "0." + "0" * 60 + "1e60", "9" * 38, "9" * 39,
    "9" * 37 + ".9", "0." + "9" * 38, "0." + "9" * 39, "99.99", "99.990", "999.9E-1", "99.999", "100.00", "1e0000000002",
)  # fmt: skip


class Returned(BaseException):
    """What a macro returns, as dbt has it: the first argument."""


class Context(jinja2.runtime.Context):
    """A context in which a macro can return a value that is no text."""

    def call(__self, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if __obj is Returned:
            raise Returned(*args)
        try:
            return super().call(__obj, *args, **kwargs)
        except Returned as returned:
            return returned.args[0]


class Environment(jinja2.Environment):
    """dbt's, as far as our macros use it."""

    context_class = Context


class Adapter:
    """Finds the macro of a dialect, in the template that is rendered."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    @jinja2.pass_context
    def dispatch(self, context: jinja2.runtime.Context, name: str, package: str) -> Any:
        assert package == PACKAGE
        return context.vars[f"{self._dialect}__{name}"]


def x(tag: str, name: str, role: Role = "plain") -> Column:
    return Column(("x",), tag, "x", name, role)


def column_sql(dialect: str, column: Column) -> str:
    """What `item_column` writes for a column `x`, in DuckDB's SQL."""
    environment = Environment(extensions=["jinja2.ext.do"])
    macros = MACROS.read_text().replace(f"{PACKAGE}.", "")  # one template has them all
    template = environment.from_string(macros + "{{ item_column(column, 'item') }}")
    found = {"name": "x", "tag": column.tag, "type": column.type, "path": ["x"], "declared": column.role == "declared"}
    sql = template.render({"return": Returned, "adapter": Adapter(dialect), "column": found}).strip()
    query = f"SELECT {sql} AS x FROM given"
    return query if dialect == "duckdb" else translated(query)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect() as opened:
        for function in FUNCTIONS[:1]:
            opened.con.execute(f"CREATE OR REPLACE TEMP MACRO {function}")
        yield opened


def differing(session: Session, dialect: str, column: Column, values: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """The values that the macro reads differently from the lake."""
    items = [f'{{"id":{{"S":"k"}},"x":{value}}}' for value in values]
    session.con.register("items", pa.table({"place": list(range(len(items))), "item": items}))
    session.con.execute("CREATE OR REPLACE TABLE given AS SELECT *, 'other' AS n, 0 AS d, 0 AS p, 0 AS v FROM items")
    schema = TableSchema(("id",), (Column(("id",), "S", "id", "string"), column))
    projection = Projection(schema)
    projection.register(session.con)
    source = "(SELECT item::JSON AS item, place FROM given)"
    lake = session.rows(f"SELECT {carried('x')} FROM ({projection.select(source, ['place'])}) ORDER BY place")
    wanted = column_sql(dialect, column).removesuffix("FROM given")
    rows = session.rows(f"{wanted}, place FROM given ORDER BY place")
    assert len(rows) == len(lake) == len(values)
    pairs = zip(values, (row[0] for row in rows), (row[0] for row in lake), strict=True)
    return [(value, macro, held) for value, macro, held in pairs if macro != held]


@pytest.mark.parametrize("dialect", ["duckdb", "athena"])
@pytest.mark.parametrize(("tag", "name"), COLUMNS)
def test_macro_gives_the_value_of_the_column_for_every_case(
    session: Session, dialect: str, tag: str, name: str
) -> None:
    cases = [case.text for case in CASES if case.reason is None]
    spelled = [json.dumps({"N": number}) for number in SPELLINGS]
    sets = [json.dumps({"NS": members}) for number in SPELLINGS for members in ([number], ["1", number])]
    assert differing(session, dialect, x(tag, name), [*cases, *spelled, *sets]) == []


@pytest.mark.parametrize(
    ("dialect", "tag", "name"), [("duckdb", "N", "string"), ("athena", "S", "string"), ("duckdb", "ANY", "json")]
)
def test_macro_gives_the_value_of_a_declared_column_for_every_case(
    session: Session, dialect: str, tag: str, name: str
) -> None:
    from ddb_lake.dbt.plugin import plain_document  # importing dbt takes a second

    session.con.create_function("ddb_plain_document", plain_document, ["VARCHAR"], "VARCHAR", null_handling="special")
    cases = [case.text for case in CASES if case.reason is None]
    try:
        assert differing(session, dialect, x(tag, name, "declared"), cases) == []
    finally:
        session.con.remove_function("ddb_plain_document")


digits = st.text("0123456789", min_size=1, max_size=45)
spellings = st.builds(
    lambda sign, whole, fraction, exponent: f"{sign}{whole}{fraction}{exponent}",
    st.sampled_from(("", "-", "+")),
    digits,
    st.one_of(st.just(""), digits.map(".{}".format)),
    st.one_of(st.just(""), st.integers(-60, 60).map("e{}".format), st.integers(0, 60).map("E+{}".format)),
)


@examples(3, 10, suppress=SHARED_FIXTURE)
@given(
    st.lists(spellings, min_size=1, max_size=20), st.sampled_from(NUMBERS[:7]), st.sampled_from(("duckdb", "athena"))
)
@example(["1E+2"], "long", "duckdb")
@example(["-292541211459"], "decimal(9,0)", "duckdb")
def test_macro_gives_the_exact_number_or_null(session: Session, numbers: list[str], name: str, dialect: str) -> None:
    values = [json.dumps({"N": number}) for number in numbers]
    assert differing(session, dialect, x("N", name), values) == []


def test_macro_gives_what_exact_arithmetic_gives(session: Session) -> None:
    sql = column_sql("duckdb", x("N", "decimal(38,2)")).removesuffix("FROM given")
    for number in SPELLINGS:
        (found,) = session.con.execute(f"{sql} FROM (SELECT ? AS item)", [json.dumps({"x": {"N": number}})]).fetchone()
        exact = Fraction(Decimal(number))
        fits = abs(exact) < 10**36 and (exact * 100).denominator == 1
        assert (None if found is None else Fraction(found)) == (exact if fits else None), number
