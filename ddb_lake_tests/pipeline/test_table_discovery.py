"""Which tables a lake with `match` has, after any history of tables and tags in DynamoDB, against an independent model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.aws.table_listing import ListedTable
from ddb_lake.config import LakeSettings, TableSettings, parse_settings
from ddb_lake.config.inventory import (
    Inventory,
    InventoryTable,
    expanded,
    inventory_file,
    read_inventory,
    with_inventory,
    write_inventory,
)
from ddb_lake.errors import ConfigError
from ddb_lake.pipeline import table_discovery
from ddb_lake.pipeline.table_discovery import discover_tables, refresh
from ddb_lake_tests.support.effort import examples

START = datetime(2026, 3, 1, tzinfo=UTC)
PATTERNS = ("prod-*", "prod-{name}", "*-orders", "*", "{name}-users", "prod-orders")
NAMES = ("prod-orders", "prod-users", "dev-orders", "dev-users", "orders", "Prod-orders", "prod-")
World = Mapping[str, Mapping[str, str]]

tags = st.dictionaries(st.sampled_from(["team", "lake"]), st.sampled_from(["a", "b"]), max_size=2)
worlds = st.dictionaries(st.sampled_from(NAMES), tags, max_size=5)
entries = st.fixed_dictionaries(
    {"match": st.sampled_from(PATTERNS)},
    optional={
        "match_tags": st.dictionaries(st.sampled_from(["team", "lake"]), st.sampled_from(["a", "*"]), max_size=2),
        "match_except": st.lists(st.sampled_from(["dev-*", "*-users", "orders"]), max_size=2),
    },
)
named = st.sampled_from(
    [
        {"name": "orders"},
        {"name": "users", "source": {"table": "prod-users"}},
        {"name": "mine", "source": {"table": "prod-orders", "region": "eu-west-1"}},
    ]
)


def described(name: str, table_tags: Mapping[str, str]) -> ListedTable:
    table = InventoryTable(table=name, arn=f"arn:aws:dynamodb:::table/{name}", key=("id",), key_types={"id": "S"})
    return ListedTable(table, dict(table_tags))


def lake(*tables: Mapping[str, Any]) -> LakeSettings:
    return LakeSettings.model_validate({"warehouse": "lake", "tables": list(tables)})


def listed(settings: LakeSettings, world: World) -> list[tuple[TableSettings, list[ListedTable]]]:
    """What AWS returns for each entry."""
    return [
        (entry, [described(name, found) for name, found in world.items() if entry.matches_name(name)])
        for entry in settings.matching_tables
    ]


# --- the model: entries as they are written, regular expressions of its own, and no inventory


def model_match(entry: Mapping[str, Any], name: str, table_tags: Mapping[str, str]) -> str | None:
    """The name in the lake; None if the entry is not for the table."""
    regex = re.escape(entry["match"]).replace(r"\*", ".*").replace(r"\{name\}", "(.+)")
    found = re.fullmatch(regex, name)
    excepted = any(re.fullmatch(pattern.replace("*", ".*"), name) for pattern in entry.get("match_except", ()))
    wanted = entry.get("match_tags", {}).items()
    if (
        found is None
        or excepted
        or any(tag not in table_tags or value not in ("*", table_tags[tag]) for tag, value in wanted)
    ):
        return None
    return found[1] if found.groups() else name


def model_tables(
    given: list[Mapping[str, Any]], explicit: list[Mapping[str, Any]], ever: World
) -> list[tuple[str, str]]:
    """The name in the lake and the DynamoDB table of each table, of all that were ever found, with the tags they had then."""
    own = [(one["name"], one.get("source", {}).get("table", one["name"])) for one in explicit]
    taken = {source for _, source in own}
    for name, table_tags in ever.items():
        found = next((to for entry in given if (to := model_match(entry, name, table_tags)) is not None), None)
        if found is not None and name not in taken:
            own.append((found, name))
    return own


@given(
    st.lists(entries, min_size=1, max_size=3),
    st.lists(named, max_size=2, unique_by=lambda one: str(one["name"])),
    st.lists(worlds, min_size=1, max_size=4),
)
@examples(60, 1500)
def test_tables_are_those_of_the_model_after_any_history(
    given: list[dict[str, Any]], explicit: list[dict[str, Any]], history: list[World]
) -> None:
    settings = lake(*explicit, *given)
    inventory, ever, missing = Inventory(), dict[str, Mapping[str, str]](), dict[str, datetime]()
    for step, world in enumerate(history):
        at = START + timedelta(days=step)
        inventory = refresh(inventory, listed(settings, world), at)
        present = {n: t for n, t in world.items() if any(model_match(entry, n, t) is not None for entry in given)}
        ever |= present
        missing = {name: missing.get(name, at) for name in ever if name not in present}
        assert {one.table: one.missing_since for one in inventory.tables} == {name: missing.get(name) for name in ever}
        assert inventory == refresh(inventory, listed(settings, world), at + timedelta(days=1))
        model = model_tables(given, explicit, ever)
        names = [name for name, _ in model]
        spelled = [re.sub(r"[^a-z0-9_]", "_", name.lower()) for name in names]
        if len(set(spelled)) < len(names):
            with pytest.raises(ConfigError, match=r"one name|collide"):
                expanded(settings, inventory, "test")
        else:
            tables = expanded(settings, inventory, "test").tables
            assert sorted((one.name, one.source_name) for one in tables) == sorted(model)
            matched = [one for one in tables if one.name not in {own["name"] for own in explicit}]
            assert {one.source_name: one.source.missing_since for one in matched} == {
                source: missing.get(source) for _, source in model[len(explicit) :]
            }
            assert not expanded(settings, inventory, "test").matching_tables


def inventory_of(settings: LakeSettings, world: World) -> Inventory:
    return refresh(Inventory(), listed(settings, world), START)


def test_first_entry_has_the_table_although_a_later_one_with_other_tags_names_it_too() -> None:
    settings = lake({"match": "prod-{name}", "match_tags": {"team": "a"}}, {"match": "*", "match_tags": {"lake": "*"}})
    world = {"prod-a": {"team": "a", "lake": "x"}, "prod-b": {"team": "b", "lake": "x"}, "prod-c": {"team": "b"}}
    tables = expanded(settings, inventory_of(settings, world), "test").tables
    assert [(one.name, one.source_name) for one in tables] == [("a", "prod-a"), ("prod-b", "prod-b")]


def test_settings_of_the_entry_are_those_of_each_table_and_the_key_is_that_of_dynamodb() -> None:
    settings = lake(
        {
            "match": "prod-{name}",
            "export": {"bucket": "exports", "prefix": "prod-{name}", "schedule": "0 3 * * 0"},
            "changes": {"uri": "s3://landing/{name}/", "partitions": {"start": "2026-02-01"}},
            "columns": {"total": "decimal(38,2)", "mail": {"drop": True}},
            "checks": {"max_lag": "1h"},
            "source": {"region": "eu-west-1"},
        }
    )
    found = listed(settings, {"prod-orders": {}, "prod-users": {}})
    for _, tables in found:
        tables[:] = [ListedTable(one.table.model_copy(update={"region": "eu-west-1"}), one.tags) for one in tables]
    made = expanded(settings, refresh(Inventory(), found, START), "test")
    expected = lake(
        *(
            {
                "name": name,
                "key": ["id"],
                "export": {"bucket": "exports", "prefix": f"prod-{name}", "schedule": "0 3 * * 0"},
                "changes": {"uri": f"s3://landing/{name}/", "partitions": {"start": "2026-02-01"}},
                "columns": {"total": "decimal(38,2)", "mail": {"drop": True}},
                "checks": {"max_lag": "1h"},
                "source": {"region": "eu-west-1", "table": f"prod-{name}"},
            }
            for name in ("orders", "users")
        )
    )
    assert made == expected


def test_stream_and_consumer_may_have_the_name_of_each_table() -> None:
    settings = lake({"match": "prod-{name}", "changes": {"kinesis": "{name}", "fan_out": "lake-{name}"}})
    (table,) = expanded(settings, inventory_of(settings, {"prod-a": {}}), "test").tables
    assert table.changes is not None
    assert (table.changes.kinesis, table.changes.fan_out) == ("a", "lake-a")


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"streams": True}, "lake/landing/prod-a/"),
        ({"kinesis": "prod-{name}", "landing": "s3://landing/{name}"}, "s3://landing/prod-a/"),
        ({"uri": "s3://landing/{name}/"}, "s3://landing/prod-a/"),
        ({"incremental_exports": {}}, None),
    ],
)
def test_nothing_is_read_or_requested_of_a_missing_table_and_what_landed_is_applied(
    changes: dict[str, Any], kept: str | None
) -> None:
    full = {"schedule": "0 6 * * 0", "against": "scan"}
    canary = {"key": {"id": {"S": "canary"}}}
    export = {"bucket": "exports", "schedule": "0 3 * * 0"}
    entry = {"match": "prod-*", "changes": changes, "export": export, "checks": {"full": full, "canary": canary}}
    settings = lake(entry)
    inventory = refresh(inventory_of(settings, {"prod-a": {}}), listed(settings, {}), START)
    (table,) = expanded(settings, inventory, "test").tables
    assert table.source.missing_since == START
    assert table.changes is not None and table.export is not None
    assert (table.changes.uri, table.changes.reads_stream, table.changes.incremental_exports) == (kept, False, None)
    assert (table.export.bucket, table.export.schedule) == ("exports", None)
    assert (table.checks.full, table.checks.sample, table.checks.canary) == (None, 0, None)


def test_changes_of_tables_of_one_name_state_region_and_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = {"prod-{name}": "arn:aws:iam::111111111111:role/reader", "*-a": "arn:aws:iam::222222222222:role/reader"}
    config = tmp_path / "ddb_lake.yaml"
    tables = [{"match": match, "source": {"region": "eu-west-1", "role_arn": role}} for match, role in roles.items()]
    config.write_text(json.dumps({"warehouse": "lake", "tables": tables}))

    def list_tables(entry: TableSettings) -> tuple[ListedTable, ...]:
        found = described("prod-a", {}).table.model_copy(
            update={"region": "eu-west-1", "role_arn": entry.source.role_arn, "arn": f"arn of {entry.source.role_arn}"}
        )
        return (ListedTable(found, {}),)

    monkeypatch.setattr(table_discovery, "list_tables", list_tables)
    assert discover_tables(config).changes == {f"prod-a (eu-west-1, {role})": "added" for role in roles.values()}


def test_name_in_the_lake_that_changes_with_a_tag_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the former lake table, which would leave the lake unnoticed because a tag was removed."""
    config, tags = tmp_path / "ddb_lake.yaml", {"lake": "yes"}
    tables = [{"match": "prod-{name}", "match_tags": {"lake": "*"}}, {"match": "*"}]
    config.write_text(json.dumps({"warehouse": "lake", "tables": tables}))
    monkeypatch.setattr(table_discovery, "list_tables", lambda _: (described("prod-a", tags),))
    assert discover_tables(config).names == ("a",)
    tags.clear()
    (change,) = discover_tables(config).changes.values()
    assert change == "changed: tags; another entry has it now: a is no table of the lake any more, and prod-a is"


