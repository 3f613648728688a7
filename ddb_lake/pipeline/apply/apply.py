"""Applies landed objects: ingests their records into the changelog, and merges the changelog into `current`.

Objects are read and committed in groups. To continue an interrupted run, apply the same objects again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.apply.changelog import IngestResult, TableShare, ingest, not_ingested
from ddb_lake.pipeline.merge.current import CurrentResult, update_current
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.protection import former_values_text


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The result of applying some objects.

    Attributes:
        table: the table's name.
        objects: the number of objects.
        already_ingested: the number of objects that the ledger named before.
        records: the number of records in the other objects, for all configured tables and including rejected ones.
        new: the number of records that were added to a changelog.
        duplicates: the number of records that a changelog had already, or that the objects contain more than once.
        quarantined: the number of entries that were added to a quarantine.
        refused: the number of records of erased keys, and of rejected bytes that name one.
        left_out: the number of records that filters leave out. They are not among `records`.
        other_tables: the number of records for each source table that is not configured. They stay in landing.
        tables: the figures of the changelog of each table.
        current: the result of the merge of each table.
        seconds: the duration.
        doubts: probable mistakes in the configuration or the command: a location without objects, or objects whose records
            are all in quarantine or of other tables.
    """

    table: str
    objects: int = 0
    already_ingested: int = 0
    records: int = 0
    new: int = 0
    duplicates: int = 0
    quarantined: int = 0
    other_tables: dict[str, int] = field(default_factory=dict)
    tables: dict[str, IngestResult] = field(default_factory=dict)
    current: dict[str, CurrentResult] = field(default_factory=dict)
    seconds: float = 0.0
    doubts: tuple[str, ...] = ()
    refused: int = 0
    left_out: int = 0

    def __add__(self, other: ApplyResult) -> ApplyResult:
        """The figures of this result and of a later one."""
        tables, current = dict(self.tables), dict(self.current)
        for name, ingested in other.tables.items():
            tables[name] = tables[name] + ingested if name in tables else ingested
        for name, merged in other.current.items():
            current[name] = current[name] + merged if name in current else merged
        return ApplyResult(
            table=self.table,
            objects=self.objects + other.objects,
            already_ingested=self.already_ingested + other.already_ingested,
            records=self.records + other.records,
            new=self.new + other.new,
            duplicates=self.duplicates + other.duplicates,
            quarantined=self.quarantined + other.quarantined,
            other_tables=dict(Counter(self.other_tables) + Counter(other.other_tables)),
            tables=tables,
            current=current,
            seconds=self.seconds + other.seconds,
            doubts=tuple(dict.fromkeys([*self.doubts, *other.doubts])),
            refused=self.refused + other.refused,
            left_out=self.left_out + other.left_out,
        )


def apply_objects(lake: Lake, table: str, uris: Sequence[str]) -> ApplyResult:
    """Ingest the objects at and below `uris` into the changelog, then merge the changelog into `current`.

    A record that names another configured table goes to that table. A record without a table name goes to `table`. Objects
    that were ingested before, or are named twice, change nothing.

    Args:
        lake: the open lake.
        table: the table whose objects these are.
        uris: objects, and folders or prefixes of objects. If one has no objects, the result has a doubt about it, and the
            others are applied.

    Raises:
        CheckFailed: the changelog of a table cannot be merged into its `current`. All records are in the changelogs, and
            the other tables are up to date.
        ConfigError: `table` is not configured.
        DamagedError: the changelog of a table lacks commits that are applied to its `current`.
        TransientError: another writer committed first in each attempt, or an object cannot be fetched now. It is safe to
            apply the same objects again.

    Example:
        result = apply_objects(lake, "orders", ["s3://landing/orders/2026/03/01/"])
        print(result.new, "new records,", result.current["orders"].rows, "items")
    """
    lake.table(table)
    refs: dict[str, ObjectRef] = {}
    doubts = []
    for uri in uris:
        listed = list(lake.objects.list(uri)) if lake.objects.reachable(uri) else []
        if not listed and (uri.startswith("s3://") or not lake.objects.reachable(uri)):
            doubts.append(f"{table}: {uri}: nothing is there; expected an object, or a folder or prefix of objects")
        refs |= {ref.uri: ref for ref in listed}
    result = apply_refs(lake, table, list(refs.values()))
    return replace(result, doubts=(*doubts, *result.doubts))


