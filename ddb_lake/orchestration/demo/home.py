"""Where a demo lives: a folder with its lake, its DAGSTER_HOME and its configuration, and the environment for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from importlib import resources
from pathlib import Path

import dagster as dg
import yaml

from ddb_lake.aws.session import session
from ddb_lake.config import LakeSettings, PartitionsSettings, load_settings
from ddb_lake.errors import UsageError
from ddb_lake.orchestration.component import DynamoDBLakeComponent
from ddb_lake.orchestration.failures import failures
from ddb_lake.orchestration.specs import LakeAsset, base_spec, python_name
from ddb_lake.pipeline.plan.stages import stages_of

EXPORT_BUCKET = "ddb-lake-demo-exports"
LANDING_BUCKET = "ddb-lake-demo-landing"
TABLE = "orders"

_MARK = ".ddb-lake-demo"
_FOREIGN = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_CA_BUNDLE")
"""Environment variables that would make clients use another endpoint than the emulator."""


@dataclass(frozen=True, slots=True)
class DemoHome:
    """The folder of a demo."""

    folder: Path

    @property
    def lake(self) -> Path:
        """The warehouse."""
        return self.folder / "lake"

    @property
    def dagster(self) -> Path:
        """The DAGSTER_HOME."""
        return self.folder / "dagster"

    @property
    def config(self) -> Path:
        """The lake's configuration, for the command line."""
        return self.folder / "ddb_lake.yaml"

    @property
    def is_made(self) -> bool:
        """Whether a demo made the folder."""
        return (self.folder / _MARK).exists()

    @property
    def first_day(self) -> date:
        """The day (UTC) of the demo's first change, with which the partitions begin; the default of the setting for an older demo."""
        mark = self.folder / _MARK
        written = mark.read_text(encoding="utf-8").strip() if self.is_made else ""
        return date.fromisoformat(written) if written else PartitionsSettings().start

    def clear(self, first_day: date) -> None:
        """Remove the folders of an earlier demo, and write the settings of a new one.

        Args:
            first_day: the day (UTC) of the first change.

        Raises:
            UsageError: the folders or the configuration are not a demo's.
        """
        ours = [self.lake, self.dagster]
        if any(path.exists() for path in [*ours, self.config]) and not self.is_made:
            raise UsageError(
                f"{self.folder} has a lake, a dagster folder or a ddb_lake.yaml that no demo made",
                hint="choose another folder",
            )
        for path in ours:
            shutil.rmtree(path, ignore_errors=True)
        self.dagster.mkdir(parents=True)
        (self.folder / _MARK).write_text(f"{first_day}\n", encoding="utf-8")
        self.write_settings()

    def write_settings(self) -> None:
        """Write dagster.yaml and the configuration."""
        self.dagster.mkdir(parents=True, exist_ok=True)
        (self.dagster / "dagster.yaml").write_bytes(_shipped("dagster.yaml"))
        text = _shipped("demo/lake.yaml").decode()
        for template, name in _TEMPLATES.items():
            text = text.replace(template, self.variables()[name])
        self.config.write_text(text, encoding="utf-8")

    def write_definitions(self) -> Path:
        """Write a file with the demo's definitions, for a Dagster outside of this project; its path."""
        path = self.folder / "definitions.py"
        path.write_text(f"from {__name__} import demo_definitions\n\ndefs = demo_definitions()\n", encoding="utf-8")
        return path

    def settings(self) -> LakeSettings:
        """The lake's settings."""
        return load_settings(self.config)

    def variables(self) -> dict[str, str]:
        """The variables that the demo's configuration names."""
        return {
            "DDB_LAKE_WAREHOUSE": str(self.lake.resolve()),
            "DDB_LAKE_EXPORT_BUCKET": EXPORT_BUCKET,
            "DDB_LAKE_LANDING_BUCKET": LANDING_BUCKET,
            "DDB_LAKE_RUN_AUTOMATICALLY": "true",
            "DDB_LAKE_FIRST_DAY": f"{self.first_day}",
        }

    def environment(self) -> dict[str, str]:
        """What points Dagster and this deployment's definitions at the folder."""
        return {
            "DAGSTER_HOME": str(self.dagster.resolve()),
            **self.variables(),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "NO_PROXY": "127.0.0.1,localhost",
        }


_PACKAGE = Path(__file__).parents[2]
_DEPLOYED = _PACKAGE / "defs" / "lake" / "defs.yaml"
_TEMPLATES = {
    "{{ env('DDB_LAKE_WAREHOUSE', '.demo/lake') }}": "DDB_LAKE_WAREHOUSE",
    "{{ env.DDB_LAKE_EXPORT_BUCKET }}": "DDB_LAKE_EXPORT_BUCKET",
    "{{ env.DDB_LAKE_LANDING_BUCKET }}": "DDB_LAKE_LANDING_BUCKET",
    "{{ env('DDB_LAKE_RUN_AUTOMATICALLY', 'false') }}": "DDB_LAKE_RUN_AUTOMATICALLY",
    "{{ env('DDB_LAKE_FIRST_DAY', '2025-01-01') }}": "DDB_LAKE_FIRST_DAY",
}
"""The templates of the demo's configuration, with the variable that each takes."""

