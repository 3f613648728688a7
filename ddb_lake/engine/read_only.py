"""Statements of users: which ones only read, and which files they may open.

Two independent limits hold. A statement must be one that only reads, by DuckDB's own parser (`read_only_statements`). And
the session that executes it opens no file and no address but those that were granted before (`limit_to_files`), and
keeps its settings. DuckDB grants reading and writing together, so each limit needs the other: the first prevents writes to
the lake's own files, the second reads of all other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import duckdb

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literals
from ddb_lake.errors import UsageError

REFUSED_TABLE_FUNCTIONS = frozenset({
    # start writing files, which in a limited session fails each later statement and aborts the process at its end
    "enable_logging", "disable_logging", "truncate_duckdb_logs", "enable_profiling", "disable_profiling",
    "duckdb_logs", "duckdb_log_contexts", "duckdb_logs_parsed",
    # run SQL from a text, which `read_only_statements` has not seen
    "query", "json_execute_serialized_sql",
    # follow an address in memory, or call Python
    "arrow_scan", "arrow_scan_dumb", "pandas_scan", "python_arrow_scan", "python_map_function",
    # show credentials' names and places
    "duckdb_secrets", "which_secret",
    # change or list state of the process
    "checkpoint", "force_checkpoint", "read_duckdb", "duckdb_approx_database_count", "duckdb_connection_count",
    "duckdb_external_file_cache", "duckdb_prepared_statements", "duckdb_live_query_metrics",
    # DuckDB 2: change its grammar, and register or call what makes resources outside
    "add_grammar_extension", "remove_grammar_extension", "create_external_resource", "register_external_resource",
    "register_external_resource_type", "deregister_external_resource", "destroy_external_resource",
    "duckdb_external_resources",
})  # fmt: skip
"""Table functions that a SELECT could call and that do more than return rows. A test lists the others of this DuckDB."""

READ_ONLY = "a query only reads the lake"
_HINT = (
    "write one SELECT (also FROM, WITH, VALUES, PIVOT), DESCRIBE, SUMMARIZE, SHOW or EXPLAIN; `--output FILE` writes"
    " the rows to a file"
)

_LIST_VALUES = "list the values: `PIVOT … ON status IN ('paid', 'open')`"

_EXPLAIN = re.compile(r"\s*EXPLAIN(?:\s+(?:ANALYZE|VERBOSE))*\s*(?P<options>\([^()]*\))?", re.IGNORECASE)
_EXPLAIN_WITHOUT_OPTIONS = re.compile(r"\s*EXPLAIN(?:\s+(?:ANALYZE|VERBOSE))*", re.IGNORECASE)
_CALL = re.compile(r"""\b(?P<name>\w+)"?[^\x21-\x7e]*(?=\(|--|/\*)""")
"""A name before a parenthesis, or before a comment that may precede one. Texts and comments match too, which is safe."""


