"""The doctor without AWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddb_lake_tests.support.command_line import Run


def _checks(run: Run) -> dict[str, dict[str, Any]]:
    document = json.loads(run("doctor", "--json").stdout)
    assert document["ok"] == all(check["state"] not in ("fail", "unknown") for check in document["checks"])
    for check in document["checks"]:
        assert check["state"] in ("ok", "unknown") or check["next_step"]
    return {check["check"]: check for check in document["checks"]}


def test_local_lake_is_healthy_without_aws(run: Run, project: Path) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1].endswith("0 failed, 0 unknown.")
    checks = _checks(run)
    assert checks["aws"]["state"] == "ok"
    assert "nothing configured needs AWS" in checks["aws"]["found"]
    assert "duckdb extension" not in checks, "only a warehouse on S3 needs it"


def test_doctor_creates_nothing(run: Run, project: Path) -> None:
    before = sorted(project.rglob("*"))
    run("doctor")
    assert sorted(project.rglob("*")) == before


def test_doctor_of_a_used_lake_sees_its_catalog(run: Run, project: Path, landing: Path) -> None:
    assert run("load", "orders", landing / "export").exit_code == 0
    checks = _checks(run)
    assert checks["catalog"]["found"].startswith("sql answers: 1 table in ddb_lake, ")
    assert checks["warehouse"]["found"].endswith("is writable")


def test_unknown_key_is_a_warning(run: Run, project: Path, landing: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: warehouse\ntables: [{name: orders}]\n")
    found = _checks(run)["orders: key"]
    assert (found["state"], found["next_step"]) == (
        "warn",
        "add `key: [...]` to the table: partition key, then sort key",
    )

    run("apply", "orders", landing / "changes")
    (project / "named.yaml").write_text("warehouse: warehouse\ntables: [{name: orders, key: [customer, order_id]}]\n")
    run("load", "orders", landing / "export", "--config", "named.yaml")
    assert _checks(run)["orders: key"]["found"] == "customer, order_id"


def test_table_in_which_nothing_arrives_by_itself_is_named(run: Run, project: Path, landing: Path) -> None:
    found = _checks(run)["orders: arrival"]
    assert found["state"] == "warn" and "neither `changes` nor `export` is configured" in found["found"]
    run("load", "orders", landing / "export")
    assert _checks(run)["orders: arrival"]["state"] == "ok"
    (project / "ddb_lake.yaml").write_text(
        "warehouse: warehouse\ntables: [{name: orders, key: [customer, order_id], changes: {uri: landing}}]\n"
    )
    assert "orders: arrival" not in _checks(run)


def test_missing_configuration_fails_with_the_next_step(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("doctor")
    assert result.exit_code == 1
    assert "fail  configuration: no configuration found" in result.stdout
    assert "next: correct the file, or write one with `ddb-lake init`" in result.stdout


def test_wrong_configuration_names_the_place(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: w\ntables: [{name: orders, keys: [id]}]\n")
    assert "line 2: tables.0: unknown setting 'keys' (did you mean 'key'?)" in _checks(run)["configuration"]["found"]


def test_warehouse_that_is_a_file_fails(run: Run, project: Path) -> None:
    (project / "warehouse").write_text("")
    result = run("doctor")
    assert result.exit_code == 1
    assert "is no folder that can be written to" in result.stdout


def test_broken_catalog_fails(run: Run, project: Path) -> None:
    (project / "warehouse").mkdir()
    (project / "warehouse/catalog.db").write_text("no database" * 100)
    checks = _checks(run)
    assert checks["catalog"]["state"] == "fail"
    assert "sql cannot be reached" in checks["catalog"]["found"]


def test_missing_landing_folder_is_a_warning(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: w\ntables: [{name: orders, changes: {uri: landing}}]\n")
    assert _checks(run)["orders: changes"]["state"] == "warn"


def test_source_without_credentials_is_skipped_with_the_reason(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text(
        "warehouse: w\ntables: [{name: orders, source: {region: eu-west-1}, export: {bucket: b}}]\n"
    )
    checks = _checks(run)
    assert checks["aws credentials"]["state"] == "warn"
    assert checks["aws"]["state"] == "unknown"
    assert checks["aws"]["found"] == (
        "unknown: whether AWS allows source of orders, export of orders, because there are no credentials."
    )


def test_lake_on_s3_without_credentials_fails(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: s3://lake/x\ntables: [{name: orders}]\n")
    checks = _checks(run)
    assert checks["aws credentials"]["state"] == "fail"
    assert checks["catalog"]["state"] == "unknown"


def configure(project: Path, landing: Path, key: str, **settings: str) -> None:
    table = {"name": "orders", "key": key.split(","), "changes": {"uri": str(landing)}, **settings}
    (project / "ddb_lake.yaml").write_text(json.dumps({"warehouse": "warehouse", "tables": [table]}))


def test_one_landed_object_is_opened(run: Run, project: Path, landing: Path) -> None:
    configure(project, landing / "changes", "customer,order_id")
    found = _checks(run)["orders: landed records"]
    assert found["state"] == "ok"
    assert found["found"].startswith(f"{landing}/changes/2024/05/14/13/two: 1 of 1 object opened, not compressed")
    assert "2 change records of orders" in found["found"]


def test_landed_records_with_another_key_fail(run: Run, project: Path, landing: Path) -> None:
    configure(project, landing / "changes", "customer")
    found = _checks(run)["orders: landed records"]
    assert (found["state"], "their key is customer, order_id" in found["found"]) == ("fail", True)


def test_landed_records_of_another_table_are_a_warning(run: Run, project: Path, landing: Path) -> None:
    configure(project, landing / "changes", "customer,order_id", source={"table": "customers"})  # type: ignore[arg-type]
    found = _checks(run)["orders: landed records"]
    assert found["state"] == "warn"
    assert "source.table" in found["next_step"]


def test_landed_object_that_cannot_be_read_is_a_warning(run: Run, project: Path, tmp_path: Path) -> None:
    (tmp_path / "landed").mkdir()
    (tmp_path / "landed/x").write_bytes(b"PAR1 and more")
    configure(project, tmp_path / "landed", "id")
    found = _checks(run)["orders: landed records"]
    assert found["state"] == "warn"
    assert "Parquet" in found["found"]
    assert "quarantine" in found["next_step"]
