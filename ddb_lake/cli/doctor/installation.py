"""Examinations of the installation: Python, packages, DuckDB's extension for S3, the clock, the work folder."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ddb_lake.cli.doctor.finding import Finding, fail, ok, warn
from ddb_lake.cli.doctor.subject import LakeSubject
from ddb_lake.cli.output.quantities import size_text

PACKAGES = ("duckdb", "pyiceberg", "pyarrow", "boto3", "dagster")
LITTLE_SPACE_BYTES = 2 << 30
_OLDEST_CLOCK_S = 1_735_689_600  # 2025-01-01: an earlier time means that the clock was never set


def examine_python() -> Iterator[Finding]:
    """The version of Python is supported."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 15):
        yield ok(version)
    else:
        yield fail(version, "install ddb-lake with Python 3.11 to 3.14")


def examine_packages() -> Iterator[Finding]:
    """Each main dependency is installed, in a version of the range that ddb-lake requires."""
    required = _required_versions()
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield fail("not installed", "install ddb-lake again, with its dependencies", check=package)
            continue
        versions = required.get(package, SpecifierSet())
        if versions.contains(version, prereleases=True):
            yield ok(version, check=package)
        else:
            yield warn(f"{version}; {versions} is supported", f"install '{package}{versions}'", check=package)


def examine_s3_extension(_: LakeSubject) -> Iterator[Finding]:
    """DuckDB's extension for S3 loads."""
    import duckdb

    from ddb_lake.engine.session import S3_EXTENSION, load_extension

    with duckdb.connect() as con:
        load_extension(con, S3_EXTENSION)
    yield ok(f"{S3_EXTENSION} for DuckDB {duckdb.__version__}")


def examine_record_kernel() -> Iterator[Finding]:
    """Whether the record kernel reads change objects. Without it the lake is the same."""
    from ddb_lake.engine.native.library import VERSION, load

    kernel = load()
    yield ok(f"version {VERSION} is used" if kernel.library is not None else f"not used: {kernel.reason}")


def examine_clock() -> Iterator[Finding]:
    """The clock of this machine was set."""
    if time.time() < _OLDEST_CLOCK_S:
        yield fail("it is before 2025", "set the clock: AWS rejects requests whose time is 5 minutes off")


def examine_work_folder() -> Iterator[Finding]:
    """The folder of temporary files has room."""
    yield free_space(Path(tempfile.gettempdir()), "set TMPDIR to a folder with more room")


def free_space(folder: Path, next_step: str) -> Finding:
    """The free space of a folder; a warning with `next_step` below 2 GiB."""
    free = shutil.disk_usage(folder).free
    found = f"{folder}: {size_text(free)} free"
    return warn(found, next_step) if free < LITTLE_SPACE_BYTES else ok(found)


def _required_versions() -> dict[str, SpecifierSet]:
    """The versions that ddb-lake requires without extras, by package."""
    try:
        lines = importlib.metadata.requires("ddb-lake") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {found.name: found.specifier for found in map(Requirement, lines) if found.marker is None}
