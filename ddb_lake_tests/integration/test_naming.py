"""Attributes called like anything in our SQL, in DuckDB, in the dbt macros or in what MySQL gets: no name means more."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from ddb_lake.aws.items import make_table
from ddb_lake.cli.app import cli
from ddb_lake.config import parse_settings
from ddb_lake.core.schema.table_schema import dotted
from ddb_lake.dbt.models import own_names as dbt_names
from ddb_lake.dbt.project import table_models
from ddb_lake.executors import open_lake
from ddb_lake.mysql.comparison import compare
from ddb_lake.mysql.connection import Server
from ddb_lake.mysql.replication import replicate
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.verify.full import verify_scan
from ddb_lake.pipeline.verify.repair import repair_from_source
from ddb_lake.pipeline.verify.sample import verify_sample
from ddb_lake_tests.support.corruptions import lose_row
from ddb_lake_tests.support.dbt_lake import dbt
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, Export
from ddb_lake_tests.support.hostile_names import (
    Named,
    go,
    names_in,
    names_of_other_sql,
    recorded,
    spelled,
    virtual_columns,
)
from ddb_lake_tests.support.mariadb import PASSWORD, MariaDb
from ddb_lake_tests.support.mysql_lakes import PASSWORD_ENV, aurora
from ddb_lake_tests.support.sandbox_lake import orders_source
from ddb_lake_tests.support.several_tables import lake_of
from ddb_lake_tests.trust.naming import try_names, vocabulary

A_TABLE = 140
"""Names that one table's items have: so few that SQL projects them."""

OWN_WORDS = ("file_index", "_place", "u:id", "rowid", "__duckdb_field_id", "_file_path", "_pos", "k", "s", "item", "r0")


@pytest.fixture(scope="module")
def own_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The identifiers of every statement that the steps execute, and DuckDB's virtual columns."""
    folder = tmp_path_factory.mktemp("own")
    with recorded() as statements:
        go(folder / "one", ["status", "total", "a-b"])
    found = {name for sql in set(statements) for name in names_in(sql)}
    virtual = virtual_columns(found | {"filename", "rowid"}, folder)
    assert {"file_index", "file_row_number", "filename", "rowid"} <= virtual
    assert {"_place", "_key_hash", "new_states", "record_id"} <= found
    plain = sorted(name for name in found if not name.startswith("u:"))
    assert not [name for name in plain if ":" in name and not name.startswith("kept:")], (
        "only columns of items and lasting relations have a colon in their names"
    )
    return sorted({*plain, *virtual, *OWN_WORDS})


