"""The tree of errors: attributes, the messages that are built from them, and the errors of libraries in its terms."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import duckdb
import pytest

from ddb_lake import errors
from ddb_lake.core.operations.library_errors import reading, translate
from ddb_lake.errors import (
    DamagedError,
    DatabaseError,
    DdbLakeError,
    DeniedError,
    MemoryLimitError,
    UnreachableError,
    UsageError,
)

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, DdbLakeError)]
FACTS: dict[str, Any] = {"table": "orders", "uri": "s3://bucket/a.gz", "offset": 512, "hint": "correct the file"}


@pytest.mark.parametrize("kind", CLASSES)
def test_class_is_exported_documented_and_in_the_tree(kind: type[DdbLakeError]) -> None:
    assert kind.__name__ in errors.__all__
    assert kind.__doc__
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "no JSON"),
        ({"table": "orders"}, "table orders: no JSON"),
        ({"uri": "s3://bucket/a.gz"}, "s3://bucket/a.gz: no JSON"),
        ({"hint": "correct the file"}, "no JSON; correct the file"),
        ({"expected": "an object", "found": "a list"}, "no JSON, expected an object, found a list"),
        (FACTS, "table orders: s3://bucket/a.gz, byte 512: no JSON; correct the file"),
    ],
)
def test_message_has_the_facts_that_are_known(facts: dict[str, Any], message: str) -> None:
    error = UsageError("no JSON", **facts)

    assert str(error) == message
    assert error.what == "no JSON"
    assert {name: getattr(error, name) for name in facts} == facts


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no JSON", **FACTS),
        DamagedError("it is not there", uri="/lake/a.parquet", table="orders"),
        DeniedError("access is denied", uri="/lake/a.parquet"),
        DatabaseError("a value is too long", is_row_error=True),
        MemoryLimitError(),
    ],
)
def test_error_of_another_process_is_equal(error: DdbLakeError) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("library_error", "kind"),
    [
        (FileNotFoundError("no such file"), DamagedError),
        (IsADirectoryError("a folder"), DamagedError),
        (PermissionError("permission denied"), DeniedError),
        (ConnectionResetError("reset by peer"), UnreachableError),
        (TimeoutError("timed out"), UnreachableError),
        (OSError("AWS Error SLOW_DOWN during GetObject operation"), UnreachableError),
        (OSError("AWS Error ACCESS_DENIED during GetObject operation"), DeniedError),
        (OSError("AWS Error NO_SUCH_KEY during GetObject operation"), DamagedError),
        (duckdb.IOException("No files found that match the pattern"), DamagedError),
        (duckdb.InvalidInputException("No magic bytes found at end of file"), DamagedError),
    ],
)
def test_error_of_a_library_keeps_its_file_and_table(library_error: Exception, kind: type[DdbLakeError]) -> None:
    error = translate(library_error, "s3://bucket/lake/a.parquet", "orders")

    assert type(error) is kind
    assert (error.uri, error.table) == ("s3://bucket/lake/a.parquet", "orders")
    assert error.what
    assert (error.hint is None) == (kind is UnreachableError)


def test_unknown_error_of_a_reader_is_damage_with_the_cause() -> None:
    with pytest.raises(DamagedError) as raised, reading("/lake/m.avro", "orders"):
        raise ValueError("bad varint")

    assert (raised.value.uri, raised.value.table) == ("/lake/m.avro", "orders")
    assert isinstance(raised.value.__cause__, ValueError)


def test_error_that_is_ours_is_not_translated() -> None:
    assert translate(UsageError("wrong")) is None
