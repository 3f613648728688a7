"""The likeliest entities of a table, from the keys of some of its items. Pure.

A key of a single-table design begins with a word and a delimiter (`USER#ann`) or is a word (`PROFILE`). A later segment with few words
that repeat is a word of the kind too (`USER#ann#follower`). Keys of the same words are one kind of item, and what differs between them
is a part of the key. A person checks the result: a rare kind may be missing, and two kinds whose keys look alike are one.
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

MOST_WORDS = 8
"""The most words at one place of a key, behind an id. Each of them makes a kind of its own."""

LEAST_REPEATS = 2
"""How many keys such a word has on average, at least: ids are in fewer keys."""

MOST_TYPES = 50
"""The most values of an attribute that states the kind of an item."""

REST = "rest"
_MOST_CHARS = 40

_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]*")
_LONG_WORD = re.compile(r"[A-Za-z_-]{3,}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T.*)?")
_BEGINNING = re.compile(rf"([A-Za-z][A-Za-z_.-]*)([{re.escape(DELIMITERS)}])")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_TYPE_NAMES = ("entitytype", "entity", "itemtype", "recordtype", "objecttype", "type", "typename", "kind", "et")
"""Names of attributes that state the kind of an item in published designs, in lower case and without `_`."""
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


@dataclass(frozen=True, slots=True)
class TypeAttribute:
    """An attribute that states the kind of each item. `kinds`: the number of its values."""

    name: str
    kinds: int


def type_attribute(items: Sequence[Mapping[str, Mapping[str, object]]]) -> TypeAttribute | None:
    """The attribute that states the kind of each of some items: a string of such a name, with few values that repeat.

    Entities are selected by keys alone, so it is only compared with what the keys show. None if there is none, or if it has one value.
    """
    for name in items[0] if items else ():
        if name.lower().replace("_", "") not in _TYPE_NAMES:
            continue
        values = {item.get(name, {}).get("S") for item in items}
        if None not in values and 1 < len(values) <= MOST_TYPES and len(items) >= LEAST_REPEATS * len(values):
            return TypeAttribute(name, len(values))
    return None


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
    found = [_candidate(kind, names, name) for kind, name in zip(chosen, _entity_names(chosen), strict=True)]
    rules = [_rule(one) for one in found]
    by_name: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for key in keys:
        rule = entity_of(rules, key)
        by_name[rule.name if rule is not None else REST].append(key)
    counted = [_counted(one, rule, by_name[one.name]) for one, rule in zip(found, rules, strict=True)]
    return (*(one for one in counted if one.items), EntityCandidate(REST, {}, items=len(by_name[REST])))


@dataclass(frozen=True, slots=True)
class _Template:
    """The form of a key attribute's text: its segments, None where they vary, and the delimiter between them.

    `instants`: for each segment, whether all its values are dates or times.
    """

    segments: tuple[str | None, ...]
    delimiter: str = ""
    instants: tuple[bool, ...] = (False,)

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
        weights = [counts[delimiter.join(segments)] for segments in several]
        places = [place for place in range(2, len(several[0])) if _has_words(several, weights, place)]
        by_words: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        for segments in several:
            by_words[tuple(segments[place] for place in places)].append(segments)
        for same in by_words.values():
            every = range(len(same[0]))
            template = _Template(
                tuple(same[0][place] if place in places else _common(same, place) for place in every),
                delimiter,
                tuple(all(_INSTANT.fullmatch(segments[place]) for segments in same) for place in every),
            )
            found |= {delimiter.join(segments): template for segments in same}
    return found


def _has_words(several: Sequence[tuple[str, ...]], weights: Sequence[int], place: int) -> bool:
    """Whether the texts have a few different words at a place, which repeat, so that they state the kind of item."""
    words = {segments[place] for segments in several}
    return (
        1 < len(words) <= MOST_WORDS
        and all(map(_LONG_WORD.fullmatch, words))
        and sum(weights) >= LEAST_REPEATS * len(words)
    )


def _common(several: Sequence[tuple[str, ...]], place: int) -> str | None:
    """The word that all texts have at a place; None if there they vary, or may vary."""
    values = {segments[place] for segments in several}
    is_last = place == len(several[0]) - 1
    certain = place == 0 or not is_last or len(several) > 1
    value = values.pop()
    return value if not values and certain and (_WORD.fullmatch(value) or not value) else None


# --- the entity of a kind


def _candidate(kind: Sequence[_Template], names: Sequence[str], entity: str) -> EntityCandidate:
    used = {name.lower() for name in names}
    key = {name: _pattern(template, used) for name, template in zip(names, kind, strict=True)}
    return EntityCandidate(entity, {name: pattern for name, pattern in key.items() if pattern != "*"})


def _entity_names(kinds: Sequence[Sequence[_Template]]) -> list[str]:
    """A name for each kind: the word that says what it is, or several words if the word alone also fits another kind."""
    naming = [_naming_words(kind) for kind in kinds]
    shared = Counter(words[-1] for words in naming)
    taken: set[str] = {REST}
    names = []
    for kind, words in zip(kinds, naming, strict=True):
        every = [_slug(word) for template in kind for word in template.words]
        specific = [word for word in every if word not in _VAGUE_WORDS] or every
        is_apart = shared[words[-1]] == 1 or set(specific) == {words[-1]}
        choices = [words[-1]] if is_apart else []
        choices += ["_".join(dict.fromkeys(specific)), "_".join(dict.fromkeys(every))]
        choices = [choice[:_MOST_CHARS].strip("_") for choice in choices]
        choices += [f"{choices[-1]}_{number}" for number in range(2, MOST_KINDS + 2)]
        names.append(next(choice for choice in choices if choice not in taken and not _is_taken_by_the_lake(choice)))
        taken.add(names[-1])
    return names


def _naming_words(kind: Sequence[_Template]) -> list[str]:
    """The words from which a kind may get its name: the first word of each key attribute, without vague ones.

    If all of these are vague, they are all words of the key without vague ones; if those are vague too, all words.
    """
    every = [_slug(word) for template in kind for word in template.words]
    first = [_slug(template.words[0]) for template in kind if template.words]
    return (
        [word for word in first if word not in _VAGUE_WORDS]
        or [word for word in every if word not in _VAGUE_WORDS]
        or every
    )


def _is_taken_by_the_lake(name: str) -> bool:
    return f"_{name}".endswith((CHANGES, OBJECTS, QUARANTINE, DAILY))


def _pattern(template: _Template, used: set[str]) -> str:
    """The pattern of a template. `used`: names in lower case that are no names of parts; the parts' names are added."""
    if not template.words:
        return "*"
    pieces, word = [], "part"
    for segment, is_instant in zip(template.segments, template.instants, strict=True):
        if segment is None:
            pieces.append(f"{{{_part_name(word, used, 'at' if is_instant else 'id')}}}")
        else:
            pieces.append(re.sub(r"[*{}\\]", r"\\\g<0>", segment))
            word = _slug(segment) or word
    return template.delimiter.join(pieces)


def _part_name(word: str, used: set[str], ending: str) -> str:
    choices = [f"{word}_{ending}", *(f"{word}_{number}" for number in range(2, 2 + len(used) + 1))]
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
