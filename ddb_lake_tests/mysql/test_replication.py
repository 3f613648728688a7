from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.errors import CommitConflict, ConfigError, DatabaseError, UsageError
from ddb_lake.lake import expiry
from ddb_lake.mysql import replication as stage
from ddb_lake.mysql.comparison import ComparisonResult, compare
from ddb_lake.mysql.replication import ReplicateResult, replicate, replication_due
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples
from ddb_lake_tests.support.export_files import full
from ddb_lake_tests.support.mariadb import MariaDb
from ddb_lake_tests.support.mysql_lakes import Replicated, lost_connections, order
from ddb_lake_tests.support.strategies import items

ANN, BOB = order("ann", 1, total={"N": "10.50"}), order("bob", 2, total={"N": "1"})


def run(replicated: Replicated, full: bool = False) -> ReplicateResult:
    """Replicate, and see that the two sides are equal then."""
    with replicated.lake() as lake:
        result = replicate(lake, "orders", full)
        found = compare(lake, "orders", sample=None)
        assert found.equal, found
        assert replication_due(lake, lake.table("orders")) is None
        return result


def compared(replicated: Replicated, sample: int | None = None) -> ComparisonResult:
    with replicated.lake() as lake:
        return compare(lake, "orders", sample)


def test_first_run_takes_all_and_later_ones_what_changed(replicated: Replicated) -> None:
    replicated.export(ANN, BOB)

    first = run(replicated)
    again = run(replicated)
    changed = {**ANN, "total": {"N": "11"}}
    replicated.change((changed, ANN), (None, BOB), (order("cec", 3, total={"N": "2"}), None))
    later = run(replicated)

    assert (first.scope, first.upserted, first.removed, first.rows) == ("all", 2, 0, 2)
    assert (again.scope, again.upserted) == ("nothing", 0)
    assert (later.scope, later.upserted, later.removed, later.rows) == ("changes", 2, 1, 2)
    assert replicated.rows("customer, order_id, total") == {("ann", 1, Decimal("11")), ("cec", 3, Decimal("2"))}


def test_changes_without_any_export_are_replicated(replicated: Replicated) -> None:
    replicated.change((ANN, None))
    assert run(replicated).scope == "all"
    replicated.change((None, ANN))

    result = run(replicated)

    assert (result.scope, result.removed, result.rows) == ("changes", 1, 0)


def test_new_attribute_becomes_a_new_column(replicated: Replicated) -> None:
    replicated.export(ANN)
    run(replicated)
    replicated.change(({**BOB, "note": {"S": 'a,"b"\n\\ \0 \U0001f600'}}, None))

    result = run(replicated)

    assert (result.scope, result.columns_added, result.upserted) == ("changes", ("note",), 1)
    assert replicated.rows("customer, note") == {("ann", None), ("bob", 'a,"b"\n\\ \0 \U0001f600')}


def test_compaction_that_widens_a_column_goes_over_all_rows(replicated: Replicated) -> None:
    replicated.export(*(order("ann", number, total={"N": str(number)}) for number in range(9)))
    run(replicated)
    replicated.change((order("ann", 20, total={"N": "1.25"}), None))
    assert run(replicated).scope == "changes"
    with replicated.lake() as lake:
        assert compact_table(lake, "orders", force=True).retyped == ("total",)

    result = run(replicated)

    assert (result.scope, result.upserted) == ("all", 10)
    assert (Decimal("1.25"),) in replicated.rows("total")


def test_export_that_gives_a_column_a_type_that_held_values_do_not_fit(replicated: Replicated) -> None:
    replicated.export(*(order("ann", number, mark={"S": f"x{number}"}) for number in range(3)))
    run(replicated)
    marked = [order("ann", number, mark={"N": str(number)}) for number in range(9)]
    later = full([*marked, order("bob", 1)]).write(replicated.folder / "later")
    with replicated.lake() as lake:
        load_export(lake, "orders", str(later))

    result = run(replicated)

    assert (result.scope, result.rows) == ("all", 10)
    assert replicated.rows("customer, mark") == {*(("ann", number) for number in range(9)), ("bob", None)}


