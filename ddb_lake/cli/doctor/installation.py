"""Examinations of the installation: Python, packages, DuckDB's extensions, the clock, the work folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ddb_lake.cli.doctor.finding import Finding, fail, ok, warn
from ddb_lake.cli.output.quantities import size_text

EXTENSIONS = ("httpfs", "avro", "iceberg")
PACKAGES = ("duckdb", "pyiceberg", "pyarrow", "boto3", "dagster")
LITTLE_SPACE_BYTES = 2 << 30
_OLDEST_CLOCK_S = 1_735_689_600  # 2025-01-01: an earlier time means that the clock was never set
_PIN = re.compile(r"^([A-Za-z0-9_.\-]+)(?:\[[^\]]*\])?==([0-9][^;,\s]*)")


def examine_python() -> Iterator[Finding]:
    """The version of Python is supported."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 15):
        yield ok(version)
    else:
        yield fail(version, "install ddb-lake with Python 3.11 to 3.14")


def examine_packages() -> Iterator[Finding]:
    """Each main dependency is installed, in the pinned version where there is one."""
    pins = _pinned_versions()
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield fail("not installed", "install ddb-lake again, with its dependencies", check=package)
            continue
        pinned = pins.get(package, version)
        if version == pinned:
            yield ok(version, check=package)
        else:
            yield warn(f"{version}; {pinned} was tested", f"install {package}=={pinned}", check=package)


def examine_extensions() -> Iterator[Finding]:
    """DuckDB's extensions load from their wheels, without the network."""
    import duckdb

    from ddb_lake.engine.session import load_extension

    missing = [name for name in EXTENSIONS if importlib.util.find_spec(f"duckdb_extension_{name}") is None]
    faults = [f"{name} is not installed" for name in missing]
    with duckdb.connect() as con:
        for name in EXTENSIONS:
            if name in missing:
                continue
            try:
                load_extension(con, name)
            except duckdb.Error:
                faults.append(f"{name} is not made for DuckDB {duckdb.__version__}")
    if faults:
        wheels = " ".join(f"duckdb-extension-{name}=={duckdb.__version__}" for name in EXTENSIONS)
        yield warn("; ".join(faults), f"install {wheels}; without httpfs, S3 is out of reach")
    else:
        yield ok(", ".join(EXTENSIONS))


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


def _pinned_versions() -> dict[str, str]:
    """The exact versions that ddb-lake requires, by package."""
    try:
        requirements = importlib.metadata.requires("ddb-lake") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    matches = (_PIN.match(line.replace(" ", "")) for line in requirements)
    return {match[1]: match[2] for match in matches if match}
