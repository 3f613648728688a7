"""Rows that the database rejects: they go to `<table>_rejected`, the others are replicated, and a replay tries them again."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from ddb_lake.errors import DatabaseError
from ddb_lake.mysql.comparison import compare
from ddb_lake.mysql.replication import ReplicateResult, rejected_text, replicate
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.mysql_lakes import Replicated, lost_connections, order

ANN, BOB, CEC = order("ann", 1), order("bob", 2), order("cec", 3)


def run(replicated: Replicated, **options: Any) -> ReplicateResult:
    """Replicate; the comparison of all rows must find the rows that are rejected then, and nothing else."""
    with replicated.lake() as lake:
        result = replicate(lake, "orders", **options)
        found = compare(lake, "orders", sample=None)
        assert found.missing + found.extra + found.different == found.rejected == result.rejected
        assert found.equal == (result.rejected == 0)
        assert all("as the database rejected it: " in what for _, what in found.examples)
        return result


def noted(item: dict[str, Any], note: str) -> dict[str, Any]:
    return {**item, "note": {"S": note}}


COLUMNS = "_key BINARY(32) PRIMARY KEY, customer VARCHAR(99) CHARSET utf8mb4"
LONG = "x" * 101
KINDS = {
    "too long": ("note VARCHAR(100) CHARSET utf8mb4", {"S": LONG}, {"S": "short"}, "error 1265"),
    "out of range": ("note TINYINT", {"N": "300"}, {"N": "3"}, "error 1264"),
    "rounded": ("note DECIMAL(5,1)", {"N": "1.25"}, {"N": "1.5"}, "error 1265"),
    "no number": ("note INT", {"S": "many"}, {"S": "5"}, "error 1366"),
    "another character set": ("note VARCHAR(100) CHARSET latin1", {"S": "\u4e2d"}, {"S": "\u00e9"}, "error 1366"),
    "check": ("note VARCHAR(200) CHARSET utf8mb4, CHECK (note <> 'no')", {"S": "no"}, {"S": "yes"}, "error 4025"),
    "not null": ("note VARCHAR(200) CHARSET utf8mb4 NOT NULL", None, {"S": "here"}, "error 1048"),
    "foreign key": (
        "note INT, FOREIGN KEY (note) REFERENCES parents (id)",
        {"N": "7"},
        {"N": "1"},
        "error 1452",
    ),
}
FEW_KINDS = ("too long", "rounded", "another character set", "foreign key")
"""A kind of text, of number, and of characters, and a kind that only the database knows of."""


@pytest.fixture
def parents(replicated: Replicated) -> None:
    make(replicated, "id INT PRIMARY KEY", "parents")
    replicated.execute("INSERT INTO parents VALUES (1)")


def make(replicated: Replicated, columns: str, table: str = "orders") -> None:
    parts = f"{COLUMNS}, {columns}" if table == "orders" else columns
    replicated.mariadb._as_root(f"CREATE TABLE {replicated.server.database}.{table} ({parts})")


def alter(replicated: Replicated, change: str) -> None:
    replicated.mariadb._as_root(f"ALTER TABLE {replicated.server.database}.orders {change}")


@pytest.mark.usefixtures("parents")
@pytest.mark.parametrize("kind", cases(KINDS, quick=FEW_KINDS))
def test_row_that_the_database_rejects_does_not_block_the_others(replicated: Replicated, kind: str) -> None:
    columns, bad, good, error = KINDS[kind]
    make(replicated, columns)
    fitting = [{**order("c", n), "note": _fitting(good, n)} for n in (1, 2, 3)]
    rejected = {**ANN, **({"note": bad} if bad else {})}
    replicated.export(*fitting, rejected)

    first = run(replicated)
    replicated.change((order("bob", 2) | {"note": good}, None), (None, fitting[1]))
    later = run(replicated)
    again = run(replicated, replay=True)
    full = run(replicated, full=True)

    assert (first.scope, first.rejected, first.upserted) == ("all", 1, 3)
    assert error in first.rejections[0][0]
    assert (later.scope, later.upserted, later.removed, later.rejected) == ("changes", 1, 1, 1)
    assert (again.scope, again.rejected, full.rejected) == ("changes", 1, 1)
    assert replicated.rows() == {("c", 1), ("c", 3), ("bob", 2)}
    told = rejected_text(later)
    assert told is not None and "orders rejects 1 of the rows" in told and error in told and "--replay" in told
    assert LONG not in told
    replicated.change(({**ANN, "note": good}, rejected))
    assert run(replicated).rejected == 0
    assert replicated.rows("COUNT(*)", "orders_rejected") == {(0,)}


def _fitting(good: dict[str, str], number: int) -> dict[str, str]:
    return {"S": f"fits {number}"} if "S" in good and len(good["S"]) > 1 else good


def test_replay_after_the_column_was_widened_takes_what_the_lake_has_now(replicated: Replicated) -> None:
    make(replicated, "note VARCHAR(100) CHARSET utf8mb4")
    replicated.export(*(order("c", n) for n in range(20)), noted(ANN, "1"), noted(BOB, LONG), noted(CEC, LONG))
    assert run(replicated).rejected == 2
    replicated.change((noted(ANN, LONG + "a"), noted(ANN, "1")))
    assert run(replicated).rejected == 3
    assert ("ann", "1") in replicated.rows("customer, note")
    replicated.change((noted(BOB, LONG + "b"), noted(BOB, LONG)), (None, noted(CEC, LONG)))
    assert run(replicated).rejected == 2
    alter(replicated, "MODIFY note VARCHAR(200) CHARSET utf8mb4")
    replicated.change((noted(order("dan", 4), LONG + "d"), None))

    result = run(replicated, replay=True)

    assert (result.scope, result.upserted, result.rejected) == ("changes", 3, 0)
    expected = {("c", None), ("ann", LONG + "a"), ("bob", LONG + "b"), ("dan", LONG + "d")}
    assert replicated.rows("customer, note") == expected
    assert run(replicated, replay=True).scope == "nothing"


def test_replay_of_a_key_that_was_removed_does_not_bring_it_back(replicated: Replicated) -> None:
    make(replicated, "note VARCHAR(100) CHARSET utf8mb4")
    replicated.export(ANN, noted(BOB, LONG))
    assert run(replicated).rejected == 1
    alter(replicated, "MODIFY note VARCHAR(200) CHARSET utf8mb4")
    replicated.change((None, noted(BOB, LONG)))

    assert run(replicated, replay=True).rejected == 0
    assert replicated.rows() == {("ann", 1)}


@pytest.mark.parametrize("whole", [False, True])
def test_removal_that_a_foreign_key_forbids_is_rejected(replicated: Replicated, whole: bool) -> None:
    replicated.export(ANN, BOB, CEC)
    run(replicated)
    make(replicated, "k BINARY(32), FOREIGN KEY (k) REFERENCES orders (_key)", "child")
    replicated.execute("INSERT INTO child SELECT _key FROM orders WHERE customer = 'ann'")
    replicated.change((None, ANN), (None, BOB), (order("dan", 4), None))

    result = run(replicated, full=whole)

    assert (result.removed, result.rejected) == (1, 1)
    assert result.rejections[0][0].startswith("removal: error 1451")
    assert replicated.rows("customer") == {("ann",), ("cec",), ("dan",)}
    replicated.execute("DELETE FROM child")
    assert run(replicated, replay=True).removed == 1
    assert replicated.rows("customer") == {("cec",), ("dan",)}


def test_second_row_of_a_unique_value_is_rejected_and_takes_over_no_other_row(replicated: Replicated) -> None:
    make(replicated, "note VARCHAR(100) CHARSET utf8mb4, UNIQUE (note)")
    replicated.export(noted(ANN, "1"), CEC)
    assert run(replicated).rejected == 0
    replicated.change((noted(BOB, "1"), None), (noted(CEC, "1"), CEC))

    result = run(replicated)

    assert (result.upserted, result.rejected) == (0, 2) and "error 1062" in result.rejections[0][0]
    assert replicated.rows("customer, note") == {("ann", "1"), ("cec", None)}
    replicated.change((noted(ANN, "2"), noted(ANN, "1")), (None, noted(CEC, "1")))
    assert run(replicated).rejected == 1
    assert run(replicated, replay=True).rejected == 0
    assert replicated.rows("customer, note") == {("ann", "2"), ("bob", "1")}


def test_value_of_a_unique_column_moves_from_one_row_to_another(replicated: Replicated) -> None:
    make(replicated, "note VARCHAR(100) CHARSET utf8mb4, UNIQUE (note)")
    replicated.export(noted(ANN, "1"), noted(BOB, "2"), noted(CEC, "3"))
    run(replicated)
    replicated.change((noted(ANN, "2"), noted(ANN, "1")), (noted(BOB, "3"), noted(BOB, "2")), (None, noted(CEC, "3")))
    replicated.change((noted(order("dan", 4), "1"), None))

    assert run(replicated).rejected == 0
    assert replicated.rows("customer, note") == {("ann", "2"), ("bob", "3"), ("dan", "1")}


def test_names_of_another_table_are_not_taken_for_rejected_rows(replicated: Replicated) -> None:
    make(replicated, "note VARCHAR(100) CHARSET utf8mb4")
    replicated.execute("CREATE TABLE orders_rejected (id INT)")
    replicated.export(ANN)
    assert run(replicated).rejected == 0
    replicated.change((noted(BOB, LONG), None))

    with replicated.lake() as lake, pytest.raises(DatabaseError, match=r"it is another table; rename that one"):
        replicate(lake, "orders")

    assert replicated.rows() == {("ann", 1)}


def test_table_whose_name_leaves_no_room_for_a_suffix(replicated: Replicated) -> None:
    replicated.aurora = {"table": "t" * 64, "types": {"note": "varchar(100)"}}
    replicated.export(ANN, noted(BOB, LONG))

    assert run(replicated).rejected == 1
    assert replicated.rows(table="t" * 64) == {("ann", 1)}


def test_other_type_in_the_configuration_takes_the_rejected_rows(replicated: Replicated) -> None:
    replicated.aurora = {"types": {"note": "varchar(100)"}}
    replicated.export(noted(ANN, "1"), noted(BOB, LONG))
    assert run(replicated).rejected == 1
    replicated.aurora = {"types": {"note": "varchar(101)"}}

    assert run(replicated).rejected == 0
    assert replicated.rows("customer, note") == {("ann", "1"), ("bob", LONG)}


@pytest.mark.parametrize("seed", cases(range(3), quick=(1,)))
def test_random_changes_of_few_keys_end_in_what_the_lake_has(replicated: Replicated, seed: int) -> None:
    random = Random(seed)
    make(replicated, "note VARCHAR(100) CHARSET utf8mb4, CHECK (note <> 'no')")
    held: dict[int, dict[str, Any]] = {n: noted(order("c", n), "0") for n in range(6)}
    fits: dict[int, str] = dict.fromkeys(held, "0")
    replicated.export(*held.values())
    run(replicated)
    for step in range(6):
        changes = []
        for number in random.sample(range(8), 4):
            old = held.pop(number, None)
            note = random.choice([None, f"{step}", "no", LONG])
            if note is not None:
                held[number] = noted(order("c", number), note)
            if old is not None or note is not None:
                changes.append((held.get(number), old))
        replicated.change(*changes)
        result = run(replicated, full=step == 2, replay=step == 4)
        bad = {number for number, item in held.items() if item["note"]["S"] in ("no", LONG)}
        fits = {n: fits[n] for n in bad if n in fits} | {
            n: item["note"]["S"] for n, item in held.items() if n not in bad
        }
        assert result.rejected == len(bad)
        expected = {(n, note) for n, note in fits.items()}
        rows = {(int(n), note) for n, note in replicated.rows("order_id, note")}
        assert rows == expected
    alter(replicated, "DROP CONSTRAINT CONSTRAINT_1, MODIFY note VARCHAR(200) CHARSET utf8mb4")
    assert run(replicated, replay=True).rejected == 0


@pytest.mark.exhaustive
def test_connection_lost_at_any_statement_leaves_rows_rejections_and_position_of_one_state(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(replicated, "note VARCHAR(100) CHARSET utf8mb4")
    replicated.change((noted(ANN, LONG), None), (noted(CEC, "1"), None))
    run(replicated)
    replicated.change((noted(BOB, LONG), None), (noted(ANN, "2"), noted(ANN, LONG)), (None, noted(CEC, "1")))
    before = ({("cec", "1")}, {("ann",)})
    after = ({("ann", "2")}, {("bob",)})
    lost = 0

    def state() -> tuple[set[Any], set[Any]]:
        fields = replicated.rows("JSON_UNQUOTE(JSON_EXTRACT(fields, '$[0]'))", "orders_rejected")
        return replicated.rows("customer, note"), fields

    for _ in lost_connections(replicated, monkeypatch):
        lost += 1
        assert state() in (before, after)
        if state() == after:
            break

    assert lost > 20
    assert run(replicated).rejected == 1
    assert state() == after
