"""Values that no column holds, and columns of further types: by tasks as by one machine, after loads and changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.misfits import Misfit
from ddb_lake.core.values.change_record import AttributeValue, Item
from ddb_lake.lake.state import CurrentState
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.local_executor import LocalExecutor
from ddb_lake.pipeline.merge.misfits import find_misfits
from ddb_lake.spark.executor import SparkExecutor
from ddb_lake_tests.support.effort import SHARED_FIXTURE, examples
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, change, full, land
from ddb_lake_tests.support.folder_lake import lake
from ddb_lake_tests.support.inline_carrier import InlineCarrier
from ddb_lake_tests.support.several_tables import dumped

VALUES: tuple[AttributeValue, ...] = (
    {"S": "x"}, {"N": "1"}, {"N": "1.50"}, {"BOOL": True}, {"NULL": True}, {"L": [{"S": "y"}]}, {"M": {}}, {"M": {"n": {"N": "2"}}},
)  # fmt: skip
NAMES = ("created", "a/b", "declared")
COLUMNS = {"declared": "long"}
IMAGES = st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES)), min_size=1, max_size=14)

Found = tuple[tuple[Misfit, ...], ...]


def items(images: Sequence[Item], first: int) -> list[Item]:
    """Items with keys of their own, from a number on."""
    return [{"id": {"S": f"k{number}"}, **image} for number, image in enumerate(images, first)]


def misfits(folder: Path, executor: Callable[..., Any], loaded: Sequence[Item], changed: Sequence[Item]) -> Any:
    """What a load and an apply state, what all rows say then, the columns, and the items."""
    with lake(folder, "orders", ["id"], columns=COLUMNS) as opened:
        opened.executors = {"duckdb": executor}
        export = full(loaded[::2], loaded[1::2]).write(folder / "export")
        said: list[Any] = [load_export(opened, "orders", str(export)).misfits]
        records = [change(T0_US + number * MINUTE_US, new) for number, new in enumerate(changed, 30)]
        applied = apply_objects(opened, "orders", [land(folder / "landing" / "object", *records)])
        said.append(applied.current["orders"].misfits)
        said.append(find_misfits(opened, "orders", opened.executor("orders")))
        assert said[-1] == find_misfits(opened, "orders")
        current = opened.current("orders")
        assert current is not None
        return [*said, CurrentState.of(current).schema.to_json(), dumped(opened)]


@pytest.mark.usefixtures("many_tasks")
@examples(2, 10, 150, suppress=SHARED_FIXTURE)
@given(loaded=IMAGES, changed=IMAGES, overlap=st.integers(0, 5), share=st.sampled_from([1, 30]))
def test_tasks_state_the_misfits_of_one_machine(
    monkeypatch: pytest.MonkeyPatch, loaded: list[Item], changed: list[Item], overlap: int, share: int
) -> None:
    monkeypatch.setattr("ddb_lake.core.schema.inference.VARIANT_SHARE_PERCENT", share)
    tasks = partial(SparkExecutor, carrier=(carrier := InlineCarrier()))
    found = []
    for executor in (LocalExecutor, tasks):
        with TemporaryDirectory() as name:
            given_items = items(loaded, 0), items(changed, max(0, len(loaded) - overlap))
            found.append(misfits(Path(name), executor, *given_items))
    assert found[1] == found[0]
    assert "count_unheld" in {name for name, _ in carrier.tasks}


@pytest.mark.usefixtures("many_tasks")
def test_values_of_a_type_without_a_column_are_stated(tmp_path: Path) -> None:
    loaded = items([{"created": {"S": "x"}}] * 200 + [{"created": {"N": "1"}}], 0)
    changed = items([{"created": {"N": "2"}}] * 2, 300)
    stated = misfits(tmp_path, partial(SparkExecutor, carrier=InlineCarrier()), loaded, changed)
    assert [[(one.attribute, one.column, one.values) for one in some] for some in stated[:3]] == [
        [("created", "created", {"N": 1})],
        [("created", "created", {"N": 2})],
        [("created", "created", {"N": 3})],
    ]
