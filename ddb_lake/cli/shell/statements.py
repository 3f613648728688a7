"""Splitting of typed SQL into statements."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      (?P<closed>'(?:[^']|'')*'             # a string; a quote in it is doubled
        | "(?:[^"]|"")*"                    # a name
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$   # a string between dollar marks
        | --[^\n]*(?:\n|\Z)                 # a comment to the end of the line
        | /\*.*?\*/)                        # a comment
    | (?P<open>['"] | \$\w*\$ | /\*)        # the start of one that a later line ends
    | (?P<end>;)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(text: str) -> tuple[list[str], str]:
    """Split a text at each `;` outside of strings, quoted names and comments.

    Returns:
        The complete statements without their `;`, except empty ones; and the text after the last `;`.
    """
    statements: list[str] = []
    begin = 0
    for token in _TOKEN.finditer(text):
        if token["open"]:
            break
        if token["end"]:
            statements.append(text[begin : token.start()].strip())
            begin = token.end()
    return [statement for statement in statements if statement], text[begin:]
