"""The starter configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.commands.init import InitOptions, starter
from ddb_lake.config import fill_in, load_settings, parse_settings
from ddb_lake_tests.support.command_line import Run


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_what_its_options_name(run: Run) -> None:
    result = run(
        *("init", "--table", "orders", "--key", "customer", "--key", "order id", "--warehouse", "s3://lake/a"),
        *("--export-bucket", "my-exports", "--changes-uri", "s3://landing/orders/"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    settings = load_settings(Path("ddb_lake.yaml"))
    assert settings.warehouse == "s3://lake/a"
    table = settings.tables[0]
    assert (table.name, table.key) == ("orders", ("customer", "order id"))
    assert table.export and table.export.bucket == "my-exports"
    assert table.changes and table.changes.uri == "s3://landing/orders/"
    assert "ddb-lake doctor" in result.stdout
    assert "ddb-lake export orders" in result.stdout


def test_init_without_options_is_a_valid_example(run: Run) -> None:
    result = run("init")
    assert result.exit_code == 0
    assert load_settings(Path("ddb_lake.yaml")).tables[0].name == "orders"
    assert "orders" in result.stdout
    assert run("status").exit_code == 0


def test_init_without_a_key_leaves_it_to_the_source(run: Run) -> None:
    result = run("init", "--table", "orders")
    assert load_settings(Path("ddb_lake.yaml")).tables[0].key == ()
    assert "Fill in `key`" in result.stdout


def test_init_refuses_to_overwrite_unless_forced(run: Run) -> None:
    Path("ddb_lake.yaml").write_text("mine")
    result = run("init")
    assert result.exit_code == 2
    assert result.stderr == "Error: ddb_lake.yaml exists already; --force replaces it\n"
    assert Path("ddb_lake.yaml").read_text() == "mine"
    assert run("init", "--force").exit_code == 0
    assert Path("ddb_lake.yaml").read_text() != "mine"


def test_init_takes_both_keys_with_a_comma_between(run: Run) -> None:
    assert run("init", "--table", "orders", "--key", "customer, order_id").exit_code == 0
    assert load_settings(Path("ddb_lake.yaml")).tables[0].key == ("customer", "order_id")

    result = run("init", "--force", "--table", "orders", "--key", "customer,")
    assert result.exit_code == 2
    assert "an attribute without a name; expected PARTITION or PARTITION,SORT" in result.stderr


def test_init_json_reports_what_was_written_and_what_is_next(run: Run) -> None:
    arguments = ("conf/lake.yaml", "--table", "orders", "--key", "id", "--changes-uri", "landing/my orders")
    result = run("init", *arguments, "--json")

    assert json.loads(result.stdout) == {
        "path": "conf/lake.yaml",
        "table": "orders",
        "key": ["id"],
        "next": [
            "ddb-lake doctor --config conf/lake.yaml",
            "ddb-lake load orders --export URI --config conf/lake.yaml",
            "ddb-lake apply orders 'landing/my orders' --config conf/lake.yaml",
        ],
    }
    assert Path("conf/lake.yaml").exists()


def test_init_writes_to_a_named_path(run: Run) -> None:
    result = run("init", "conf/lake.yaml", "--table", "t", "--key", "id")
    assert result.exit_code == 0
    assert "ddb-lake doctor --config conf/lake.yaml" in result.stdout
    assert load_settings(Path("conf/lake.yaml")).table("t").key == ("id",)


@pytest.mark.parametrize("name", ["orders_changes", "a b", ""])
def test_init_refuses_a_name_that_is_no_table(run: Run, name: str) -> None:
    result = run("init", "--table", name, "--key", "id")
    assert result.exit_code == 2
    assert not Path("ddb_lake.yaml").exists()


_PLAIN = st.text(min_size=1).filter(lambda text: "{{" not in text and "\0" not in text)
"""`{{` begins a template, and no path has a NUL."""


@given(st.lists(_PLAIN, min_size=1, max_size=2, unique=True), _PLAIN)
def test_starter_keeps_any_text(key: list[str], warehouse: str) -> None:
    import yaml

    document = yaml.safe_load(starter(InitOptions("orders", tuple(key), warehouse, "bucket", "landing: #1")))
    settings = parse_settings(fill_in(document["attributes"], {}, "starter"), "starter")
    assert settings.warehouse == warehouse
    assert settings.tables[0].key == tuple(key)
    assert settings.tables[0].changes and settings.tables[0].changes.uri == "landing: #1"
