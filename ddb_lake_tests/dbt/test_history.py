"""`dim_orders_history` and what is counted from the changelog, against the source's own history."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ddb_lake_tests.support.dbt_lake import DATABASE, Built, dbt, moment
from ddb_lake_tests.support.order_history import Image, Source, Version


def said(version: Version) -> tuple[Any, ...]:
    image = version.image
    shown = (image["status"]["S"], image["total"]["N"], image["note"]["S"], image["a.b"]["S"])
    ends = (moment(version.since_us), moment(version.until_us))
    return (*version.key, *ends, version.started_by, version.ended_by, *shown)


def test_history_has_every_version_with_its_interval(built: Built) -> None:
    found = built.rows(
        "SELECT customer, order_id, _valid_from, _valid_to, _started_by, _ended_by, status,"
        " rtrim(rtrim(total::VARCHAR, '0'), '.'), note, a_b FROM marts.dim_orders_history"
    )

    wanted = [said(version) for version in built.source.history()]
    assert sorted(found, key=str) == sorted(wanted, key=str)
    assert len({row[:2] for row in found}) > 60
    assert {row[5] for row in found} == {None, "update", "delete", "ttl", "export"}


def test_history_has_the_items_themselves(built: Built) -> None:
    found = built.rows(
        "SELECT _item, _valid_from, customer, order_id FROM marts.dim_orders_history WHERE _item IS NOT NULL"
    )

    wanted = {(*v.key, moment(v.since_us)): v.image for v in built.source.history()}
    assert all(same(json.loads(item), wanted[customer, order, since]) for item, since, customer, order in found)
    typed = built.rows(
        "SELECT weight, lines, seals[2], list_sort(tags), address__geo__lat::VARCHAR, thumbnail FROM marts.dim_orders_history"
        " WHERE order_id = 'o-changed' AND _started_by = 'update'"
    )
    lines = [{"M": {"sku": {"S": "cup"}, "quantity": {"N": str(n + 1)}}} for n in range(0)]
    image = next(v.image for v in built.source.history() if v.key[1] == "o-changed" and v.started_by == "update")
    assert json.loads(typed[0][1]) == image["lines"]["L"] == lines
    assert typed[0][0] == image["weight"]["N"]
    assert typed[0][2:] == (b"\x03", ["gift", "t4"], "47.376887", b"hello")


def same(one: Image, other: Image) -> bool:
    return one == other


def test_history_is_whole_for_every_change(built: Built) -> None:
    changes = built.rows("SELECT sum(_changes) FROM marts.dim_orders_history")[0][0]

    removing = Counter(w.at_us for w in built.source.landed())
    assert 0 < changes <= sum(removing.values())


def test_daily_changes_are_those_of_the_source(built: Built) -> None:
    found = built.rows(
        "SELECT change_day, inserts, updates, user_deletes, ttl_deletes, items FROM marts.fct_orders_daily_changes ORDER BY 1"
    )

    assert found == daily(built.source)


def daily(source: Source) -> list[tuple[Any, ...]]:
    days: dict[Any, Counter[str]] = {}
    items: dict[Any, set[Any]] = {}
    for write in source.landed():
        day = datetime.fromtimestamp(write.at_us / 1e6, UTC).date()
        kind = write.event + (" by ttl" if write.ttl else "")
        days.setdefault(day, Counter())[kind] += 1
        items.setdefault(day, set()).add(write.key)
    kinds = ("INSERT", "MODIFY", "REMOVE", "REMOVE by ttl")
    return [(day, *(days[day][kind] for kind in kinds), len(items[day])) for day in sorted(days)]


def test_build_from_nothing_gives_what_builds_step_by_step_gave(built: Built, tmp_path: Path) -> None:
    when = {"dim_orders_history": "_through_batch, _base_at", "fct_orders_daily_changes": "_through_batch"}
    stepwise = {name: sorted(map(str, built.rows(rows_of(name, told)))) for name, told in when.items()}

    database = tmp_path / DATABASE
    paths = {"DDB_LAKE_DBT_DATABASE": str(database), "DBT_TARGET_PATH": str(tmp_path), "DBT_LOG_PATH": str(tmp_path)}
    dbt(built.folder, "run", "--select", "+dim_orders_history", "fct_orders_daily_changes", **paths)

    assert {
        name: sorted(map(str, built.rows(rows_of(name, told), database))) for name, told in when.items()
    } == stepwise


def rows_of(name: str, excluded: str) -> str:
    return f"SELECT * EXCLUDE ({excluded}) FROM marts.{name}"
