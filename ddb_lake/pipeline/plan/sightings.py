"""Remembering landed objects that were seen before they were ingested, and finding those that were removed since.

The sensor, `sync` and the check `objects_intact` remember what they see. The memory is a document in the warehouse beside the
table's reports. It is evidence and no state: without it objects are applied all the same, and a removal is not detected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import orjson

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.capture.sightings import MOST, SeenBy, Sighting, lost, with_seen
from ddb_lake.core.layout.table_names import REPORTS_FOLDER
from ddb_lake.core.operations.error_text import error_text
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.values.time_text import time_text
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.capture.gap_log import all_gaps, record_gap
from ddb_lake.pipeline.capture.kinesis_monitor import DELAY_US
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import (
    earliest_arrival_us,
    landing_roots,
    list_notified,
    list_unapplied,
    require_landing,
)

DOCUMENT: Final = "unapplied.json"
SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SeenObjects:
    """What became of the objects that were seen before they were ingested.

    Attributes:
        waiting: those that are there and not ingested.
        ingested: the number of those that were ingested since the last examination.
        lost: those that are gone, and whose time no repair covers.
        repaired: the number of those that are gone, and whose time was exported and loaded since.
        is_full: whether more objects wait than are remembered.
    """

    waiting: tuple[Sighting, ...] = ()
    ingested: int = 0
    lost: tuple[Sighting, ...] = ()
    repaired: int = 0
    is_full: bool = False


def remember(lake: Lake, table: str, refs: Sequence[ObjectRef], seen_by: SeenBy = "listing") -> None:
    """Remember objects that are not ingested. Writes only if one of them is new, and then forgets those ingested since."""
    if not refs:
        return
    seen = _sightings(lake, refs, seen_by)

    def change(known: tuple[Sighting, ...]) -> tuple[Sighting, ...]:
        names = {sighting.uri for sighting in known}
        if all(sighting.uri in names for sighting in seen):
            return known
        ingested = _ingested(lake, table, known)
        return with_seen([sighting for sighting in known if sighting.uri not in ingested], seen)

    _update(lake, table, change)


def forget(lake: Lake, table: str) -> None:
    """Forget all objects of a table that were seen and not ingested."""
    _update(lake, table, lambda _known: ())


class Seen:
    """What one tick of the sensor saw. It is remembered after the tick, so that an error stops no work."""

    def __init__(self) -> None:
        self._seen: list[tuple[str, tuple[ObjectRef, ...], SeenBy]] = []

    def add(self, table: str, refs: Sequence[ObjectRef], seen_by: SeenBy) -> None:
        """Note objects of a table that are not applied."""
        if refs:
            self._seen.append((table, tuple(refs), seen_by))

    def remember(self, lake: Lake) -> list[str]:
        """Remember all of them. Returns a warning for each failure."""
        warnings = []
        for table, refs, seen_by in self._seen:
            try:
                remember(lake, table, refs, seen_by)
            except Exception as error:  # whatever it is: the next listing of the object remembers it
                warnings.append(f"{table}: what landed could not be remembered: {error_text(error)}")
        return warnings


def examine_seen_objects(lake: Lake, table: TableSettings) -> SeenObjects:
    """List again, and find the remembered objects that are neither ingested nor there. Records a gap for each.

    Args:
        lake: an open lake.
        table: the settings of a table with `changes`.

    Raises:
        UnreachableError: the landing cannot be listed.
    """
    require_landing(lake, table)
    waiting = _sightings(lake, list_unapplied(lake, table, "lookback").refs, "listing")
    known = with_seen(_load(lake, table.name)[0], waiting)
    there = {sighting.uri for sighting in waiting}
    ingested = _ingested(lake, table.name, known)
    absent = [s for s in known if s.uri not in there and s.uri not in ingested]
    there |= {ref.uri for ref in list_notified(lake, landing_roots(lake, table), [s.uri for s in absent])}
    gone = lost(known, ingested, there)
    repaired = {sighting.uri for sighting in gone if _is_repaired(lake, table.name, _gap(lake, sighting))}
    missing = tuple(sighting for sighting in gone if sighting.uri not in repaired)
    for sighting in missing:
        record_gap(lake, table.name, _gap(lake, sighting))
    kept = {sighting.uri for sighting in missing} | (there - ingested)
    _update(lake, table.name, lambda now: tuple(s for s in with_seen(now, known) if s.uri in kept or s not in known))
    return SeenObjects(
        waiting=tuple(s for s in known if s.uri in there and s.uri not in ingested),
        ingested=len(ingested),
        lost=missing,
        repaired=len(repaired),
        is_full=len(known) >= MOST,
    )


def _gap(lake: Lake, sighting: Sighting) -> Gap:
    """The time of the changes in an object: its earliest possible arrival, less the delay of replication, to its writing."""
    ref = ObjectRef(sighting.uri, "", sighting.size_bytes or 0, sighting.modified_us)
    first_us = earliest_arrival_us(ref)
    from_us = min(sighting.modified_us, first_us if first_us is not None else sighting.modified_us) - DELAY_US
    size = "of unknown size" if sighting.size_bytes is None else f"of {sighting.size_bytes:,} bytes"
    seen = time_text(sighting.seen_us, unit="s")
    reason = (
        f"{sighting.uri}, {size}, was removed before it was applied; a {sighting.seen_by} showed it first at {seen}"
    )
    now_us = int(lake.now().timestamp() * SECOND_US)
    return Gap("lost", from_us, sighting.modified_us + SECOND_US, reason, now_us)


def _is_repaired(lake: Lake, table: str, gap: Gap) -> bool:
    reached = gap.from_us
    for low, high in sorted((g.from_us, g.to_us) for g in all_gaps(lake, table) if not g.is_open):
        if low <= reached:
            reached = max(reached, high)
    return reached >= gap.to_us


def _sightings(lake: Lake, refs: Iterable[ObjectRef], seen_by: SeenBy) -> tuple[Sighting, ...]:
    now_us = int(lake.now().timestamp() * SECOND_US)
    if seen_by == "notification":
        return tuple(Sighting(ref.uri, None, ref.modified_us or now_us, now_us, seen_by) for ref in refs)
    return tuple(Sighting(ref.uri, ref.size_bytes, ref.modified_us, now_us, seen_by) for ref in refs)


def _ingested(lake: Lake, table: str, known: Sequence[Sighting]) -> set[str]:
    """The names of the sightings that the ledger has, in any version."""
    if not known:
        return set()
    with lake.session() as session:
        return read_ledger(lake, table).ingested_names(session, [sighting.uri for sighting in known])


# --- the document


def _place(lake: Lake, table: str) -> Landing:
    return Landing(lake.objects, f"{lake.landing}/{REPORTS_FOLDER}/{table}")


def _load(lake: Lake, table: str) -> tuple[tuple[Sighting, ...], str | None]:
    data, version = _place(lake, table).load(DOCUMENT)
    return tuple(map(Sighting.from_json, orjson.loads(data))) if data else (), version


def _update(
    lake: Lake, table: str, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
) -> tuple[Sighting, ...]:
    """Replace the document by compare-and-swap, if `change` changes anything."""
    return retry_commit(partial(_replace, lake, table, change))


def _replace(
    lake: Lake, table: str, change: Callable[[tuple[Sighting, ...]], tuple[Sighting, ...]]
) -> tuple[Sighting, ...]:
    known, version = _load(lake, table)
    changed = change(known)
    if changed != known:
        _place(lake, table).replace(DOCUMENT, orjson.dumps([s.to_json() for s in changed]), version)
    return changed
