"""Statements of users only read, and open no file but those that were granted. The attacks come from DuckDB's own lists."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from ddb_lake.engine.read_only import REFUSED_TABLE_FUNCTIONS, as_relation, limit_to_files, read_only_statements
from ddb_lake.engine.session import S3Access, Session, connect
from ddb_lake.engine.sql import literal
from ddb_lake.errors import UsageError

REVIEWED_TABLE_FUNCTIONS = """
    duckdb_columns duckdb_constraints duckdb_coordinate_systems duckdb_databases duckdb_dependencies duckdb_extensions
    duckdb_functions duckdb_indexes duckdb_keywords duckdb_memory duckdb_optimizers duckdb_profiling_settings
    duckdb_schemas duckdb_secret_types duckdb_sequences duckdb_settings duckdb_table_sample duckdb_tables
    duckdb_temporary_files duckdb_types duckdb_variables duckdb_views generate_series glob histogram histogram_values
    icu_calendar_names json_each json_tree parquet_bloom_probe parquet_file_metadata parquet_full_metadata
    parquet_kv_metadata parquet_metadata parquet_scan parquet_schema pg_timezone_names pragma_collations
    pragma_database_size pragma_metadata_info pragma_platform pragma_show pragma_storage_info pragma_table_info
    pragma_user_agent pragma_version query_table range read_blob read_csv read_csv_auto read_json read_json_auto
    read_json_objects read_json_objects_auto read_ndjson read_ndjson_auto read_ndjson_objects read_parquet read_text
    repeat repeat_row seq_scan sniff_csv summary test_all_types test_vector_types unnest
    duckdb_available_metrics duckdb_dialects duckdb_eviction_queues duckdb_extension_repositories
    duckdb_external_resource_types duckdb_grammar_extensions duckdb_secret_type_parameters duckdb_triggers
    parquet_page_index read_single_csv_file read_single_json_file read_single_parquet_file
""".split()  # noqa: SIM905  # shorter than a list
"""Table functions that return rows and do nothing else. A new version of DuckDB may add some: review them before this list."""

STATEMENTS = {
    "ALTER": "ALTER TABLE kept ADD COLUMN b INTEGER",
    "ANALYZE": "ANALYZE",
    "ATTACH": "ATTACH 'FILE' AS other",
    "CALL": "CALL pragma_version()",
    "COPY": "COPY kept TO 'FILE'",
    "COPY_DATABASE": "COPY FROM DATABASE memory TO other",
    "CREATE": "CREATE MACRO one() AS 1",
    "DELETE": "DELETE FROM kept",
    "DETACH": "DETACH other",
    "DROP": "DROP TABLE kept",
    "EXECUTE": "EXECUTE prepared",
    "EXPLAIN": "EXPLAIN ANALYZE COPY kept TO 'FILE'",
    "EXPORT": "EXPORT DATABASE 'FILE'",
    "INSERT": "INSERT INTO kept VALUES (1)",
    "LOAD": "INSTALL httpfs",
    "MERGE_INTO": "MERGE INTO kept USING range(1) r ON true WHEN MATCHED THEN DELETE",
    "PRAGMA": "PRAGMA enable_profiling",
    "PREPARE": "PREPARE prepared AS SELECT 1",
    "SET": "SET memory_limit = '9GB'",
    "TRANSACTION": "BEGIN",
    "UPDATE": "UPDATE kept SET a = 1",
    "VACUUM": "VACUUM",
    "VARIABLE_SET": "SET VARIABLE x = 1",
}
"""A statement of each kind of DuckDB that does more than read."""

IS_DUCKDB_2 = duckdb.__version__.startswith("2.")

REFUSED_BY_DUCKDB_2 = (
    "PIVOT granted ON a USING count(*)",
    "FROM (PIVOT granted ON a)",
    "PRAGMA table_info('granted')",
)
"""Statements that DuckDB 2 parses as several statements, or as a PRAGMA, which could do more than read."""

PARSED_AS = {"ANALYZE": "VACUUM", "COPY_DATABASE": "PRAGMA" if IS_DUCKDB_2 else "TRANSACTION", "VARIABLE_SET": "SET"}
"""Kinds that DuckDB's parser returns as another one."""