def limit_to_files(session: Session, files: Iterable[str]) -> None:
    """Let a session open no file but these and those in its own folder, and no address. This cannot be undone.

    Its settings are locked: memory, threads, and the folder for spilled data stay as they are. Nothing is installed or loaded.
    https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview

    Args:
        session: a session that no other part of the program uses any more.
        files: paths and s3:// URIs, spelled as the session's views spell them.
    """
    con = session.con
    con.execute(f"SET allowed_paths = {literals(dict.fromkeys(files))}::VARCHAR[]")
    con.execute(f"SET allowed_directories = {literals([f'{session.folder}/'])}")
    con.execute("SET autoinstall_known_extensions = false")
    con.execute("SET autoload_known_extensions = false")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def read_only_statements(con: Any, sql: str) -> list[Any]:
    """Parse a text that must be one statement that only reads.

    Args:
        con: a connection after `limit_to_files`: the parser itself opens files for IMPORT DATABASE.
        sql: the user's text.

    Returns:
        DuckDB's statements for it, to be executed in this sequence. There is one, except for PIVOT: DuckDB makes temporary
        types for its columns first.

    Raises:
        UsageError: the text is no Unicode, has no statement or several, does not only read, or calls a function that does more than read.
        duckdb.Error: the text is no SQL.
    """
    if not _is_unicode(sql):
        raise UsageError(
            "the SQL is no UTF-8 text", hint="check the terminal's encoding, or the file that it comes from"
        )
    statements = con.extract_statements(sql)
    kinds = [statement.type for statement in statements]
    if not kinds:
        raise UsageError("there is no statement", hint=_HINT)
    if kinds == [duckdb.StatementType.EXPLAIN]:
        if not _explains_reading(con, sql):
            raise UsageError(f"{READ_ONLY}; EXPLAIN is for statements that only read", hint=_HINT)
    elif kinds[-1] != duckdb.StatementType.SELECT or not all(map(_is_pivot_type, statements[:-1])):
        if len(kinds) > 1 and all(kind == duckdb.StatementType.SELECT for kind in kinds):
            raise UsageError(f"{count_text(len(kinds), 'statement')} at once", hint="run one statement at a time")
        if duckdb.StatementType.MULTI in kinds:  # DuckDB 2: types for the columns of a PIVOT, then the PIVOT
            raise UsageError("a PIVOT without a list of values is several statements for DuckDB 2", hint=_LIST_VALUES)
        refused = next(kind for kind in kinds if kind != duckdb.StatementType.SELECT)
        raise UsageError(f"{READ_ONLY}; it does not run {refused.name.replace('_', ' ')} statements", hint=_HINT)
    if refused_calls := sorted(_called(sql) & REFUSED_TABLE_FUNCTIONS):
        raise UsageError(f"{READ_ONLY}; it does not call {', '.join(refused_calls)}()", hint=_HINT)
    return list(statements)


def as_relation(con: Any, sql: str) -> str:
    """A user's statement as a relation, to be a part of another statement.

    Args:
        con: a connection after `limit_to_files`.
        sql: the user's text.

    Raises:
        UsageError: as `read_only_statements`; also for EXPLAIN and for a PIVOT without a list of values, which DuckDB accepts alone only.
        duckdb.Error: the text is no SQL.
    """
    kinds = [statement.type for statement in read_only_statements(con, sql)]
    if kinds == [duckdb.StatementType.EXPLAIN]:
        raise UsageError("the result of EXPLAIN is no table", hint="print it, or write it as .csv or .json")
    if len(kinds) > 1:
        raise UsageError("a PIVOT without a list of values cannot be a part of another statement", hint=_LIST_VALUES)
    text = sql.encode()
    ends = [place for place, kind in duckdb.tokenize(sql) if kind == duckdb.token_type.operator and text[place] == _END]
    return f"(\n{text[: ends[0]].decode() if ends else sql}\n)"  # one statement has `;` at its end only


_END = ord(";")


def foreign_file(error: duckdb.PermissionException) -> UsageError:
    """The error about a statement that opens a file or an address that was not granted."""
    return UsageError(
        f"a query opens no files but those of the lake's tables ({str(error).splitlines()[0]})",
        hint="name the lake's tables; `SHOW TABLES` lists them",
    )


def _is_unicode(text: str) -> bool:
    """Whether a text is without lone surrogates, which Python makes of arguments that are no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_pivot_type(statement: Any) -> bool:
    """Whether a statement is one that DuckDB added to a PIVOT: it comes from no text."""
    return bool(statement.type == duckdb.StatementType.CREATE) and not statement.query


def _explains_reading(con: Any, sql: str) -> bool:
    """Whether the statement after EXPLAIN and its options is by itself one SELECT. EXPLAIN ANALYZE executes it."""
    for prefix in (_EXPLAIN, _EXPLAIN_WITHOUT_OPTIONS):
        found = prefix.match(sql)
        if found is None:
            return False
        try:
            explained = con.extract_statements(sql[found.end() :])
        except duckdb.Error:
            continue
        if [statement.type for statement in explained] == [duckdb.StatementType.SELECT]:
            return True
    return False


def _called(sql: str) -> set[str]:
    return {match["name"].lower() for match in _CALL.finditer(sql)}
