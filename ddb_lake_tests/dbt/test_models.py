"""What `init-dbt` writes: text that says of any schema what the schema says, and the files of this repository's project."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.cli.app import cli
from ddb_lake.core.schema.table_schema import CURRENT_METADATA, Column, TableSchema, column_names
from ddb_lake.dbt.models import MARK, TableModels, data_type
from ddb_lake.dbt.project import table_models
from ddb_lake_tests.support.dbt_lake import PROJECT, Built, lake_settings, opened
from ddb_lake_tests.support.effort import examples

NAMES = st.one_of(
    st.text(min_size=1, max_size=8),
    st.sampled_from(
        ("{{ 1 }}", "{% raw %}", "{# x #}", 'quo"ted', "it's", "back\\slash", "a.b", "a/b~c", "ümläut", "select")
    ),
)
TYPES = {
    "S": "string",
    "N": "decimal(38,4)",
    "B": "binary",
    "BOOL": "boolean",
    "SS": "list<string>",
    "NS": "list<long>",
    "L": "json",
    "ANY": "json",
}


@st.composite
def schemas(draw: st.DrawFn) -> TableSchema:
    keys = tuple(draw(st.lists(NAMES, min_size=1, max_size=2, unique=True)))
    paths = draw(st.lists(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=6, unique=True))
    paths = [(key,) for key in keys] + [path for path in paths if path[0] not in keys]
    names = column_names([(path, "") for path in paths])
    tags = {path: "S" if path[0] in keys else draw(st.sampled_from(sorted(TYPES))) for path in paths}
    columns = [Column(path, tags[path], names[(path, "")], TYPES[tags[path]]) for path in paths]
    declared = [c.tag == "ANY" or (c.tag == "S" and c.path[0] not in keys and draw(st.booleans())) for c in columns]
    return TableSchema(
        keys, tuple(replace(c, role="declared") if is_one else c for c, is_one in zip(columns, declared, strict=True))
    )


def rendered(text: str, duckdb: bool = True) -> str:
    target = {"type": "duckdb" if duckdb else "athena", "database": "awsdatacatalog"}
    return jinja2.Environment().from_string(text).render(target=target, var=lambda _, default: default)


@examples(3, 15)
@given(schemas())
def test_macro_says_what_the_schema_says(schema: TableSchema) -> None:
    found: list[Any] = []
    text = TableModels("t", schema).files()["macros/tables/t.sql"]

    environment = jinja2.Environment()
    environment.globals["return"] = lambda rows: found.append(rows) or ""
    environment.from_string(text + "{{ t_columns() }}").render()

    assert found == [
        [
            {"name": c.name, "tag": c.tag, "type": c.type, "path": list(c.path)}
            | ({"declared": True} if c.role == "declared" else {})
            for c in schema.columns
        ]
    ]


@examples(3, 15)
@given(schemas())
def test_every_column_is_documented_and_typed(schema: TableSchema) -> None:
    files = TableModels("t", schema).files()
    staging = yaml.safe_load(files["models/staging/t/_stg_t.yml"])
    current, changes = staging["models"]
    names = [column.name for column in schema.columns]

    assert [c["name"] for c in current["columns"]] == [*names, *CURRENT_METADATA]
    assert [c["name"] for c in changes["columns"]][-len(names) :] == names
    for model in (*staging["models"], *yaml.safe_load(files["models/history/t/_t_history.yml"])["models"]):
        assert model["config"]["contract"]["enforced"]
        for column in model["columns"]:
            assert column["description"]
            rendered(column["description"])
            assert "{" not in rendered(column["data_type"])
    tested = {c["name"] for c in current["columns"] if "not_null" in c.get("data_tests", ())}
    assert tested == set(names[: len(schema.key)])


@examples(3, 15)
@given(schemas())
def test_properties_have_no_anchors_and_the_key_has_tests_that_tools_know(schema: TableSchema) -> None:
    files = TableModels("t", schema).files()
    for path, text in files.items():
        if path.endswith(".yml"):
            assert not [event for event in yaml.parse(text) if getattr(event, "anchor", None)], path
    current = yaml.safe_load(files["models/staging/t/_stg_t.yml"])["models"][0]
    unique = [column["name"] for column in current["columns"] if "unique" in column.get("data_tests", ())]
    keys = [column.name for column in TableModels("t", schema).keys]
    if len(keys) == 1:
        assert (unique, "data_tests" in current) == (keys, False)
    else:
        assert current["data_tests"] == [{"unique_together": {"arguments": {"columns": keys}}}]


def test_types_are_spelled_for_both_engines() -> None:
    assert rendered(data_type("list<decimal(38,1)>")) == "decimal(38,1)[]"
    assert rendered(data_type("list<binary>"), duckdb=False) == "array(varbinary)"
    assert data_type("long") == "bigint"
    assert data_type("timestamp") == "timestamp(6)"


def test_canonical_image_ignores_the_order_of_attributes_and_of_sets() -> None:
    from ddb_lake.dbt.plugin import canonical_document, canonical_image  # importing dbt takes a second

    one = '{"a":{"SS":["x","y"]},"b":{"M":{"c":{"N":"1"},"d":{"NULL":true}}}}'
    other = '{"b":{"M":{"d":{"NULL":true},"c":{"N":"1"}}},"a":{"SS":["y","x"]}}'

    assert canonical_image(one) == canonical_image(other) is not None
    assert canonical_document('{"b":1,"a":2}') == '{"a":2,"b":1}'
    assert canonical_image(None) is canonical_document(None) is None


@pytest.mark.parametrize("table", ["orders", "web_analytics"])
def test_models_of_this_project_are_those_of_its_tables(built: Built, table: str) -> None:
    with opened(built.folder) as lake:
        wanted = table_models(lake, table).files()

    outdated = [path for path, text in wanted.items() if (PROJECT / path).read_text(encoding="utf-8") != text]
    assert outdated == [], f"run `ddb-lake init-dbt {table}` on a lake with the demo's columns"


def test_macros_of_this_project_are_those_that_init_dbt_writes() -> None:
    shipped, copied = PROJECT.parent / "ddb_lake/dbt/project/macros", PROJECT / "macros/ddb_lake"

    def texts(folder: Path) -> dict[str, str]:
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.sql")}

    assert texts(copied) == texts(shipped)


def init_dbt(built: Built, project: Path, *arguments: str) -> Result:
    config = built.folder / "lake.json"
    return CliRunner().invoke(cli, ["init-dbt", "--config", str(config), "--project", str(project), *arguments])


def test_init_dbt_begins_a_project_and_keeps_it_up_to_date(built: Built, tmp_path: Path) -> None:
    project = tmp_path / "new"

    first, second = init_dbt(built, project, "orders"), init_dbt(built, project, "orders")

    assert first.exit_code == second.exit_code == 0, first.output + second.output
    assert "Nothing to write" in second.output
    assert {path.name for path in project.iterdir()} == {
        "dbt_project.yml",
        "profiles.yml",
        ".gitignore",
        "macros",
        "models",
    }
    assert (project / "macros/ddb_lake/history.sql").read_text() == (
        PROJECT.parent / "ddb_lake/dbt/project/macros/history.sql"
    ).read_text()
    assert (project / "profiles.yml").read_text() == (PROJECT / "profiles.yml").read_text()


def test_init_dbt_leaves_what_others_wrote(built: Built, tmp_path: Path) -> None:
    init_dbt(built, tmp_path, "orders")
    written = tmp_path / "models/staging/orders/stg_orders.sql"
    assert MARK in written.read_text()
    written.write_text("select 1 as mine\n")

    refused = init_dbt(built, tmp_path, "orders")
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert written.read_text() == "select 1 as mine\n"
    assert init_dbt(built, tmp_path, "orders", "--force").exit_code == 0
    assert MARK in written.read_text()


def test_init_dbt_needs_the_columns(tmp_path: Path) -> None:
    config = tmp_path / "lake.json"
    config.write_text(json.dumps(lake_settings(tmp_path)))

    found = CliRunner().invoke(cli, ["init-dbt", "--config", str(config), "--project", str(tmp_path / "p"), "orders"])

    assert found.exit_code == 2
    assert "load or apply first" in found.output
