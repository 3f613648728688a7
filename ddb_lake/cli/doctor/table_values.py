"""Examination of the values of a table in the lake: whether its columns hold them."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, fail, ok, warn
from ddb_lake.cli.doctor.subject import TableSubject
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import ConfigError

_DAYS = 5
"""The days that a finding names at most."""


def examine_protection(subject: TableSubject) -> Iterator[Finding]:
    """The key of hashes is there, and the files of the table were written by the rules of the configuration."""
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.protection import changed_rules, former_values_text

    name = subject.settings.name
    with open_lake(subject.lake.settings) as lake:
        changed = changed_rules(lake, name, lake.protection(name).stored)
    if changed:
        yield warn(former_values_text(name, changed), f"run `ddb-lake rebuild {name}`")
    elif subject.settings.protecting_rules:
        rules = ", ".join(f"{path} ({rule})" for path, rule in subject.settings.protecting_rules.items())
        yield ok(f"the lake has no value of: {rules}")


def examine_settings(subject: TableSubject) -> Iterator[Finding]:
    """The key is that of the lake, each attribute in `columns` exists, and each table of an entity is one of the configuration."""
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.former_entities import former_entities
    from ddb_lake.pipeline.read.unused_columns import find_unused_columns
    from ddb_lake.pipeline.table_key import table_key

    name = subject.settings.name
    with open_lake(subject.lake.settings) as lake:
        try:
            if subject.settings.key:
                table_key(lake, name)
        except ConfigError as error:
            yield fail(
                str(error),
                "correct `key`; for a table that was created again with another key, add the entry"
                f" `{{name: OTHER, source: {{table: {subject.settings.source_name}}}}}` below `tables:`;"
                " if the lake was loaded with a wrong key, use an empty warehouse, and load the table again",
            )
        for unused in find_unused_columns(lake, name):
            yield warn(str(unused), "correct the name in `columns`, or wait until an item has it")
        for former in former_entities(lake, name):
            yield warn(
                f"{former} is the table of an entity that is not in the configuration: it is not updated",
                f"`ddb-lake drop-entity {name} {former.removeprefix(f'{name}_')}`, or configure the entity again",
            )


def examine_erasures(subject: TableSubject) -> Iterator[Finding]:
    """Each erasure that was begun is complete."""
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.maintain.erase import unfinished

    name = subject.settings.name
    with open_lake(subject.lake.settings) as lake:
        begun = sorted(set(unfinished(lake, name)))
    for begun_us in begun:
        yield fail(
            f"an erasure that began {time_text(begun_us)} is not complete: files may have the items",
            f"run `ddb-lake erase {name}` again with the same keys",
        )


def examine_days(subject: TableSubject) -> Iterator[Finding]:
    """Each day from `daily_states.start` to the newest kept one has its file, which any clean-up of the bucket can delete."""
    from ddb_lake.executors import open_lake
    from ddb_lake.pipeline.read.daily_snapshots import missing_days

    name = subject.settings.name
    with open_lake(subject.lake.settings) as lake:
        missing = missing_days(lake, name)
    if missing:
        shown = ", ".join(map(str, missing[:_DAYS])) + (", …" if len(missing) > _DAYS else "")
        yield warn(
            f"{count_text(len(missing), 'day')} since `daily_states.start` {'has' if len(missing) == 1 else 'have'} no file: {shown}",
            f"start Dagster's schedule of `daily/{name}`, which makes days again, or materialize these partitions; or set a"
            " later `daily_states.start`",
        )
    elif subject.settings.daily_states is not None:
        yield ok("each day from `daily_states.start` to the newest one has its file")


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
