"""Names that meet in a catalog, a folder or a query are rejected before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.config import parse_settings
from ddb_lake.core.layout.table_names import WAREHOUSE_FOLDERS, derived_names, glue_name, name_collision
from ddb_lake.errors import ConfigError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.lake.schemas import CHANGES_COLUMNS, fixed_schema
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.erase import erase_keys
from ddb_lake.pipeline.maintain.erasure import EraseRequest
from ddb_lake.pipeline.read.query import table_names
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, change, full, item, land
from ddb_lake_tests.support.several_tables import lake_of

DAILY = {"changes": {"uri": "landing/changes"}, "daily_states": {"start": "2026-03-01"}}
NAMES = st.text("abAB-_.", min_size=1, max_size=3).filter(lambda name: name.strip(".") == name)


def fault(*tables: dict[str, object] | str, **lake: object) -> str:
    """What is wrong with a configuration of these tables; empty if nothing is."""
    named = [{"name": table} if isinstance(table, str) else table for table in tables]
    try:
        parse_settings({"warehouse": "lake", "tables": named, **lake}, "test")
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", [".", "..", "...", ".a", "a.", "a/b", "a\\b", "a b", "a\n", "", "x" * 245])
def test_name_that_cannot_be_a_folders_is_rejected(name: str) -> None:
    assert "a table's name" in fault(name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("web-orders", "web_orders"),
        ("a.b", "a-b"),
        ("Orders", "orders"),
        ("orders", "orders-changes"),
        ("a", "a.quarantine"),
    ],
)
def test_names_that_collide_are_rejected_naming_both(first: str, second: str) -> None:
    for tables in ((first, second), (second, first)):
        found = fault(*tables)
        assert repr(first) in found
        assert repr(second) in found
        assert "source.table" in found


def test_name_of_the_kept_days_is_taken_only_where_days_are_kept() -> None:
    kept = {"name": "orders", **DAILY}
    assert "'orders-daily'" in fault(kept, "orders-daily")
    assert fault("orders", "orders-daily") == ""


@given(
    tables=st.lists(
        st.tuples(NAMES, st.booleans(), st.lists(NAMES, max_size=2, unique=True).map(tuple)), max_size=4, unique=True
    )
)
def test_tables_are_accepted_exactly_if_all_their_names_differ_everywhere(
    tables: list[tuple[str, bool, tuple[str, ...]]],
) -> None:
    names = [glue_name(derived) for name, daily, entities in tables for derived in derived_names(name, daily, entities)]
    assert (name_collision(tables) is None) == (len(set(names)) == len(names))


def test_every_name_that_a_lake_makes_is_a_derived_name(tmp_path: Path) -> None:
    """The tables of the catalog and of queries, after a load, an apply with something for the quarantine, and an erasure."""
    with lake_of(tmp_path / "lake", {"name": "web-orders", "source": {"table": "orders"}}) as lake:
        load_export(lake, "web-orders", str(full([item("a")]).write(tmp_path / "export")))
        bad = {**change(T0_US + HOUR_US, item("b")), "dynamodb": {"Keys": 1}}
        apply_objects(lake, "web-orders", [land(tmp_path / "bad", bad, change(T0_US + HOUR_US, item("c")))])
        erase_keys(lake, "web-orders", EraseRequest([{"id": {"S": "z"}}]))
        made = {*lake.catalog.names(), *table_names(lake)}
        folders = {path.name for path in (tmp_path / "lake/ddb_lake").iterdir()}
    assert made == folders == set(derived_names("web-orders", daily=False))
    for name in made - {"web-orders"}:
        assert fault("web-orders", glue_name(name).replace("_", "-")) != ""


@pytest.mark.parametrize(
    ("entities", "others", "said"),
    [
        (["changes"], [], "uses the endings"),
        (["old_objects"], [], "uses the endings"),
        (["Item", "item"], [], "two entities have the name"),
        (["item"], ["orders-item"], "collide"),
        (["a-b"], [], "letters, digits"),
        (["x" * 61], [], "letters, digits"),
        (["rest", "other"], [], "put it last"),
    ],
)
def test_name_of_an_entity_that_cannot_be_used(entities: list[str], others: list[str], said: str) -> None:
    patterns = [{} if name == "rest" else {"key": {"id": f"{name}#*"}} for name in entities]
    given = [{"name": name, **pattern} for name, pattern in zip(entities, patterns, strict=True)]
    assert said in fault({"name": "orders", "entities": given}, *others)


@pytest.mark.parametrize("namespace", [*WAREHOUSE_FOLDERS, "DAILY", ".", "..", "a/b", "", " ", "a.", "../other"])
def test_namespace_that_is_another_folder_of_the_warehouse_is_rejected(namespace: str) -> None:
    assert "catalog.namespace" in fault("orders", catalog={"namespace": namespace})


@pytest.mark.parametrize(
    "uri",
    [
        "lake/ddb_lake/orders",
        "lake/ddb_lake/orders/data/in",
        "./lake/x/../ddb_lake/orders_changes/",
        "{here}/lake/ddb_lake/orders/a",
    ],
)
def test_landing_within_a_tables_files_is_rejected(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lake/x").mkdir(parents=True)
    found = fault({"name": "orders", "changes": {"uri": uri.format(here=tmp_path)}})
    assert "where the lake stores 'orders'" in found


def test_export_within_a_tables_files_is_rejected() -> None:
    table = {"name": "orders", "export": {"bucket": "b", "prefix": "lake/ddb_lake/orders/exports"}}
    assert "s3a://b/lake/ddb_lake/orders" in fault(table, warehouse="s3a://b/lake")
    assert fault(table, warehouse="s3://b/lake2") == ""


def test_settings_and_catalog_have_one_location_of_a_table(tmp_path: Path) -> None:
    settings = parse_settings({"warehouse": str(tmp_path), "tables": []}, "test")
    with LakeCatalog(settings) as catalog:
        assert (
            catalog.create("orders", fixed_schema(CHANGES_COLUMNS)).location() == f"{settings.tables_location}/orders"
        )
