"""The package as others get it: built, installed from the wheel, and used in a Dagster project that is not ours.

The wheel goes into a virtual environment of its own. Its dependencies are not installed again: a path file lends those
of this environment, whose own (editable) ddb_lake does not come along, as path files are not followed further.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import pytest

from ddb_lake.engine.native.compiler import compiler
from ddb_lake_tests.support.readme_lake import DAGSTER_PROJECT, folder_with_landed_files

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

CHECKED_OUT = ("ddb_lake/defs/", "ddb_lake/docs/", "ddb_lake_tests/", "dbt_project/")
"""What belongs to this repository and not to the library."""

NEEDED = {
    str(path.relative_to(ROOT))
    for path in (ROOT / "ddb_lake").rglob("*")
    if path.is_file()
    and path.suffix not in (".py", ".pyc", ".md")
    and not str(path.relative_to(ROOT)).startswith(CHECKED_OUT)
}
"""Files beside the code that the library reads."""

SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)((a|b|rc)\d+)?")
"""A semantic version as Python spells it."""

RUN = """
import importlib.metadata, json, sys
scripts = {script.name: script for script in importlib.metadata.entry_points(group="console_scripts")}
for command in json.load(sys.stdin):
    sys.argv = command
    try:
        scripts[command[0]].load()()
    except SystemExit as ended:
        if ended.code:
            raise
"""
"""Runs commands of installed packages in one process: importing is most of their time."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has ddb_lake from its wheel."""

    folder: Path
    wheel: Path

    def run(self, folder: Path, *arguments: str, said: str = "") -> str:
        """What a program of the environment prints; it must succeed."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DAGSTER", "DDB_LAKE"))
        }
        kept |= {"PATH": f"{self.folder / 'bin'}{os.pathsep}{kept['PATH']}", "VIRTUAL_ENV": str(self.folder)}
        kept |= {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", "DAGSTER_DISABLE_TELEMETRY": "yes"}
        done = subprocess.run(
            [str(self.folder / "bin" / arguments[0]), *arguments[1:]],
            cwd=folder,
            env=kept,
            input=said,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}{done.stderr}"
        return done.stdout

    def commands(self, folder: Path, *commands: Sequence[str]) -> str:
        """What commands of installed packages print, run one after the other."""
        return self.run(folder, "python", "-W", "ignore", "-c", RUN, said=json.dumps(commands))


def uv(*arguments: object) -> None:
    """Run uv, as `make setup` has it."""
    program = shutil.which("uv") or str(ROOT / ".uv/bin/uv")
    subprocess.run([program, *map(str, arguments)], cwd=ROOT, check=True, capture_output=True, text=True)


KERNEL = "ddb_lake/engine/native/record_kernel.so"
WITHOUT_ISOLATION = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", *WITHOUT_ISOLATION, "--out-dir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    (wheel,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("foreign") / "env"
    uv("venv", "--quiet", "--python", shutil.which("python3", path=sysconfig.get_path("scripts")), folder)
    uv("pip", "install", "--quiet", "--no-deps", "--python", folder / "bin/python", wheel)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Environment(folder, wheel)


def test_wheel_has_what_the_library_reads_and_nothing_else_of_ours(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))

    assert NEEDED - names == set()
    assert [name for name in names if name.startswith(CHECKED_OUT)] == []
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"ddb_lake"}
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    said = HeaderParser().parsestr(metadata)
    assert said["License-Expression"] == "Apache-2.0"
    assert set(said.get_all("Provides-Extra", [])) == set(PYPROJECT["optional-dependencies"])
    assert SEMANTIC.fullmatch(said["Version"]) and said["Version"] == PYPROJECT["version"]


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_wheel_has_the_record_kernel_and_names_its_platform(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert KERNEL in archive.namelist()


@pytest.mark.parametrize("variables", [{"DDB_LAKE_NATIVE": "off"}, {"CC": "false"}])
def test_wheel_without_the_record_kernel_is_for_every_platform(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    uv("build", "--quiet", "--wheel", *WITHOUT_ISOLATION, "--out-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert KERNEL not in archive.namelist()


def test_sdist_has_the_tests_and_the_documentation(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    listed = subprocess.run(["tar", "tzf", sdist], check=True, capture_output=True, text=True).stdout
    names = {name.partition("/")[2] for name in listed.splitlines()}
    assert {"LICENSE", "README.md", "Makefile", "ddb_lake/docs/mkdocs.yml", "ddb_lake_tests/conftest.py"} <= names
    assert {".ci/build_kernel.py", "ddb_lake/engine/native/record_kernel.c"} <= names
    assert [name for name in names if "__pycache__" in name or name.startswith(".demo")] == []


def test_version_is_in_the_changelog() -> None:
    changelog = (ROOT / "ddb_lake/docs/changelog.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(PYPROJECT['version'])}\b", changelog, re.MULTILINE)


def test_library_works_in_a_foreign_project(environment: Environment, tmp_path: Path) -> None:
    place = folder_with_landed_files(tmp_path)
    for name, text in DAGSTER_PROJECT.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    scaffold = "dg scaffold defs ddb_lake.DynamoDBLakeComponent lake --table orders --key customer,order_id"
    config = "src/acme/defs/lake/defs.yaml"

    where = environment.run(place, "python", "-c", "import ddb_lake; print(ddb_lake.__file__)")
    version = environment.run(place, "ddb-lake", "--version")
    printed = environment.commands(
        place,
        [*scaffold.split(), "--changes-uri", "landing/orders"],
        ["dg", "check", "defs"],
        ["ddb-lake", "load", "orders", "exports/orders", "--config", config],
        ["ddb-lake", "sync", "--config", config],
        ["ddb-lake", "query", "SELECT count(*) AS living FROM orders", "--json", "--config", config],
        ["ddb-lake", "init-dbt", "--config", config],
    )

    assert Path(where.strip()).is_relative_to(environment.folder)
    assert PYPROJECT["version"] in version
    assert "All definitions loaded successfully" in printed
    assert '"living": 3' in printed or '"living":3' in printed
    assert (place / "dbt_project/models/staging").is_dir()
