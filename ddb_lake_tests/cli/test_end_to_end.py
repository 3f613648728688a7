"""A small lake through the command line: load, apply, dump, query, status, quarantine, compact, sync."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ddb_lake.cli.app import cli
from ddb_lake_tests.support.command_line import CONFIGURATION, Run
from ddb_lake_tests.support.export_files import HOUR_US, T0_US, increment, item
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export

DIGITS = "12345678901234567890123456789012345678"
SOURCE = [
    order("ann", 1, total={"N": "11"}),
    order("bob", 1, total={"N": DIGITS}, photo={"B": "aGVsbG8="}),
    order("cec", 7, tags={"SS": ["x", "y"]}),
]
"""What the source has after the landing of `conftest`."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, landing: Path) -> Path:
    """The configuration of a lake with the landed export and changes in it. Tests only read it."""
    folder = tmp_path_factory.mktemp("lake")
    file = folder / "lake.yaml"
    file.write_text(CONFIGURATION.replace("warehouse: warehouse", f"warehouse: {folder / 'warehouse'}"))
    _ran("load", "orders", "--export", landing / "export", "--config", file)
    _ran("apply", "orders", landing / "changes", "--config", file)
    return file


def test_dump_gives_back_the_source_exactly(run: Run, lake: Path) -> None:
    result = run("dump", "orders", "--config", lake)
    assert (result.exit_code, result.stderr) == (0, "")
    assert _items(result) == _sorted(SOURCE)


@pytest.mark.parametrize("moment", ["2024-05-14T11:14:20.608Z", f"{EXPORT_US}us", f"{EXPORT_US}", "1715685260608ms"])
def test_dump_as_of_the_export_is_the_export(run: Run, lake: Path, moment: str) -> None:
    before = _items(run("dump", "orders", "--as-of", moment, "--config", lake))
    assert [item["total"]["N"] for item in before] == ["10.50", "0.1", DIGITS]


def test_dump_before_the_first_export_is_wrong_use(run: Run, lake: Path) -> None:
    result = run("dump", "orders", "--as-of", "2020-01-01", "--config", lake)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "its first snapshot is of 2024-05-14" in result.stderr


def test_dump_of_a_table_that_was_never_loaded_warns(run: Run, lake: Path) -> None:
    result = run("dump", "customers", "--config", lake)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("Warning: customers: ") and "`ddb-lake load`" in result.stderr


def test_config_is_valid_before_and_after_the_command(run: Run, lake: Path) -> None:
    before, after = run("--config", lake, "dump", "orders"), run("dump", "orders", "--config", lake)
    assert sorted(before.stdout.splitlines()) == sorted(after.stdout.splitlines()) != []
    nearer = run("--config", "nowhere.yaml", "quarantine", "--config", lake, "list", "orders")
    assert nearer.exit_code == 0


def test_query_json_keeps_38_digits(run: Run, lake: Path) -> None:
    sql = "SELECT customer, total, photo FROM orders ORDER BY customer"
    rows = json.loads(run("query", sql, "--json", "--config", lake).stdout, parse_float=Decimal)
    totals = [None if row["total"] is None else Decimal(row["total"]) for row in rows]
    assert totals == [Decimal("11"), Decimal(DIGITS), None]
    assert [row["photo"] for row in rows] == [None, "aGVsbG8=", None]


def test_query_json_of_decimals_and_huge_integers_is_exact(run: Run, lake: Path) -> None:
    sql = f"SELECT {DIGITS}::HUGEINT AS a, '0.{DIGITS}'::DECIMAL(38,38) AS b, 'nan'::DOUBLE AS c, now() AS d"
    assert json.loads(run("query", sql, "--json", "--config", lake).stdout, parse_float=Decimal)[0] | {"d": 0} == {
        "a": int(DIGITS),
        "b": Decimal(f"0.{DIGITS}"),
        "c": None,
        "d": 0,
    }


