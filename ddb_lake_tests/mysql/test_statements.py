from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ddb_lake.errors import ConfigError
from ddb_lake.mysql import statements as sql
from ddb_lake.mysql.statements import SqlColumn, Target
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples
from ddb_lake_tests.support.mysql_pages import Pages

NAMES = st.text(
    st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"]), min_size=1, max_size=64
).filter(sql.is_identifier)
TEXTS = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=80)
EXECUTED = examples(15, 60, suppress=SHARED_FIXTURE)


@given(NAMES)
def test_identifier_is_quoted_so_that_nothing_of_it_is_sql(name: str) -> None:
    quoted = sql.identifier(name)

    assert quoted[0] == quoted[-1] == "`"
    assert "`" not in quoted[1:-1].replace("``", "")
    assert quoted[1:-1].replace("``", "`") == name


@given(TEXTS)
def test_literal_is_quoted_so_that_nothing_of_it_is_sql(text: str) -> None:
    quoted = sql.literal(text)

    assert quoted[0] == quoted[-1] == "'"
    assert "'" not in quoted[1:-1].replace("''", "")
    assert quoted[1:-1].replace("''", "'") == text


@pytest.mark.parametrize("name", ["", "a" * 65, "a\0b", "a ", "\r", "a\t", "a\n", "\U0001f600", "\ud800"])
def test_identifier_that_mysql_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no name for MySQL"):
        sql.identifier(name)


@EXECUTED
@given(name=NAMES, text=TEXTS)
@example(name="\u00a0", text="\\'\r\n")
@example(name="\r`\x01", text="")
def test_server_reads_names_and_texts_as_they_are(pages: Pages, name: str, text: str) -> None:
    with pages.database.driver.cursor() as cursor:
        cursor.execute(f"CREATE OR REPLACE TEMPORARY TABLE named ({sql.identifier(name)} TEXT CHARACTER SET utf8mb4)")
        cursor.execute(f"INSERT INTO named ({sql.identifier(name)}) VALUES ({sql.literal(text)})")
        cursor.execute("SELECT * FROM named")
        assert [column[0] for column in cursor.description] == [name]
        assert cursor.fetchall() == ((text,),)


@given(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.lower), NAMES)
def test_statements_hold_names_only_quoted(names: list[str], table: str) -> None:
    target = Target("db", table, tuple(SqlColumn(f"{name}"[:64], "INT") for name in names), (names[0],))
    bare = sql.Target("db", "t", tuple(SqlColumn(f"c{i}", "INT") for i in range(len(names))), ("c0",))

    for make in (
        lambda t: sql.load_changes(t, sql.from_client("/x")),
        lambda t: sql.load_rows(t, sql.from_client("/x")),
        lambda t: sql.upsert_changes(t, ["REMOVE"]),
        sql.upsert_rows,
        sql.create_target,
        lambda t: sql.create_staging(t, sql.CHANGE_FLAGS),
    ):
        assert _without_names(make(target)) == _without_names(make(bare))


def _without_names(text: str) -> str:
    return re.sub(r"`(?:[^`]|``)*`", "?", text)


def test_aurora_reads_the_file_itself_one_file_by_its_region() -> None:
    target = Target("Demo", "W", (SqlColumn("id", "INT"),), ("id",))

    text = sql.load_changes(target, sql.from_s3("s3://bucket/it's/a key.csv", "eu-west-1"))

    assert text.startswith("LOAD DATA FROM S3 FILE 's3-eu-west-1://bucket/it''s/a key.csv' INTO TABLE `Demo`.")
    assert "LOCAL" not in text
