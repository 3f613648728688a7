"""Examination of the values of a table in the lake: whether its columns hold them."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, ok, warn
from ddb_lake.cli.doctor.subject import TableSubject


def examine_values(subject: TableSubject) -> Iterator[Finding]:
    """Every value is in a column, also of its entity; each attribute with values that no column holds is a finding."""
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.merge.misfits import find_entity_misfits, find_misfits

    with open_lake(subject.lake.settings) as lake:
        if lake.current(subject.settings.name) is None:
            return
        misfits = find_misfits(lake, subject.settings.name)
        of_entities = find_entity_misfits(lake, subject.settings.name)
    for misfit in misfits:
        yield warn(str(misfit), misfit.advice)
    for table, several in of_entities.items():
        for misfit in several:
            yield warn(f"{table}: {misfit}", misfit.advice)
    if not misfits and not of_entities:
        yield ok("each value is in a column")
