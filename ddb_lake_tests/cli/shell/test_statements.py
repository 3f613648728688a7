"""Where a typed statement ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.shell.statements import split_statements

PIECES = st.sampled_from(
    ["SELECT 1", "'a;b'", "'it''s;'", '"x;y"', "-- no;\n", "/* ;\n; */", "$$ ; $$", "$t$;$$;$t$", " ", "\n"]
)


@pytest.mark.parametrize(
    ("typed", "statements", "rest"),
    [
        ("SELECT 1", [], "SELECT 1"),
        ("SELECT 1;", ["SELECT 1"], ""),
        ("SELECT 1; SELECT\n2 ;\n", ["SELECT 1", "SELECT\n2"], "\n"),
        (";;", [], ""),
        ("SELECT ';' || \"a;b\"; x", ["SELECT ';' || \"a;b\""], " x"),
        ("SELECT 'open;", [], "SELECT 'open;"),
        ("SELECT 1; SELECT 'it''s; open", ["SELECT 1"], " SELECT 'it''s; open"),
        ("SELECT 1 -- ;\n;", ["SELECT 1 -- ;"], ""),
        ("/* ; */ SELECT 1; /* ;", ["/* ; */ SELECT 1"], " /* ;"),
        ("SELECT $q$ ; $$ ; $q$; $$ ;", ["SELECT $q$ ; $$ ; $q$"], " $$ ;"),
    ],
)
def test_statement_ends_at_a_semicolon_of_its_own(typed: str, statements: list[str], rest: str) -> None:
    assert split_statements(typed) == (statements, rest)


@given(st.lists(st.lists(PIECES, max_size=5).map("".join), max_size=5))
def test_statements_are_those_that_were_joined(statements: list[str]) -> None:
    found, rest = split_statements("".join(f"{one}\n;" for one in statements))

    assert found == [one.strip() for one in statements if one.strip()]
    assert rest == ""


@given(st.text("ab;'\"-/*$\n ", max_size=40))
def test_nothing_typed_is_lost(typed: str) -> None:
    found, rest = split_statements(typed)

    assert typed.endswith(rest)
    assert sum(map(len, found)) + len(rest) <= len(typed)