def test_query_csv_reads_back(run: Run, lake: Path) -> None:
    sql = "SELECT event_name, count(*) AS n, NULL AS nothing, 'a,\"b' AS odd FROM orders_changes GROUP BY 1 ORDER BY 1"
    result = run("query", sql, "--csv", "--config", lake)
    assert list(csv.reader(io.StringIO(result.stdout))) == [
        ["event_name", "n", "nothing", "odd"],
        ["INSERT", "1", "", 'a,"b'],
        ["MODIFY", "1", "", 'a,"b'],
        ["REMOVE", "1", "", 'a,"b'],
    ]


def test_query_prints_a_table(run: Run, lake: Path) -> None:
    result = run("query", "SELECT customer, order_id FROM orders ORDER BY 1", "--config", lake)
    assert result.stdout.splitlines() == [
        "customer  order_id",
        "--------  --------",
        "ann              1",
        "bob              1",
        "cec              7",
        "(3 rows)",
    ]


@pytest.mark.parametrize(
    "sql", ["SELEC 1", "FROM nowhere", "SELECT 'x'::INT", "SELECT * FROM (VALUES ('x')) t(a) WHERE a::INT > 0"]
)
def test_query_that_is_wrong_is_wrong_use(run: Run, lake: Path, sql: str) -> None:
    result = run("query", sql, "--json", "--config", lake)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_status_of_one_table_is_an_object(run: Run, lake: Path) -> None:
    found = json.loads(run("status", "orders", "--json", "--config", lake).stdout)
    assert (found["table"], found["rows"], found["changes"], found["quarantined"]) == ("orders", 3, 3, 0)
    assert found["base_export_us"] == EXPORT_US
    assert found["pending_batches"] == 0


def test_status_of_all_tables_lists_them(run: Run, lake: Path) -> None:
    found = json.loads(run("status", "--json", "--config", lake).stdout)
    assert [table["table"] for table in found["tables"]] == ["orders", "customers"]
    printed = run("status", "--config", lake).stdout.splitlines()
    assert printed[2].split("  ")[0] == "orders"
    assert {"3", "not evaluated"} <= {cell.strip() for cell in printed[2].split("  ")}
    lines = run("status", "orders", "--config", lake).stdout.splitlines()
    assert ["rows", "3"] in [line.split() for line in lines]


def test_unknown_table_lists_the_known_ones(run: Run, lake: Path) -> None:
    for arguments in (
        ["status", "order"],
        ["load", "order", "x"],
        ["dump", "order"],
        ["sync", "order"],
        ["export", "order"],
    ):
        result = run(*arguments, "--config", lake)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "table 'order' is not configured; configured tables: customers, orders" in result.stderr
        assert "`ddb-lake discover` finds" in result.stderr


def test_load_reports_one_document_and_repeats_without_effect(run: Run, project: Path, landing: Path) -> None:
    first = json.loads(run("load", "orders", "--export", landing / "export", "--json").stdout)
    again = json.loads(run("load", "orders", landing / "export", "--json").stdout)
    assert (first["already_loaded"], first["items"], first["rows"], first["export_us"]) == (False, 3, 3, EXPORT_US)
    assert (again["already_loaded"], again["rows"]) == (True, 3)
    assert "is loaded already; 3 rows." in run("load", "orders", landing / "export").stdout


def test_apply_reports_one_document_and_repeats_without_effect(run: Run, project: Path, landing: Path) -> None:
    changes = landing / "changes"
    first = json.loads(run("apply", "orders", changes, changes, "--json").stdout)
    again = json.loads(run("apply", "orders", changes, "--json").stdout)
    assert (first["objects"], first["records"], first["new"], first["duplicates"]) == (2, 4, 3, 1)
    assert first["tables"]["orders"]["by_event"] == {"MODIFY": 1, "INSERT": 1, "REMOVE": 1}
    assert (again["already_ingested"], again["new"]) == (2, 0)


