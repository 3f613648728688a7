"""Examinations of the warehouse: its folder or bucket, its catalog, and the files of its tables. They create nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import Finding, fail, ok, unknown
from ddb_lake.cli.doctor.installation import free_space
from ddb_lake.cli.doctor.subject import LakeSubject, has_local_warehouse
from ddb_lake.cli.failures import error_text
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import RECOVER, DamagedError

if TYPE_CHECKING:
    from ddb_lake.lake.catalog import LakeCatalog
    from ddb_lake.pipeline.open_lake import Lake

MAKE_ROOM = "free some room, or set another `warehouse`"


def examine_folder(subject: LakeSubject) -> Iterator[Finding]:
    """The folder of a local warehouse can be written to, or can be created."""
    folder = _folder(subject)
    existing = _existing(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        step = "give this user write access to it, or set another `warehouse`"
        yield fail(f"{folder}: {existing} is no folder that can be written to", step)
    elif existing == folder:
        tempfile.TemporaryFile(dir=folder).close()
        yield ok(f"{folder} is writable")
    else:
        yield ok(f"{folder} is created with the first table")


def examine_room(subject: LakeSubject) -> Iterator[Finding]:
    """The disk of a local warehouse has room."""
    existing = _existing(_folder(subject))
    if existing.is_dir():
        yield free_space(existing, MAKE_ROOM)


def examine_bucket(subject: LakeSubject) -> Iterator[Finding]:
    """The bucket of a warehouse on S3 can be listed."""
    from ddb_lake.aws.diagnostics import check_bucket
    from ddb_lake.aws.objects import split_s3

    bucket, _ = split_s3(subject.settings.warehouse)
    check_bucket(bucket)
    yield ok(f"bucket {bucket} answers")


def examine_catalog(subject: LakeSubject) -> Iterator[Finding]:
    """The catalog can be reached, and lists its tables."""
    from ddb_lake.aws.session import s3_endpoint
    from ddb_lake.lake.catalog import LakeCatalog

    settings = subject.settings
    if has_local_warehouse(subject) and settings.catalog.uri is None and not _folder(subject).exists():
        yield ok("it is created with the first table")
        return
    with LakeCatalog(settings, s3_endpoint) as catalog:
        if catalog.kind == "glue" and subject.credentials is None:
            yield unknown("whether the catalog answers", "Glue needs AWS credentials")
            return
        step = "see `catalog` in the configuration: its type, uri and properties"
        try:
            exists = catalog.catalog.namespace_exists(settings.catalog.namespace)  # the first table creates it
            tables = catalog.catalog.list_tables(settings.catalog.namespace) if exists else []
        except Exception as error:  # each kind of catalog has its own errors; each means that it cannot be reached
            reason = " ".join(str(error).split()) or type(error).__name__
            yield fail(f"{catalog.kind} cannot be reached: {reason[:300]}", step)
            return
        count = count_text(len(tables), "table")
        yield ok(f"{catalog.kind} answers: {count} in {settings.catalog.namespace}, {catalog.place}")
        yield _commits(catalog)


def _commits(catalog: LakeCatalog) -> Finding:
    """The finding whether the catalog accepts commits."""
    check = "catalog commits"
    try:
        if catalog.check_commits():
            return ok("this identity may commit", check)
    except Exception as error:  # each kind of catalog has its own errors
        return fail(
            error_text(error), "see `catalog` in the configuration, and the permissions of this identity", check
        )
    because = "Glue has no request for it" if catalog.kind == "glue" else "it has none of the lake's tables yet"
    return unknown("whether this identity may commit", because, check)


def examine_files(subject: LakeSubject) -> Iterator[Finding]:
    """Each file that the tables of the lake name exists, with the size that was written."""
    from ddb_lake.executors import open_lake

    with open_lake(subject.settings) as lake:
        if not lake.catalog.is_local and subject.credentials is None:
            yield unknown("whether the files of the tables exist", "S3 needs AWS credentials")
            return
        for table in subject.settings.tables:
            for name in table.iceberg_names:
                finding = _files_of(lake, name)
                if finding is not None:
                    yield finding
            finding = _agreement_of(lake, table.name)
            if finding is not None:
                yield finding


def _files_of(lake: Lake, name: str) -> Finding | None:
    """The finding about the files of one Iceberg table; None if there is no such table."""
    from ddb_lake.pipeline.read.files import inventory

    check = f"{name}: files"
    try:
        found = inventory(lake, name)
    except DamagedError as error:
        return fail(f"{error.uri}: {error.what}", error.hint or RECOVER, check)
    except Exception as error:  # each kind of catalog and store has its own errors; the other tables are still examined
        return fail(error_text(error), "see the message; `--debug` with `status` shows where", check)
    if found is None:
        return None
    files = count_text(found.files, "file")
    if not found.faults:
        return ok(f"{files}, all present", check)
    first, more = found.faults[0], len(found.faults) - 1
    others = f", and {more} more" if more else ""
    return fail(f"{first.uri}: {first.what}{others} of {files}", first.hint or RECOVER, check)


def _agreement_of(lake: Lake, name: str) -> Finding | None:
    """The finding that an Iceberg table of a table is not the one that the others refer to; None if they agree."""
    from ddb_lake.pipeline.read.files import check_agreement

    check = f"{name}: state"
    try:
        check_agreement(lake, name)
    except DamagedError as error:
        return fail(f"{error.uri}: {error.what}", error.hint or RECOVER, check)
    except Exception as error:  # as above
        return fail(error_text(error), "see the message; `--debug` with `status` shows where", check)
    return None


def _folder(subject: LakeSubject) -> Path:
    from ddb_lake.aws.objects import local_path

    return local_path(subject.settings.warehouse)


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
