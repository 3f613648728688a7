"""The examination of the configuration file."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, ok, warn
from ddb_lake.cli.doctor.subject import LakeSubject, TableSubject
from ddb_lake.cli.failures import ADD_A_TABLE
from ddb_lake.core.operations.count_text import count_text


def examine_configuration(subject: LakeSubject) -> Iterator[Finding]:
    """The configuration file is valid, and names a table. (`registry.examine` reports a file that is not.)"""
    yield ok(f"{subject.file}: {count_text(len(subject.settings.tables), 'table')}")
    if not subject.settings.tables:
        yield warn("no table is configured", ADD_A_TABLE, check="tables")


def examine_arrival(subject: TableSubject) -> Iterator[Finding]:
    """Nothing arrives by itself in a table without `changes` and `export`; that is a warning until the lake has something of it."""
    from ddb_lake.executors import open_lake

    name = subject.settings.name
    found = "neither `changes` nor `export` is configured: nothing arrives by `ddb-lake sync` or a schedule"
    with open_lake(subject.lake.settings) as lake:
        is_filled = lake.current(name) is not None or lake.changes(name) is not None
    if is_filled:
        yield ok(f"{found}, but by `ddb-lake load {name} --export URI` and `ddb-lake apply {name} URI` alone")
    else:
        yield warn(
            found, f"add `changes` or `export` to the table, or load an export by `ddb-lake load {name} --export URI`"
        )
