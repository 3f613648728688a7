"""SQL text: quoting. Names and values from data go into SQL through these functions only."""

from __future__ import annotations

from collections.abc import Iterable


def identifier(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string literal. A NUL cannot stand in SQL text, so it is spelled by its code."""
    if "\0" in text:
        return "(" + " || chr(0) || ".join("'" + part.replace("'", "''") + "'" for part in text.split("\0")) + ")"
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str]) -> str:
    """A list of string literals, `['a', 'b']`."""
    return "[" + ", ".join(literal(text) for text in texts) + "]"
