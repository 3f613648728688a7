"""Tasks of a merge pass on few records of a key, however many it has, and decide it as one machine does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.config import parse_settings
from ddb_lake.engine.merge_plan import MergeRules, deciding_records
from ddb_lake.engine.session import connect
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.read.dump import dump_items
from ddb_lake.spark import changelog, merge, merge_tasks, object_reader
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake.spark.merge_tasks import ScannedPart, ScanPart
from ddb_lake_tests.support.effort import examples
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.kernel_objects import line

CUTOFF_US = 5
Record = tuple[int, int]
"""A key and a time."""


def decided(records: Sequence[Record], keep_expired: bool) -> dict[int, tuple[int | None, bool, bool]]:
    """By key: its newest time that wins over the base, whether several records have it, and whether a record cannot win."""
    found = {}
    for key in {key for key, _ in records}:
        times = [time for other, time in records if other == key]
        winning = sorted((time for time in times if time > CUTOFF_US), reverse=True)
        late = keep_expired and len(winning) < len(times)
        if winning or keep_expired:
            found[key] = (winning[0] if winning else None, winning[:1] == winning[1:2], late)
    return found


@examples(20, 200)
@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=9), max_size=3), st.booleans())
def test_deciding_records_decide_as_all_do(parts: list[list[Record]], keep_expired: bool) -> None:
    rules = MergeRules(CUTOFF_US, CUTOFF_US, 0, time_ordered=True, keep_expired=keep_expired)
    chosen: list[Record] = []
    with connect(threads=1) as session:
        for part in parts:
            session.con.execute(
                "CREATE OR REPLACE TABLE part (record_id BIGINT, _key BIGINT, changed_at TIMESTAMP, asserted_at TIMESTAMP)"
            )
            for number, (key, time_us) in enumerate(part):
                session.con.execute("INSERT INTO part VALUES (?, ?, make_timestamp(?), NULL)", [number, key, time_us])
            found = [part[number] for (number,) in session.rows(deciding_records(rules, "part"))]
            assert all(found.count(one) <= part.count(one) for one in found)
            for key in range(3):
                of_key = [time_us for other, time_us in found if other == key]
                assert sum(time_us > CUTOFF_US for time_us in of_key) <= 2
                assert sum(time_us <= CUTOFF_US for time_us in of_key) <= 2 * keep_expired
            chosen += found
    assert decided(chosen, keep_expired) == decided([one for part in parts for one in part], keep_expired)


def test_bucket_of_a_key_with_many_changes_has_few_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 changes of one key and two others in four objects, which four tasks read: a bucket would have all of them."""
    hot = {"id": {"S": "hot"}}
    for number in range(4):
        folder = tmp_path / "landing/2023/11/14/09"
        folder.mkdir(parents=True, exist_ok=True)
        own = [json.loads(line(n, {"n": {"N": str(n)}})) for n in range(number * 50, number * 50 + 50)]
        for one in own:
            one["dynamodb"] |= {"Keys": hot, "NewImage": one["dynamodb"]["NewImage"] | hot}
            one["dynamodb"]["OldImage"] |= hot
        others = [line(1000 + number, {})] if number < 2 else []
        (folder / f"{number}").write_bytes(b"\n".join([*(json.dumps(one).encode() for one in own), *others]))
    found: list[ScannedPart] = []

    def scan_part(task: ScanPart) -> ScannedPart:
        found.append(merge_tasks.scan_part(task))
        return found[-1]

    monkeypatch.setattr(merge, "scan_part", scan_part)
    monkeypatch.setattr(merge, "PART_BYTES", 1)
    monkeypatch.setattr(object_reader, "LEAST_BYTES", 1)
    monkeypatch.setattr(changelog, "ONE_TASK_ROWS", 60)
    tables = [{"name": "orders", "key": ["id"]}]
    with open_lake(parse_settings({"warehouse": str(tmp_path / "lake"), "tables": tables}, "test")) as lake:
        lake.executors = {"duckdb": partial(SparkExecutor, carrier=InlineCarrier(cores=2))}
        assert apply_objects(lake, "orders", [str(tmp_path / "landing")]).new == 202
        items = {
            item["id"]["S"]: item for item in (json.loads(dumped)["Item"] for dumped in dump_items(lake, "orders"))
        }
    parts = [part for part in found if part.name == "new_records"]
    assert len(parts) > 1
    assert sum(part.count for part in parts) <= 2 * len(parts) + 2
    assert items.keys() == {"hot", "k1000", "k1001"}
    assert items["hot"]["n"] == {"N": "199"}