@pytest.mark.exhaustive
def test_attributes_called_like_our_identifiers(tmp_path: Path, own_names: list[str]) -> None:
    chance = random.Random(12)
    for number, first in enumerate(range(0, len(own_names), A_TABLE)):
        some = own_names[first : first + A_TABLE]
        also = {spelled(name, chance.randrange(1, 5)) for name in chance.sample(some, len(some) // 5)}
        go(tmp_path / str(number), [*some, *sorted(also - set(some))])


@pytest.mark.parametrize("key", cases(("_place", "u:id"), quick=("_place",)))
def test_key_called_like_our_identifiers(tmp_path: Path, key: str) -> None:
    go(tmp_path, ["id", "_key", "file_index", "k", "Item"], key)


# --- MySQL


def test_attributes_called_like_what_mysql_gets(
    tmp_path: Path, mariadb: MariaDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    server = mariadb.fresh()
    words = names_of_other_sql()
    names = sorted({*(name for name in words if name.startswith("_")), "KEY", "why", "record", "s", "t", "d", "_Key"})
    names += ["_gone", "_record", "_malformed", "_event", "_seq", "ddb_lake:gone", "position", "select"]
    table = {"name": "t", "key": ["_record"], "aurora": aurora(server)}
    with lake_of(tmp_path / "lake", table) as lake:
        named = Named(lake, tmp_path, "t", sorted({*names, "_key"}), key="_record")
        named.items = {number: named.item(number, 0) for number in range(4)}
        named.load(T0_US, "first")
        for step in range(3):
            replicate(lake, "t")
            assert compare(lake, "t", sample=None).equal
            assert stored(mariadb, server, named) == named.expected()
            named.apply(T0_US + (step + 1) * HOUR_US, {step: None, step + 4: named.item(step + 4, step)})
        own = {name.lower() for name in columns_of(mariadb, server)}
        assert {"_key", "_record", "_gone", "_event", "_seq", "_malformed"} < own


def columns_of(mariadb: MariaDb, server: Server) -> list[str]:
    database = mariadb.open(server)
    try:
        return [
            name
            for (name,) in database.rows(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
                " AND table_name = 't' ORDER BY ordinal_position"
            )
        ]
    finally:
        database.close()


def stored(mariadb: MariaDb, server: Server, named: Named) -> dict[str, dict[str, Any]]:
    """The database's rows as attribute to text."""
    columns = named.columns()
    there = columns_of(mariadb, server)
    gone = {name: held for name, held in columns.items() if name not in there}
    for name, held in gone.items():  # the attribute `_key`
        (other,) = [one for one in there if one.startswith(f"{name}_") and one not in columns]
        columns[other] = held
    database = mariadb.open(server)
    try:
        shown = ", ".join(f"`{name}`" for name in there)
        found = [dict(zip(there, row, strict=True)) for row in database.rows(f"SELECT {shown} FROM t")]
    finally:
        database.close()
    ours = {"_key", "_changed_at", "_source", "_rescued"}
    return named.by_key([{n: v for n, v in row.items() if n not in ours} for row in found], columns)


# --- dbt


@pytest.mark.exhaustive
def test_attributes_called_like_what_the_models_of_dbt_have(tmp_path: Path) -> None:
    names = sorted({*dbt_names(), "records", "r", "c", "o", "v", "change_day", "items", "how_often", "rowid"})
    settings = {"warehouse": str(tmp_path / "lake"), "tables": [{"name": "t", "key": ["_item"]}]}
    (tmp_path / "lake.json").write_text(json.dumps(settings))
    project = tmp_path / "project"
    with open_lake(parse_settings(settings, "test")) as lake:
        named = Named(lake, tmp_path, "t", names, key="_item")
        named.items = {number: named.item(number, 0) for number in range(4)}
        named.load(T0_US, "first")
        named.apply(T0_US + HOUR_US, {1: named.item(1, 1), 2: None})
    arguments = ["init-dbt", "--config", str(tmp_path / "lake.json"), "--project", str(project), "t"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    dbt(tmp_path, "build", project=project)
    with open_lake(parse_settings(settings, "test")) as lake:
        named.lake = lake
        named.apply(T0_US + 2 * HOUR_US, {1: None, 4: named.item(4, 2), 0: named.item(0, 2)})
        models = table_models(lake, "t")
        columns = {column.name: dotted(column.path) for column in models.columns}
        assert not {name.lower() for name in columns} & dbt_names()
        assert CliRunner().invoke(cli, arguments).exit_code == 0
        dbt(tmp_path, "build", project=project)
        with duckdb.connect(str(tmp_path / "lake_marts.duckdb"), read_only=True) as con:
            cursor = con.execute("SELECT * FROM marts.dim_t_history WHERE _is_current")
            rows = [dict(zip((d[0] for d in cursor.description), row, strict=True)) for row in cursor.fetchall()]
        assert named.by_key(rows, columns) == named.expected()


# --- repair


def test_rows_with_such_names_are_verified_and_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*OWN_WORDS, "_key", "_rescued", "_source", "held_rows", "source_items", "h", "filename", "differing"]
    with orders_source(monkeypatch) as sandbox, lake_of(tmp_path / "lake", {"name": "t", "key": ["_key_hash"]}) as lake:
        named = Named(lake, tmp_path, "t", names, key="_key_hash")
        client = sandbox.client("dynamodb")
        make_table(client, "t", [("_key_hash", "S")])
        source = {"tableId": client.describe_table(TableName="t")["Table"]["TableId"]}
        named.items = {number: named.item(number, 0) for number in range(4)}
        for one in named.items.values():
            client.put_item(TableName="t", Item=one)
        lines = [{"Item": one} for one in named.items.values()]
        load_export(lake, "t", str(Export([lines], table="t", summary=source).write(tmp_path / "export")))
        assert verify_scan(lake, "t", read_rate=None).outcome == "equal"
        assert verify_sample(lake, "t", size=4, read_rate=None).outcome == "equal"
        lose_row(lake, "t", named.items[1])
        report = verify_scan(lake, "t", read_rate=None)
        assert [found.key for found in report.differences] == [{"_key_hash": {"S": "k1"}}]
        repair_from_source(lake, "t", [found.key for found in report.differences], read_rate=None)
        named.check()


def test_random_words_are_names_like_any_other() -> None:
    """`python -m ddb_lake_tests.trust names` does this for a given time."""
    words = vocabulary()
    assert len(words) > 1_500
    assert {"select", "_valid_from", "why"} <= {word.lower() for word in words}
    tried = try_names(3, tables=1, progress=lambda _: None)
    assert tried.differences == []
    assert tried.names > 3
