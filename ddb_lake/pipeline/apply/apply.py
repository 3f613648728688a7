"""Landed change objects into changelog and current."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.errors import CheckFailed
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.apply.changelog import IngestResult, ingest, unseen
from ddb_lake.pipeline.merge.current import CurrentResult, update_current
from ddb_lake.pipeline.open_lake import Lake


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What applying some objects did.

    `objects`: found below the URIs, of which `already_ingested` were known. `other_tables`: records of tables that
    are not configured, by their source's name; they stay in landing. `doubts`: probable mistakes, although the command
    did its work: a place without objects, or objects whose records all went to quarantine.
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
    """Take the objects at and below `uris` into the changelog, then bring `current` up to it.

    Records that name another configured table go to that table; those that name none go to `table`. Objects named
    twice or ingested before change nothing. A place without objects becomes a doubt of the result, and the other places
    are applied. Raises CheckFailed if `current` of a table cannot take its records; all other tables are up to date then,
    and the changelogs have all records.
    """
    lake.table(table)
    refs: dict[str, ObjectRef] = {}
    doubts = []
    for uri in uris:
        found = list(lake.objects.list(uri)) if lake.objects.reachable(uri) else []
        if not found and (uri.startswith("s3://") or not lake.objects.reachable(uri)):
            doubts.append(f"{table}: {uri}: nothing is there; expected an object, or a folder or prefix of objects")
        refs |= {ref.uri: ref for ref in found}
    result = apply_refs(lake, table, list(refs.values()))
    return replace(result, doubts=(*doubts, *result.doubts))


def apply_refs(lake: Lake, table: str, refs: Sequence[ObjectRef]) -> ApplyResult:
    """`apply_objects` for objects already listed."""
    started = time.monotonic()
    results: dict[str, IngestResult] = {}
    current = _Current(lake)
    others: Counter[str] = Counter()
    done = fresh_objects = 0
    executor = lake.executor(table)
    for group in executor.groups(refs):
        with lake.session() as session:
            fresh = unseen(lake, session, table, group)
            fresh_objects += len(fresh)
            if fresh:
                read = executor.read(session, fresh)
                others += read.other_tables
                # `table` last: once its ledger names an object, every other table has its share of it, in `current` too
                for name, rows in sorted(read.tables.items(), key=lambda entry: entry[0] == table):
                    found = ingest(lake, session, name, rows, read.objects, read.keys.get(name, ()))
                    results[name] = results[name] + found if name in results else found
                    if name != table:
                        current.update(name)
        done += len(group)
        lake.progress(f"{table}: objects ingested", done, len(refs))
    current.update(table)
    current.raise_failure()
    result = ApplyResult(
        table,
        objects=len(refs),
        already_ingested=len(refs) - fresh_objects,
        records=sum(r.records for r in results.values()),
        new=sum(r.new for r in results.values()),
        duplicates=sum(r.duplicates for r in results.values()),
        quarantined=sum(r.quarantined for r in results.values()),
        other_tables=dict(others),
        tables=results,
        current=current.results,
        seconds=time.monotonic() - started,
    )
    return replace(result, doubts=_doubts(lake, result))


def _doubts(lake: Lake, result: ApplyResult) -> tuple[str, ...]:
    """Doubts if no record of the objects was taken in, probably by a mistake in the configuration or the command."""
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
        f"{table}: nothing could be taken in: all {records:,} records went to quarantine. See `ddb-lake quarantine list"
        f" {table}`: the `key` of another table, or another table's data, is a likely cause. Correct it, then `ddb-lake"
        f" quarantine replay {table}`"
    )


def is_empty(lake: Lake, table: str) -> bool:
    """Whether the lake has nothing of a table: no export is loaded, and no change was taken in."""
    changes = lake.changes(table)
    records = changes_state(changes).records
    return lake.current(table) is None and not records


class _Current:
    """Brings tables' `current` up to date. What one table's rows refuse does not keep the others waiting."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._failure: CheckFailed | None = None
        self.results: dict[str, CurrentResult] = {}

    def update(self, name: str) -> None:
        """Apply to `current` what the changelog has and it has not."""
        try:
            found = update_current(self._lake, name)
        except CheckFailed as failure:
            self._failure = self._failure or failure
        else:
            self.results[name] = self.results[name] + found if name in self.results else found

    def raise_failure(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failure is not None:
            raise self._failure
