"""SQL as it is typed: where a statement ends."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      (?P<closed>'(?:[^']|'')*'             # a string; a quote in it is doubled
        | "(?:[^"]|"")*"                    # a name
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$   # a string between dollar marks
        | --[^\n]*(?:\n|\Z)                 # a comment to the end of the line
        | /\*.*?\*/)                        # a comment
    | (?P<open>['"] | \$\w*\$ | /\*)        # one of them that goes on in a line to come
    | (?P<end>;)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def split_statements(text: str) -> tuple[list[str], str]:
    """The statements that a `;` ends, without it and without those of blanks alone, and what follows the last.

    A `;` in a string, a quoted name or a comment ends nothing.
    """
    found: list[str] = []
    begin = 0
    for token in _TOKEN.finditer(text):
        if token["open"]:
            break
        if token["end"]:
            found.append(text[begin : token.start()].strip())
            begin = token.end()
    return [statement for statement in found if statement], text[begin:]
