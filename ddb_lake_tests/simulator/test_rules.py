"""Tests that the corners bite: every plausible but wrong winner rule gives wrong items on at least one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from ddb_lake.core.values.change_record import ChangeRecord, Item
from ddb_lake_tests.simulator import CORNERS, ReadExport, Scenario, read_export, read_landing, reference
from ddb_lake_tests.simulator.model import Items, item_text
from ddb_lake_tests.simulator.reference import reference_current


def _texts(items: Items) -> dict[str, str | None]:
    return {key: item_text(item) for key, item in items.items()}


def _content_decides(group: Sequence[ChangeRecord], before: Item | None) -> Item | None:
    return max(group, key=lambda record: (reference._kinesis(record), reference._content(record))).new_image


def _state_before_is_ignored(group: Sequence[ChangeRecord], before: Item | None) -> Item | None:
    return END_OF_GROUP(group, {"no such": {"S": "image"}})


def _sequence_as_text(group: Sequence[ChangeRecord], before: Item | None) -> Item | None:
    if all(record.sequence_number for record in group):
        return max(group, key=lambda record: str(record.sequence_number)).new_image
    return END_OF_GROUP(group, before)


def _text_with_order(item: Mapping[str, Any] | None) -> str | None:
    return None if item is None else json.dumps(item, sort_keys=True)


END_OF_GROUP = reference._end_of_group

WRONG_PARTS: dict[str, tuple[str, Any]] = {
    "ties by sequence and content": ("_end_of_group", _content_decides),
    "state before a circuit ignored": ("_end_of_group", _state_before_is_ignored),
    "sequence numbers as text": ("_end_of_group", _sequence_as_text),
    "time before sequence": ("_ranked", lambda records: sorted(records, key=lambda record: record.changed_us)),
    "repetitions count": ("_distinct", list),
    "sets in order": ("item_text", _text_with_order),
}


def _moved(exports: Sequence[ReadExport]) -> list[ReadExport]:
    return [one if one.full else replace(one, instant_us=one.instant_us + 1) for one in exports]


def _all_full(exports: Sequence[ReadExport]) -> list[ReadExport]:
    return [
        one if one.full else replace(one, full=True, items=tuple(image for _, image in one.lines if image))
        for one in exports
    ]


WRONG_EXPORTS: dict[str, Callable[[Sequence[ReadExport]], list[ReadExport]]] = {
    "the end of a window counts as inside": _moved,
    "incremental export as full": _all_full,
    "incremental export ignored": lambda exports: [one for one in exports if one.full],
    "the export loaded last decides": lambda exports: list(exports[-1:]),
}


def _is_wrong(scenario: Scenario, exports: Sequence[ReadExport], records: Sequence[ChangeRecord], margin: int) -> bool:
    current = reference_current(exports, records, margin, scenario.key_names)
    return bool(_texts(current) != _texts(scenario.expected_items))


@pytest.mark.parametrize("rule", [*WRONG_PARTS, *WRONG_EXPORTS, "no margin", "always the margin", "no snapshot cutoff"])
def test_wrong_rule_is_refuted_by_a_corner(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = []
    for make in CORNERS.values():
        scenario = make()
        records = read_landing(scenario.objects).of_table(scenario.table)
        exports, margin = [read_export(export) for export in scenario.exports], scenario.clock_skew_us
        ghost = replace(records[0], event_id="ghost", keys={"ghost": {"S": ""}}, event_name="REMOVE", new_image=None)
        if rule in WRONG_EXPORTS:
            exports = WRONG_EXPORTS[rule](exports)
        elif rule == "no margin":
            margin = 10**17
        elif rule == "always the margin":
            records = [*records, replace(ghost, changed_us=0)]
        elif rule == "no snapshot cutoff":
            margin, records = 10**17, [*records, replace(ghost, changed_us=-(10**18))]
        cases.append((scenario, exports, records, margin))
    if rule in WRONG_PARTS:
        monkeypatch.setattr(reference, *WRONG_PARTS[rule])
    assert any(_is_wrong(*case) for case in cases)
