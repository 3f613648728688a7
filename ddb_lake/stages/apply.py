"""Landed change objects into changelog and current."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.stages.current import CurrentResult, update_current
from ddb_lake.stages.ingest import IngestResult, ingest, unseen
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.read import GroupReader, StagedTable, fetch, groups


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What applying some objects did.

    `objects`: found below the URIs, of which `already_ingested` were known. `other_tables`: records of tables that
    are not configured, by their source's name; they stay in landing.
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


def apply_objects(lake: Lake, table: str, uris: Sequence[str]) -> ApplyResult:
    """Take the objects at and below `uris` into the changelog, then bring `current` up to it.

    Records that name another configured table go to that table; those that name none go to `table`. Objects named
    twice or ingested before change nothing. Raises UsageError for a local path that does not exist.
    """
    lake.table(table)
    refs = list({ref.uri: ref for uri in uris for ref in lake.objects.list(uri)}.values())
    return apply_refs(lake, table, refs)


def apply_refs(lake: Lake, table: str, refs: Sequence[ObjectRef]) -> ApplyResult:
    """`apply_objects` for objects already listed."""
    started = time.monotonic()
    results: dict[str, IngestResult] = {}
    others: Counter[str] = Counter()
    done = fresh_objects = 0
    for group in groups(refs):
        with lake.session() as session:
            fresh = unseen(lake, session, table, group)
            fresh_objects += len(fresh)
            if fresh:
                reader = GroupReader(session.folder, table, _routes(lake), lake.key)
                staged = reader.read(fetch(lake.objects, fresh))
                others += staged.other_tables
                if table not in staged.tables:  # the ledger must name an object even if nothing of it was ours
                    staged.tables[table] = StagedTable.empty(session.folder)
                # `table` last: once its ledger names an object, every other table has its share of it
                for name, rows in sorted(staged.tables.items(), key=lambda entry: entry[0] == table):
                    found = ingest(lake, session, name, rows, staged.objects, reader.keys.get(name, ()))
                    results[name] = results[name] + found if name in results else found
        done += len(group)
        lake.progress(f"{table}: objects ingested", done, len(refs))
    current = {name: update_current(lake, name) for name in sorted({table, *results})}
    return ApplyResult(
        table,
        objects=len(refs),
        already_ingested=len(refs) - fresh_objects,
        records=sum(r.records for r in results.values()),
        new=sum(r.new for r in results.values()),
        duplicates=sum(r.duplicates for r in results.values()),
        quarantined=sum(r.quarantined for r in results.values()),
        other_tables=dict(others),
        tables=results,
        current=current,
        seconds=time.monotonic() - started,
    )


def _routes(lake: Lake) -> dict[str, str]:
    """Source table name to lake table name."""
    return {table.source_name: table.name for table in lake.settings.tables}
