"""What the doctor can see without AWS: the installation, the configuration, a local warehouse, its catalog."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import Finding, Report, failing
from ddb_lake.cli.failures import explain
from ddb_lake.cli.invocation import Invocation
from ddb_lake.cli.output.quantities import counted, size_text
from ddb_lake.errors import RECOVER, ConfigError, DamagedError

if TYPE_CHECKING:
    from ddb_lake.config import LakeSettings, TableSettings

EXTENSIONS = ("httpfs", "avro", "iceberg")
PACKAGES = ("duckdb", "pyiceberg", "pyarrow", "boto3", "dagster")
LITTLE_SPACE_BYTES = 2 << 30
_OLDEST_CLOCK_S = 1_735_689_600  # 2025-01-01: a clock before it was never set
_PIN = re.compile(r"^([A-Za-z0-9_.\-]+)(?:\[[^\]]*\])?==([0-9][^;,\s]*)")


def examine_installation(report: Report) -> None:
    """Python, the packages, DuckDB's extensions, the clock, the work folder."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info < (3, 15):
        report(Finding("python", "ok", version))
    else:
        report(Finding("python", "fail", version, "install ddb-lake with Python 3.11 to 3.14"))
    pins = _pins()
    for package in PACKAGES:
        report(_package(package, pins.get(package)))
    report(_extensions())
    if time.time() < _OLDEST_CLOCK_S:
        report(
            Finding("clock", "fail", "it is before 2025", "set the clock: AWS refuses requests that are 5 minutes off")
        )
    _examine_space(report, "work folder", Path(tempfile.gettempdir()), "set TMPDIR to a folder with more room")


def examine_configuration(report: Report, invocation: Invocation) -> LakeSettings | None:
    """The configuration file and its tables; None if it cannot be used."""
    try:
        file = invocation.file()
        settings = invocation.settings()
    except ConfigError as error:
        report(Finding("configuration", "fail", str(error), "mend the file, or write one with `ddb-lake init`"))
        return None
    report(Finding("configuration", "ok", f"{file}: {counted(len(settings.tables), 'table')}"))
    if not settings.tables:
        report(Finding("tables", "warn", "no table is configured", "add one below `tables:`"))
    return settings


def examine_lake(report: Report, settings: LakeSettings) -> None:
    """A local warehouse, the catalog, and local landing folders. Creates nothing."""
    from ddb_lake.aws.objects import local_path

    local = "://" not in settings.warehouse or settings.warehouse.startswith("file://")
    folder = local_path(settings.warehouse) if local else None
    if folder is not None:
        _examine_warehouse(report, folder)
    if folder is not None and settings.catalog.uri is None and not folder.exists():
        report(Finding("catalog", "ok", "made with the first table"))
    else:
        _examine_catalog(report, settings)
    for table in settings.tables:
        if not table.key:
            _examine_key(report, settings, table)
        _examine_landing(report, table)


def examine_files(report: Report, settings: LakeSettings) -> None:
    """Whether every file that the lake's tables name is there, with the size that was written."""
    from ddb_lake.core.layout.table_names import derived_names
    from ddb_lake.lake.inventory import take_inventory
    from ddb_lake.pipeline.open_lake import open_lake

    with open_lake(settings) as lake:
        if not lake.catalog.is_local and not _has_credentials():
            report(Finding("files", "skip", "S3 needs AWS credentials"))
            return
        for name in (derived for table in settings.tables for derived in derived_names(table.name, daily=False)):
            check = f"{name}: files"
            try:
                table = lake.catalog.table(name)
                if table is None:
                    continue
                listed = ((ref.uri, ref.size_bytes) for ref in lake.objects.list(f"{table.location()}/"))
                found = take_inventory(table, listed, lake.objects.exists)
            except DamagedError as error:
                report(Finding(check, "fail", f"{error.uri}: {error.what}", error.hint))
                continue
            except (
                Exception
            ) as error:  # each kind of catalog and store has its own errors; the other tables are still examined
                report(Finding(check, "fail", explain(error), "see the message; `--debug` with `status` shows where"))
                continue
            if found.faults:
                more = f", and {len(found.faults) - 1} more" if len(found.faults) > 1 else ""
                report(Finding(check, "fail", f"{found.faults[0]}{more} of {counted(found.files, 'file')}", RECOVER))
            else:
                report(Finding(check, "ok", f"{counted(found.files, 'file')}, all there"))


def _package(name: str, pinned: str | None) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "fail", "not installed", "install ddb-lake again, with its dependencies")
    if pinned in (None, version):
        return Finding(name, "ok", version)
    return Finding(name, "warn", f"{version}, where {pinned} is what was tested", f"install {name}=={pinned}")


