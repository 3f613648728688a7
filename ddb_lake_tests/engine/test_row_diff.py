"""Two relations of items compared by hashes: only keys whose items may differ are found, and all that do."""

from __future__ import annotations

import random
from pathlib import Path

import orjson
import pytest

from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.engine import row_diff
from ddb_lake.engine.key_text import key_hash_sql
from ddb_lake.engine.row_diff import (
    document_key_sql,
    find_differing_keys,
    fingerprint_sql,
    register_functions,
    reordered_sql,
    write_hashes,
)
from ddb_lake.engine.session import Session, connect
from ddb_lake.engine.sql import literal

KEY = ("id", 'sort"key')


def item(number: int, **more: Item) -> Item:
    return {"id": {"S": f"k{number}"}, 'sort"key': {"N": str(number)}, **more}


def reduce(session: Session, items: list[Item], target: Path) -> None:
    register_functions(session.con)
    lines = " UNION ALL ".join(f"SELECT {literal(orjson.dumps({'Item': i}).decode())} AS item" for i in items)
    keyed = f"(SELECT *, {document_key_sql(KEY)} AS _key FROM ({lines}))"
    rows = f"(SELECT *, {key_hash_sql()} AS _key_hash FROM {keyed})"
    write_hashes(session, rows, fingerprint_sql("item"), target)


@pytest.mark.parametrize("joined_rows", [1, 20_000_000])
def test_differing_keys_are_found_and_equal_ones_in_other_order_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined_rows: int
) -> None:
    monkeypatch.setattr(row_diff, "JOINED_ROWS", joined_rows)
    same = [item(n, tags={"SS": ["a", "b"]}, note={"NULL": True}, other={"NULL": True}) for n in range(40)]
    left = [*same, item(100), item(101, n={"N": "1.10"}), item(102, n={"N": "2"}), item(103), item(103)]
    right = [
        *(dict(reversed(one.items())) for one in same),
        item(101, n={"N": "1.1"}),
        item(102, n={"N": "2.01"}),
        item(103),
        item(104),
    ]
    random.Random(1).shuffle(right)
    with connect() as session:
        reduce(session, left, tmp_path / "left.parquet")
        reduce(session, right, tmp_path / "right.parquet")
        count = find_differing_keys(session, tmp_path / "left.parquet", tmp_path / "right.parquet")
        found = {h for (h,) in session.rows("SELECT _key_hash FROM differing_keys")}
    hashes = {n: key_hash(key_text(item(n), KEY)) for n in (100, 101, 102, 103, 104)}
    assert count == len(found)
    assert found - {hashes[101]} == {hashes[n] for n in (100, 102, 103, 104)}  # 1.10 may be looked at, as an item


@pytest.mark.parametrize(
    "value",
    [
        {"S": "x:y"},
        {"S": "Zürich 😀"},
        {"N": "1.0"},
        {"N": "-12"},
        {"N": "1E+3"},
        {"N": "007"},
        {"B": "aGk="},
        {"S": ""},
    ],
)
def test_key_of_a_document_is_the_key_text_of_its_item(value: Item) -> None:
    whole: Item = {"a/b~c": value, "z": {"N": "5"}, "rest": {"S": "a/b~c"}}
    with connect() as session:
        register_functions(session.con)
        document = literal(orjson.dumps({"Item": whole}).decode())
        found = session.value(f"SELECT {document_key_sql(['a/b~c', 'z'], 'Item', document)}")
    assert found == key_text(whole, ["a/b~c", "z"])


ORDER = (("id",), ("x/~",), ("map",), ("map", "a"), ("map", "inner"), ("map", "inner", "b"))
MAP = {"M": {"inner": {"M": {"b": {"N": "1"}}}, "a": {"S": "}{"}}}


@pytest.mark.parametrize(
    ("line", "reordered"),
    [
        (
            {"Item": {"map": MAP, "x/~": {"S": "y"}, "id": {"S": "k"}}},
            {"Item": {"id": {"S": "k"}, "x/~": {"S": "y"}, "map": {"M": dict(reversed(MAP["M"].items()))}}},
        ),
        ({"Item": {"map": {"M": {}}, "id": {"S": "k"}}}, {"Item": {"id": {"S": "k"}, "map": {"M": {}}}}),
        ({"Item": {"x/~": {"S": "y"}, "id": {"S": "k"}, "more": {"S": "z"}}}, None),
        ({"Item": {"map": {"M": {"c": {"S": "z"}}}, "id": {"S": "k"}}}, None),
        ({"Item": {"map": {"S": "z"}, "id": {"S": "k"}}}, None),
        ({"Item": {"map": {"M": {}, "S": "z"}, "id": {"S": "k"}}}, None),
        ({"Item": {"x/~": {"S": "y"}, "id": {"S": "k"}}, "Other": 1}, None),
        ('{"Item":{"x/~":{"S":"y"},"id":{"S":"k"},"x/~":{"S":"z"}}}', None),
        ('{"Item":{"map":{"M":{"a":{"S":"y"},"a":{"S":"z"}}},"id":{"S":"k"}}}', None),
    ],
)
def test_reordered_line_has_all_of_the_line_or_is_the_line(line: Item | str, reordered: Item | None) -> None:
    text = line if isinstance(line, str) else orjson.dumps(line).decode()
    with connect() as session:
        register_functions(session.con)
        found = session.rows(
            f"SELECT _key, reordered FROM {reordered_sql(['id'], ORDER, f'(SELECT {literal(text)} AS item)')}"
        )
    assert found == [("S1:k", text if reordered is None else orjson.dumps(reordered).decode())]