def test_two_tables_of_one_name_are_refused_with_both_and_what_to_write() -> None:
    settings = lake({"match": "prod-{name}"}, {"match": "dev-{name}"})
    with pytest.raises(ConfigError) as refused:
        expanded(settings, inventory_of(settings, {"prod-a": {}, "dev-a": {}}), "lake.yaml")
    message = str(refused.value)
    assert "prod-a" in message and "dev-a" in message and "'a'" in message and "match_except: [prod-a]" in message


def test_all_tables_that_cannot_be_in_one_lake_are_named_at_once() -> None:
    settings = lake({"match": "*"}, {"name": "mine", "source": {"table": "other"}})
    with pytest.raises(ConfigError) as refused:
        expanded(
            settings, inventory_of(settings, {"b_changes": {}, "c_objects": {}, "good": {}, "mine": {}}), "lake.yaml"
        )
    message = str(refused.value)
    assert message.startswith("lake.yaml: 3 faults: ") and "good" not in message and message.count("lake.yaml") == 1
    for name in ("b_changes", "c_objects", "mine"):
        assert f"match_except: [{name}]" in message


def test_discovery_that_begins_during_another_loses_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock, the discovery that listed the tables first replaces the file last, without the table that was created meanwhile."""
    config = tmp_path / "ddb_lake.yaml"
    config.write_text(json.dumps({"warehouse": "lake", "tables": [{"match": "*"}]}))
    later = Thread(target=discover_tables, args=(config,))

    def list_tables(entry: TableSettings) -> tuple[ListedTable, ...]:
        if later.ident is not None:
            return described("a", {}), described("b", {})
        later.start()
        later.join(1)  # it waits for the lock; without one it ends
        return (described("a", {}),)

    monkeypatch.setattr(table_discovery, "list_tables", list_tables)
    discover_tables(config)
    later.join()
    inventory = read_inventory(inventory_file(config))
    assert inventory is not None
    assert [(one.table, one.missing_since) for one in inventory.tables] == [("a", None), ("b", None)]


def test_name_that_a_lake_cannot_have_is_refused_with_what_to_write() -> None:
    settings = lake({"match": "*"})
    with pytest.raises(ConfigError, match=r"b_changes.*may not end in _changes.*match_except: \[b_changes\]"):
        expanded(settings, inventory_of(settings, {"b_changes": {}}), "lake.yaml")


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"match": "a*", "name": "a"}, "name and match"),
        ({"name": "a", "match_tags": {"x": "y"}}, "match_tags needs `match`"),
        ({"name": "a", "match_except": "b"}, "match_except needs `match`"),
        ({"name": "a", "changes": {"kinesis": "x-{name}"}}, "changes.kinesis: {name} needs `match`"),
        ({"name": "a", "changes": {"kinesis": "x", "fan_out": "x-{name}"}}, "changes.fan_out: {name} needs `match`"),
        ({"match": "a-{other}"}, "the only part of a table's name is {name}"),
        ({"match": "*", "match_except": "{name}"}, "a part has no meaning here"),
        ({"match": "**"}, "two placeholders touch"),
        ({"match": "*", "source": {"table": "t"}}, "source.table and match"),
        ({}, "a table needs a `name`, or `match`"),
    ],
)
def test_faults_of_an_entry_are_named(entry: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings({"warehouse": "lake", "tables": [entry]}, "test")
    assert fault in str(refused.value)


def test_an_inventory_is_required_and_belongs_to_the_entries_as_they_are(tmp_path: Path) -> None:
    config = tmp_path / "ddb_lake.yaml"
    settings = lake({"match": "prod-*"})
    assert inventory_file(config) == tmp_path / "ddb_lake.tables.json"
    with pytest.raises(
        ConfigError, match=r"ddb_lake.tables.json, which does not exist.*run `ddb-lake discover --config"
    ):
        with_inventory(settings, config)
    inventory = refresh(Inventory(), listed(settings, {"prod-a": {}, "b": {}}), START)
    write_inventory(inventory_file(config), inventory)
    assert read_inventory(inventory_file(config)) == inventory
    assert [one.name for one in with_inventory(settings, config).tables] == ["prod-a"]
    assert [path.name for path in tmp_path.iterdir()] == ["ddb_lake.tables.json"]
    for changed in (
        {"match": "*"},
        {"match": "prod-*", "match_tags": {"lake": "*"}},
        {"match": "prod-*", "source": {"region": "x"}},
    ):
        with pytest.raises(ConfigError, match="not looked up since the entry was added or changed"):
            with_inventory(lake(changed), config)


TABLE = '{"table": "a", "arn": "", "key": ["id"], "key_types": {"id": "S"}}'


@pytest.mark.parametrize(
    ("damaged", "fault"),
    [
        (b"{", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"\xff", "it is not UTF-8 text"),
        (b"null", "inventory: Input should be"),
        (b'{"version": 2}', "version: Input should be 1"),
        (b'{"tables": [{"table": "a"}]}', "tables.0.key: Field required"),
        (f'{{"tables": [{TABLE.replace("S", "")[:-2]}, "x": "S"}}}}]}}'.encode(), "`key` and `key_types`"),
        (f'{{"tables": [{TABLE}, {TABLE}]}}'.encode(), "a is listed twice"),
    ],
)
def test_damaged_inventory_is_an_error_that_names_the_fault(tmp_path: Path, damaged: bytes, fault: str) -> None:
    file = tmp_path / "ddb_lake.tables.json"
    file.write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"no inventory of `ddb-lake discover`: .*restore the file") as refused:
        read_inventory(file)
    assert fault in str(refused.value)


def of_region(region: str | None, arn_region: str) -> ListedTable:
    table = described("orders", {}).table
    return ListedTable(table.model_copy(update={"region": region, "arn": f"arn:aws:dynamodb:{arn_region}:1:x"}), {})


def test_entry_with_a_name_is_refused_for_tables_of_two_regions() -> None:
    regions = ("eu-west-1", "us-east-1")
    entries = [{"match": "*", "source": {"region": region}} for region in regions]
    settings = lake({"name": "other", "source": {"table": "orders"}}, *entries)
    listed_tables = [
        (entry, [of_region(region, region)]) for entry, region in zip(settings.matching_tables, regions, strict=True)
    ]
    with pytest.raises(ConfigError, match=r"`name: other` is for one table.*eu-west-1.*us-east-1.*source.region"):
        expanded(settings, refresh(Inventory(), listed_tables, START), "lake.yaml")
    settings = lake({"name": "other", "source": {"table": "orders", "region": "us-east-1"}}, *entries)
    tables = expanded(settings, refresh(Inventory(), listed_tables, START), "lake.yaml").tables
    assert [(one.name, one.source.region) for one in tables] == [("other", "us-east-1"), ("orders", "eu-west-1")]


def test_table_that_two_entries_find_with_and_without_its_region_is_that_of_the_first() -> None:
    settings = lake({"match": "o{name}", "source": {"region": "eu-west-1"}}, {"match": "*"})
    first, second = settings.matching_tables
    before = refresh(Inventory(), [(second, [of_region(None, "eu-west-1")])], START)
    both = [(first, [of_region("eu-west-1", "eu-west-1")]), (second, [of_region(None, "eu-west-1")])]
    for previous in (Inventory(), before):
        tables = expanded(settings, refresh(previous, both, START), "lake.yaml").tables
        assert [(one.name, one.source.missing_since) for one in tables] == [("rders", None)]