def test_compaction_that_leaves_rows_as_they_are_sends_none(replicated: Replicated) -> None:
    replicated.export(ANN)
    run(replicated)
    with replicated.lake() as lake:
        compact_table(lake, "orders", force=True)
        assert replication_due(lake, lake.table("orders")) is None

    result = run(replicated)

    assert (result.scope, result.upserted, result.removed) == ("changes", 0, 0)


def test_state_that_the_lake_forgot_makes_it_go_over_all_rows(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "KEEP_SNAPSHOTS", 1)
    replicated.change((ANN, None))
    run(replicated)
    replicated.change((BOB, None))
    with replicated.lake() as lake:
        lake.now = lambda: datetime.now(UTC) + timedelta(days=9)
        compact_table(lake, "orders", force=True)

    result = run(replicated)

    assert (result.scope, result.reason) == (
        "all",
        "the state that the database has is no longer in the lake's history",
    )


def test_wanted_columns_alone_are_replicated_in_the_wanted_types(replicated: Replicated) -> None:
    replicated.export({**ANN, "note": {"S": "x"}}, BOB)
    run(replicated)
    replicated.aurora |= {"columns": ["total"], "types": {"total": "decimal(9,2)"}, "table": "orders"}

    result = run(replicated)

    assert result.scope == "all"
    mine = "information_schema.columns WHERE table_name = 'orders' AND table_schema = DATABASE()"
    held = {name for (name,) in replicated.rows("column_name", mine)}
    assert held == {"_key", "customer", "order_id", "total", "_changed_at", "_source", "_rescued"}
    assert replicated.rows("total") == {(Decimal("10.50"),), (Decimal("1.00"),)}


@examples(3, 5, suppress=SHARED_FIXTURE)
@given(st.data())
def test_items_of_all_shapes_are_replicated_exactly(
    mariadb: MariaDb, replicated: Replicated, data: st.DataObject
) -> None:
    drawn: list[dict[str, Any]] = data.draw(st.lists(items(), min_size=1, max_size=6))
    keyed = [{**item, "customer": {"S": f"c{n}"}, "order_id": {"N": str(n)}} for n, item in enumerate(drawn)]
    half = len(keyed) // 2
    with TemporaryDirectory() as folder:
        one = Replicated(Path(folder), mariadb, mariadb.fresh())
        one.change(*((item, None) for item in keyed[: half + 1]))
        run(one)
        one.change(*((item, None) for item in keyed[half + 1 :]), (None, keyed[0]))
        run(one)


