"""Declared JSON Schemas (draft-07), and the parts of an item that violate them.

A schema describes the item's plain JSON form (`core.values.plain_json`), or the document that one attribute holds: a string of JSON
text, or a map or list. Numbers are compared exactly: integers as integers, others as doubles where a double says
exactly that number and as decimals else, so that `0.1` satisfies `minimum: 0.1` and the 38th digit counts.

Faults name the place and the keyword, never a value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Any, Final

from ddb_lake.core.values.change_record import AttributeValue, ChangeRecord, Item
from ddb_lake.core.values.numbers import canonical_number
from ddb_lake.core.values.plain_json import from_plain, loads_exact, plain_value
from ddb_lake.errors import ConfigError, UndecodableError

DRAFT: Final = "http://json-schema.org/draft-07/schema"
_LATER: Final = frozenset(
    {
        "prefixItems", "unevaluatedItems", "unevaluatedProperties", "dependentRequired", "dependentSchemas",
        "minContains", "maxContains", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor",
    }
)  # fmt: skip
_HOLD_A_SCHEMA: Final = ("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not",
                         "propertyNames", "then")  # fmt: skip
_HOLD_A_LIST: Final = ("allOf", "anyOf", "items", "oneOf")
_HOLD_A_MAP: Final = ("$defs", "definitions", "dependencies", "patternProperties", "properties")
_EXACT: Final = Context(prec=2_500)  # the quotient of any two numbers of up to 1E±1000, as far as `multipleOf` needs it
_SHOWN_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Rule:
    """A schema for the item, or with `attribute` for the document in that attribute."""

    schema: Mapping[str, Any] | bool
    attribute: str | None = None


class Validator:
    """The rules of one table, compiled."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Raises ConfigError for a schema that is no draft-07 schema, or refers to a place outside itself."""
        self._declared = tuple(rules)
        self._rules = [(rule.attribute, compile_schema(rule.schema)) for rule in rules]

    def __reduce__(self) -> tuple[type[Validator], tuple[tuple[Rule, ...]]]:
        """Pickle the declared rules; the other process compiles them again."""
        return Validator, (self._declared,)

    def fault(self, record: ChangeRecord) -> str | None:
        """Why the record's new image offends against a rule, None if it satisfies all (a remove has none)."""
        return None if record.new_image is None else self.fault_of(record.new_image)

    def fault_of(self, item: Item) -> str | None:
        """As `fault`, of a checked item."""
        for attribute, check in self._rules:
            try:
                document = _plain({"M": item}) if attribute is None else _document(item, attribute)
            except UndecodableError as error:
                return f"schema: {error}"
            problem = check(document)
            if problem is not None:
                where = "the item" if attribute is None else f"the document in {_shown(attribute)}"
                return f"schema: {where} {problem}"
        return None


def _document(item: Item, attribute: str) -> Any:
    value = item.get(attribute)
    if value is None:
        raise UndecodableError(f"there is no attribute {_shown(attribute)}, which should hold a document")
    if "S" in value:
        try:
            return _plain(from_plain(loads_exact(value["S"])))
        except UndecodableError:
            raise UndecodableError(f"the attribute {_shown(attribute)} holds no JSON text") from None
    if "M" in value or "L" in value:
        return _plain(value)
    raise UndecodableError(f"the attribute {_shown(attribute)} is neither a string nor a map or list")


def _plain(value: AttributeValue) -> Any:
    return plain_value(value, _number)


class _ExactDecimal(Decimal):
    """A Decimal that the compiled code of `multipleOf` can divide: by its repr, and by a float."""

    def __repr__(self) -> str:
        return str(self)

    def __truediv__(self, divisor: Any) -> Decimal:
        return Decimal(self) / Decimal(repr(divisor))


def _number(canonical: str) -> int | float | Decimal:
    if "." not in canonical:
        return int(canonical)
    nearest = float(canonical)
    if math.isfinite(nearest) and canonical_number(repr(nearest)) == canonical:
        return nearest
    return _ExactDecimal(canonical)


def compile_schema(schema: Any) -> Callable[[Any], str | None]:
    """A function from a plain value to what is wrong with it, or None. Raises ConfigError for what is no schema."""
    import fastjsonschema  # not at the top: only tables with a schema need it

    for found in _problems(schema, "#"):
        raise ConfigError(f"JSON Schema: {found}")
    try:
        declared = json.loads(json.dumps(schema, allow_nan=False))  # a copy, with nothing that JSON cannot say
        if isinstance(declared, dict):
            declared["$schema"] = DRAFT
        validate = fastjsonschema.compile(declared, handlers=_NO_HANDLERS, use_default=False)
    except (ValueError, TypeError, KeyError, AttributeError, re.error) as error:  # its own is a ValueError
        raise ConfigError(f"JSON Schema: no draft-07 schema: {type(error).__name__}: {error}") from error

    def problem(value: Any) -> str | None:
        try:
            with localcontext(_EXACT):
                validate(value)
        except fastjsonschema.JsonSchemaValueException as error:
            return f"fails `{error.rule}`{_place(error.name or '')}"
        except (ArithmeticError, ValueError, TypeError, RecursionError) as error:
            return f"could not be checked ({type(error).__name__})"
        return None

    return problem


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is outside the schema")


_NO_HANDLERS: Final = dict.fromkeys(("", "file", "ftp", "http", "https", "urn"), _refuse)


def _problems(schema: Any, path: str) -> Iterator[str]:
    """What makes a schema one that must not be taken for draft-07 (any other fault is the compiler's to find)."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield f"{path} is no schema: expected an object, found {type(schema).__name__}"
        return
    version = schema.get("$schema", DRAFT)
    if not isinstance(version, str) or version.rstrip("#").replace("https:", "http:") != DRAFT:
        yield f"{path} declares $schema {version!r}; only draft-07 is validated: {DRAFT}#"
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or not reference.startswith("#"):
        yield f"{path} refers to {reference!r}; only references within the schema (#/…) are followed"
    for keyword in sorted(_LATER.intersection(schema)):
        yield f"{path} has `{keyword}`, which draft-07 does not know and would ignore"
    for place, inner in _inner(schema):
        yield from _problems(inner, f"{path}/{place}")


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _HOLD_A_SCHEMA:
        if name in schema and not isinstance(schema[name], list):
            yield name, schema[name]
    for name in _HOLD_A_LIST:
        if isinstance(schema.get(name), list):
            yield from ((f"{name}/{position}", inner) for position, inner in enumerate(schema[name]))
    for name in _HOLD_A_MAP:
        if isinstance(schema.get(name), Mapping):
            yield from ((f"{name}/{key}", inner) for key, inner in schema[name].items() if not isinstance(inner, list))


def _place(name: str) -> str:
    """Where in the value, from the name that the compiled code gives it: `data.a[0]` is `a[0]`."""
    path = name.removeprefix("data").removeprefix(".")
    return f" at {_shown(path)}" if path else ""


def _shown(name: str) -> str:
    escaped = name.encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= _SHOWN_CHARS else f"{escaped[:_SHOWN_CHARS]}…"
