"""Exports in Amazon Ion have the same result as in DynamoDB JSON: the same changes through the sandbox, exported in both."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.errors import ExportError, UsageError
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.sandbox.ion import ion_line
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, Export, full, increment, item
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.several_tables import dumped

ITEMS: list[Item] = [
    item("a", v={"N": "12345678901234567890123456789012345678"}, w={"NS": ["1.5", "2000"]}),
    item("b", v={"N": "-1.5E-90"}, w={"BS": ["aGk=", "AA=="]}, n={"NULL": True}),
    item("c", v={"M": {"$ion_1_0": {"L": [{"B": ""}, {"BOOL": False}, {"S": "x" * 9000}]}}}, null={"S": "null"}),
]


def in_ion(export: Export) -> Export:
    lines = [[ion_line(line) for line in file] for file in export.files]
    return replace(export, files=lines, summary={"outputFormat": "ION"})


def loaded(folder: Path, *exports: Export) -> list[bytes]:
    with lake(folder / "lake", "orders", ["id"]) as opened:
        for export in exports:
            load_export(opened, "orders", str(export.write(folder / "exports")))
        return [canonical_json(json.loads(line)) for line in dumped(opened)]


def test_full_and_incremental_exports_load_as_in_json(tmp_path: Path) -> None:
    writes = [
        (T0_US + MINUTE_US, item("a", v=7, t={"SS": ["x", "y"]}), item("a")),
        (T0_US + 2 * MINUTE_US, None, item("b")),
        (T0_US + 3 * MINUTE_US, item("d", v={"N": "1E+100"}), item("d")),
    ]
    exports = [full(ITEMS[:2], ITEMS[2:], []), increment(*writes, at_us=T0_US + HOUR_US, window=T0_US)]
    in_json = loaded(tmp_path / "json", *exports)
    assert [json.loads(row)["id"]["S"] for row in in_json] == ["a", "c", "d"]
    assert loaded(tmp_path / "ion", *map(in_ion, exports)) == in_json


@pytest.mark.parametrize("window", [None, T0_US])
def test_lines_without_an_item_are_named_or_quarantined(tmp_path: Path, window: int | None) -> None:
    if window is None:
        export = in_ion(full(ITEMS))
    else:
        export = in_ion(increment((T0_US + MINUTE_US, item("a", v=1), item("a")), at_us=T0_US + HOUR_US, window=window))
    broken = '$ion_1_0 {Item:{id:"z",v:1e0}}' if window is None else '$ion_1_0 {Record:{Keys:{id:"z",v:1e0}}}'
    export.files = [[*export.files[0], broken]]
    manifest = export.write(tmp_path / "exports")
    with lake(tmp_path / "lake", "orders", ["id"]) as opened:
        with pytest.raises(ExportError, match=r"line \d .*v: an Ion float"):
            load_export(opened, "orders", str(manifest))
        assert load_export(opened, "orders", str(manifest), reject=True).quarantined == 1
        assert len(dumped(opened)) == len(export.files[0]) - 1


def test_export_in_ion_without_the_package_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "amazon.ion", None)
    with pytest.raises(UsageError, match="the extra `ion`"):
        loaded(tmp_path, in_ion(full(ITEMS)))