def test_connection_lost_at_any_statement_leaves_the_state_before_or_after(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicated.change((ANN, None))
    run(replicated)
    replicated.change((BOB, None), (None, ANN))
    lost = 0
    for _ in lost_connections(replicated, monkeypatch):
        lost += 1
        assert replicated.rows("customer") in ({("ann",)}, {("bob",)})
        if replicated.rows("customer") == {("bob",)}:
            break

    assert lost > 10
    assert run(replicated).rows == 1


def test_writer_that_was_overtaken_plans_again(replicated: Replicated, monkeypatch: pytest.MonkeyPatch) -> None:
    replicated.change((ANN, None))
    really, calls = stage._write_csv, []

    def overtaken(*arguments: Any) -> None:
        really(*arguments)
        calls.append(1)
        if len(calls) == 1:
            replicated.change((BOB, None))
            with replicated.lake() as other:
                assert replicate(other, "orders").rows == 2

    monkeypatch.setattr(stage, "_write_csv", overtaken)
    with replicated.lake() as lake:
        result = replicate(lake, "orders")

    assert (result.scope, result.rows) == ("nothing", 2)
    assert compared(replicated).equal


@pytest.mark.exhaustive
def test_writer_that_is_overtaken_again_and_again_gives_up(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicated.change((ANN, None))

    def conflict(*arguments: Any, **options: Any) -> None:
        raise CommitConflict("another writer")

    monkeypatch.setattr(stage, "replace_rows", conflict)
    with replicated.lake() as lake, pytest.raises(CommitConflict):
        replicate(lake, "orders")


def test_differences_are_found_named_by_hash_and_repaired(replicated: Replicated) -> None:
    secret = order("4711-secret", 1, total={"N": "5"})
    replicated.export(ANN, BOB, secret)
    run(replicated)
    replicated.execute("DELETE FROM orders WHERE customer = 'ann'")
    replicated.execute("UPDATE orders SET total = 6 WHERE customer = '4711-secret'")
    replicated.execute("INSERT INTO orders (_key, customer) VALUES (UNHEX(SHA2('x', 256)), 'extra')")

    found = compared(replicated)

    assert (found.compared, found.missing, found.extra, found.different) == (4, 1, 1, 1)
    assert (found.lake_rows, found.target_rows, found.equal) == (3, 3, False)
    assert sorted(what for _, what in found.examples) == [
        "not in the database",
        "not in the lake",
        "other values of total",
    ]
    assert "4711" not in str(found) and all(len(key) == 64 for key, _ in found.examples)
    assert run(replicated, full=True).upserted == 3


def test_sample_is_a_stretch_of_the_keys(replicated: Replicated) -> None:
    replicated.export(*(order(f"c{number}", number) for number in range(400)))
    run(replicated)

    some = compared(replicated, sample=50)
    none = compared(replicated, sample=0)

    assert 20 <= some.compared <= 100 and some.equal
    assert (none.compared, none.target_rows) == (0, 400)


def test_replica_that_fell_behind_is_compared_with_what_it_has_and_reports_its_lag(replicated: Replicated) -> None:
    replicated.change((ANN, None))
    run(replicated)
    replicated.change((BOB, None))

    with replicated.lake() as lake:
        lake.now = lambda: datetime.now(UTC) + timedelta(hours=1)
        found = compare(lake, "orders")
        due = replication_due(lake, lake.table("orders"))

    assert found.equal and found.lag_s > 3000
    assert due == "1 batch of changes"


def test_table_that_a_user_made_is_taken_if_its_key_is_ours(replicated: Replicated) -> None:
    replicated.execute(
        "CREATE TABLE orders (_key BINARY(32) PRIMARY KEY, customer VARCHAR(9) CHARSET utf8mb4, mine INT)"
    )
    replicated.change((ANN, None))

    run(replicated)

    assert replicated.rows("customer, order_id, mine") == {("ann", 1, None)}


def test_table_of_another_layout_is_refused(replicated: Replicated) -> None:
    replicated.execute("CREATE TABLE orders (customer VARCHAR(9) PRIMARY KEY)")
    replicated.change((ANN, None))

    with replicated.lake() as lake, pytest.raises(DatabaseError, match="expected a column _key"):
        replicate(lake, "orders")


def test_lake_without_rows_or_settings_is_wrong_use(replicated: Replicated) -> None:
    with replicated.lake() as lake:
        with pytest.raises(UsageError, match="no rows of it yet"):
            replicate(lake, "orders")
        with pytest.raises(UsageError, match="ddb-lake aurora orders"):
            compare(lake, "orders")
        assert replication_due(lake, lake.table("orders")) is None
        with pytest.raises(UsageError, match="no `aurora:` settings"):
            stage.aurora_settings(lake.table("orders").model_copy(update={"aurora": None}))


def test_two_sources_of_a_password_are_refused(replicated: Replicated) -> None:
    replicated.aurora = {"iam_auth": True}

    with pytest.raises(ConfigError, match="exactly one of"), replicated.lake():
        pass


def test_missing_driver_is_an_error_only_where_it_is_needed(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicated.change((ANN, None))
    monkeypatch.setitem(sys.modules, "ddb_lake.mysql.connection", None)

    with replicated.lake() as lake, pytest.raises(ConfigError, match=r"pip install '\.\[aurora\]'"):
        replicate(lake, "orders")
