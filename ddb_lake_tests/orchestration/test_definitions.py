"""This deployment's definitions, and a summary of all of them. `UPDATE_SNAPSHOTS=1 pytest …` rewrites it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ddb_lake.definitions import defs as load_defs
from ddb_lake.orchestration.component import DynamoDBLakeComponent
from ddb_lake.orchestration.demo import home

SNAPSHOT = Path(__file__).with_name("definitions.json")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def defs() -> Iterator[dg.Definitions]:
    """This deployment's definitions, with names of buckets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDB_LAKE_EXPORT_BUCKET", "our-exports")
        patch.setenv("DDB_LAKE_LANDING_BUCKET", "our-landing")
        patch.delenv("DDB_LAKE_RUN_AUTOMATICALLY", raising=False)
        yield load_defs()


def describe(defs: dg.Definitions) -> dict[str, Any]:
    """The definitions as users of the UI know them."""
    graph = defs.resolve_asset_graph()
    return {
        "assets": {
            key.to_user_string(): {
                "deps": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
                "group": graph.get(key).group_name,
                "kinds": sorted(graph.get(key).kinds),
                "materializable": graph.get(key).is_materializable,
                "partitions": str(graph.get(key).partitions_def) if graph.get(key).partitions_def else None,
                "tags": {name: value for name, value in graph.get(key).tags.items() if "kind" not in name},
                "metadata": sorted(name for name in graph.get(key).metadata if not name.startswith("dagster/code")),
            }
            for key in sorted(graph.get_all_asset_keys())
        },
        "checks": {
            str(key.to_user_string()): {"blocking": graph.get_check_spec(key).blocking}
            for key in sorted(graph.asset_check_keys)
        },
        "jobs": sorted(job.name for job in defs.jobs or ()),
        "schedules": {s.name: s.cron_schedule for s in defs.schedules or () if isinstance(s, dg.ScheduleDefinition)},
        "sensors": {s.name: s.default_status.name for s in defs.sensors or ()},
    }


def test_definitions_are_those_of_the_snapshot(defs: dg.Definitions) -> None:
    found = describe(defs)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n")

    assert found == json.loads(SNAPSHOT.read_text())


