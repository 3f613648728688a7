from typing import Any

import dagster as dg
import pytest
from dagster.components.resolved.errors import ResolutionException
from pydantic import ValidationError

from ddb_lake import DynamoDBLakeComponent


def load(yaml: str, **scope: Any) -> DynamoDBLakeComponent:
    return DynamoDBLakeComponent.resolve_from_yaml(yaml, scope=scope)


def fault(yaml: str, **scope: Any) -> str:
    with pytest.raises((ResolutionException, ValidationError)) as caught:
        load(yaml, **scope)
    return str(caught.value)


def test_attributes_are_those_of_the_settings() -> None:
    component = load(
        """
warehouse: s3://lake/x
catalog: {type: rest, uri: "http://localhost", properties: {a: b}}
tables:
  - name: orders
    key: [customer, order_id]
    source: {table: Orders, region: eu-west-1}
    export: {bucket: exports, schedule: "0 3 * * 0"}
    changes: {uri: s3://landing/orders/, lookback: 24h}
    columns: {a.b: json}
    checks: {max_lag: 10m, count_tolerance: 0}
"""
    )

    table = component.settings.table("orders")
    assert table.source_name == "Orders"
    assert component.settings.catalog.properties == {"a": "b"}


def test_templates_of_the_environment_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE", "/data/lake")
    component = load(
        """
warehouse: "{{ env.LAKE }}/x"
tables:
  - name: "{{ env('TABLE', 'orders') }}"
    key: ["{{ env('KEY', 'k') }}"]
    nested: "{{ env('NESTED', 'json') }}"
    flatten_depth: "{{ env('DEPTH', '3') }}"
    checks: {count_tolerance: "{{ env('TOLERANCE', '0.25') }}"}
"""
    )

    (table,) = component.tables
    assert component.warehouse == "/data/lake/x"
    assert (table.name, table.key, table.nested, table.flatten_depth) == ("orders", ("k",), "json", 3)
    assert table.checks.count_tolerance == 0.25


def test_texts_that_look_like_numbers_stay_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "007")
    component = load('warehouse: "010"\ntables: [{name: "{{ env.NAME }}", key: ["1", "None"]}]')

    assert component.warehouse == "010"
    assert (component.tables[0].name, component.tables[0].key) == ("007", ("1", "None"))


def test_tables_may_come_from_a_template_variable() -> None:
    component = load('warehouse: w\ntables: "{{ mine }}"', mine=[{"name": "a"}, {"name": "b"}])

    assert [table.name for table in component.tables] == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "place", "said"),
    [
        ("  - name: a\n    kee: [x]", "tables.0.kee at <string>:4", "Extra inputs are not permitted"),
        ("  - name: a\n    export: {buckett: x}", "tables.0.export.buckett at <string>:4", "Extra inputs"),
        ("  - name: a\n    nested: flaten", "tables.0.nested at <string>:4", "'flatten' or 'json'"),
        ("  - name: a\n    flatten_depth: deep", "tables.0.flatten_depth at <string>:4", "valid integer"),
        ("  - name: a\n  - name: b_changes", "tables.1 at <string>:4", "may not end in _changes"),
        ("  - name: a\n    columns: {x: money}", "tables.0.columns.x.type at <string>:4", "'money' is none of"),
        ("  - key: [a]", "tables.0 at <string>:3", "a table needs a `name`, or `match`"),
    ],
)
def test_fault_is_reported_with_its_line(lines: str, place: str, said: str) -> None:
    told = fault(f"warehouse: w\ntables:\n{lines}")

    assert place in told
    assert said in told
    assert told.startswith("1 validation error") or "bucket" in told


def test_unknown_attribute_of_the_lake_is_refused() -> None:
    assert "wharehouse at <string>:1" in fault("wharehouse: w")


def test_fault_behind_a_template_is_reported_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPTH", "deep")

    told = fault('warehouse: w\ntables:\n  - name: a\n    flatten_depth: "{{ env.DEPTH }}"')

    assert told.startswith("<string>:3: tables.0: flatten_depth: Input should be a valid integer")


def test_unset_variable_is_named() -> None:
    told = fault('warehouse: "{{ env.NO_SUCH_THING }}"')

    assert (
        told == "<string>:1: warehouse: the environment variable NO_SUCH_THING is not set; set it to a name of your own"
    )


def test_two_tables_of_one_name_are_refused() -> None:
    assert "tables 'a' and 'A' collide" in fault("warehouse: w\ntables: [{name: a}, {name: A}]")


def test_component_can_be_made_in_python() -> None:
    tables: Any = [{"name": "orders", "key": ["a"]}]

    assert DynamoDBLakeComponent(warehouse="w", tables=tables).settings.table("orders").key == ("a",)


def test_schema_for_editors_has_no_unions_around_objects() -> None:
    schema = DynamoDBLakeComponent.model().model_json_schema()

    assert schema["properties"]["tables"]["type"] == "array"
    export = schema["$defs"]["TableSettingsAttributes"]["properties"]["export"]
    assert export.get("$ref", "").endswith("ExportSettingsAttributes") or "allOf" in export
    assert issubclass(DynamoDBLakeComponent, dg.Component)
