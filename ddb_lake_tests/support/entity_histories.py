"""Single-table designs: an independent matcher of key patterns, random items, and what the tables of entities hold."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson
from hypothesis import strategies as st

from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.engine.inverse_projection import register_complete, whole_item_sql
from ddb_lake.lake.entity_state import EntityState
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.export_files import change

# --- an independent matcher, without regular expressions


def _tokens(pattern: str) -> list[tuple[str, str]]:
    """The pieces of a pattern: `any`, `part` and its name, or `char` and one character."""
    tokens: list[tuple[str, str]] = []
    rest = iter(pattern)
    for char in rest:
        if char == "\\":
            tokens.append(("char", next(rest)))
        elif char == "*":
            tokens.append(("any", ""))
        elif char == "{":
            tokens.append(("part", "".join(itertools.takewhile(lambda c: c != "}", rest))))
        else:
            tokens.append(("char", char))
    return tokens


def matched_by_trying(pattern: str, text: str) -> dict[str, str] | None:
    """The parts of a text, by trying every division of it, with short parts and long `*` first; None if none fits."""
    return next(_divisions(_tokens(pattern), text), None)


def _divisions(tokens: Sequence[tuple[str, str]], text: str) -> Iterator[dict[str, str]]:
    if not tokens:
        if not text:
            yield {}
        return
    (kind, name), rest = tokens[0], tokens[1:]
    if kind == "char":
        if text.startswith(name):
            yield from _divisions(rest, text[1:])
    elif kind == "any":
        for length in range(len(text), -1, -1):
            yield from _divisions(rest, text[length:])
    else:
        for length in range(1, len(text) + 1):
            for parts in _divisions(rest, text[length:]):
                yield {name: text[:length], **parts}


_LITERALS = ["a", "b", "#", "ab", "a#", r"\*", r"\{", r"\\", ".", "é", "\n"]


@st.composite
def pattern_texts(draw: st.DrawFn) -> str:
    """Texts of patterns."""
    names = iter("pqrs")
    pieces: list[str] = []
    was_literal = True
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["literal", "any", "part"] if was_literal else ["literal"]))
        was_literal = kind == "literal"
        if kind == "literal":
            pieces.append(draw(st.sampled_from(_LITERALS)))
        else:
            pieces.append("*" if kind == "any" else f"{{{next(names)}}}")
    return "".join(pieces)


# --- items and records


def item(pk: str, sk: str, **attributes: Any) -> Item:
    """An item with the key attributes `PK` and `SK`. Attributes are DynamoDB JSON, or numbers and texts for N and S."""

    def value(given: Any) -> Any:
        if isinstance(given, dict):
            return given
        return {"S": given} if isinstance(given, str) else {"N": str(given)}

    return {"PK": {"S": pk}, "SK": {"S": sk}, **{name: value(given) for name, given in attributes.items()}}


def key_of(image: Item, names: Sequence[str] = ("PK", "SK")) -> Item:
    """The key of an item."""
    return {name: image[name] for name in names}


def record(time_us: int, new: Item | None, old: Item | None = None, table: str = "app", **options: Any) -> Item:
    """A change record, as `support.export_files.change`, of an item with the key attributes `PK` and `SK`."""
    marked = [None if image is None else {"id": {"S": "x"}, **image} for image in (new, old)]
    made = change(time_us, *marked, table=table, **options)
    made["dynamodb"]["Keys"] = key_of(new or old or {})
    for name, image in (("NewImage", new), ("OldImage", old)):
        if image is not None:
            made["dynamodb"][name] = image
    return made


# --- what the tables of entities hold


def held(lake: Lake, name: str) -> dict[str, list[str]]:
    """The items in the tables of a table's entities, without the parts of keys, as texts that compare; by entity."""
    parts = {entity.name: {f"{{{part}}}" for part in entity.rule.parts} for entity in lake.table(name).entities}
    return {
        entity: sorted(text_of_item(_without_parts(image, parts[entity])) for image in items)
        for entity, items in items_held(lake, name).items()
    }


def _without_parts(image: Item, parts: Collection[str]) -> Item:
    """An item of an entity as the table has it: without parts, and with the names of attributes that are spelled like parts."""
    attributes = {name: value for name, value in image.items() if name not in parts}
    return {name[1:] if f"{{{name.lstrip('{')}" in parts else name: value for name, value in attributes.items()}


def items_held(lake: Lake, name: str) -> dict[str, list[Item]]:
    """The items in the tables of a table's entities with the parts of keys as attributes `{name}`; by entity."""
    found: dict[str, list[Item]] = {}
    for entity in lake.table(name).entity_names:
        table = lake.readable(f"{name}_{entity}")
        state = EntityState.of(table) if table is not None else None
        found[entity] = []
        if table is None or state is None:
            continue
        with lake.session() as session:
            register_complete(session)
            rows = session.rows(f"SELECT {whole_item_sql(state.schema)} FROM {scan_table(table).sql()}")
            found[entity] = [orjson.loads(text) for (text,) in rows]
    return found


def text_of_item(image: Item) -> str:
    """An item as a text that compares."""
    return orjson.dumps(image, option=orjson.OPT_SORT_KEYS).decode()


def expected(entities: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> dict[str, list[str]]:
    """The items by entity, divided by the independent matcher. `entities`: as the configuration has them."""
    found: dict[str, list[str]] = {entity["name"]: [] for entity in entities}
    for image in items:
        for entity in entities:
            patterns = entity.get("key", {})
            if all(
                matched_by_trying(pattern, key_value(image[name])) is not None for name, pattern in patterns.items()
            ):
                found[entity["name"]].append(text_of_item(image))
                break
    return {name: sorted(texts) for name, texts in found.items()}


def key_value(value: Any) -> str:
    """The text of a key attribute's value, which patterns match."""
    ((tag, text),) = value.items()
    return canonical_number(text) if tag == "N" else text
