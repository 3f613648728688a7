"""The fenced blocks of the documentation's pages, those that are generated included."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

from ddb_lake.docs.reference import PAGES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "ddb_lake" / "docs"
DECISIONS = ROOT / "ddb_lake" / "decisions"

_PARTS = re.compile(r"^(?P<rank>#+) (?P<title>[^\n]+)$|^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: page, nearest heading above, language, text, and which one it is of its page."""

    page: str
    heading: str
    language: str
    text: str
    number: int

    @property
    def name(self) -> str:
        """The block's id in the name of a test."""
        return f"{self.page}:{self.number}"

    @property
    def command_lines(self) -> list[str]:
        """The lines; one that ends with a backslash or within quotes continues on the next, as in the shell."""
        found: list[str] = []
        for line in self.text.replace("\\\n", " ").splitlines():
            if found and _is_open(found[-1]):
                found[-1] += f"\n{line}"
            else:
                found.append(line)
        return found

    @property
    def commands(self) -> list[str]:
        """The commands, one per line; a backslash at the end of a line continues it."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#")]


def _is_open(line: str) -> bool:
    """Whether a quotation of the line has no end."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def pages() -> dict[str, str]:
    """Every page's text by its place in the site."""
    written = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    return {**written, **{name: page() for name, page in PAGES.items()}}


def blocks(text: str, page: str) -> list[Block]:
    """The blocks of a page in their order."""
    found: list[Block] = []
    above = ""
    for match in _PARTS.finditer(text):
        if match["title"]:
            above = match["title"]
        else:
            body = textwrap.dedent(match["text"])
            found.append(Block(page, above, match["language"], body, len(found) + 1))
    return found


def table(text: str, first: str) -> dict[str, dict[str, str]]:
    """The table of a page whose first column has this name: by the cells of that column, the other cells by column.

    Raises StopIteration if there is none.
    """
    lines = iter(text.splitlines())
    head = next(_cells(line) for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *others = _cells(line)
        found[name] = dict(zip(head[1:], others, strict=True))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