def test_apply_of_a_missing_object_is_an_error_and_the_others_are_applied(run: Run, project: Path) -> None:
    result = run("apply", "orders", "nowhere")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: orders: nowhere")
    write_changes(project / "object", change(1, EXPORT_US, order("ann", 1)))
    result = run("apply", "orders", "nowhere", "object")
    assert result.exit_code == 1 and "orders: 1 new of 1 record" in result.stdout
    assert run("apply", "orders", "object").exit_code == 0
    (project / "empty").mkdir()
    result = run("apply", "orders", "empty")
    assert result.exit_code == 0 and "Warning: orders: no objects" in result.stderr


def test_command_that_quarantined_everything_ends_with_status_1(run: Run, project: Path) -> None:
    config = project / "ddb_lake.yaml"
    tables = "[{{name: orders, key: [{key}], changes: {{uri: landing}}}}]"
    config.write_text(f"warehouse: warehouse\ntables: {tables.format(key='wrong')}\n")
    write_changes(project / "landing" / "object", change(1, EXPORT_US, order("ann", 1)))
    write_changes(project / "object", change(2, EXPORT_US, order("ben", 1)))
    manifest = increment((T0_US - 1, item("c"), item("c")), at_us=T0_US, window=T0_US - HOUR_US).write(
        project / "increment"
    )
    for command in (("sync",), ("load", "orders", manifest, "--reject-to-quarantine"), ("apply", "orders", "object")):
        result = run(*command)
        assert result.exit_code == 1, command
        assert "Error: orders: nothing could be ingested: 1 record went to quarantine" in result.stderr, command
    config.write_text(f"warehouse: warehouse\ntables: {tables.format(key='customer, order_id')}\n")
    replayed = run("quarantine", "replay", "orders")
    assert replayed.exit_code == 0 and len(_items(run("dump", "orders"))) == 2, "the increment has another key"


