"""Inference over parts of the items: merged, it is what all of them together give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.schema.inference import Inference
from ddb_lake.core.schema.table_schema import SchemaOptions
from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.support.strategies import items


def observed(some: list[Item], options: SchemaOptions) -> Inference:
    seen = Inference(options)
    for item in some:
        seen.observe(item)
    return seen


@given(st.lists(st.lists(items(), max_size=4), max_size=4), st.sampled_from(["flatten", "json"]), st.randoms())
def test_merged_parts_in_any_order_equal_the_whole(parts: list[list[Item]], nested: str, rnd: object) -> None:
    options = SchemaOptions(nested=nested, depth=3)  # type: ignore[arg-type]
    whole = observed([item for part in parts for item in part], options)
    merged = Inference(options)
    rnd.shuffle(parts)  # type: ignore[attr-defined]
    for part in parts:
        merged.merge(observed(part, options))
    assert merged.paths == whole.paths
    assert merged.schema(("id",)) == whole.schema(("id",))
