"""Attributes whose names collide: columns keep their names, and each collision is reported."""

from __future__ import annotations

import json
from collections.abc import Callable

from ddb_lake_tests.support.cases import Case
from ddb_lake_tests.support.export_files import full

PAID = "SELECT count(*) AS n FROM t WHERE status = 'paid'"


def test_changes_with_names_that_differ_by_case(case: Callable[[str], Case]) -> None:
    """`name` is in both items, so its column has the plain name; the key's column keeps its own."""
    given = case("case-only-changes")
    applied = given.ok("apply", "t", "landing")
    assert given.query("SELECT id, name FROM t ORDER BY id") == [{"id": "a", "name": "m"}, {"id": "b", "name": "m"}]
    for pair in ("'id' and 'ID'", "'name' and 'Name'"):
        assert f"attributes {pair} need the same column name" in applied.stderr
    assert "column name" not in given.ok("apply", "t", "landing").stderr


def test_column_keeps_its_name_in_a_later_export(case: Callable[[str], Case]) -> None:
    given = case("case-only-export-renames-column")
    given.ok("load", "t", "--export", "exports/t")
    assert given.query(PAID) == [{"n": 500}]
    loaded = given.ok("load", "t", "--export", "exports2/t", "--json")
    assert given.query(PAID) == [{"n": 499}]
    (collision,) = json.loads(loaded.stdout)["name_collisions"]
    assert (collision["attribute"], collision["holder"], collision["holder_column"]) == ("Status", "status", "status")
    assert given.query(f"SELECT count({collision['column']}) AS n FROM t") == [{"n": 1}]
    assert json.loads(given.ok("status", "t", "--json").stdout)["name_collisions"] == [collision]
    assert collision["column"] in given.ok("status", "t").stdout


def test_key_keeps_its_name(case: Callable[[str], Case]) -> None:
    given = case("case-only-fresh")
    loaded = given.ok("load", "t", "--export", "exports/t")
    assert given.query("SELECT id FROM t ORDER BY id") == [{"id": "a"}, {"id": "b"}]
    assert "attributes 'id' and 'ID' need the same column name: 'id' has column id" in loaded.stderr


def test_member_of_a_map_keeps_its_name(case: Callable[[str], Case]) -> None:
    given = case("flattened-name-taken")
    wanted = [{"n": 200, "total": 19900}]
    counted = "SELECT count(*) AS n, sum(order_no) AS total FROM t WHERE address__city = 'Oslo'"
    given.ok("load", "t", "--export", "exports/t")
    assert given.query(counted) == wanted
    applied = given.ok("apply", "t", "landing")
    assert given.query(counted) == wanted
    for pair in ("'address.city' and 'address__city'", "'order-no' and 'order_no'"):
        assert pair in applied.stderr


def test_name_waits_for_an_attribute_that_is_absent_from_an_export(case: Callable[[str], Case]) -> None:
    """`Status` is alone in the second export, and `status` returns in the third."""
    given = case("case-only-export-renames-column")
    given.ok("load", "t", "--export", "exports/t")
    source = {"tableId": "00000000-0000-0000-0000-000000000001"}
    for number, name in ((1, "Status"), (2, "status")):
        one = {"id": {"S": "k"}, name: {"S": "paid"}}
        export = full([one], at_us=1_715_785_260_608_000 + number * 3_600_000_000, table="t", summary=source)
        given.ok("load", "t", "--export", export.write(given.folder / f"later-{number}"))
        assert given.query(PAID) == [{"n": int(name == "status")}]
        (collision,) = json.loads(given.ok("status", "t", "--json").stdout)["name_collisions"]
        assert given.query(f"SELECT count({collision['column']}) AS n FROM t") == [{"n": int(name == "Status")}]
