"""SQL text: quoting, and the names of users' columns. Names and values from data go into SQL through these functions only."""

from __future__ import annotations

from collections.abc import Iterable


def identifier(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def identifiers(names: Iterable[str]) -> list[str]:
    """Quoted identifiers."""
    return [identifier(name) for name in names]


CARRIED = "u:"
"""The prefix of the names that columns of items have in our SQL.

An identifier without quotes has no colon. So a name with this prefix is none of our identifiers, no keyword, and no virtual
column of any version of DuckDB. Users see the column's own name: see `shown`.
"""


def carried(name: str) -> str:
    """The identifier of a column of items in our SQL. `name`: the column's own name."""
    return identifier(CARRIED + name)


def shown(rows: str) -> str:
    """A relation in which columns of items have their own names, for users; other columns keep theirs.

    `rows`: a relation of our SQL. No SQL of ours uses the result.
    """
    return f"(SELECT COLUMNS('^(?:{CARRIED})?(.*)$') AS '\\1' FROM {rows})"


def literal(text: str) -> str:
    """A string literal. SQL text cannot contain a NUL, so it is spelled by its code."""
    if "\0" in text:
        return "(" + " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in text.split("\0")) + ")"
    return "'" + text.replace("'", "''") + "'"


def quoted(texts: Iterable[str]) -> list[str]:
    """String literals."""
    return [literal(text) for text in texts]


def literals(texts: Iterable[str]) -> str:
    """A list of string literals, `['a', 'b']`."""
    return "[" + ", ".join(quoted(texts)) + "]"
