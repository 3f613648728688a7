"""What a lake holds, in a form that can be compared, and what it should hold of a small scenario."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddb_lake.core.layout.table_names import ICEBERG_SUFFIXES
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.session import Session
from ddb_lake.lake.maintenance import referenced
from ddb_lake.lake.scan import scan_table
from ddb_lake.lake.schemas import OBJECTS_COLUMNS
from ddb_lake.lake.state import CurrentState, changes_state
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake_tests.simulator import Delivery, Mark, Plan, Scenario, compose
from ddb_lake_tests.simulator.model import Step, history_of, item_text
from ddb_lake_tests.support.iceberg_readers import count_rows

START_US = 1_772_357_400_000_000
LEDGER_FACTS = ", ".join(name for name in OBJECTS_COLUMNS if name not in ("new", "landed_at", "ingested_at"))
"""The columns of the ledger that do not depend on when an object was ingested, and on what was ingested before."""


def small_scenario(seed: int, keys: int = 8, writes: int = 40, objects: int = 6) -> Scenario:
    """A full and an incremental export and a stream, of few columns: quick to load, with all that delivery can do."""
    rng = random.Random(seed)
    names: list[Item] = [{"id": {"S": f"key {number}"}} for number in range(keys)]
    steps = [Step(0, key, _body(rng)) for key in names]
    for _ in range(writes):
        gap_us = rng.choice((1000, 300_000, 61_000_000, 3_600_000_000))
        steps.append(Step(gap_us, rng.choice(names), None if rng.random() < 0.25 else _body(rng), rng.random() < 0.3))
    history = history_of("orders", ("id",), START_US, steps)
    size = len(history.changes)
    plan = Plan(fulls=(Mark(size // 2),), windows=((Mark(size - 5), 1440),), first_landed=keys // 2)
    delivery = Delivery(
        precisions=("absent", "MICROSECOND"),
        stamped=50,
        duplicates=20,
        failed=5,
        late=10,
        shuffled=True,
        other_records=8,
        garbage=4,
        objects=objects,
        empty_objects=1,
        separation=("newline", "none"),
        compressions=("none", "gzip"),
    )
    return compose(history, plan, delivery, seed)


def _body(rng: random.Random) -> Item:
    body: Item = {"v": {"N": str(rng.randrange(5))}}
    if rng.random() < 0.5:
        body["t"] = rng.choice(({"S": "text"}, {"N": "1.50"}, {"NULL": True}))
    if rng.random() < 0.3:
        body["m"] = {"M": {"a": {"N": str(rng.randrange(9))}, "s": {"SS": ["x", "y"]}}}
    return body


def faults(lake: Lake, scenario: Scenario) -> list[str]:
    """How the lake differs from the truth: its items now, and the counts of its changelog and quarantine."""
    found = scenario.differences(line.decode() for line in dump_items(lake, scenario.table))
    counts = {
        "changelog": count_rows(lake, f"{scenario.table}_changes", "kind <> 'incremental'"),
        "quarantine": count_rows(lake, f"{scenario.table}_quarantine"),
    }
    expected = {"changelog": scenario.expected_records, "quarantine": scenario.expected_garbage}
    return found if counts == expected else [*found, f"{counts}, not {expected}"]


def contents(lake: Lake, names: Sequence[str]) -> dict[str, Any]:
    """All that the lake's tables hold and say of themselves, but times of work and names of files."""
    return {name: _contents(lake, name) for name in names}


def _contents(lake: Lake, name: str) -> dict[str, Any]:
    items = sorted(str(item_text(json.loads(line)["Item"])) for line in dump_items(lake, name))
    held: dict[str, Any] = {"items": items}
    with lake.session() as session:
        held["changes"] = _rows(lake, session, f"{name}_changes", "*")
        held["quarantine"] = _rows(lake, session, f"{name}_quarantine", "* EXCLUDE (quarantined_at)")
        current, changes = lake.current(name), lake.changes(name)
        if current is not None:
            held["current state"] = _current_state(CurrentState.of(current))
        if changes is not None:
            held["changes state"] = asdict(changes_state(changes))
        held["ledger"] = _rows(lake, session, f"{name}_objects", LEDGER_FACTS)
    return held


def _rows(lake: Lake, session: Session, name: str, columns: str) -> list[str]:
    table = lake.catalog.table(name)
    if table is None:
        return []
    rows = scan_table(table).sql()
    return sorted(map(repr, session.rows(f"SELECT {columns} FROM {rows}")))


def _current_state(state: CurrentState) -> dict[str, Any]:
    return {
        "columns": sorted(str((c.path, c.tag, c.type)) for c in state.schema.columns),  # who came first has the name
        "applied": state.applied_batch,
        "exports": sorted((e.export_id, e.items, e.branch) for e in state.exports),
        "horizon": state.snapshot_cutoff_us,
    }


def stray_files(lake: Lake, names: Sequence[str]) -> set[str]:
    """Files in the tables' folders that no snapshot, branch or metadata log names."""
    stray: set[str] = set()
    for full_name in (name + suffix for name in names for suffix in ICEBERG_SUFFIXES):
        table = lake.catalog.table(full_name)
        folder = Path(table.location() if table is not None else f"{lake.settings.tables_location}/{full_name}")
        there = {str(path) for path in folder.rglob("*") if path.is_file()}
        stray |= there - (referenced(table) if table is not None else set())
    return stray


def missing_files(lake: Lake, names: Sequence[str]) -> set[str]:
    """Files that snapshots and branches of the tables name, and that are not there."""
    missing: set[str] = set()
    for full_name in (name + suffix for name in names for suffix in ICEBERG_SUFFIXES):
        table = lake.catalog.table(full_name)
        if table is not None:
            missing |= {path for path in referenced(table) if not Path(path).exists()}
    return missing
