"""The examination of the configuration file."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, ok, warn
from ddb_lake.cli.doctor.subject import LakeSubject
from ddb_lake.cli.failures import ADD_A_TABLE
from ddb_lake.core.operations.count_text import count_text


def examine_configuration(subject: LakeSubject) -> Iterator[Finding]:
    """The configuration file is valid, and names a table. (`registry.examine` reports a file that is not.)"""
    yield ok(f"{subject.file}: {count_text(len(subject.settings.tables), 'table')}")
    if not subject.settings.tables:
        yield warn("no table is configured", ADD_A_TABLE, check="tables")
