"""Configuration files: find, read, insert environment variables, validate."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from ddb_lake.config.lake import LakeSettings
from ddb_lake.core.operations.config_document import candidate_files, component_files
from ddb_lake.errors import ConfigError

if TYPE_CHECKING:
    from ddb_lake.config.faults import Lines

_ENV = re.compile(
    r"""\{\{\s*env(?:\.(?P<dotted>\w+)|\(\s*['"](?P<called>\w+)['"]\s*(?:,\s*['"](?P<default>[^'"]*)['"]\s*)?\))\s*\}\}"""
)


def find_file(start: Path) -> Path:
    """The configuration file of a project.

    Args:
        start: the folder in which the default files are looked for, if DDB_LAKE_CONFIG is not set.

    Raises:
        ConfigError: there is none; the message lists the candidates, and names the lakes of a Dagster project.
    """
    candidates = candidate_files(start)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    listed = ", ".join(map(str, candidates))
    components = [str(path.relative_to(start)) for path in component_files(start)]
    raise ConfigError(
        f"no configuration found (looked for {listed})",
        hint=f"name it: --config {' or --config '.join(components)}"
        if components
        else "write one with `ddb-lake init`, or name it with --config FILE",
    )


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> LakeSettings:
    """Read a configuration file, and the inventory beside it if an entry of `tables` has `match`.

    Args:
        path: a Dagster component's YAML, or a file of its attributes alone.
        environment: the variables for `{{ env.NAME }}`; default: those of the process.

    Raises:
        ConfigError: the file cannot be read, or is invalid; the message has each fault with its path.
    """
    settings = load_entries(path, environment)
    if not settings.matching_tables:
        return settings
    from ddb_lake.config.inventory import with_inventory  # of use for `match` only

    return with_inventory(settings, path)


def load_entries(path: Path, environment: Mapping[str, str] | None = None) -> LakeSettings:
    """Read a configuration file with its entries as they are written, also those with `match`. As `load_settings`."""
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{error.strerror}", uri=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8 text", uri=str(path)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}", uri=str(path)) from error
    if not isinstance(document, dict):
        raise ConfigError("expected a mapping with `type` and `attributes`", uri=str(path))
    nested = "type" in document and "attributes" in document
    attributes = document["attributes"] if nested else document
    try:
        filled = fill_in(attributes, os.environ if environment is None else environment, str(path))
    except RecursionError as error:
        raise ConfigError("an alias of YAML contains itself", uri=str(path)) from error
    return parse_entries(filled, str(path), lambda: _lines(text, ("attributes",) if nested else ()))


def _lines(text: str, below: tuple[str, ...]) -> Lines:
    from ddb_lake.config.faults import Lines

    return Lines.of(text, below)


def parse_settings(attributes: Any, where: str) -> LakeSettings:
    """Validate the attributes of a lake. Raises ConfigError with each fault and its path, and for entries with `match`."""
    settings = parse_entries(attributes, where)
    if settings.matching_tables:
        raise ConfigError(
            f"{where}: `match` needs a configuration file, beside which `ddb-lake discover` writes the list of the tables",
            hint="write the attributes to a file, or name the tables",
        )
    return settings


def parse_entries(attributes: Any, where: str, lines: Callable[[], Lines] | None = None) -> LakeSettings:
    """Validate the attributes of a lake, and leave entries with `match` as they are. Raises ConfigError with each fault, its path, and
    its line if `lines` are given."""
    try:
        return LakeSettings.model_validate(attributes)
    except ValidationError as error:
        from ddb_lake.config.faults import faults_text  # of use for a mistake only

        raise ConfigError(f"{where}: {faults_text(error, LakeSettings, 'lake', lines() if lines else None)}") from error


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
            raise ConfigError(
                f"{where}: the environment variable {name} is not set", hint="set it to a name of your own"
            )
        return found

    filled = _ENV.sub(value, text)
    if "{{" in filled and not _ENV.search(text):
        raise ConfigError(
            f"{where}: only {{{{ env.NAME }}}} and {{{{ env('NAME', 'default') }}}} are allowed in {text!r}"
        )
    return filled
