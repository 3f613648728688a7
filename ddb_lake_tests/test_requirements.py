"""The versions of dependencies: the ranges of `pyproject.toml`, and the two sets of `.ci` that `make ends` tests."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ddb_lake.errors import ConfigError
from ddb_lake.lake.pyiceberg_version import KNOWN_VERSIONS, check_version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = {found.name: found for found in map(Requirement, PROJECT["dependencies"])}
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}


def locked(name: str) -> dict[str, Version]:
    """The versions of a set of `.ci`, by package."""
    lines = (ROOT / ".ci" / f"{name}.txt").read_text(encoding="utf-8")
    return {found[1]: Version(found[2]) for found in re.finditer(r"^([\w.-]+)(?:\[[^\]]*\])?==([\w.]+)", lines, re.M)}


def lower_end(versions: SpecifierSet) -> str:
    (end,) = [one.version for one in versions if one.operator in (">=", "==")]
    return end


@pytest.mark.parametrize("required", [*REQUIRED.values(), *EXTRAS["sandbox"], *EXTRAS["launch"]], ids=str)
def test_oldest_set_has_the_lower_end_of_each_range(required: Requirement) -> None:
    oldest = locked("oldest")[required.name]
    assert oldest in SpecifierSet(f"=={lower_end(required.specifier)}.*"), "run `make ends-lock`"


@pytest.mark.parametrize("required", [*REQUIRED.values(), *EXTRAS["sandbox"]], ids=str)
def test_newest_set_is_in_each_range(required: Requirement) -> None:
    assert locked("newest")[required.name] in required.specifier


@pytest.mark.parametrize("name", ["dagster", "duckdb", "pyarrow"])
def test_newest_set_is_at_the_upper_end_of_a_bounded_range(name: str) -> None:
    (end,) = [Version(one.version) for one in REQUIRED[name].specifier if one.operator == "<"]
    newest = locked("newest")[name]
    following = (newest.major + 1, 0) if len(end.release) == 1 or end.minor == 0 else (newest.major, newest.minor + 1)
    assert end.release[: len(following)] in (following, following[:1])


def test_known_versions_of_pyiceberg_are_the_range_and_its_tested_ends() -> None:
    oldest, newest = KNOWN_VERSIONS
    assert REQUIRED["pyiceberg"].specifier == SpecifierSet(f">={oldest},<={newest}")
    assert [str(locked(name)["pyiceberg"]) for name in ("oldest", "newest")] == [oldest, newest]


@pytest.mark.parametrize("version", ["0.10.0", "0.11.0", "0.12.1", "1.0.0"])
def test_other_version_of_pyiceberg_is_refused_with_the_command(version: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_version(version)
    assert version in str(refused.value) and all(known in str(refused.value) for known in KNOWN_VERSIONS)
    assert refused.value.hint is not None and refused.value.hint.startswith("pip install 'pyiceberg[")


def test_command_stops_before_it_imports_what_another_pyiceberg_may_lack(tmp_path: Path) -> None:
    program = "import sys, pyiceberg; pyiceberg.__version__ = '0.13.0'; from ddb_lake.cli import main; sys.exit(main())"
    (tmp_path / "ddb_lake.yaml").write_text("warehouse: lake\ntables: [{name: orders, key: [id]}]\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, "status"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "pyiceberg 0.13.0" in done.stderr and f"=={KNOWN_VERSIONS[-1]}" in done.stderr


def test_what_has_an_extra_is_no_dependency_of_all() -> None:
    """dagster-aws and the extension wheels would keep Dagster and DuckDB at their own versions."""
    kept_out = {one.name for name in ("s3", "launch") for one in EXTRAS[name]} - {"duckdb"}
    assert kept_out & REQUIRED.keys() == set()