def test_definitions_are_loadable(defs: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(defs)


def test_deployment_is_the_demos_lake() -> None:
    shipped = resources.files("ddb_lake.orchestration").joinpath("demo/lake.yaml").read_text()

    assert yaml.safe_load((ROOT / "ddb_lake/defs/lake/defs.yaml").read_text()) == yaml.safe_load(shipped)


def test_demo_has_its_definitions_where_the_deployment_is_another(
    defs: dg.Definitions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(home, "_DEPLOYED", tmp_path / "none.yaml")

    made = home.demo_definitions()

    def keys(found: dg.Definitions) -> set[dg.AssetKey]:
        """But for the overview's, which has the name of the component's folder."""
        return {key for key in found.resolve_asset_graph().get_all_asset_keys() if key.path[0] != "lake"}

    assert keys(made) == keys(defs)


def statuses(defs: dg.Definitions) -> dict[str, bool]:
    """Whether Dagster starts each sensor and schedule by itself."""
    sensors = {s.name: s.default_status == dg.DefaultSensorStatus.RUNNING for s in defs.sensors or ()}
    schedules = {s.name: s.default_status == dg.DefaultScheduleStatus.RUNNING for s in defs.schedules or ()}  # type: ignore[union-attr]
    return sensors | schedules


def test_nothing_runs_until_it_is_started(defs: dg.Definitions) -> None:
    found = statuses(defs)
    assert len(found) >= 4 and not any(found.values())


ALL = {"lake_arrivals", "lake_following", "lake_export_orders", "lake_checks", "lake_sources", "lake_compaction"}


@pytest.mark.parametrize(
    ("setting", "running"),
    [
        (True, ALL),
        ("true", ALL),
        (["sensor", "compaction"], {"lake_arrivals", "lake_compaction"}),
        ("{{ env('NOT_SET', 'false') }}", set()),
    ],
)
def test_lake_says_what_dagster_starts_by_itself(setting: object, running: set[str]) -> None:
    table = {
        "name": "orders",
        "key": ["id"],
        "export": {"bucket": "b-b", "schedule": "0 3 * * 0"},
        "changes": {"uri": "s3://c-c/"},
    }
    attributes = {"warehouse": "w", "key_prefix": "lake", "run_automatically": setting, "tables": [table]}
    component = DynamoDBLakeComponent.resolve_from_dict(attributes)
    assert {name for name, runs in statuses(dg.build_defs_for_component(component)).items() if runs} == running


def test_checkout_without_names_of_buckets_shows_the_lake_without_aws(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("DDB_LAKE_EXPORT_BUCKET", "DDB_LAKE_LANDING_BUCKET"):
        monkeypatch.delenv(name, raising=False)

    found = load_defs()

    assert "DDB_LAKE_EXPORT_BUCKET, DDB_LAKE_LANDING_BUCKET: not set" in caplog.text
    graph = found.resolve_asset_graph()
    shown = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert {"dynamodb/orders", "export/orders", "snapshot/orders", "changes/orders", "current/orders"} < shown
    parents = graph.get(dg.AssetKey(["current", "orders"])).parent_keys
    assert {key.to_user_string() for key in parents} == {"snapshot/orders", "changes/orders"}
    assert not any(statuses(found).values())
    assert "lake_export_orders" not in statuses(found)


@pytest.mark.parametrize("stage", ["export", "snapshot", "changes"])
def test_run_of_an_asset_without_its_bucket_names_the_variables(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.delenv("DDB_LAKE_EXPORT_BUCKET", raising=False)
    monkeypatch.setenv("DDB_LAKE_LANDING_BUCKET", "our-landing")
    key = dg.AssetKey([stage, "orders"])

    with pytest.raises(dg.Failure) as raised:
        load_defs().resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[key], partition_key="2025-02-03" if stage == "changes" else None
        )

    assert str(raised.value.description).startswith(
        f"{stage}/orders needs DDB_LAKE_EXPORT_BUCKET, which is not set; name your own buckets in these variables"
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("--assets current/orders", 0, "Materialized value current orders"),
        ("--assets changes/orders", 1, "no '--partition' option was provided"),
        ("--assets changes/orders --partition 2025-02-03", 1, "DDB_LAKE_EXPORT_BUCKET and DDB_LAKE_LANDING_BUCKET"),
        (
            "--assets changes/orders --partition-range 2025-02-01...2025-02-28",
            1,
            "DDB_LAKE_EXPORT_BUCKET and DDB_LAKE_LANDING_BUCKET",
        ),
    ],
)
def test_launch_in_a_checkout_without_buckets(tmp_path: Path, arguments: str, status: int, message: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGSTER", "DDB_LAKE"))}
    variables = {**kept, "DAGSTER_DISABLE_TELEMETRY": "yes", "DDB_LAKE_WAREHOUSE": str(tmp_path / "lake")}

    done = subprocess.run(
        [Path(sys.executable).parent / "dg", "launch", *arguments.split()],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, message in done.stderr) == (status, True), done.stderr[-3000:]


@pytest.mark.parametrize("path", ["ddb_lake/defs/lake/defs.yaml", "ddb_lake/orchestration/demo/lake.yaml"])
def test_configuration_in_the_repository_names_no_bucket(path: str) -> None:
    table = yaml.safe_load((ROOT / path).read_text())["attributes"]["tables"][0]
    places = [table["export"]["bucket"], table["changes"]["uri"], table["changes"]["errors_uri"]]
    assert all("{{ env." in text for text in places)


def test_importing_the_package_does_not_import_dagster() -> None:
    code = "import sys, ddb_lake, ddb_lake.config; sys.exit('dagster' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shipped_settings_are_ones_that_dagster_takes(tmp_path: Path) -> None:
    text = resources.files("ddb_lake.orchestration").joinpath("dagster.yaml").read_bytes()
    (tmp_path / "dagster.yaml").write_bytes(text)

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_retries_enabled and not instance.telemetry_enabled
        assert instance.global_op_concurrency_default_limit == 1
        assert instance.get_sensor_settings()["use_threads"] is True
        assert instance.python_log_level == "INFO"


@pytest.mark.parametrize("name", ["definitions.py", "defs/__init__.py"])
def test_deployment_has_a_docstring(name: str) -> None:
    assert (ROOT / "ddb_lake" / name).read_text().startswith('"""')


def test_what_is_materialized_by_hand_runs_in_one_process(defs: dg.Definitions) -> None:
    assert defs.resolve_implicit_global_asset_job_def().executor_def is dg.in_process_executor
