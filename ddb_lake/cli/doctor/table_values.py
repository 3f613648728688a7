"""Examination of the values of a table in the lake: whether its columns hold them."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, ok, warn
from ddb_lake.cli.doctor.subject import TableSubject


def examine_values(subject: TableSubject) -> Iterator[Finding]:
    """Every value is in a column; each attribute with values that no column holds is a finding."""
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.read.misfits import find_misfits

    with open_lake(subject.lake.settings) as lake:
        if lake.current(subject.settings.name) is None:
            return
        misfits = find_misfits(lake, subject.settings.name)
    for misfit in misfits:
        yield warn(str(misfit), misfit.advice)
    if not misfits:
        yield ok("each value is in a column")
