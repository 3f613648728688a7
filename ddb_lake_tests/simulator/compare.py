"""Compares what `ddb-lake dump` prints with the true items: sets without order, all else by exact text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.simulator.model import canonical_value, item_text, key_text

Line = str | Mapping[str, Any]


def _distinct_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = Counter(name for name, _ in pairs)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise ValueError(f"member {repeated[0]!r} appears twice")
    return dict(pairs)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return text if len(text) <= 120 else f"{text[:80]}… ({len(text)} characters)"


def _parsed(lines: Iterable[Line], problems: list[str]) -> list[dict[str, Any]]:
    items = []
    for number, line in enumerate(lines, 1):
        try:
            document = json.loads(line, object_pairs_hook=_distinct_members) if isinstance(line, str) else line
        except ValueError as error:
            problems.append(f"line {number} is not JSON: {error}")
            continue
        if not (isinstance(document, Mapping) and set(document) == {"Item"} and isinstance(document["Item"], dict)):
            problems.append(f'line {number} is not {{"Item":{{…}}}}: {_short(document)}')
            continue
        items.append(document["Item"])
    return items


def _attributes(label: str, actual: Mapping[str, Any], expected: Item) -> list[str]:
    problems = [f"{label}: attribute {name!r:.60} is missing" for name in expected.keys() - actual.keys()]
    problems += [f"{label}: attribute {name!r:.60} should not be there" for name in actual.keys() - expected.keys()]
    for name in expected.keys() & actual.keys():
        found, wanted = (json.dumps(canonical_value(one[name]), sort_keys=True) for one in (actual, expected))
        if found != wanted:
            problems.append(f"{label}: attribute {name!r:.60} is {_short(actual[name])}, not {_short(expected[name])}")
    return sorted(problems)


def same_items(
    actual_lines: Iterable[Line], expected: Iterable[Item], key_names: Sequence[str] | None = None
) -> list[str]:
    """The differences between dumped lines `{"Item":{…}}` and the `expected` items; empty when there are none.

    The order of lines, of attributes and of the elements of a set means nothing; numbers and binary compare by text.
    With `key_names`, items are paired by key and differences named by attribute.
    """
    problems: list[str] = []
    actual_items = _parsed(actual_lines, problems)
    if key_names is None:
        actual, wanted = (Counter(str(item_text(item)) for item in items) for items in (actual_items, expected))
        problems += [f"missing item: {_short(json.loads(text))}" for text in (wanted - actual).elements()]
        problems += [f"extra item: {_short(json.loads(text))}" for text in (actual - wanted).elements()]
        return problems
    by_key: dict[str, list[dict[str, Any]]] = {}
    for item in actual_items:
        by_key.setdefault(key_text({name: item.get(name) for name in key_names}), []).append(item)
    for item in expected:
        label = key_text({name: item[name] for name in key_names})
        found = by_key.pop(label, [])
        if len(found) != 1:
            problems.append(f"key {label}: {len(found)} items instead of one")
        problems += [problem for one in found[:1] for problem in _attributes(f"key {label}", one, item)]
    return problems + [f"key {label}: should not be there ({len(found)} times)" for label, found in by_key.items()]
