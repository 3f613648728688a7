"""A full verification against an export finds what the projection loses, because it does not project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.projection import Projection
from ddb_lake.errors import ExportError
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.verification_report import Report
from ddb_lake.pipeline.verify import full
from ddb_lake.pipeline.verify.full import verify_export
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.landed_files import write_export

NAME = "t"


def items() -> list[Item]:
    return [
        {
            "id": {"S": f"k{number}"},
            "sort": {"N": str(number)},
            "note": {"S": f"note {number}"},
            "other": {"S": f"other {number}"},
            "total": {"N": f"{number}.25"},
            "odd": {"N": "1E+2"} if number % 2 else {"S": "text"},
            "none": {"NULL": True},
            "tags": {"SS": ["a", f"b{number}", "c"]},
            "numbers": {"NS": ["1.50", "2"]},
            "bytes": {"B": "AAE="},
            "address": {"M": {"city": {"S": f"city {number}"}, "geo": {"M": {"lat": {"N": f"{number}.5"}}}}},
            "lines": {"L": [{"M": {"sku": {"S": f"sku {number}"}, "qty": {"N": "2"}}}]},
        }
        for number in range(8)
    ]


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    settings = {"warehouse": str(tmp_path / "lake"), "tables": [{"name": NAME, "key": ["id", "sort"]}]}
    with open_lake(parse_settings(settings, "test")) as lake:
        yield lake


def keys(report: Report) -> list[str]:
    return [found.key["id"]["S"] for found in report.differences]


FAULTS = {
    "an attribute is dropped": {"u:note": "NULL"},
    "a number is rounded": {"u:total": '"u:total" - 0.05'},
    "what is rescued is lost": {"_rescued": "NULL"},
    "two values are swapped": {"u:note": '"u:other"', "u:other": '"u:note"'},
    "a member of a set is lost": {"u:tags": 'list_slice("u:tags", 1, 2)'},
    "a member of a nested map is lost": {"u:address__geo__lat": "NULL"},
    "an element within a list is changed": {"u:lines": """replace("u:lines"::VARCHAR, '"2"', '"3"')"""},
    "a binary loses a byte": {"u:bytes": "'\\x00'::BLOB"},
}


FEW_FAULTS = ("a number is rounded", "what is rescued is lost", "an element within a list is changed")


@pytest.mark.parametrize("fault", cases(FAULTS, quick=FEW_FAULTS))
def test_fault_of_the_projection_is_found_although_it_is_still_there(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    project = Projection.select

    def faulty(self: Projection, *arguments: Any) -> str:
        changed = ", ".join(
            f"""CASE WHEN "u:id" IN ('k3', 'k4') THEN {sql} ELSE "{column}" END AS "{column}\""""
            for column, sql in FAULTS[fault].items()
        )
        return f"SELECT * REPLACE ({changed}) FROM ({project(self, *arguments)})"

    monkeypatch.setattr(Projection, "select", faulty)
    export = str(write_export(tmp_path / "export", NAME, items()))
    load_export(lake, NAME, export)
    report = verify_export(lake, NAME, export)
    assert (report.compared, keys(report), dict(report.kinds)) == (8, ["k3", "k4"], {"wrong": 2})
    assert report.outcome != "equal"


@pytest.mark.parametrize("most_reordered", [0, 200])
def test_respelled_export_is_equal_and_only_a_changed_item_is_not(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_reordered: int
) -> None:
    monkeypatch.setattr(full, "MOST_REORDERED", most_reordered)
    load_export(lake, NAME, str(write_export(tmp_path / "export", NAME, items())))
    respelled = [json.loads(json.dumps(item)) for item in reversed(items())]
    for place, item in enumerate(respelled):
        item["total"] = {"N": item["total"]["N"] + "0"} if place % 2 else item["total"]
        item["tags"] = {"SS": item["tags"]["SS"][::-1]}
        item["numbers"] = {"NS": ["2.0", "15E-1"]}
        item["bytes"] = {"B": "AAF="}
        item["address"] = {"M": dict(reversed(item["address"]["M"].items()))}
        respelled[place] = dict(sorted(item.items(), key=lambda pair: hash((pair[0], place))))
    export = str(write_export(tmp_path / "respelled", NAME, respelled))
    assert verify_export(lake, NAME, export).outcome == "equal"
    respelled[2]["address"]["M"]["geo"]["M"]["lat"]["N"] += "1"
    del respelled[4]["none"]
    respelled[5]["tags"] = {"SS": ["a"]}
    respelled[6]["extra"] = {"M": {}}
    changed = {respelled[place]["id"]["S"] for place in (2, 4, 5, 6)}
    report = verify_export(lake, NAME, str(write_export(tmp_path / "changed", NAME, respelled)))
    assert sorted(keys(report)) == sorted(changed)


def test_line_without_a_key_is_an_error(lake: Lake, tmp_path: Path) -> None:
    load_export(lake, NAME, str(write_export(tmp_path / "export", NAME, items())))
    keyless = [*items(), {"id": {"S": "k"}, "sort": {"S": "x"}, "note": {"S": "y"}}, {"note": {"S": "y"}}]
    export = str(write_export(tmp_path / "keyless", NAME, keyless))
    with pytest.raises(
        ExportError, match="1 line of the source, of 10, cannot be compared: there is no item with the key id, sort"
    ):
        verify_export(lake, NAME, export)
