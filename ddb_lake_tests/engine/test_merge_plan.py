"""The plan of a merge: its tables have the columns that they name, and the bounds of a batch of ties change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa
import pytest

from ddb_lake.core.values.primary_key import key_hash
from ddb_lake.engine import merge_plan
from ddb_lake.engine.merge_plan import NO_REMOVALS, REMOVALS, MergeInput, MergePlan, MergeRules, empty_plan, plan_merge
from ddb_lake.engine.session import Session, connect
from ddb_lake.lake.schemas import CHANGES_COLUMNS
from ddb_lake.pipeline.merge.sources import NO_CURRENT_ROWS

RULES = MergeRules(snapshot_cutoff_us=None, base_us=None, clock_skew_us=0, time_ordered=True)


@pytest.fixture
def session() -> Iterator[Session]:
    with connect(memory="200MB", threads=1) as opened:
        yield opened


def record(key: str, number: int, time_us: int, new: int | None, old: int | None = None) -> dict[str, Any]:
    """A change record of an item whose attribute `v` is `new` after it and `old` before it; None for no item."""
    event = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
    return {
        "record_id": f"{key}-{number}",
        "_key": key,
        "_key_hash": key_hash(key),
        "event_name": event,
        "changed_at": time_us,
        "old_image": image(key, old),
        "new_image": image(key, new),
    }


def image(key: str, value: int | None) -> str | None:
    return None if value is None else orjson.dumps({"id": {"S": key}, "v": {"N": str(value)}}).decode()


def inputs_of(session: Session, records: list[dict[str, Any]], **relations: Any) -> MergeInput:
    columns = {}
    for name in CHANGES_COLUMNS:
        values = [one.get(name) for one in records]
        if name in ("changed_at", "asserted_at"):
            columns[name] = pa.array(values, pa.timestamp("us"))
        elif name == "ttl":
            columns[name] = pa.array([False] * len(records))
        elif name == "_key_hash":
            columns[name] = pa.array(values, pa.int64())
        else:
            columns[name] = pa.array(values, pa.string())
    session.con.register("given_records", pa.table(columns))
    session.con.execute("CREATE OR REPLACE TABLE records AS SELECT * FROM given_records")
    current = relations.get("current", NO_CURRENT_ROWS)
    removals = relations.get("removals", NO_REMOVALS)
    return MergeInput("orders", "records", lambda: "records", current, RULES, lambda _from_us: removals)


def states(session: Session, plan: MergePlan) -> dict[str, Any]:
    """The value of `v` of each key with a new state; None for a removed item."""
    rows = session.rows(f"SELECT _key, item FROM {plan.new_states}")
    return {key: None if item is None else int(orjson.loads(item)["v"]["N"]) for key, item in rows}


@pytest.mark.parametrize(("rows", "keys", "size"), [(64, 1000, 32 << 20), (1, 1, 1), (2, 3, 10), (7, 1000, 100)])
def test_ties_are_decided_alike_in_batches_of_any_size(
    session: Session, monkeypatch: pytest.MonkeyPatch, rows: int, keys: int, size: int
) -> None:
    monkeypatch.setattr(merge_plan, "_TIE_ROWS", rows)
    monkeypatch.setattr(merge_plan, "_TIE_KEYS", keys)
    monkeypatch.setattr(merge_plan, "_TIE_BYTES", size)
    records = []
    for number in range(20):  # three changes of one instant, which only their images order
        key = f"k{number}"
        records += [record(key, 2, 5, 3, 2), record(key, 0, 5, 1), record(key, 1, 5, 2, 1)]
    plan = plan_merge(session, inputs_of(session, records))
    assert (plan.counts.changed, plan.counts.late, plan.counts.ties) == (20, 20, 20)
    assert states(session, plan) == {f"k{number}": 3 for number in range(20)}


def test_plan_names_deleted_positions_and_conflicts_with_removals(session: Session) -> None:
    at = "make_timestamp(1)"
    current = (
        f"(SELECT * FROM (VALUES ('f', 0::BIGINT, 'gone', {at}, 'change'), ('f', 1::BIGINT, 'kept', {at}, 'change'),"
        f" ('g', 7::BIGINT, 'same', {at}, 'change')) AS r(file_path, pos, _key, _changed_at, _source))"
    )
    removed = {"back": 8, "late": 9, "later": 10}
    rows = ", ".join(f"('{key}', {key_hash(key)}::BIGINT, {us}::BIGINT)" for key, us in removed.items())
    removals = f"(FROM (VALUES {rows}) r(_key, _key_hash, removed_us))"
    changed = {"gone": None, "kept": 2} | dict.fromkeys(removed, 5)
    records = [record(key, 0, 9, value, 1 if value != 5 else None) for key, value in changed.items()]
    plan = plan_merge(session, inputs_of(session, records, current=current, removals=removals))
    assert states(session, plan) == changed
    assert sorted(session.rows(plan.deleted_positions)) == [("f", 0), ("f", 1)]
    assert (plan.counts.changed, plan.counts.late, plan.counts.ties) == (5, 2, 0), "late and later are conflicting"


def test_tables_of_a_plan_have_the_columns_that_they_name(session: Session) -> None:
    plan = plan_merge(session, inputs_of(session, [record("a", 0, 5, 1), record("a", 1, 5, 2, 1)]))
    for table in (plan.winners, plan.current_rows, REMOVALS, plan.new_states):
        assert tuple(name for name, *_ in session.rows(f"DESCRIBE {table}")) == table.columns


def test_empty_plan_has_no_new_states(session: Session) -> None:
    plan = empty_plan(session)
    assert states(session, plan) == {}
    assert plan.mean_item_bytes(session) == 0
