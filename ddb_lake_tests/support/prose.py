"""Prose of the project, and words to avoid in it.

`HABITS` maps each habit to a suggestion; extend it when a reader had to read a sentence twice. Prose is the text of Markdown
pages without code, and the comments, docstrings and messages of Python modules without code in backticks.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HABITS: dict[str, str] = {
    r"nobody|no one": "name the user, reader or process that does not do it",
    r"somebody|someone|anybody|anyone|everybody": "name the user, reader or process",
    r"whoever|whatever comes": "name the user, reader or process; name the thing",
    r"what of": "write a noun: 'the part of … that'",
    r"of which": "start a new sentence, or use 'whose'",
    r"tells?|telling|told": "states, reports, shows, distinguishes; returned, logged, reported",
    r"said": "stated, reported, printed",
    r"was asked|were asked|is asked|are asked|be asked|been asked|asked of|asked for": "requested, called, queried",
    r"mends?|mended|mending": "repair, correct",
    r"heals?|healed|healing": "repair",
    r"graves?|bury|buried": "tombstone",
    r"on trust": "fast path, unvalidated",
    r"go(?:es)? by": "uses, is decided by, follows",
    r"rests? on|resting on": "depends on, is based on",
    r"stands? in|stands? for|stands? at|stands? among|stands? elsewhere|stand-in": "is in, replaces, emulator",
    r"so that it": "'so it', 'therefore'",
    r"it is so": "state the fact",
    r"as well[.;:,)]": "too, also; or delete it",
    r"(?:taken?|takes|taking|took) in(?! (?:memory|the answer))": "ingest",
    r"horizon(?!\w)": "snapshot cutoff",
    r"hears?|heard|unheard": "has no change from, receives",
    r"believes?|believed in|thinks?|thinking": "uses, assumes",
    r"wants to|wants a": "needs, requests",
    r"anew": "again",
    r"for ever|for good": "permanently",
    r"in vain": "without effect",
    r"by and by|now and then": "state the interval",
    r"retired rows?|rows? retired|retires? rows?": "deleted rows, rows deleted by position",
    r"(?<!Time to )lives? on": "continues to change",
    r"ways? in": "change source",
    r"surroundings": "environment",
    r"mere(?:ly)?": "only; or delete it",
}
"""Regular expressions of whole words, matched without regard to case, and what to write instead."""

_HABITS = {re.compile(rf"(?<![\w-])(?:{habit})(?![\w-])", re.IGNORECASE): advice for habit, advice in HABITS.items()}
_CODE = re.compile(r"```.*?```|``[^`]*``|`[^`]*`|https?://\S+|\]\([^)]*\)|<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """A habit in a text: its file, line, the words, and what to write instead."""

    path: str
    line: int
    words: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.words!r}: {self.advice}"


def find_habits(text: str, path: str, first_line: int = 1) -> Iterator[Finding]:
    """Yield the habits in a text whose first line has the number `first_line`; code is skipped."""
    prose = _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for pattern, advice in _HABITS.items():
        for match in pattern.finditer(re.sub(r"[ \t]*\n[ \t#]*", lambda gap: "\n" + " " * (len(gap[0]) - 1), prose)):
            line = first_line + prose.count("\n", 0, match.start())
            yield Finding(path, line, match[0], advice)


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each comment, docstring and message of a Python module.

    A message is a string literal with at least three words; SQL is not a message.
    """
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_prose(node.value):
            yield node.lineno, node.value


def names_of_tests(source: str) -> list[str]:
    """The names of the test functions of a Python module."""
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return [function.name for function in functions if function.name.startswith("test_")]


def _is_prose(text: str) -> bool:
    return len(text.split()) >= 3 and not re.search(r"\b(SELECT|FROM|WHERE|JOIN|INSERT|CREATE)\b", text)


def habits_in_file(path: Path, root: Path) -> list[Finding]:
    """Return the habits in a Markdown page or a Python module, in the order of their lines."""
    text, name = path.read_text(encoding="utf-8"), str(path.relative_to(root))
    parts = python_prose(text) if path.suffix == ".py" else [(1, text)]
    found = {finding for line, part in parts for finding in find_habits(part, name, line)}
    return sorted(found, key=lambda finding: (finding.line, finding.words))
