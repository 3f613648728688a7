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
    said = "attribute 'created': column created (string) does not hold 1 of type N; they are in _rescued"
    assert said in run("load", "orders", manifest).stderr
    assert said in run("doctor").stdout
    query = "SELECT json_extract_string(_rescued, '$.\"/created\".N')::INT AS n FROM orders WHERE created IS NULL ORDER BY n"
    assert [row["n"] for row in json.loads(run("query", query, "--json").stdout)] == [0]


def test_apply_names_the_attribute_of_its_records_and_what_to_write_in_the_configuration(
    run: Run, project: Path, tmp_path: Path
) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: warehouse\ntables:\n  - {name: orders, key: [id]}\n")
    run("load", "orders", full(mixed(users=0, orders=150)).write(tmp_path / "exports"))
    landed = land(tmp_path / "landed", change(T0_US + 1, item("u1", created=1)))
    applied = run("apply", "orders", landed)
    assert "orders: attribute 'created': column created (string) does not hold 1 of type N" in applied.stderr
    assert "`columns: {created: string}`" in applied.stderr
    declared = "warehouse: warehouse\ntables:\n  - {name: orders, key: [id], columns: {created: string}}\n"
    (project / "ddb_lake.yaml").write_text(declared)
    run("compact", "orders", "--force")
    query = "SELECT created FROM orders WHERE id = 'u1'"
    assert json.loads(run("query", query, "--json").stdout) == [{"created": "1"}]
    assert "does not hold" not in run("doctor").stdout
