"""Configuration files: found, read, filled in from the environment, and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ddb_lake.config.lake import LakeSettings
from ddb_lake.core.operations.config_document import DEFAULT_FILES
from ddb_lake.errors import ConfigError

_ENV = re.compile(
    r"""\{\{\s*env(?:\.(?P<dotted>\w+)|\(\s*['"](?P<called>\w+)['"]\s*(?:,\s*['"](?P<default>[^'"]*)['"]\s*)?\))\s*\}\}"""
)


def find_file(start: Path) -> Path:
    """The project's own configuration file. Raises ConfigError naming where it was looked for."""
    named = os.environ.get("DDB_LAKE_CONFIG")
    candidates = [Path(named)] if named else [start / name for name in DEFAULT_FILES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(str(c) for c in candidates)
    raise ConfigError(
        f"no configuration found (looked for {looked}); write one with `ddb-lake init` or give --config FILE"
    )


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> LakeSettings:
    """Read, fill in and check a configuration file. Raises ConfigError with each fault and where it stands."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a mapping with `type` and `attributes`")
    attributes = document.get("attributes", document) if "type" in document else document
    return parse_settings(fill_in(attributes, os.environ if environment is None else environment, str(path)), str(path))


def parse_settings(attributes: Any, where: str) -> LakeSettings:
    """Check the attributes of a lake. Raises ConfigError with each fault and where it stands."""
    try:
        return LakeSettings.model_validate(attributes)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'lake'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{where}: {faults}") from error


def fill_in(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """Replace `{{ env.NAME }}` and `{{ env('NAME', 'default') }}` in every string, as Dagster does."""
    if isinstance(value, str):
        return _render(value, environment, where) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: fill_in(member, environment, where) for key, member in value.items()}
    if isinstance(value, Sequence):
        return [fill_in(member, environment, where) for member in value]
    return value


def _render(text: str, environment: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match["dotted"] or match["called"]
        found = environment.get(name, match["default"])
        if found is None:
            raise ConfigError(f"{where}: the environment variable {name} is not set")
        return found

    filled = _ENV.sub(value, text)
    if "{{" in filled and not _ENV.search(text):
        raise ConfigError(f"{where}: only {{{{ env.NAME }}}} is understood in {text!r}")
    return filled
