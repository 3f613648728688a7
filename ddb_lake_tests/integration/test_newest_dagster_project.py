"""ddb-lake is installed into the newest project that `create-dagster` makes.

It resolves against the index, so it fails when a new release there no longer fits.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = "ddb-lake"
ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
QUIET = {"UV_PYTHON_DOWNLOADS": "never", "DAGSTER_DISABLE_TELEMETRY": "yes"}


def run(*arguments: object, folder: Path, **environment: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=folder,
        env={**os.environ, **QUIET, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
    return done.stdout


def uv(*arguments: object, folder: Path) -> str:
    """What uv prints, as `make setup` has it."""
    return run(shutil.which("uv") or ROOT / ".uv/bin/uv", *arguments, folder=folder)


def resolved(folder: Path, *lines: str) -> dict[str, str]:
    """The versions that the index has for requirements, by package."""
    asked = folder / "asked.in"
    asked.write_text("\n".join(lines) + "\n", encoding="utf-8")
    printed = uv(
        "pip", "compile", "--quiet", "--python-version", PYTHON, "--no-header", "--no-annotate", asked, folder=folder
    )
    return dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([\w.]+)", printed, re.MULTILINE))


def made_project(folder: Path, version: str) -> Path:
    """A project that `create-dagster` of that version makes, with the environment that made it beside it."""
    environment = folder / f"env-{version}"
    uv("venv", "--quiet", "--python", sys.executable, environment, folder=folder)
    uv("pip", "install", "--quiet", "--python", environment, f"create-dagster=={version}", folder=folder)
    project = folder / f"acme-{version}" / "acme"
    project.parent.mkdir()
    run(environment / "bin/create-dagster", "project", "acme", "--no-uv-sync", folder=project.parent, HOME=str(folder))
    return project


def required(project: Path) -> list[str]:
    """The dependencies of a project."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[str] = document["project"]["dependencies"]
    assert any(line.startswith("dagster") for line in found), found
    return found


def test_newest_dagster_is_in_the_range(tmp_path: Path) -> None:
    """What `create-dagster` pins: it writes the version of its own release into the project."""
    newest = resolved(tmp_path, "create-dagster")["create-dagster"]
    found = resolved(tmp_path, f"dagster=={newest}", f"{PACKAGE}[sandbox,aurora] @ {ROOT.as_uri()}")
    assert found["dagster"] == newest


@pytest.mark.exhaustive
def test_newest_project_resolves_with_the_package(tmp_path: Path) -> None:
    newest = resolved(tmp_path, "create-dagster")["create-dagster"]
    project = made_project(tmp_path, newest)
    found = resolved(tmp_path, *required(project), f"{PACKAGE} @ {ROOT.as_uri()}")
    assert found["dagster"] == newest


@pytest.mark.exhaustive
def test_definitions_of_a_lake_are_checked_in_the_newest_project(tmp_path: Path) -> None:
    """`dg` can be older on the index than `create-dagster`, whose project then cannot be installed at all: take that of `dg`."""
    project = made_project(tmp_path, resolved(tmp_path, "dagster-dg-cli")["dagster-dg-cli"])
    environment = tmp_path / "used"
    uv("venv", "--quiet", "--python", sys.executable, environment, folder=tmp_path)
    uv(
        *(
            "pip",
            "install",
            "--quiet",
            "--python",
            environment,
            "--editable",
            project,
            "--group",
            f"{project}/pyproject.toml:dev",
        ),
        f"{PACKAGE} @ {ROOT.as_uri()}",
        folder=tmp_path,
    )
    bin_folder = environment / "bin"
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    scaffold = (
        "scaffold defs ddb_lake.DynamoDBLakeComponent lake --table orders --key customer --changes-uri landing/orders"
    )
    for arguments in (scaffold.split(), ["check", "yaml"], ["check", "defs"]):
        printed = run(
            bin_folder / "dg", *arguments, folder=project, PATH=path, VIRTUAL_ENV=str(environment), HOME=str(tmp_path)
        )
    assert "All definitions loaded successfully" in printed
    listed = run(
        bin_folder / "dg",
        "list",
        "defs",
        "--json",
        folder=project,
        PATH=path,
        VIRTUAL_ENV=str(environment),
        HOME=str(tmp_path),
    )
    assert "current/orders" in listed
