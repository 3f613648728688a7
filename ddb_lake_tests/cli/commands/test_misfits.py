"""Values that no column holds are named to the user, with a query that reads them."""

from __future__ import annotations

import json
from pathlib import Path

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.export_files import T0_US, change, full, item, land


def mixed(users: int, orders: int) -> list[Item]:
    """Users whose `created` is a number, and orders whose `created` is a text."""
    return [item(f"u{n}", created=n) for n in range(users)] + [item(f"o{n}", created=f"on {n}") for n in range(orders)]


def test_load_and_doctor_name_the_attribute_and_the_documented_query_reads_the_values(
    run: Run, project: Path, tmp_path: Path
) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: warehouse\ntables:\n  - {name: orders, key: [id]}\n")
    manifest = full(mixed(users=1, orders=150)).write(tmp_path / "exports")
    said = "attribute 'created': values that column created (string) does not hold: 1 of type N; they are in _rescued"
    assert said in run("load", "orders", manifest).stderr
    assert said in run("doctor").stdout
    assert said in run("status", "orders").stdout
    query = "SELECT json_extract_string(_rescued, '$.\"/created\".N')::INT AS n FROM orders WHERE created IS NULL ORDER BY n"
    assert [row["n"] for row in json.loads(run("query", query, "--json").stdout)] == [0]


def test_apply_names_the_attribute_of_its_records_and_what_to_write_in_the_configuration(
    run: Run, project: Path, tmp_path: Path
) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: warehouse\ntables:\n  - {name: orders, key: [id]}\n")
    run("load", "orders", full(mixed(users=0, orders=150)).write(tmp_path / "exports"))
    landed = land(tmp_path / "landed", change(T0_US + 1, item("u1", created=1)))
    applied = run("apply", "orders", landed)
    assert (
        "orders: attribute 'created': values that column created (string) does not hold: 1 of type N" in applied.stderr
    )
    assert "`columns: {created: string}`" in applied.stderr
    assert "does not hold: 1 of type N" in run("status", "orders").stdout
    run("apply", "orders", land(tmp_path / "later", change(T0_US + 2, item("u1", created=2), item("u1", created=1))))
    assert "does not hold: at most 2 of type N" in run("status", "orders").stdout
    declared = "warehouse: warehouse\ntables:\n  - {name: orders, key: [id], columns: {created: string}}\n"
    (project / "ddb_lake.yaml").write_text(declared)
    run("compact", "orders", "--force")
    query = "SELECT created FROM orders WHERE id = 'u1'"
    assert json.loads(run("query", query, "--json").stdout) == [{"created": "2"}]
    assert "does not hold" not in run("doctor").stdout
    status = json.loads(run("status", "orders", "--json").stdout)
    assert (status["misfits"], status["misfits_exact"]) == ([], True)


SINGLE_TABLE = """\
warehouse: warehouse
tables:
  - name: orders
    key: [id]
    columns: {creatd: string}
    entities:
      - {name: user, key: {id: "USER#{user}"}, columns: {usr: long, total: long}}
      - {name: order, key: {id: "ORDER#{n}"}, columns: {n: long}}
"""


def test_entities_report_values_without_a_column_settings_without_effect_and_their_end(
    run: Run, project: Path, tmp_path: Path
) -> None:
    (project / "ddb_lake.yaml").write_text(SINGLE_TABLE)
    items = [item(f"USER#{n}", created=n) for n in range(150)] + [item(f"ORDER#{n}", created="x") for n in range(150)]
    loaded = run("load", "orders", full(items).write(tmp_path / "exports"))
    unused = [
        "orders: no item has a value of 'creatd', which `columns` names; did you mean 'created'?",
        "orders_user: no item has a value of 'usr', which `columns` names; did you mean 'user'?",
        "orders_user: no item has a value of 'total', which `columns` names",
    ]
    assert [line for line in unused if f"Warning: {line}" not in loaded.stderr.splitlines()] == []
    landed = land(tmp_path / "landed", change(T0_US + 1, item("USER#x", created="on Monday")))
    applied = run("apply", "orders", landed)
    assert (
        "orders_user: attribute 'created': values that column created (long) does not hold: 1 of type S"
        in applied.stderr
    )
    assert "orders: attribute 'created'" not in applied.stderr, "the table of all items has a column for texts"
    status = json.loads(run("status", "orders", "--json").stdout)
    assert [one["misfits_exact"] for one in status["entities"]] == [True, True]
    assert [one["attribute"] for one in status["entities"][0]["misfits"]] == ["created"]
    assert [one["attribute"] for one in status["unused_columns"]] == ["creatd", "usr", "total"]
    doctor = run("doctor").stdout
    assert all(line in doctor for line in unused)
    in_configuration = run("drop-entity", "orders", "user")
    assert in_configuration.exit_code == 2 and "orders_user is a table of the configuration" in in_configuration.stderr
    (project / "ddb_lake.yaml").write_text(
        SINGLE_TABLE.partition("      - {name: user")[0].replace("creatd", "created") + ORDER
    )
    (due,) = run("sync", "--dry-run").stdout.splitlines()
    assert "its entities are behind current" in due
    synced = run("sync")
    assert (synced.exit_code, synced.stderr) == (0, "")
    assert "orders_order: all rows were written, because its definition has changed; now 150 rows." in synced.stdout
    assert json.loads(run("status", "orders", "--json").stdout)["former_entities"] == ["orders_user"]
    assert "orders_user is not updated" in run("status", "orders").stdout
    assert "`ddb-lake drop-entity orders user`" in run("doctor").stdout
    erased = run("erase", "orders", "--key", '{"id": "USER#x"}', "--yes")
    assert "orders_user: the table of a former entity may have the item" in erased.stderr
    folder = project / "warehouse/ddb_lake/orders_user"
    assert folder.is_dir()
    dropped = run("drop-entity", "orders", "user")
    assert dropped.exit_code == 0 and "orders_user: dropped, with 151 rows" in dropped.stdout, dropped.output
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert json.loads(run("status", "orders", "--json").stdout)["former_entities"] == []
    again = run("drop-entity", "orders", "user")
    assert again.exit_code == 2 and "no table of a former entity" in again.stderr
    (project / "ddb_lake.yaml").write_text(SINGLE_TABLE)
    assert run("sync", "orders").exit_code == 0
    counted = json.loads(run("query", "SELECT count(*) AS n FROM orders_user", "--json").stdout)
    assert counted == [{"n": 150}], "the entity is configured again; one item was erased"


ORDER = """\
      - {name: order, key: {id: "ORDER#{n}"}, columns: {n: long}}
"""
