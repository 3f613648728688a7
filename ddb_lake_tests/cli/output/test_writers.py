"""Lines, JSON arrays and CSV of any length."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.output.writers import csv_lines, json_array


@pytest.mark.parametrize("rows", [[], [(1,)], [(1,), (None,), (3,)]])
def test_json_array_is_one_document(rows: list[tuple[Any, ...]]) -> None:
    document = b"\n".join(json_array(["a"], rows))
    assert json.loads(document) == [{"a": row[0]} for row in rows]


def test_json_array_keeps_columns_of_the_same_name_apart() -> None:
    document = b"".join(json_array(["id", "id", "id_1", "id"], [(1, 2, 3, 4)]))
    assert document == b'[{"id":1,"id_2":2,"id_1":3,"id_3":4}]'


def test_csv_distinguishes_null_from_the_empty_string() -> None:
    lines = list(csv_lines(["a", "b"], [(None, ""), (Decimal("1.50"), True)]))
    assert lines == [b"a,b", b',""', b"1.50,true"]


def test_csv_of_one_null_is_still_a_line() -> None:
    assert list(csv_lines(["a"], [(None,)])) == [b"a", b'""']


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=2)))
def test_csv_reads_back(rows: list[list[str]]) -> None:
    written = b"\n".join(csv_lines(["a", "b"], rows)).decode()
    assert list(csv.reader(io.StringIO(written, newline="")))[1:] == rows