NOT_WRITTEN = {"INVALID", "CREATE_FUNC", "EXTENSION", "LOGICAL_PLAN", "MULTI", "RELATION", "SELECT"}
"""Kinds without an example: SELECT reads, and the others are internal."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A session with the table `kept` and one granted file."""
    tmp_path = tmp_path_factory.mktemp("granted")
    with connect() as session:
        session.con.execute("CREATE TABLE kept AS SELECT 1 AS a")
        granted = str(tmp_path / "granted.parquet")
        session.con.execute(f"COPY kept TO {literal(granted)}")
        session.con.execute(f"CREATE VIEW granted AS FROM read_parquet({literal(granted)})")
        limit_to_files(session, [granted])
        yield session


def executed(session: Session, sql: str) -> list[tuple[object, ...]]:
    """The rows of a statement that is accepted."""
    for statement in read_only_statements(session.con, sql):
        session.con.execute(statement)
    rows: list[tuple[object, ...]] = session.con.fetchall()
    return rows


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM granted",
        "FROM granted",
        "TABLE granted",
        "(SELECT 1 AS a)",
        "WITH x AS (FROM granted) FROM x",
        "VALUES (1)",
        "SELECT 1 AS a;",
        "SELECT query, checkpoint FROM (SELECT 1 AS query, 2 AS checkpoint) WHERE query IN (1)",
        "PIVOT granted ON a IN (1) USING count(*)",
        "UNPIVOT granted ON a",
        "DESCRIBE granted",
        "SUMMARIZE granted",
        "SHOW TABLES",
        "FROM pragma_table_info('granted')",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE FROM granted",
        "explain (analyze, format json) SELECT 1",
        "EXPLAIN (SELECT 1)",
        "FROM query_table('granted')",
    ],
)
def test_statement_that_reads_runs(limited: Session, sql: str) -> None:
    assert executed(limited, sql)


def test_every_kind_of_statement_has_an_example() -> None:
    kinds = {name for name, value in vars(duckdb.StatementType).items() if isinstance(value, duckdb.StatementType)}
    assert kinds == STATEMENTS.keys() | NOT_WRITTEN


@pytest.mark.parametrize(("kind", "sql"), STATEMENTS.items())
def test_statement_that_does_more_is_refused(limited: Session, tmp_path: Path, kind: str, sql: str) -> None:
    text = sql.replace("FILE", str(tmp_path / "attacked"))
    assert limited.con.extract_statements(text)[0].type.name == PARSED_AS.get(kind, kind)
    before = sorted(tmp_path.iterdir())
    for attack in (text, f"/* FROM granted */ {text}", f"SELECT 1; {text}", f"{text}; SELECT 1"):
        with pytest.raises(UsageError, match="only reads"):
            read_only_statements(limited.con, attack)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "-- nothing",
        "SELECT 1; SELECT 2",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'",
        "EXPLAIN /* SELECT */ ANALYZE DELETE FROM kept",
        "EXPLAIN (ANALYZE) INSERT INTO kept VALUES (1)",
        "CREATE TYPE t AS ENUM ('a'); FROM granted",
        "SELECT '\udcff'",
    ],
)
def test_other_text_is_refused(limited: Session, sql: str) -> None:
    with pytest.raises(UsageError):
        read_only_statements(limited.con, sql)


@pytest.mark.parametrize(
    "sql", ["SELECT 'ü;' AS a;", "SELECT 'ü;' AS a ; -- b;", "/* ; */ SELECT 'ü;' AS a -- b", "VALUES ('ü;') ;; "]
)
def test_statement_can_be_a_part_of_another(limited: Session, sql: str) -> None:
    assert limited.rows(f"SELECT * FROM {as_relation(limited.con, sql)}") == [("ü;",)]


@pytest.mark.parametrize("sql", REFUSED_BY_DUCKDB_2)
def test_statement_that_duckdb_2_does_not_parse_as_one_select(limited: Session, sql: str) -> None:
    if not IS_DUCKDB_2:
        assert executed(limited, sql)
        return
    with pytest.raises(UsageError) as refused:
        read_only_statements(limited.con, sql)
    assert refused.value.hint


