"""Names and values are never SQL: quotes, semicolons and newlines in them go through every stage and come out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.items import make_table
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.sql import identifier
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.maintain.restore import open_restore
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.query import table_columns
from ddb_lake.pipeline.verify.full import verify_scan
from ddb_lake.pipeline.verify.repair import repair_from_source
from ddb_lake.sandbox.items import canonical
from ddb_lake_tests.support.corruptions import lose_row
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, Export, change, land
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree
from ddb_lake_tests.support.sandbox_lake import orders_source
from ddb_lake_tests.support.sandbox_steps import scan
from ddb_lake_tests.support.several_tables import queried

KEY = "id\"; DROP TABLE hostile;--\n'"
NAMES = ("a'b", 'a"b', "a;b", "a\nb", "a--b", "/*", "a') FROM x; SELECT ('", "$$", "{{x}}", "a\\'b", "_key_hash", "*")
TABLE = "Robert.DROP-TABLE_x"


def hostile(number: int) -> Item:
    """An item whose names and values are all SQL, in every type and nested."""
    said = f'{number}\'); DROP TABLE "{TABLE}"; --\n"\';'
    attributes: Item = {name: {"S": said + name} for name in NAMES}
    nested = {"M": {name: {"L": [{"S": said}, {"M": {name: {"N": str(number)}}}]} for name in NAMES}}
    return {KEY: {"S": said}, **attributes, "map'; --": nested, 'set"': {"SS": sorted(NAMES)}, "n'": {"N": str(number)}}


def changed(at_us: int, new: Item | None, old: Item | None = None) -> dict[str, Any]:
    image = new or old or {}
    record: dict[str, Any] = change(at_us, {"id": {"S": "x"}}, table=TABLE)
    body = {"ApproximateCreationDateTime": at_us, "ApproximateCreationDateTimePrecision": "MICROSECOND"}
    body |= {"Keys": {KEY: image[KEY]}, "SizeBytes": 1} | ({"NewImage": new} if new else {})
    body |= {"OldImage": old} if old else {}
    return {**record, "eventName": "MODIFY" if new and old else "INSERT" if new else "REMOVE", "dynamodb": body}


def test_names_and_values_that_are_sql_go_through_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [hostile(number) for number in range(4)]
    newer = {**items[1], "n'": {"N": "11"}, 'new"; --': {"S": "'"}}
    truth = [items[0], newer, items[3]]
    with orders_source(monkeypatch) as sandbox, lake(tmp_path / "lake", TABLE, [KEY]) as opened:
        client = sandbox.client("dynamodb")
        make_table(client, TABLE, [(KEY, "S")])
        for one in truth:
            client.put_item(TableName=TABLE, Item=one)
        source = {"tableId": client.describe_table(TableName=TABLE)["Table"]["TableId"]}
        lines = [{"Item": one} for one in items[:3]]
        export = Export([lines], table=TABLE, summary=source).write(tmp_path / "export")
        load_export(opened, TABLE, str(export))
        records = [changed(T0_US + HOUR_US, items[3]), changed(T0_US + HOUR_US, newer, items[1])]
        records.append(changed(T0_US + HOUR_US, None, items[2]))
        apply_objects(opened, TABLE, [land(tmp_path / "landing" / "2026/03/01/10/a'; --", *records)])
        expected = sorted(map(canonical, truth))
        assert dumped(opened) == expected
        names = {origin: name for name, _, origin in table_columns(opened, TABLE)}
        ((count,),) = queried(opened, f"SELECT count({identifier(names[KEY + ' (S)'])}) FROM {identifier(TABLE)}")
        assert count == len(truth)
        compact_table(opened, TABLE, force=True)
        assert_readers_agree(opened, TABLE)
        assert verify_scan(opened, TABLE, read_rate=None).outcome == "equal"
        lose_row(opened, TABLE, items[0])
        report = verify_scan(opened, TABLE, read_rate=None)
        assert [found.key for found in report.differences] == [{KEY: items[0][KEY]}]
        repair_from_source(opened, TABLE, [found.key for found in report.differences], read_rate=None)
        assert dumped(opened) == expected
        with opened.session() as session:
            open_restore(opened, session, TABLE, "copy", T0_US + 2 * HOUR_US, None).run(create=True)
        assert scan(sandbox, "copy") == expected


def dumped(opened: Any) -> list[str]:
    return sorted(canonical(json.loads(line)["Item"]) for line in dump_items(opened, TABLE))