def test_strict_ends_with_status_1_if_a_record_went_to_quarantine(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text(
        "warehouse: warehouse\ntables: [{name: orders, key: [customer, order_id], changes: {uri: landing}}]\n"
    )
    bad, good = '{"no": "envelope"}', change(1, EXPORT_US, order("ann", 1))
    write_changes(project / "landing" / "1", good, bad)
    assert run("apply", "orders", "landing", "--strict").exit_code == 1
    assert run("apply", "orders", "landing", "--strict").exit_code == 0, "nothing went there this time"
    write_changes(project / "landing" / "2", good, bad)
    assert run("sync", "--strict").exit_code == 1
    write_changes(project / "landing" / "3", good, bad)
    assert run("sync").exit_code == 0


def test_damaged_export_ends_with_status_1(run: Run, project: Path) -> None:
    manifest = write_export(project / "export", "orders", [order("ann", 1)])
    data = next((manifest.parent / "data").iterdir())
    data.write_bytes(data.read_bytes()[:-1])
    result = run("load", "orders", manifest, "--reject-to-quarantine")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ") and "MD5" in result.stderr and "Traceback" not in result.stderr


def test_load_of_what_is_not_there_ends_with_status_1(run: Run, project: Path) -> None:
    for place in (project, project / "nowhere", project / "nowhere" / "manifest-summary.json"):
        result = run("load", "orders", place)
        assert (result.exit_code, result.stdout) == (1, "")
        assert str(place) in result.stderr


def test_configuration_errors_name_the_place(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text("warehouse: w\ntables: [{name: orders, key: [a, a]}]\n")
    result = run("status")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ddb_lake.yaml: line 2: tables.0.key: " in result.stderr
    missing = run("status", "--config", "missing.yaml")
    assert missing.exit_code == 2
    assert "missing.yaml: no such file" in missing.stderr and "`ddb-lake init missing.yaml`" in missing.stderr


def test_quarantined_and_foreign_records_are_warnings(run: Run, project: Path) -> None:
    foreign = change(9, EXPORT_US, {"customer": {"S": "x"}, "order_id": {"N": "1"}}, table="others")
    write_changes(project / "object", change(1, EXPORT_US, order("ann", 1)), '{"no": "envelope"}', foreign)
    result = run("apply", "orders", "object")
    assert result.exit_code == 0
    assert "Warning: orders: 1 record went to quarantine; see `ddb-lake quarantine list orders`" in result.stderr
    assert "not configured stay in landing: others (1)" in result.stderr
    assert "orders: 1 new of 2 records" in result.stdout


def test_quarantine_is_listed_shown_and_replayed(run: Run, project: Path) -> None:
    write_changes(project / "object", '{"no": "envelope"}\n', "\x00\x01")
    run("apply", "orders", "object")
    listed = json.loads(run("quarantine", "list", "orders", "--json").stdout)
    shown = json.loads(run("quarantine", "show", "orders", "--json").stdout)
    assert listed["count"] == sum(group["count"] for group in listed["groups"]) == len(shown["entries"])
    assert shown["entries"][0]["text"].startswith('{"no": "envelope"}')
    assert '{"no": "envelope"}' in run("quarantine", "show", "orders", "--limit", "1").stdout
    told = run("quarantine", "list", "orders")
    assert "count" in told.stdout
    assert told.stderr.startswith("Note: `ddb-lake quarantine show orders` shows them;")
    replayed = run("quarantine", "replay", "orders", "--json")
    assert json.loads(replayed.stdout)["still_quarantined"] == listed["count"]
    assert "still quarantined" in replayed.stderr
    assert run("quarantine", "list", "customers").stdout == "customers: nothing is quarantined.\n"


def test_shown_entries_are_cut_and_raw_ones_are_complete(run: Run, project: Path) -> None:
    long, binary = '{"no": "' + "x" * 5_000 + '"}', b"PAR1" + bytes(range(128, 256))
    write_changes(project / "long", long)
    (project / "binary").write_bytes(binary)
    for name in ("long", "binary"):
        run("apply", "orders", name)

    shown = run("quarantine", "show", "orders").stdout
    assert f"x… (the first 2,000 of {len(long):,} characters; --raw writes all)" in shown
    assert "50 41 52 31 80 81" in shown
    assert f"… (the first 64 of {len(binary)} bytes; --raw writes all)" in shown
    assert len(shown) < 4_000
    raw = run("quarantine", "show", "orders", "--raw").stdout_bytes
    assert raw in (long.encode() + b"\n" + binary + b"\n", binary + b"\n" + long.encode() + b"\n")
    assert run("quarantine", "show", "orders", "--raw", "--json").exit_code == 2


def test_compact_keeps_the_contents(run: Run, project: Path, landing: Path) -> None:
    run("load", "orders", landing / "export")
    run("apply", "orders", landing / "changes")
    before = _items(run("dump", "orders"))
    done = json.loads(run("compact", "orders", "--force", "--json").stdout)
    assert (done["skipped"], done["files_after"]) == (False, 1)
    assert _items(run("dump", "orders")) == before
    assert run("compact", "orders").stdout == (
        "orders: not compacted: within the policy (--force compacts it nevertheless);"
        " 0 snapshots expired, 0 orphans removed.\n"
    )


def test_sync_does_what_is_due_once(run: Run, project: Path, landing: Path) -> None:
    tables = f"[{{name: orders, key: [customer, order_id], changes: {{uri: {landing / 'changes'}}}}}]"
    (project / "ddb_lake.yaml").write_text(f"warehouse: warehouse\ntables: {tables}\n")
    assert run("sync", "--dry-run").stdout.startswith("orders: apply is due: 2 ")
    done = json.loads(run("sync", "--json").stdout)
    assert [(one["table"], one["kind"]) for one in done["due"]] == [("orders", "apply")]
    assert done["results"][0]["result"]["new"] == 3
    assert run("sync").stdout == "Nothing is due.\n"
    assert json.loads(run("sync", "--json").stdout) == {"due": [], "results": [], "doubts": []}


def test_sync_says_that_a_landing_folder_is_not_there(run: Run, project: Path) -> None:
    tables = "[{name: orders, key: [customer, order_id], changes: {uri: landing/ordres}}]"
    (project / "ddb_lake.yaml").write_text(f"warehouse: warehouse\ntables: {tables}\n")
    result = run("sync")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: orders: no object has landed at landing/ordres: correct `changes.uri`, or wait for the first delivery.\n"
    )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{name: orders, key: [customer, order_id]}", "neither `changes` nor `export` is configured"),
        ("{name: ordres, key: [customer, order_id], export: {bucket: EXPORTS}}", "are of orders, none is of ordres"),
        ("{name: orders, key: [customer, order_id], export: {bucket: NOWHERE}}", "no finished export at `export`: "),
        (
            "{name: ordres, key: [customer, order_id], changes: {uri: LANDING}}",
            "of other tables (orders), and the lake has",
        ),
    ],
)
def test_sync_says_why_nothing_can_be_due(run: Run, project: Path, landing: Path, table: str, said: str) -> None:
    write_changes(project / "changes" / "object", change(1, EXPORT_US, order("ann", 1)))
    places = {"EXPORTS": landing / "export", "NOWHERE": project / "nowhere", "LANDING": project / "changes"}
    for name, place in places.items():
        table = table.replace(name, str(place))
    (project / "ddb_lake.yaml").write_text(f"warehouse: warehouse\ntables: [{table}]\n")
    result = run("sync")
    assert result.exit_code == 1
    assert "is due" not in result.stdout and said in result.stderr
    again = json.loads(run("sync", "--json").stdout) if "LANDING" not in said else {}
    assert again.get("doubts", []) or "other tables" in said


