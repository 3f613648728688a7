"""Text of any origin, made safe to show: on a terminal, and as Markdown in Dagster's UI.

Table names, keys of objects, attribute names, reasons and messages come from other systems. Each function returns text that is shown
as it is and does nothing else.
"""

from __future__ import annotations

import re


def escape_controls(text: str) -> str:
    """The text with every character that is not printable as an escape, such as `\\x1b`.

    These are controls, line breaks, formats such as bidirectional overrides, and lone surrogates.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in text)


_STRUCTURE = re.compile(
    r"""
      (?P<mark>[\\\[\]<|]                        # of links, images, footnotes, HTML, table cells
        | &(?=\#?\w+;))                         # of character references
    | (?P<address>(?<=http):(?=/) | (?<=https):(?=/) | (?<=ftp):(?=/) | (?<=mailto): | (?<=xmpp):
        | (?<=www)\.
        | (?<=[-.+\w])@(?=[-\w]))               # of links without brackets
    """,
    re.VERBOSE | re.IGNORECASE,
)


def escape_markdown(text: str) -> str:
    """The text as Markdown of one line that has no image, no link, no HTML, and no end of a table's cell.

    Emphasis and code stay possible, so that our own sentences keep their formatting. Escapes are backslashes
    (https://spec.commonmark.org/0.31.2/#backslash-escapes), because Dagster's UI shows some texts as Markdown and as plain text. It also
    makes links of addresses without brackets (https://github.github.com/gfm/#autolinks-extension-), and does so after it has
    removed backslashes. So one character of an address is shown as an escape, as in `http\\x3a//host`.
    """
    return _STRUCTURE.sub(_marked, escape_controls(text))


def _marked(match: re.Match[str]) -> str:
    address = match["address"]
    return f"\\{match['mark']}" if address is None else f"\\x{ord(address):02x}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
