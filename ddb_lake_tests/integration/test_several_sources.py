"""DynamoDB tables of one name in several Regions and accounts, in one lake: each record in the table that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.config import parse_settings
from ddb_lake.errors import ConfigError, UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.export_files import open_export
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.pipeline.read.quarantine import list_quarantine
from ddb_lake.pipeline.sync import sync
from ddb_lake.pipeline.verify.full import check_export
from ddb_lake_tests.simulator import Scenario, big_scenario, envelopes
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.export_files import T0_US, change, full, item, land, sorted_items
from ddb_lake_tests.support.no_source import no_source
from ddb_lake_tests.support.several_tables import due_work, dumped, lake_of

__all__ = ["no_source"]

pytestmark = pytest.mark.usefixtures("no_source")

EU, US = "eu-west-1", "us-east-1"


def scenario(monkeypatch: pytest.MonkeyPatch, seed: int, region: str) -> Scenario:
    """A table of the simulator, in a Region."""
    with monkeypatch.context() as patch:
        patch.setattr(envelopes, "REGION", region)
        return big_scenario(seed=seed, keys=15, changes=150)


def write(folder: Path, exports: Path, found: Scenario, name: str) -> None:
    """Land the objects of a scenario in a folder, and write its exports."""
    for key, content in found.objects.items():
        head, _, tail = key.rpartition("/")
        path = folder / head / f"{name}-{tail}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for export in found.exports:
        for key, content in export.files.items():
            path = exports / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@pytest.mark.parametrize("streams", cases(("one", "two"), quick=("two",)))
def test_histories_of_two_regions_end_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: str) -> None:
    eu, us = scenario(monkeypatch, 5, EU), scenario(monkeypatch, 7, US)
    assert eu.table == us.table
    folders = {"one": ("landing", "landing"), "two": ("landing-eu", "landing-us")}[streams]
    tables: list[dict[str, Any]] = []
    for found, region, folder in zip((eu, us), (EU, US), folders, strict=True):
        write(tmp_path / folder, tmp_path / "exports", found, region)
        tables.append(
            {
                "name": f"orders_{region[:2]}",
                "key": list(found.key_names),
                "source": {"table": found.table, "region": region},
                "changes": {"uri": str(tmp_path / folder)},
                "export": {"bucket": str(tmp_path / "exports")},
            }
        )
    with lake_of(tmp_path / "lake", *tables) as lake:
        for _ in range(3):
            sync(lake)
        assert [due for due in due_work(lake) if due.kind != "compact"] == []
        for name, found in (("orders_eu", eu), ("orders_us", us)):
            assert found.differences(line.decode() for line in dump_items(lake, name)) == []


def settings(folder: Path, uris: Mapping[str, str], **sources: dict[str, str]) -> list[dict[str, Any]]:
    """`settings(folder, {"a": "landing"}, a={"region": EU}, …)`: tables whose source is called `orders`."""
    return [
        {
            "name": name,
            "source": {"table": "orders", **source},
            **({"changes": {"uri": str(folder / uris[name])}} if name in uris else {}),
            "export": {"bucket": str(folder / "exports")},
        }
        for name, source in sources.items()
    ]


def quarantined(lake: Lake, name: str) -> list[str]:
    return [group.reason for group in list_quarantine(lake, name)]


def at(region: str | None, key: str, account: str | None = None) -> dict[str, Any]:
    """A record of a Region; of an account too if it is one of DynamoDB Streams."""
    record = change(T0_US, item(key)) | {"awsRegion": region}
    if account is not None:
        record["dynamodb"] = {
            **record["dynamodb"],
            "SequenceNumber": "100000000000000000001",
            "ApproximateCreationDateTime": T0_US // 1_000_000,
        }
        del record["dynamodb"]["ApproximateCreationDateTimePrecision"], record["recordFormat"], record["tableName"]
        record["eventVersion"] = "1.1"
        record["eventSourceARN"] = f"arn:aws:dynamodb:{region}:{account}:table/orders/stream/2026-01-01T00:00:00.000"
    return record


def test_place_of_the_object_distinguishes_accounts_that_records_do_not_name(tmp_path: Path) -> None:
    tables = settings(tmp_path, {"a": "one", "b": "two"}, a={"account": "1" * 12}, b={"account": "2" * 12})
    land(tmp_path / "one" / "x", at(EU, "a"))
    land(tmp_path / "two" / "x", at(EU, "b"))
    with lake_of(tmp_path / "lake", *tables) as lake:
        sync(lake)
        assert (dumped(lake, "a"), dumped(lake, "b")) == (sorted_items([item("a")]), sorted_items([item("b")]))


def test_records_of_streams_name_their_account(tmp_path: Path) -> None:
    role = "arn:aws:iam::222222222222:role/reader"
    tables = settings(tmp_path, {"a": "one", "b": "one"}, a={"account": "1" * 12}, b={"role_arn": role})
    land(tmp_path / "one" / "x", at(EU, "a", "1" * 12), at(EU, "b", "2" * 12), at(EU, "c", "3" * 12))
    with lake_of(tmp_path / "lake", *tables) as lake:
        sync(lake)
        assert (dumped(lake, "a"), dumped(lake, "b")) == (sorted_items([item("a")]), sorted_items([item("b")]))
        (reason,) = quarantined(lake, "a")
        assert "orders is the source of several tables" in reason and "account 333333333333" in reason


def test_ambiguous_record_is_quarantined_and_replayed_once_the_settings_decide(tmp_path: Path) -> None:
    uris = {"a": "one", "b": "one"}
    land(tmp_path / "one" / "x", at(EU, "a"), at(None, "c"))
    with lake_of(
        tmp_path / "lake", *settings(tmp_path, uris, a={"account": "1" * 12}, b={"account": "2" * 12})
    ) as lake:
        sync(lake)
        reasons = quarantined(lake, "a")
        assert len(reasons) == 2 and all("separate `changes.uri`, then replay" in reason for reason in reasons)
        assert "a (any Region, account 111111111111), b (any Region, account 222222222222)" in reasons[0]
        assert lake.current("a") is None
    with lake_of(tmp_path / "lake", *settings(tmp_path, {"a": "one"}, a={"region": EU}, b={"region": US})) as lake:
        replay_quarantine(lake, "a")
        assert dumped(lake, "a") == sorted_items([item("a"), item("c")])


def test_record_that_contradicts_the_place_of_its_object_is_quarantined(tmp_path: Path) -> None:
    tables = settings(tmp_path, {"a": "one", "b": "two"}, a={"region": EU}, b={"region": US})
    land(tmp_path / "one" / "x", at(EU, "a"), at(US, "b"))
    with lake_of(tmp_path / "lake", *tables) as lake:
        sync(lake)
        assert dumped(lake, "a") == sorted_items([item("a")])
        assert len(quarantined(lake, "a")) == 1


def test_object_in_no_table_s_place_belongs_to_its_records_tables_and_then_to_the_table_it_is_applied_to(
    tmp_path: Path,
) -> None:
    tables = settings(
        tmp_path, {"a": "one", "b": "two"}, a={"account": "1" * 12}, b={"account": "2" * 12}, c={"region": US}
    )
    land(tmp_path / "hand" / "x", at(EU, "b"), at(US, "c"))
    with lake_of(tmp_path / "lake", *tables) as lake:
        apply_objects(lake, "b", [str(tmp_path / "hand")])
        assert dumped(lake, "b") == sorted_items([item("b")])
        assert dumped(lake, "c") == sorted_items([item("c")])


def test_exports_are_of_a_table_by_their_whole_arn(tmp_path: Path) -> None:
    tables = settings(
        tmp_path, {}, a={"region": EU, "account": "1" * 12}, b={"region": EU, "account": "2" * 12}, c={"region": US}
    )
    arns = {
        name: f"arn:aws:dynamodb:{where}:table/orders"
        for name, where in {
            "a": f"{EU}:{'1' * 12}",
            "b": f"{EU}:{'2' * 12}",
            "c": f"{US}:{'9' * 12}",
            "d": f"ap-south-1:{'9' * 12}",
        }.items()
    }
    for number, (name, arn) in enumerate(arns.items()):
        summary = {"tableArn": arn, "exportArn": f"{arn}/export/0{T0_US // 1000 + number}-0badcafe"}
        full([item(name)], at_us=T0_US + number * 1000, summary=summary).write(tmp_path / "exports")
    with lake_of(tmp_path / "lake", *tables) as lake:
        sync(lake)
        for name in ("a", "b", "c"):
            assert dumped(lake, name) == sorted_items([item(name)])
        manifest = next(
            path for path in (tmp_path / "exports").rglob("manifest-summary.json") if arns["b"] in path.read_text()
        )
        with pytest.raises(UsageError, match="is of arn:aws:dynamodb:eu-west-1:222222222222:table/orders"):
            check_export(lake, "a", open_export(lake.objects, str(manifest)))


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        ({}, {}, True),
        ({"region": EU}, {"region": EU}, True),
        ({"account": "1" * 12}, {"role_arn": f"arn:aws:iam::{'1' * 12}:role/r"}, True),
        ({"region": EU}, {"region": US}, False),
        ({"region": EU}, {}, False),
        ({"account": "1" * 12}, {"account": "2" * 12}, False),
        ({"region": EU, "account": "1" * 12}, {"region": EU, "account": "2" * 12}, False),
    ],
)
def test_two_tables_of_the_same_source_are_an_error(first: dict[str, str], second: dict[str, str], wrong: bool) -> None:
    lake = {"warehouse": "lake", "tables": settings(Path(), {}, a=first, b=second)}
    if not wrong:
        assert len(parse_settings(lake, "test").tables) == 2
        return
    with pytest.raises(ConfigError, match=r"a and b have the same source.*`source\.region` or `source\.account`"):
        parse_settings(lake, "test")
