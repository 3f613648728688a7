"""Changes that offend against the table's schema: in quarantine, out of `current`, and ingested once the schema is corrected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddb_lake.config import parse_settings
from ddb_lake.errors import ConfigError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.maintain.quarantine import replay_quarantine
from ddb_lake.pipeline.read.quarantine import list_quarantine, show_quarantine
from ddb_lake_tests.support import envelopes
from ddb_lake_tests.support.effort import SHARED_FIXTURE
from ddb_lake_tests.support.export_files import T0_US, change, item, land, sorted_items
from ddb_lake_tests.support.iceberg_readers import count_rows
from ddb_lake_tests.support.several_tables import dumped, lake_of

pytestmark = pytest.mark.usefixtures("no_source")

STRICT: dict[str, Any] = {"schema": {"properties": {"v": {"type": "integer", "maximum": 10}}}}
LOOSE: dict[str, Any] = {"schema": {"properties": {"v": {"type": "integer"}}}}


def orders(validate: Any) -> dict[str, Any]:
    return {"name": "orders"} if validate is None else {"name": "orders", "validate": validate}


def test_offender_is_quarantined_once_and_replays_once_the_schema_is_corrected(tmp_path: Path) -> None:
    good, offender = change(T0_US, item("a", v=1)), change(T0_US + 1, item("a", v=11))
    first = land(tmp_path / "first", good, "\n", offender, "\n", change(T0_US, item("b", v=12)))
    again = land(tmp_path / "again", offender, offender)  # delivered twice more, without a line between
    with lake_of(tmp_path / "lake", orders(STRICT)) as lake:
        applied = apply_objects(lake, "orders", [first])
        assert (applied.new, applied.quarantined) == (1, 2)
        assert apply_objects(lake, "orders", [again]).quarantined == 0
        assert dumped(lake) == sorted_items([item("a", v=1)])
        (group,) = list_quarantine(lake, "orders")
        assert (group.reason, group.count) == ("schema: the item fails `maximum` at v", 2)
        assert next(json.loads(e.raw) for e in show_quarantine(lake, "orders")) == offender
        assert replay_quarantine(lake, "orders").still_quarantined == 2
    with lake_of(tmp_path / "lake", orders(LOOSE)) as lake:
        result = replay_quarantine(lake, "orders")
        assert (result.replayed, result.new, result.still_quarantined) == (2, 2, 0)
        assert dumped(lake) == sorted_items([item("a", v=11), item("b", v=12)])
        assert (count_rows(lake, "orders_changes"), count_rows(lake, "orders_quarantine")) == (3, 0)


def test_remove_of_an_offender_is_applied(tmp_path: Path) -> None:
    uri = land(tmp_path / "o", change(T0_US, item("a", v=1)), change(T0_US + 1, None, item("a", v=11)))
    with lake_of(tmp_path / "lake", orders(STRICT)) as lake:
        assert apply_objects(lake, "orders", [uri]).quarantined == 0
        assert dumped(lake) == []


def test_offender_in_a_failed_delivery_keeps_the_delivery_and_each_table_has_its_own_schema(tmp_path: Path) -> None:
    offender = change(T0_US, item("a", v=11))
    failed = envelopes.error_object(envelopes.compact(offender), "Lambda.ProcessingFailedStatus")
    uri = land(tmp_path / "o", failed, "\n", {**change(T0_US, item("a", v=11)), "tableName": "other"})
    with lake_of(tmp_path / "lake", orders(STRICT), {"name": "other"}) as lake:
        applied = apply_objects(lake, "orders", [uri])
        assert (applied.quarantined, applied.new) == (1, 1)
        (entry,) = show_quarantine(lake, "orders")
        assert json.loads(entry.raw) == failed
        assert dumped(lake, "other") == sorted_items([item("a", v=11)])


def test_document_in_an_attribute_and_a_schema_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text("required: [hits]\n")
    rows = [change(T0_US, item(key, payload=text)) for key, text in (("a", '{"hits":1}'), ("b", "{}"), ("c", "no"))]
    uri = land(tmp_path / "o", *rows)
    with lake_of(tmp_path / "lake", orders({"schema": str(tmp_path / "schema.yaml"), "attribute": "payload"})) as lake:
        assert apply_objects(lake, "orders", [uri]).quarantined == 2
        assert {group.reason for group in list_quarantine(lake, "orders")} == {
            "schema: the document in payload fails `required`",
            "schema: the attribute payload holds no JSON text",
        }
        assert dumped(lake) == sorted_items([item("a", payload='{"hits":1}')])


@settings(max_examples=4, suppress_health_check=SHARED_FIXTURE)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), min_size=1, max_size=12), st.randoms())
def test_records_and_quarantine_are_the_distinct_records_landed(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, int]], random: Any
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    records = [change(T0_US + at, item(key, v=value)) for at, (key, value) in enumerate(made)]
    delivered = random.sample(records, len(records)) + random.choices(records, k=4)
    cut = random.randrange(len(delivered))
    with lake_of(folder / "lake", orders(STRICT)) as lake:
        for number, part in enumerate((delivered[:cut], delivered[cut:])):
            apply_objects(lake, "orders", [land(folder / str(number), *part)])
        offenders = sum(value > 10 for _, value in made)
        assert count_rows(lake, "orders_changes") == len(made) - offenders
        assert sum(group.count for group in list_quarantine(lake, "orders")) == offenders
        newest = {key: value for key, value in made if value <= 10}
        assert dumped(lake) == sorted_items(item(key, v=value) for key, value in newest.items())
    with lake_of(folder / "lake", orders(None)) as lake:
        replay_quarantine(lake, "orders")
        assert dumped(lake) == sorted_items(item(key, v=value) for key, value in dict(made).items())


@pytest.mark.parametrize(
    ("validate", "message"),
    [
        ({"schema": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}, "only draft-07 is validated"),
        ({"schema": "no/such/file.json"}, "no/such/file.json: no JSON Schema can be read"),
        ({"schema": {"type": 5}}, "no draft-07 schema"),
        ({"attribute": "payload"}, "validate.schema: Field required"),
    ],
)
def test_wrong_schema_is_reported_when_the_configuration_is_read(validate: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_settings({"warehouse": "x", "tables": [orders(validate)]}, "test")
    assert message in str(raised.value)
