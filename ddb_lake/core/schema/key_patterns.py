"""Patterns of key attributes, by which the items of one table are divided into entities. Pure.

A pattern describes the whole text of a key attribute (of a number: its canonical digits):

    *        any characters, also none
    {name}   one or more characters, the part `name` of the key; as few as the rest of the pattern allows
    \\       before `*`, `{`, `}` or another `\\`: the character itself
    others   themselves, with their case

Two placeholders never touch, so the literal between them shows where a part ends. Of several ways to match, the first placeholder
decides: a part is as short as possible, and `*` as long as possible. So for `x#y#z`, `{a}#{b}` gives `x` and `y#z`, and `*#{b}`
gives `z`. Python (`KeyPattern.match`) and SQL (`KeyPattern.re2`)
give the same.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ddb_lake.core.schema.table_schema import plain_name

PART_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""The names of parts, which become columns."""

_ESCAPED = "*{}\\"


@dataclass(frozen=True, slots=True)
class AnyText:
    """Any characters, also none."""


@dataclass(frozen=True, slots=True)
class Part:
    """One or more characters, which have a name."""

    name: str


@dataclass(frozen=True)
class KeyPattern:
    """The pattern of one key attribute. `pieces`: literals and placeholders, in order; two of a kind never follow each other."""

    pieces: tuple[str | AnyText | Part, ...]

    @classmethod
    def parse(cls, text: str) -> KeyPattern:
        """The pattern that a text of the configuration states. Raises ValueError, which says what is wrong."""
        pieces: list[str | AnyText | Part] = []
        literal, position = "", 0
        while position < len(text):
            char = text[position]
            if char == "\\":
                following = text[position + 1 : position + 2]
                if not following or following not in _ESCAPED:
                    raise ValueError(f"{text!r}: a backslash stands before *, {{, }} or another backslash")
                literal, position = literal + following, position + 2
            elif char == "*":
                pieces, literal, position = [*pieces, *_kept(literal), AnyText()], "", position + 1
            elif char == "{":
                end = text.find("}", position)
                name = text[position + 1 : end] if end > 0 else ""
                if not PART_NAME.fullmatch(name):
                    raise ValueError(
                        f"{text!r}: a part is {{name}}, of ASCII letters, digits and '_', and begins with a letter;"
                        " \\{ is the character itself"
                    )
                pieces, literal, position = [*pieces, *_kept(literal), Part(name)], "", end + 1
            elif char == "}":
                raise ValueError(f"{text!r}: }} without {{; \\}} is the character itself")
            else:
                literal, position = literal + char, position + 1
        pattern = cls((*pieces, *_kept(literal)))
        pattern._check(text)
        return pattern

    def _check(self, text: str) -> None:
        if not text:
            raise ValueError("a pattern has at least one character; * matches any text")
        for first, second in zip(self.pieces, self.pieces[1:], strict=False):
            if not isinstance(first, str) and not isinstance(second, str):
                raise ValueError(f"{text!r}: two placeholders touch, so nothing states where the first ends")
        if len({part.lower() for part in self.parts}) < len(self.parts):
            raise ValueError(f"{text!r}: two parts have one name")

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts, in order."""
        return tuple(piece.name for piece in self.pieces if isinstance(piece, Part))

    @property
    def is_any(self) -> bool:
        """Whether every text matches, and there is no part."""
        return self.pieces == (AnyText(),)

    @cached_property
    def _python(self) -> re.Pattern[str]:
        return re.compile(
            "".join(re.escape(piece) if isinstance(piece, str) else _REGEX[type(piece)] for piece in self.pieces),
            re.DOTALL,
        )

    def match(self, text: str) -> dict[str, str] | None:
        """The parts of a text; None if it does not match."""
        found = self._python.fullmatch(text)
        return None if found is None else dict(zip(self.parts, found.groups(), strict=True))

    @property
    def wildcard(self) -> str:
        """The pattern with `*` for each placeholder, as IAM writes a resource."""
        return "".join(piece if isinstance(piece, str) else "*" for piece in self.pieces)

    @cached_property
    def re2(self) -> str:
        """The pattern as a regular expression of RE2, DuckDB's syntax, for a whole text. Its groups are the parts, in order."""
        spelled = "".join(_quoted(piece) if isinstance(piece, str) else _REGEX[type(piece)] for piece in self.pieces)
        return f"^(?s:{spelled})$"


_REGEX = {AnyText: ".*", Part: "(.+?)"}


def _kept(literal: str) -> Sequence[str]:
    return [literal] if literal else []


def _quoted(literal: str) -> str:
    return "".join(c if (c.isascii() and c.isalnum()) or ord(c) > 127 else f"\\x{{{ord(c):x}}}" for c in literal)


def part_path(name: str) -> tuple[str]:
    """The path under which a part of the key is in an entity's schema, as if the item had an attribute `{name}`."""
    return (f"{{{name}}}",)


def beside_parts(name: str, parts: Collection[str]) -> str:
    """The name of an attribute in the items of an entity: one more brace if it is spelled as a part of the key is there.

    With the part `order_id`, the attribute `{order_id}` is `{{order_id}`, and `{{order_id}` is `{{{order_id}`. So no two attributes
    and no attribute and a part have one name.
    """
    return (
        f"{{{name}"
        if name.startswith("{") and name.lstrip("{").removesuffix("}") in parts and name.endswith("}")
        else name
    )


def is_named_as_key(part: str, key: Iterable[str]) -> bool:
    """Whether a part of the key would have the column of a key attribute, or is spelled as one in the items of an entity."""
    return any(
        part.lower() in (name.lower(), plain_name((name,)).lower()) or beside_parts(name, (part,)) != name
        for name in key
    )


@dataclass(frozen=True)
class EntityRule:
    """Which keys belong to an entity, and which columns their parts are.

    Attributes:
        name: the entity's name.
        patterns: by key attribute. An attribute without a pattern may have any value; no pattern at all: every key.
        types: column types of parts, by name. A part without a type is text.
    """

    name: str
    patterns: Mapping[str, KeyPattern]
    types: Mapping[str, str]

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts of all attributes, in order."""
        return tuple(part for pattern in self.patterns.values() for part in pattern.parts)

    def match(self, key: Mapping[str, str]) -> dict[str, str] | None:
        """The parts of a key, given the texts of its attributes; None if the key does not belong to the entity."""
        parts: dict[str, str] = {}
        for attribute, pattern in self.patterns.items():
            found = pattern.match(key[attribute])
            if found is None:
                return None
            parts |= found
        return parts


def entity_of(rules: Sequence[EntityRule], key: Mapping[str, str]) -> EntityRule | None:
    """The entity of a key: the first whose patterns match; None if there is none."""
    return next((rule for rule in rules if rule.match(key) is not None), None)
