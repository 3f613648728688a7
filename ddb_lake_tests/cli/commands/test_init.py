"""The starter configuration."""

from __future__ import annotations

import json
import shlex
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.commands.init import StarterTable, starter
from ddb_lake.config import fill_in, load_entries, load_settings, parse_settings
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.export_files import T0_US, full, item
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export


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


def test_init_writes_an_entry_for_all_tables_with_such_a_name(run: Run) -> None:
    result = run("init", "--match", "prod-{name}", "--export-bucket", "my-exports", "--changes-uri", "s3://l/{name}/")
    assert (result.exit_code, result.stderr) == (0, "")
    (entry,) = load_entries(Path("ddb_lake.yaml")).tables
    assert (entry.name, entry.match) == ("", "prod-{name}")
    assert entry.export and (entry.export.bucket, entry.export.prefix) == ("my-exports", "{name}")
    assert entry.changes and entry.changes.uri == "s3://l/{name}/"
    commands = [line.strip().partition("   #")[0].strip() for line in result.stdout.splitlines() if line[:2] == "  "]
    assert commands == ["ddb-lake discover", "ddb-lake doctor", "ddb-lake sync"]

    assert "Add `changes` or `export` to the entry, then:" in run("init", "a.yaml", "--match", "*").stdout
    bare = json.loads(run("init", "all.yaml", "--match", "*", "--json").stdout)
    assert bare["match"] == "*" and load_entries(Path("all.yaml")).tables[0].changes is None


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--match", "a-{b}"], "{name}"),
        (["--match", "a", "--table", "b"], "--match and --table"),
        (["--match", "a-{name}", "--sample"], "--match and --sample"),
        (["--match", ""], ""),
    ],
)
def test_init_refuses_a_wrong_pattern(run: Run, arguments: list[str], fault: str) -> None:
    refused = run("init", *arguments)
    assert refused.exit_code == 2 and fault in refused.stderr
    assert not Path("ddb_lake.yaml").exists()
    assert not Path("sample").exists()


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

    document = yaml.safe_load(starter(warehouse, [StarterTable("orders", tuple(key), changes_uri="landing: #1")]))
    settings = parse_settings(fill_in(document["attributes"], {}, "starter"), "starter")
    assert settings.warehouse == warehouse
    assert settings.tables[0].key == tuple(key)
    assert settings.tables[0].changes and settings.tables[0].changes.uri == "landing: #1"


def test_init_finds_what_lies_at_locations(run: Run, landing: Path) -> None:
    result = run("init", landing / "export", landing / "changes")
    assert (result.exit_code, result.stderr) == (0, "")
    (table,) = load_settings(Path("ddb_lake.yaml")).tables
    assert (table.name, table.key) == ("orders", ("customer", "order_id"))
    assert table.changes and table.changes.uri == f"{landing}/changes/"
    assert "key of orders: customer, order_id" in result.stdout
    assert "12345678901234567890123456789012345678" in result.stdout, "rows are shown"
    for command in [line.strip().partition("   #")[0] for line in result.stdout.splitlines() if line[:2] == "  "]:
        done = run(*shlex.split(command)[1:])
        assert done.exit_code == 0, command
    assert run("query", "--csv", "SELECT count(*) FROM orders").stdout.splitlines()[1] == "3"


def test_init_loads_the_newest_of_several_exports_at_a_location(run: Run, tmp_path: Path) -> None:
    """Also if the other export is of another table: a folder with several exports does not say which one to load."""
    for table, at_us, count in (("orders", T0_US, 1), ("orders", T0_US + 10**6, 2), ("users", T0_US + 2 * 10**6, 3)):
        full([item(f"{n}") for n in range(count)], at_us=at_us, table=table).write(tmp_path / "exports")
    steps = json.loads(run("init", "exports", "--key", "id", "--json").stdout)["next"]
    loads = [step for step in steps if step.startswith("ddb-lake load")]
    assert len(loads) == 2
    for step in loads:
        assert run(*shlex.split(step)[1:]).exit_code == 0, step
    counted = run("query", "--csv", "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM users)")
    assert counted.stdout.splitlines()[1] == "2,3"


def test_init_begins_the_partitions_of_all_tables_with_the_day_of_the_first_change(run: Run, tmp_path: Path) -> None:
    for table, place in (("orders", "b/2025/02/03/04"), ("orders", "b/2025/02/03/01"), ("users", "a/2026/03/01/23")):
        write_changes(tmp_path / "landed" / place / "x", change(1, EXPORT_US, order("ann", 1), table=table))
    assert run("init", "landed", "--key", "customer,order_id").exit_code == 0
    found = {table.name: table.changes for table in load_settings(Path("ddb_lake.yaml")).tables}
    assert sorted(found) == ["orders", "users"]
    assert {changes.partitions.start for changes in found.values() if changes} == {date(2025, 2, 3)}


