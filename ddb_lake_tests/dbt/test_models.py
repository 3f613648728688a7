"""What `init-dbt` writes: text that says of any schema what the schema says, and the files of this repository's project."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from datetime import datetime
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
from ddb_lake_tests.support.dbt_lake import PROJECT, Built, dbt, lake_settings, opened
from ddb_lake_tests.support.effort import examples

PACKAGE = PROJECT.parent / "ddb_lake/dbt/package/macros"
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
    staging = yaml.safe_load(files["models/staging/lake/t/_stg_lake__t.yml"])
    current, changes = staging["models"]
    names = [column.name for column in schema.columns]

    assert [c["name"] for c in current["columns"]] == [*names, *CURRENT_METADATA]
    assert [c["name"] for c in changes["columns"]][-len(names) :] == names
    for model in (*staging["models"], *yaml.safe_load(files["models/marts/t/_dim_t_history.yml"])["models"]):
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
    current = yaml.safe_load(files["models/staging/lake/t/_stg_lake__t.yml"])["models"][0]
    unique = [column["name"] for column in current["columns"] if "unique" in column.get("data_tests", ())]
    keys = [column.name for column in TableModels("t", schema).keys]
    if len(keys) == 1:
        assert (unique, "data_tests" in current) == (keys, False)
    else:
        test = {"ddb_lake.unique_combination_of_columns": {"arguments": {"combination_of_columns": keys}}}
        assert current["data_tests"] == [test]


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


def test_package_of_this_project_is_the_one_that_init_dbt_writes() -> None:
    shipped, copied = PROJECT.parent / "ddb_lake/dbt/package", PROJECT / "packages/ddb_lake"

    def texts(folder: Path) -> dict[str, str]:
        return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}

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
        "packages.yml",
        "packages",
        "dbt_packages",
        "macros",
        "models",
    }
    assert (project / "dbt_packages/ddb_lake/macros/history.sql").read_text() == (
        PROJECT.parent / "ddb_lake/dbt/package/macros/history.sql"
    ).read_text()
    assert (project / "profiles.yml").read_text() == (PROJECT / "profiles.yml").read_text()


def test_init_dbt_leaves_what_others_wrote(built: Built, tmp_path: Path) -> None:
    init_dbt(built, tmp_path, "orders")
    written = tmp_path / "models/staging/lake/orders/stg_lake__orders.sql"
    assert MARK in written.read_text()
    written.write_text("select 1 as mine\n")

    refused = init_dbt(built, tmp_path, "orders")
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert written.read_text() == "select 1 as mine\n"
    assert init_dbt(built, tmp_path, "orders", "--force").exit_code == 0
    assert MARK in written.read_text()


def test_init_dbt_replaces_what_a_release_with_other_names_wrote(built: Built, tmp_path: Path) -> None:
    init_dbt(built, tmp_path, "orders")
    shutil.rmtree(tmp_path / "packages")
    shutil.rmtree(tmp_path / "dbt_packages")
    (tmp_path / "packages.yml").unlink()
    former = [tmp_path / "models/staging/orders" / name for name in ("stg_orders.sql", "_stg_orders.yml")]
    former += [tmp_path / "models/history/orders" / name for name in ("orders_history.sql", "orders_daily_changes.sql")]
    macro = tmp_path / "macros/ddb_lake/history.sql"
    own = tmp_path / "models/history/orders/orders_history_of_mine.sql"
    for path in (*former, macro, own):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"-- {MARK}\nselect 1")
    own.write_text(
        "select 1 from {{ ref('orders_history') }} join {{ ref( \"stg_orders\" ) }} join {{ ref('fct_orders') }}"
    )

    result = init_dbt(built, tmp_path, "orders")

    assert result.exit_code == 0, result.output
    assert [path for path in (*former, macro) if path.exists()] == []
    assert own.exists() and (tmp_path / "dbt_packages/ddb_lake/dbt_project.yml").exists()
    assert "packages/ddb_lake" in (tmp_path / "packages.yml").read_text()
    assert f"{own} names the model orders_history, which is dim_orders_history now" in result.output
    assert f"{own} names the model stg_orders, which is stg_lake__orders now" in result.output
    assert result.output.count("names the model") == 2
    assert f"Removed {former[0]}" in result.output


def test_project_of_others_gets_models_only(built: Built, tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: mine\n")
    assert init_dbt(built, tmp_path, "orders").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"dbt_project.yml", "models", "macros"}
    assert "{{ ddb_lake.item_history(" in (tmp_path / "models/marts/orders/dim_orders_history.sql").read_text()


@pytest.mark.exhaustive
def test_project_of_others_builds_the_models_with_the_package_from_its_packages_yml(
    built: Built, tmp_path: Path
) -> None:
    files = {
        "dbt_project.yml": "name: mine\nprofile: ddb_lake\n",
        "packages.yml": f"packages:\n  - local: {PROJECT.parent / 'ddb_lake/dbt/package'}\n",
        "profiles.yml": (PROJECT / "profiles.yml").read_text(),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert init_dbt(built, tmp_path, "orders").exit_code == 0
    paths = {"DBT_TARGET_PATH": str(tmp_path / "target"), "DBT_LOG_PATH": str(tmp_path / "target")}
    database = {"DDB_LAKE_DBT_DATABASE": str(tmp_path / "mine.duckdb")}
    dbt(built.folder, "deps", project=tmp_path, **paths)
    dbt(built.folder, "build", "--select", "+fct_orders_daily_changes", project=tmp_path, **paths, **database)
    sql = "SELECT * EXCLUDE (_through_batch) FROM marts.fct_orders_daily_changes ORDER BY 1"
    assert built.rows(sql, tmp_path / "mine.duckdb") == built.rows(sql)


def test_every_call_of_a_macro_of_the_package_names_the_package() -> None:
    texts = {path: re.sub(r"\{#.*?#\}", "", path.read_text(), flags=re.DOTALL) for path in PACKAGE.rglob("*.sql")}
    names = {name for text in texts.values() for name in re.findall(r"\{%-? macro (\w+)\(", text) if "__" not in name}
    assert {"item_history", "item_daily_changes", "held_at"} <= names
    call = re.compile(r"(?<![.\w])(" + "|".join(names) + r")\(")
    for path in (*PROJECT.glob("models/**/*.sql"), *PROJECT.glob("models/**/*.yml")):
        assert call.findall(path.read_text()) == [], path
    for path, text in texts.items():
        assert call.findall(re.sub(r"\{%-? (macro|test) \w+\(", "", text)) == [], path


@pytest.mark.exhaustive
def test_sources_have_freshness_and_keys_are_known_to_dbt(built: Built, tmp_path: Path) -> None:
    paths = {"DBT_TARGET_PATH": str(tmp_path), "DBT_LOG_PATH": str(tmp_path)}
    dbt(built.folder, "source", "freshness", **paths)
    found = {
        one["unique_id"].split(".")[-1]: one for one in json.loads((tmp_path / "sources.json").read_text())["results"]
    }
    newest = built.rows("SELECT max(_valid_from) FROM marts.dim_orders_history")[0][0]
    assert set(found) == {"orders", "orders_changes", "web_analytics", "web_analytics_changes"}
    assert datetime.fromisoformat(found["orders_changes"]["max_loaded_at"]).replace(tzinfo=None) >= newest
    assert {one["status"] for one in found.values()} == {"warn"}, "the lake of the tests is old"

    dbt(built.folder, "parse", **paths)
    nodes = json.loads((tmp_path / "manifest.json").read_text())["nodes"].values()
    keys = {node["name"]: node.get("primary_key") for node in nodes if node["resource_type"] == "model"}
    assert {name for name, key in keys.items() if not key} == set()
    assert sorted(keys["stg_lake__orders"]) == ["customer", "order_id"]
    assert keys["dim_orders_history"] == ["_version_id"]


def test_init_dbt_needs_the_columns(tmp_path: Path) -> None:
    config = tmp_path / "lake.json"
    config.write_text(json.dumps(lake_settings(tmp_path)))

    found = CliRunner().invoke(cli, ["init-dbt", "--config", str(config), "--project", str(tmp_path / "p"), "orders"])

    assert found.exit_code == 2
    assert "load or apply first" in found.output
