"""The likeliest entities of a table, from the keys of some of its items. Pure.

A key of a single-table design begins with a word and a delimiter (`USER#ann`) or is a word (`PROFILE`). Keys of the same words are one
kind of item, and what differs between them is a part of the key. A person checks the result: a rare kind may be missing, and two kinds
whose keys look alike are one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ddb_lake.core.layout.table_names import CHANGES, DAILY, OBJECTS, QUARANTINE
from ddb_lake.core.schema.key_patterns import EntityRule, KeyPattern, entity_of

DELIMITERS = "#|/~:"
MOST_KINDS = 20
"""The most kinds that are proposed; the items of others are in the entity `rest`."""

LEAST_NUMBERS = 3
"""A part whose values are all integers is a number if there are so many of them."""

REST = "rest"
_MOST_CHARS = 40

_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]*")
_BEGINNING = re.compile(rf"([A-Za-z][A-Za-z_.-]*)([{re.escape(DELIMITERS)}])")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_VAGUE_WORDS = ("profile", "metadata", "meta", "info", "details", "data", "root", "header", "v")
"""Words of sort keys that say nothing of the kind of item."""


@dataclass(frozen=True, slots=True)
class EntityCandidate:
    """A proposed entity.

    Attributes:
        name: its name.
        key: patterns by key attribute, as the configuration has them; empty for all other items.
        columns: types of parts of the key that are numbers.
        items: the number of items whose keys belong to it.
    """

    name: str
    key: Mapping[str, str]
    columns: Mapping[str, str] = field(default_factory=dict)
    items: int = 0


def entities_of_keys(keys: Sequence[Mapping[str, str]], names: Sequence[str]) -> tuple[EntityCandidate, ...]:
    """The likeliest entities, those of more specific patterns first, and at the end the one of all other items.

    Args:
        keys: the texts of the key attributes of some items.
        names: the key attributes, the partition key first.

    Returns:
        The entities; none if the keys show at most one kind.
    """
    templates = {name: _templates([key[name] for key in keys]) for name in names}
    kinds = Counter(tuple(templates[name][key[name]] for name in names) for key in keys)
    chosen = [kind for kind, _ in kinds.most_common() if any(template.words for template in kind)][:MOST_KINDS]
    if len(kinds) < 2 or not chosen:
        return ()
    chosen.sort(key=lambda kind: (-sum(template.literals for template in kind), -kinds[kind]))
    taken: set[str] = {REST}
    found = [_candidate(kind, names, taken) for kind in chosen]
    rules = [_rule(one) for one in found]
    by_name: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for key in keys:
        rule = entity_of(rules, key)
        by_name[rule.name if rule is not None else REST].append(key)
    counted = [_counted(one, rule, by_name[one.name]) for one, rule in zip(found, rules, strict=True)]
    return (*(one for one in counted if one.items), EntityCandidate(REST, {}, items=len(by_name[REST])))


@dataclass(frozen=True, slots=True)
class _Template:
    """The form of a key attribute's text: its segments, None where they vary, and the delimiter between them."""

    segments: tuple[str | None, ...]
    delimiter: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The words that the text has."""
        return tuple(segment for segment in self.segments if segment)

    @property
    def literals(self) -> int:
        """The number of segments that do not vary."""
        return len(self.words)


def _templates(texts: Sequence[str]) -> dict[str, _Template]:
    """The template of each text of one key attribute."""
    counts = Counter(texts)
    delimiters = Counter(match[2] for text in counts if (match := _BEGINNING.match(text)))
    delimiter = delimiters.most_common(1)[0][0] if delimiters else ""
    alike: dict[tuple[str, int], list[tuple[str, ...]]] = defaultdict(list)
    found: dict[str, _Template] = {}
    for text in counts:
        segments = tuple(text.split(delimiter)) if delimiter else (text,)
        if len(segments) > 1 and _WORD.fullmatch(segments[0]):
            alike[segments[0], len(segments)].append(segments)
        elif _WORD.fullmatch(text) and (counts[text] > 1 or text.isupper()):
            found[text] = _Template((text,))
        else:
            found[text] = _Template((None,))
    for several in alike.values():
        template = _Template(tuple(_common(several, place) for place in range(len(several[0]))), delimiter)
        found |= {delimiter.join(segments): template for segments in several}
    return found


def _common(several: Sequence[tuple[str, ...]], place: int) -> str | None:
    """The word that all texts have at a place; None if there they vary, or may vary."""
    values = {segments[place] for segments in several}
    is_last = place == len(several[0]) - 1
    certain = place == 0 or not is_last or len(several) > 1
    value = values.pop()
    return value if not values and certain and (_WORD.fullmatch(value) or not value) else None


# --- the entity of a kind


def _candidate(kind: Sequence[_Template], names: Sequence[str], taken: set[str]) -> EntityCandidate:
    entity = _entity_name(kind, taken)
    used = {name.lower() for name in names}
    key = {name: _pattern(template, used) for name, template in zip(names, kind, strict=True)}
    return EntityCandidate(entity, {name: pattern for name, pattern in key.items() if pattern != "*"})


def _entity_name(kind: Sequence[_Template], taken: set[str]) -> str:
    """A name that no other entity has: the last word that says something of the kind of item, or several words."""
    words = [_slug(word) for template in kind for word in template.words]
    told = [word for word in words if word not in _VAGUE_WORDS] or words
    last = [_slug(template.words[0]) for template in kind if template.words]
    told_last = [word for word in last if word not in _VAGUE_WORDS] or told
    choices = [told_last[-1], "_".join(dict.fromkeys(told)), "_".join(dict.fromkeys(words))]
    choices = [choice[:_MOST_CHARS].strip("_") for choice in choices]
    choices += [f"{choices[-1]}_{number}" for number in range(2, MOST_KINDS + 2)]
    name = next(choice for choice in choices if choice not in taken and not _is_taken_by_the_lake(choice))
    taken.add(name)
    return name


def _is_taken_by_the_lake(name: str) -> bool:
    return f"_{name}".endswith((CHANGES, OBJECTS, QUARANTINE, DAILY))


def _pattern(template: _Template, used: set[str]) -> str:
    """The pattern of a template. `used`: names in lower case that are no names of parts; the parts' names are added."""
    if not template.words:
        return "*"
    pieces, word = [], "part"
    for segment in template.segments:
        if segment is None:
            pieces.append(f"{{{_part_name(word, used)}}}")
        else:
            pieces.append(re.sub(r"[*{}\\]", r"\\\g<0>", segment))
            word = _slug(segment) or word
    return template.delimiter.join(pieces)


def _part_name(word: str, used: set[str]) -> str:
    choices = [f"{word}_id", *(f"{word}_{number}" for number in range(2, 2 + len(used) + 1))]
    name = next(choice for choice in choices if choice not in used)
    used.add(name)
    return name


def _slug(word: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")


def _rule(one: EntityCandidate) -> EntityRule:
    return EntityRule(one.name, {name: KeyPattern.parse(text) for name, text in one.key.items()}, {})


def _counted(one: EntityCandidate, rule: EntityRule, keys: Iterable[Mapping[str, str]]) -> EntityCandidate:
    """The candidate with the number of its items, and with the types of parts that are numbers."""
    values: dict[str, list[str]] = defaultdict(list)
    items = 0
    for key in keys:
        items += 1
        for part, text in (rule.match(key) or {}).items():
            values[part].append(text)
    numbers = {
        part: "long"
        for part, texts in values.items()
        if len(texts) >= LEAST_NUMBERS and all(map(_INTEGER.fullmatch, texts))
    }
    return EntityCandidate(one.name, one.key, numbers, items)