def apply_refs(lake: Lake, table: str, refs: Sequence[ObjectRef]) -> ApplyResult:
    """`apply_objects` for objects that are listed already."""
    started = time.monotonic()
    results: dict[str, IngestResult] = {}
    merges = _Merges(lake)
    other_tables: Counter[str] = Counter()
    done = new_objects = 0
    executor = lake.executor(table)
    for group in executor.groups(refs):
        with lake.session() as session:
            fresh = not_ingested(lake, session, table, group)
            if fresh:
                read = executor.read(session, fresh)
                # `table` is last, so if its ledger names an object, all other tables have merged their records of it
                for name, rows in sorted(read.tables.items(), key=lambda entry: entry[0] == table):
                    share = TableShare(name, rows, read.objects, read.keys.get(name, ()))
                    known, ingested = results.get(name, IngestResult(name)), ingest(lake, session, share)
                    if ingested.changed_rules and not known.changed_rules:
                        lake.warn(former_values_text(name, ingested.changed_rules))
                    results[name] = known + ingested
                    if name != table:
                        merges.update(name)
                new_objects += len(fresh)
                for name, count in read.left_out.items():
                    found = results.get(name, IngestResult(name))
                    results[name] = replace(found, left_out=found.left_out + count)
                other_tables += read.other_tables
        done += len(group)
        lake.progress(f"{table}: objects ingested", done, len(refs))
    merges.update(table)
    merges.raise_failure()
    result = ApplyResult(
        table,
        objects=len(refs),
        already_ingested=len(refs) - new_objects,
        records=sum(r.records for r in results.values()),
        new=sum(r.new for r in results.values()),
        duplicates=sum(r.duplicates for r in results.values()),
        quarantined=sum(r.quarantined for r in results.values()),
        refused=sum(r.refused for r in results.values()),
        left_out=sum(r.left_out for r in results.values()),
        other_tables=dict(other_tables),
        tables=results,
        current=merges.results,
        seconds=time.monotonic() - started,
    )
    return replace(result, doubts=_doubts(lake, result))


class _Merges:
    """Merges of several tables. If one fails, the others still run."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._failure: CheckFailed | None = None
        self.results: dict[str, CurrentResult] = {}

    def update(self, name: str) -> None:
        """Merge the changelog of a table into its `current`."""
        try:
            result = update_current(self._lake, name)
        except CheckFailed as failure:
            self._failure = self._failure or failure
        else:
            self.results[name] = self.results[name] + result if name in self.results else result

    def raise_failure(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failure is not None:
            raise self._failure


def _doubts(lake: Lake, result: ApplyResult) -> tuple[str, ...]:
    """The doubt about a command that ingested no record, probably because of a mistake in the configuration or in it."""
    table = result.table
    if result.new or result.duplicates or result.refused or result.left_out:
        return ()
    if result.records:
        return (everything_quarantined(table, result.records),)
    if result.other_tables and is_empty(lake, table):
        names = ", ".join(sorted(result.other_tables))
        expected = lake.table(table).source_name
        return (
            f"{table}: all records are of other tables ({names}), and the lake has nothing of {expected} yet: check the"
            " table's name and `source: {table: ...}`, and where its changes land",
        )
    return ()


def everything_quarantined(table: str, records: int) -> str:
    """The doubt about a command whose records are all in quarantine."""
    return (
        f"{table}: nothing could be ingested: {count_text(records, 'record')} went to quarantine. See `ddb-lake quarantine list"
        f" {table}`: the `key` of another table, or another table's data, is a likely cause. Correct it, then `ddb-lake"
        f" quarantine replay {table}`"
    )


def is_empty(lake: Lake, table: str) -> bool:
    """Whether no export of a table is loaded and no change record of it is ingested."""
    return lake.current(table) is None and not changes_state(lake.changes(table)).records