@pytest.mark.parametrize("sql", ["EXPLAIN FROM granted", "PIVOT granted ON a USING count(*)"])
def test_statement_that_is_no_relation_is_refused(limited: Session, sql: str) -> None:
    with pytest.raises(UsageError) as refused:
        as_relation(limited.con, sql)
    assert refused.value.hint and refused.value.__cause__ is None


def test_every_table_function_is_reviewed(limited: Session) -> None:
    kinds = "function_type IN ('table', 'table_macro')"
    found = {name for (name,) in limited.rows(f"SELECT function_name FROM duckdb_functions() WHERE {kinds}")}
    reviewed = set(REVIEWED_TABLE_FUNCTIONS)
    assert found - reviewed - REFUSED_TABLE_FUNCTIONS == set()
    assert reviewed & REFUSED_TABLE_FUNCTIONS == set()


@pytest.mark.parametrize("name", sorted(REFUSED_TABLE_FUNCTIONS))
def test_function_that_does_more_is_not_called(limited: Session, name: str) -> None:
    for call in (f"{name}()", f'"{name.upper()}" /* a /* b */ */ ()', f"system.main.{name}--\n()", f"{name}\u00a0()"):
        with pytest.raises((UsageError, duckdb.ParserException)):
            read_only_statements(limited.con, f"FROM {call}")


def test_no_function_opens_another_file(limited: Session, tmp_path: Path) -> None:
    """Each table function of DuckDB with a text as its first parameter, and each way to name a file."""
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n12345678\n")
    (tmp_path / "link.csv").symlink_to(secret)
    names = limited.rows(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'table_macro')"
        " AND (parameter_types[1] IN ('VARCHAR', 'VARCHAR[]', 'ANY') OR function_name LIKE 'read%')"
    )
    calls = [f"{name}({argument})" for (name,) in names for argument in ("{0}", "[{0}]")]
    calls += ["{0}", 'read_csv("{1}")', "read_text(getvariable('x') || {0})"]
    places = [str(secret), str(tmp_path / "link.csv"), f"{tmp_path}/granted.parquet/../secret.csv", f"{tmp_path}/*",
              f"file://{secret}", f"{secret}::x", "http://127.0.0.1:9/a.csv", "s3://elsewhere/a.csv"]  # fmt: skip
    reached = 0
    for call in calls:
        for place in places:
            text = f"SELECT * FROM {call.format(literal(place), place)}"
            try:
                rows = executed(limited, text)
            except (UsageError, duckdb.Error):
                reached += 1
                continue
            assert "12345678" not in str(rows), text
            assert "secret.csv" not in str(rows) or "*" not in place, text
    assert reached > len(calls)
    assert executed(limited, "FROM granted") == [(1,)], "the session still works"


@pytest.mark.parametrize(
    "name", ["memory_limit", "threads", "enable_external_access", "allowed_paths", "secret_directory"]
)
def test_settings_are_locked(limited: Session, name: str) -> None:
    with pytest.raises(duckdb.InvalidInputException, match="locked"):
        limited.con.execute(f"SET {name} = '1'")


@pytest.mark.duckdb_wheels
def test_credentials_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "AWS_ACCESS_KEY_ID", "OFPROCESS1")
    monkeypatch.setitem(os.environ, "AWS_SECRET_ACCESS_KEY", "OFPROCESS2")
    monkeypatch.setitem(os.environ, "AWS_SESSION_TOKEN", "OFPROCESS3")
    with connect(S3Access("eu-west-1", "OFLAKE1", "OFLAKE2", "OFLAKE3")) as session:
        limit_to_files(session, ["s3://lake/a.parquet"])
        for sql in (
            "FROM duckdb_settings()",
            "SELECT current_setting('s3_secret_access_key')",
            "FROM duckdb_variables()",
        ):
            shown = str(executed(session, sql))
            assert "OFPROCESS" not in shown and "OFLAKE" not in shown
        for sql in (
            "FROM duckdb_secrets()",
            "FROM which_secret('s3://lake/', 's3')",
            "SELECT getenv('AWS_SESSION_TOKEN')",
        ):
            with pytest.raises((UsageError, duckdb.CatalogException)):
                executed(session, sql)
