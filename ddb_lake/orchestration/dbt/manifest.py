"""The manifest of a dbt project, which dbt creates from its files; created again when they have changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from ddb_lake.config import DbtSettings
from ddb_lake.errors import ConfigError

_SUFFIXES = (".sql", ".yml", ".yaml", ".md", ".csv")
_NOT_SOURCES = {"target", "logs", "dbt_packages", ".venv", ".git"}
_LAST_WORDS = 2000


def project_folder(settings: DbtSettings) -> Path:
    """The project's folder. Raises ConfigError if it has no dbt_project.yml."""
    folder = Path(settings.project).expanduser().resolve()
    if not (folder / "dbt_project.yml").is_file():
        raise ConfigError(
            f"dbt.project: {folder} has no dbt_project.yml", hint="`ddb-lake init-dbt --project` begins one there"
        )
    return folder


def profiles_folder(settings: DbtSettings) -> Path:
    """The folder of profiles.yml."""
    return Path(settings.profiles).expanduser().resolve() if settings.profiles else project_folder(settings)


def executable() -> str:
    """The dbt of this environment, be it activated or not."""
    ours = shutil.which("dbt", path=sysconfig.get_path("scripts"))
    return ours or "dbt"


def flags(settings: DbtSettings) -> list[str]:
    """What every call of dbt is given."""
    target = ["--target", settings.target] if settings.target else []
    return [*target, *(["--vars", json.dumps(settings.vars)] if settings.vars else [])]


def fresh_manifest(settings: DbtSettings) -> Path:
    """The project's manifest, in its `target` folder, parsed now if it is older than a file of the project.

    Raises ConfigError with dbt's last words if it cannot be parsed.
    """
    folder = project_folder(settings)
    manifest = folder / "target" / "manifest.json"
    flagged = folder / "target" / "ddb_lake_flags.json"  # the same files parse differently for another target
    wanted = json.dumps(flags(settings))
    newest = max((path.stat().st_mtime for path in _sources(folder)), default=0.0)
    if manifest.is_file() and manifest.stat().st_mtime > newest and flagged.is_file() and flagged.read_text() == wanted:
        return manifest
    manifest.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=manifest.parent) as work:
        _parse(folder, settings, Path(work))
        (Path(work) / "manifest.json").replace(manifest)  # whole at once: others may be reading it
    flagged.write_text(wanted, encoding="utf-8")
    return manifest


def _parse(folder: Path, settings: DbtSettings, target: Path) -> None:
    specified = any((folder / name).is_file() for name in ("packages.yml", "dependencies.yml"))
    if specified and not (folder / "dbt_packages").is_dir():
        _dbt("install the packages of", ["deps"], folder, settings, target)
    _dbt("parse", ["parse", *flags(settings)], folder, settings, target)


def _dbt(step: str, arguments: list[str], folder: Path, settings: DbtSettings, target: Path) -> None:
    command = [executable(), "--no-use-colors", *arguments, "--project-dir", str(folder)]
    command += ["--profiles-dir", str(profiles_folder(settings))]
    paths = {"DBT_TARGET_PATH": str(target), "DBT_LOG_PATH": str(target)}
    quiet = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **quiet, **paths}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ConfigError(
            f"dbt.project: dbt cannot {step} {folder}: {(done.stdout + done.stderr)[-_LAST_WORDS:].strip()}"
        )


def _sources(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _NOT_SOURCES]
        yield from (Path(place) / name for name in files if name.endswith(_SUFFIXES))
