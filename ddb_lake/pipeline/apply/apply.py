"""Apply landed objects: ingest their records into the changelog, and merge the changelog into `current`.

Objects are read and committed in groups. A run that is broken off is continued by applying the same objects again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.apply.changelog import IngestResult, TableShare, ingest, not_ingested
from ddb_lake.pipeline.merge.current import CurrentResult, update_current
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What applying some objects did.

    Attributes:
        table: the table's name.
        objects: the number of objects.
        already_ingested: the number of those that the ledger named before.
        records: the records of all configured tables in the other objects, rejected ones included.
        new: those that were added to a changelog.
        duplicates: those that a changelog had already, or that are several times in the objects.
        quarantined: entries that were added to a quarantine.
        other_tables: the number of records by source table that is not configured. They stay in landing.
        tables: the figures by table.
        current: what became of the `current` of each table.
        seconds: how long it took.
        doubts: probable mistakes, although the command did its work: a place without objects, or objects whose records
            all went to quarantine.
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


def apply_objects(lake: Lake, table: str, uris: Sequence[str]) -> ApplyResult:
    """Ingest the objects at and below `uris` into the changelog, then merge the changelog into `current`.

    Records that name another configured table go to that table. Those that name none go to `table`. Objects that were
    ingested before, or are named twice, change nothing.

    Args:
        lake: the open lake.
        table: the table whose objects these are.
        uris: objects, and folders or prefixes of objects. One without objects becomes a doubt of the result; the others
            are applied.

    Raises:
        CheckFailed: `current` of a table cannot take its records. The other tables are up to date then, and the
            changelogs have all records.
        ConfigError: `table` is not configured.
        TransientError: in each attempt, another writer committed first, or an object cannot be fetched now. It is safe to
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
                # `table` last: if its ledger names an object, all other tables have their share, in `current` too
                for name, rows in sorted(read.tables.items(), key=lambda entry: entry[0] == table):
                    share = TableShare(name, rows, read.objects, read.keys.get(name, ()))
                    results[name] = results.get(name, IngestResult(name)) + ingest(lake, session, share)
                    if name != table:
                        merges.update(name)
                new_objects += len(fresh)
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
        other_tables=dict(other_tables),
        tables=results,
        current=merges.results,
        seconds=time.monotonic() - started,
    )
    return replace(result, doubts=_doubts(lake, result))


class _Merges:
    """Merges of several tables. If one fails, the others are carried out all the same."""

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
    """Doubts if no record was ingested, probably because of a mistake in the configuration or the command."""
    table = result.table
    if result.new or result.duplicates:
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
    """The doubt of a command whose records all went to quarantine."""
    return (
        f"{table}: nothing could be ingested: all {records:,} records went to quarantine. See `ddb-lake quarantine list"
        f" {table}`: the `key` of another table, or another table's data, is a likely cause. Correct it, then `ddb-lake"
        f" quarantine replay {table}`"
    )


def is_empty(lake: Lake, table: str) -> bool:
    """Whether no export of a table is loaded and no change record of it is ingested."""
    return lake.current(table) is None and not changes_state(lake.changes(table)).records
