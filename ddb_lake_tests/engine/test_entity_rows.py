"""The division of rows into entities in SQL gives what the patterns give in Python."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.key_patterns import EntityRule, KeyPattern, entity_of
from ddb_lake.core.schema.table_schema import Column, TableSchema
from ddb_lake.engine.entity_rows import check_rules, divided_rows_sql, entity_items_sql, register_entity_functions
from ddb_lake.engine.session import connect
from ddb_lake.errors import ConfigError
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.entity_histories import pattern_texts

SCHEMA = TableSchema(("PK", "SK"), (Column(("PK",), "S", "PK", "string"), Column(("SK",), "N", "SK", "long")))


def _rules(*patterns: dict[str, str], types: dict[str, str] | None = None) -> list[EntityRule]:
    return [
        EntityRule(f"e{number}", {name: KeyPattern.parse(text) for name, text in one.items()}, types or {})
        for number, one in enumerate(patterns)
    ]


def _divided(rules: list[EntityRule], rows: list[tuple[str, int | None, str | None]]) -> list[list[dict[str, Any]]]:
    """The items of each entity, by SQL, for rows of PK, SK and `_rescued`."""
    import json

    with connect() as session:
        register_entity_functions(session)
        columns = {
            "u:PK": pa.array([pk for pk, _, _ in rows], pa.string()),
            "u:SK": pa.array([sk for _, sk, _ in rows], pa.int64()),
            "_rescued": pa.array([rescued for _, _, rescued in rows], pa.string()),
            "_changed_at": pa.nulls(len(rows), pa.timestamp("us")),
            "_source": pa.nulls(len(rows), pa.string()),
            "_key_hash": pa.nulls(len(rows), pa.int64()),
        }
        session.con.register("given", pa.table(columns))
        session.con.execute(f"CREATE TABLE divided AS SELECT * FROM {divided_rows_sql('given', SCHEMA, rules, False)}")
        return [
            [
                json.loads(item)
                for (item,) in session.rows(
                    f"SELECT item FROM {entity_items_sql('divided', SCHEMA.key, rules, number)}"
                )
            ]
            for number in range(len(rules))
        ]


@examples(25, 500)
@given(
    patterns=st.lists(st.fixed_dictionaries({}, optional={"PK": pattern_texts()}), min_size=1, max_size=4),
    keys=st.lists(st.tuples(st.text("ab#{*\\\n.é\0🙂", min_size=1, max_size=8), st.integers(-20, 20)), unique=True),
)
def test_sql_divides_as_python(patterns: list[dict[str, str]], keys: list[tuple[str, int]]) -> None:
    rules = _rules(*patterns)
    found = _divided(rules, [(pk, sk, None) for pk, sk in keys])
    wanted: list[list[dict[str, Any]]] = [[] for _ in rules]
    for pk, sk in keys:
        texts = {"PK": pk, "SK": str(sk)}
        rule = entity_of(rules, texts)
        if rule is not None:
            parts = {f"{{{name}}}": {"S": text} for name, text in (rule.match(texts) or {}).items()}
            wanted[rules.index(rule)].append({**parts, "PK": {"S": pk}, "SK": {"N": str(sk)}})
    for held, expected in zip(found, wanted, strict=True):
        assert sorted(map(str, held)) == sorted(map(str, expected))


def test_number_key_that_its_column_does_not_hold_is_matched_by_its_digits() -> None:
    rescued = '{"/SK":{"N":"123456789012345678901"}}'
    (found,) = _divided(_rules({"SK": "123{rest}"}), [("a", None, rescued), ("b", 1234, None), ("c", 5, None)])
    assert sorted(one["{rest}"]["S"] for one in found) == ["4", "456789012345678901"]


def test_declared_part_is_a_number_or_null() -> None:
    rules = _rules({"PK": "O#{n}"}, types={"n": "long"})
    (found,) = _divided(rules, [("O#007", 1, None), ("O#x", 1, None), ("O#1e3", 1, None), ("O#-0.50", 1, None)])
    assert {one["PK"]["S"]: one["{n}"] for one in found} == {
        "O#007": {"N": "7"},
        "O#x": {"NULL": True},
        "O#1e3": {"N": "1000"},
        "O#-0.50": {"N": "-0.5"},
    }


def test_pattern_that_does_not_fit_the_key() -> None:
    binary = TableSchema(("PK",), (Column(("PK",), "B", "PK", "binary"),))
    check_rules(binary, _rules({"PK": "*"}))
    for schema, patterns, said in (
        (binary, {"PK": "a*"}, "is binary"),
        (SCHEMA, {"id": "*"}, "no key attribute"),
        (SCHEMA, {"PK": "{sk}"}, "rename the part"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_rules(schema, _rules(patterns))
