"""Any lake in Dagster's UI: definitions made from its configuration file, and a DAGSTER_HOME beside it."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import dagster as dg
import yaml

from ddb_lake.errors import ConfigError
from ddb_lake.orchestration.component import DynamoDBLakeComponent

HOME = ".dagster"


def configured_definitions(file: str | Path) -> dg.Definitions:
    """The definitions of the lake that a configuration file describes. Raises ConfigError, and what Dagster raises."""
    document = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected a mapping with `type` and `attributes`")
    attributes = document.get("attributes", document)
    component = DynamoDBLakeComponent.resolve_from_dict(attributes)
    return dg.build_defs_for_component(component.with_inventory(Path(file)))


def dagster_home(folder: Path) -> Path:
    """The DAGSTER_HOME to use: the one of the environment, else `.dagster` in `folder`, made with our settings."""
    named = os.environ.get("DAGSTER_HOME")
    if named:
        return Path(named)
    home = (folder / HOME).resolve()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_bytes(resources.files("ddb_lake.orchestration").joinpath("dagster.yaml").read_bytes())
    return home


def write_code(home: Path, file: Path) -> Path:
    """A Python file in `home` that Dagster can load, with the definitions of the lake of `file`; its path."""
    place = home / "ddb_lake_definitions.py"
    place.write_text(
        f"from {__name__} import configured_definitions\n\ndefs = configured_definitions({str(file.resolve())!r})\n",
        encoding="utf-8",
    )
    return place