def test_sync_of_a_place_that_was_emptied_says_that_nothing_is_due(run: Run, project: Path) -> None:
    (project / "ddb_lake.yaml").write_text(
        "warehouse: warehouse\ntables: [{name: orders, key: [customer, order_id], changes: {uri: landing}}]\n"
    )
    write_changes(project / "landing" / "object", change(1, EXPORT_US, order("ann", 1)))
    assert run("sync").exit_code == 0
    (project / "landing" / "object").unlink()
    (project / "landing").rmdir()
    result = run("sync")
    assert result.exit_code == 0
    assert json.loads(run("sync", "--json").stdout) == {"due": [], "results": [], "doubts": []}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("FROM customers", "the lake has no rows of customers yet; `ddb-lake load customers --export URI`"),
        ("FROM ordres", "there is no table 'ordres'. Did you mean orders"),
        ("FROM elsewhere_entirely", "there is no table 'elsewhere_entirely'. The statement `SHOW TABLES` lists"),
        ("DROP TABLE orders", "a query only reads the lake"),
    ],
)
def test_query_of_what_is_not_there_states_the_next_step(
    run: Run, project: Path, landing: Path, sql: str, said: str
) -> None:
    run("load", "orders", landing / "export")
    result = run("query", sql)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_sync_goes_on_after_a_table_that_fails(run: Run, project: Path, landing: Path) -> None:
    tables = [
        "{name: customers, changes: {uri: 's3://nowhere/'}}",
        f"{{name: orders, key: [customer, order_id], changes: {{uri: {landing / 'changes'}}}}}",
    ]
    (project / "ddb_lake.yaml").write_text(f"warehouse: warehouse\ntables: [{', '.join(tables)}]\n")
    result = run("sync")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: customers, plan: ")
    assert "orders: 3 new" in result.stdout


def _ran(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def _items(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.stderr
    return _sorted(json.loads(line)["Item"] for line in result.stdout.splitlines())


def _sorted(items: Any) -> list[dict[str, Any]]:
    def canonical(item: dict[str, Any]) -> dict[str, Any]:
        return {name: {"SS": sorted(value["SS"])} if "SS" in value else value for name, value in item.items()}

    return sorted(map(canonical, items), key=lambda item: (item["customer"]["S"], int(item["order_id"]["N"])))
