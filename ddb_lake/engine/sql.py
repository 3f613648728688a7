"""SQL text: quoting, and the names of columns of items in our SQL.

Names and values from data enter SQL through these functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


def identifier(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def identifiers(names: Iterable[str]) -> list[str]:
    """Quoted identifiers."""
    return [identifier(name) for name in names]


CARRIED = "u:"
"""The prefix of the names that columns of items have in our SQL.

An identifier without quotes has no colon. So a name with this prefix cannot collide with a name that our SQL uses, a
keyword, or a virtual column of any version of DuckDB. `shown` gives columns their own names for users.
"""


def carried(name: str) -> str:
    """The quoted name of a column of items in our SQL, from the column's own name."""
    return identifier(CARRIED + name)


def shown(rows: str) -> str:
    """A relation for users, in which columns of items have their own names. Our SQL does not use it.

    Args:
        rows: a relation of our SQL.
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


def unique_names(columns: Sequence[str], key: Callable[[str], str] = str) -> list[str]:
    """Names of columns, all different; repeated ones have `_1`, `_2` added.

    Args:
        columns: the names.
        key: names with the same key are the same, such as `str.lower`.
    """
    taken, names = {key(column) for column in columns}, []
    seen: set[str] = set()
    for column in columns:
        name, number = column, 0
        while key(name) in seen or (number and key(name) in taken):
            number += 1
            name = f"{column}_{number}"
        seen.add(key(name))
        names.append(name)
    return names