def test_init_finds_a_key_in_items_alone(run: Run, landing: Path) -> None:
    document = json.loads(run("init", landing / "export", "--json").stdout)
    assert document["tables"][0]["key"] == ["customer", "order_id"]
    assert document["tables"][0]["changes"] is None
    assert "check it: it identifies each of 3 sampled items" in Path("ddb_lake.yaml").read_text()


def test_key_that_no_sampled_item_has_is_noted(run: Run, landing: Path) -> None:
    result = run("init", landing / "export", "--key", "customer,orderid")
    assert result.exit_code == 0
    assert "no sampled item has the key attribute orderid" in result.stderr


def test_init_of_the_sample_leads_to_a_query(run: Run) -> None:
    result = run("init", "--sample")
    assert (result.exit_code, result.stderr) == (0, "")
    steps = [line.strip().partition("   #")[0] for line in result.stdout.splitlines() if line[:2] == "  "]
    assert [shlex.split(step)[1] for step in steps] == ["doctor", "load", "apply", "query"]
    for step in steps:
        done = run(*shlex.split(step)[1:])
        assert done.exit_code == 0, done.output
    assert "shipped" in done.stdout
    counted = run("query", "--csv", "SELECT count(*), count(_rescued), count(weight_kg) FROM orders")
    assert counted.stdout.splitlines()[1] == "48,4,3"
    refused = run("verify", "orders")
    assert refused.exit_code == 2
    advised = [step for step in refused.stderr.split("`") if step.startswith("ddb-lake verify")]
    assert advised == ["ddb-lake verify orders --full --export URI", "ddb-lake verify orders --continuity"]
    for step in advised:
        done = run(*shlex.split(step.replace("URI", "sample/exports/orders"))[1:])
        assert done.exit_code == 0, done.output
    assert run("init", "--sample", "again.yaml").exit_code == 2
    assert run("init", "--sample", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is no folder"),
        (["a.yaml", "b.yaml"], "several paths"),
        ([".", "--table", "x"], "neither an export nor a change object"),
    ],
)
def test_init_refuses_places_that_are_neither(run: Run, arguments: list[str], message: str) -> None:
    result = run("init", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not Path("ddb_lake.yaml").exists()


def test_init_refuses_a_table_that_is_not_there(run: Run, landing: Path) -> None:
    result = run("init", landing / "export", "--table", "customers")
    assert result.exit_code == 2
    assert "no change record of customers, found orders" in result.stderr


@pytest.mark.parametrize(("kinds", "noted"), [(("USER", "ORDER"), True), (("USER",), False), ((), False)])
def test_kinds_of_items_in_the_keys_are_noted(run: Run, tmp_path: Path, kinds: tuple[str, ...], noted: bool) -> None:
    keys = [f"{kind}#{n}" for n in range(4) for kind in kinds] or ["ann", "bob", "ann"]
    write_export(tmp_path / "exports", "app", [order(key, n) for n, key in enumerate(keys)])
    result = run("init", "exports", "--key", "customer,order_id")
    assert result.exit_code == 0
    assert ("`--discover` proposes a typed table for each" in result.stderr) is noted
    assert load_settings(Path("ddb_lake.yaml")).tables[0].entities == ()


@pytest.mark.parametrize(("attribute", "stated"), [("EntityType", 3), ("EntityType", 2), ("status", 3)])
def test_attribute_that_states_other_kinds_than_the_keys_is_noted(
    run: Run, tmp_path: Path, attribute: str, stated: int
) -> None:
    """The note names the attribute and numbers, and no value; the proposed entities are those of the keys."""
    keys = [f"{kind}#{n}" for n in range(3) for kind in ("USER", "ORDER")]
    items = [order(key, n, **{attribute: {"S": f"T{n % stated}"}}) for n, key in enumerate(keys)]
    write_export(tmp_path / "exports", "app", items)
    result = run("init", "exports", "--key", "customer,order_id", "--discover")
    assert result.exit_code == 0
    noted = f"the keys show 2 kinds of items, and the attribute `EntityType` states {stated}. "
    assert (noted in result.stderr) is (attribute == "EntityType" and stated == 3)
    assert "T1" not in result.stderr
    assert load_settings(Path("ddb_lake.yaml")).tables[0].entity_names == ("user", "order", "rest")