def _pins() -> dict[str, str]:
    """The exact versions that ddb-lake asks for, by package."""
    try:
        required = importlib.metadata.requires("ddb-lake") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    matches = (_PIN.match(line.replace(" ", "")) for line in required)
    return {match[1]: match[2] for match in matches if match}


def _extensions() -> Finding:
    """Whether DuckDB's extensions load from their wheels, as they must where there is no network."""
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
    if not faults:
        return Finding("duckdb extensions", "ok", ", ".join(EXTENSIONS))
    wheels = " ".join(f"duckdb-extension-{name}=={duckdb.__version__}" for name in EXTENSIONS)
    return Finding(
        "duckdb extensions", "warn", "; ".join(faults), f"install {wheels}; without httpfs, S3 is out of reach"
    )


def _examine_warehouse(report: Report, folder: Path) -> None:
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        step = "give this user write access to it, or set another `warehouse`"
        report(Finding("warehouse", "fail", f"{folder}: {standing} is no folder that can be written to", step))
        return
    if standing == folder:
        with failing(report, "warehouse", "free some room, or set another `warehouse`"):
            tempfile.TemporaryFile(dir=folder).close()
            report(Finding("warehouse", "ok", f"{folder} is writable"))
    else:
        report(Finding("warehouse", "ok", f"{folder} is made with the first table"))
    _examine_space(report, "warehouse room", standing, "free some room, or set another `warehouse`")


def _examine_space(report: Report, check: str, folder: Path, step: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < LITTLE_SPACE_BYTES:
        report(Finding(check, "warn", f"{folder}: {size_text(free)} free", step))
    else:
        report(Finding(check, "ok", f"{folder}: {size_text(free)} free"))


def _examine_catalog(report: Report, settings: LakeSettings) -> None:
    from ddb_lake.lake.catalog import LakeCatalog

    with LakeCatalog(settings) as catalog:
        if catalog.kind == "glue" and not _has_credentials():
            report(Finding("catalog", "skip", "glue needs AWS credentials"))
            return
        step = "see `catalog` in the configuration: its type, uri and properties"
        try:
            known = catalog.catalog.namespace_exists(settings.catalog.namespace)  # it is made with the first table
            tables = catalog.catalog.list_tables(settings.catalog.namespace) if known else []
        except Exception as error:  # every kind of catalog has errors of its own; all of them mean unreachable
            reason = " ".join(str(error).split()) or type(error).__name__
            report(Finding("catalog", "fail", f"{catalog.kind} cannot be reached: {reason[:300]}", step))
            return
        report(Finding("catalog", "ok", f"{catalog.kind} answers: {counted(len(tables), 'table')}"))


def _has_credentials() -> bool:
    from ddb_lake.aws.diagnostics import credentials_source

    return credentials_source() is not None


def _examine_key(report: Report, settings: LakeSettings, table: TableSettings) -> None:
    """Whether anybody knows the key that the configuration leaves out: the lake, or DynamoDB."""
    from ddb_lake.pipeline.open_lake import open_lake

    step = "add `key: [...]` to the table: partition key, then sort key"
    with failing(report, f"{table.name}: key", step), open_lake(settings) as lake:
        if (lake.catalog.kind == "glue" or table.source.role_arn) and not _has_credentials():
            return
        key = lake.key(table.name)
        if key:
            report(Finding(f"{table.name}: key", "ok", ", ".join(key)))
        else:
            found = "not configured, and DynamoDB cannot be asked; a full export does not say it"
            report(Finding(f"{table.name}: key", "warn", found, step))


def _examine_landing(report: Report, table: TableSettings) -> None:
    from ddb_lake.aws.objects import local_path

    uri = table.changes.uri if table.changes else None
    if uri is None or uri.startswith("s3://"):
        return
    check = f"{table.name}: changes"
    with failing(report, check, "correct `changes.uri`"):
        folder = local_path(uri)
        if continued := continued_keys(uri):
            report(Finding(check, "warn", *continued))
        elif folder.is_dir():
            report(Finding(check, "ok", f"{folder}"))
        else:
            report(
                Finding(
                    check, "warn", f"{folder} does not exist", "correct `changes.uri`, or wait for the first delivery"
                )
            )


def continued_keys(uri: str) -> tuple[str, str] | None:
    """A fault and its next step, if keys continue `changes.uri` without its final slash."""
    from ddb_lake.aws.objects import ObjectStore
    from ddb_lake.pipeline.plan.arrivals import continued_example

    example = continued_example(ObjectStore(), uri)
    if example is None:
        return None
    return (
        f"keys continue {uri} without its slash, such as {example}; they are not read",
        f"write `uri: {uri.rstrip('/')}` if they are this table's: Firehose appends yyyy/MM/dd/HH/ to a prefix without a slash",
    )