_WITHOUT_DEFAULT = ("DDB_LAKE_EXPORT_BUCKET", "DDB_LAKE_LANDING_BUCKET")

SET_VARIABLES = (
    "name your own buckets in these variables; or run `make dev`, which serves the demo with an emulator of AWS"
)
"""The next step if variables without a default are not set."""


def _shipped(name: str) -> bytes:
    return resources.files("ddb_lake.orchestration").joinpath(name).read_bytes()


@contextmanager
def surroundings(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables, and none that lead to the real AWS, for the length of a block."""
    before = dict(os.environ)
    for name in _FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(variables)
    session.cache_clear()  # sessions keep the credentials they were made with
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        session.cache_clear()


def demo_definitions() -> dg.Definitions:
    """The definitions of the demo's lake: this deployment's own, or the same made here where it is another's."""
    lake = yaml.safe_load(_shipped("demo/lake.yaml"))
    if _is_deployed(lake):
        return deployed_definitions(_PACKAGE)
    return dg.build_defs_for_component(DynamoDBLakeComponent.resolve_from_dict(lake["attributes"]))


def deployed_definitions(package: Path) -> dg.Definitions:
    """The definitions of the components below `defs` in a package's folder. Runs use one process."""
    found = dg.load_from_defs_folder(path_within_project=package)
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))


def unset_variables() -> list[str]:
    """The variables without a default that this deployment's configuration needs and that are not set.

    Only the demo's configuration is looked at: another one is its owner's, and its own errors name what is missing.
    """
    if not _is_deployed(yaml.safe_load(_shipped("demo/lake.yaml"))):
        return []
    return [name for name in _WITHOUT_DEFAULT if not os.environ.get(name)]


def definitions_without_aws(missing: Sequence[str]) -> dg.Definitions:
    """The definitions of the demo's lake without the places in S3: what a fresh checkout shows. Nothing in it calls AWS.

    The assets that need a bucket are shown too, and a run of them fails with the names of the variables to set.

    Args:
        missing: the variables that are not set, from `unset_variables`.
    """
    attributes = yaml.safe_load(_shipped("demo/lake.yaml"))["attributes"]
    for table in attributes["tables"]:
        for section in ("export", "changes", "checks"):
            table.pop(section, None)
    component = _WithoutBuckets.resolve_from_dict(attributes)
    found = dg.build_defs_for_component(component)
    unavailable = [
        _unavailable_asset(LakeAsset(stage, table), missing)
        for table in _with_buckets().tables
        for stage in stages_of(table)
        if stage not in stages_of(component.settings.table(table.name))
    ]
    return dg.Definitions.merge(found, dg.Definitions(assets=unavailable, executor=dg.in_process_executor))


def _with_buckets() -> LakeSettings:
    """The settings of the demo's lake, with the names of the demo's buckets, which no code that has them sends to AWS."""
    lake = _shipped("demo/lake.yaml").decode()
    lake = lake.replace("{{ env.DDB_LAKE_EXPORT_BUCKET }}", EXPORT_BUCKET)
    lake = lake.replace("{{ env.DDB_LAKE_LANDING_BUCKET }}", LANDING_BUCKET)
    component: DynamoDBLakeComponent = DynamoDBLakeComponent.resolve_from_dict(yaml.safe_load(lake)["attributes"])
    return component.settings


class _WithoutBuckets(DynamoDBLakeComponent):
    """The demo's lake without its buckets. Its assets depend on each other as with them."""

    def get_asset_spec(self, asset: LakeAsset) -> dg.AssetSpec:
        """The spec of the asset with buckets. Nothing that it depends on can be materialized, so it follows nothing."""
        complete = _with_buckets()
        spec = base_spec(replace(asset, table=complete.table(asset.table.name)), complete)
        return spec.replace_attributes(automation_condition=None)


def _unavailable_asset(asset: LakeAsset, missing: Sequence[str]) -> dg.AssetsDefinition:
    """An asset that needs a bucket whose variable is not set."""

    @dg.multi_asset(
        name=f"{asset.stage}_{python_name(asset.table.name)}_without_buckets",
        specs=[base_spec(asset, _with_buckets())],
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def explain() -> None:
        with failures():
            raise UsageError(
                f"{asset.key.to_user_string()} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not set",
                hint=SET_VARIABLES,
            )

    return explain


def _is_deployed(lake: object) -> bool:
    """Whether the deployment beside this package is the demo's."""
    return _DEPLOYED.is_file() and yaml.safe_load(_DEPLOYED.read_text(encoding="utf-8")) == lake
