"""Which landed objects a table has not applied, found with few requests.

A change object's key begins with the hour in which its oldest record arrived. Objects may appear late, sort before
others, and be rewritten; so nothing is remembered as "listed up to here". The hours that still fill are listed
often, the look-back window now and then, everything below the prefix rarely; and what was listed is compared by
name *and version* with what the changelog has ingested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from ddb_lake.aws.objects import ObjectRef, join
from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.notifications import by_place
from ddb_lake.core.paths import arrival_hour
from ddb_lake.core.planning import hours_back
from ddb_lake.errors import UsageError
from ddb_lake.orchestration.specs import has_partition
from ddb_lake.stages.ingest import unseen
from ddb_lake.stages.lake import Lake

Scope: TypeAlias = Literal["near", "window", "all"]
"""How far a listing looks: the hours that still fill, the look-back window, or everything."""

HOURLY = "%Y/%m/%d/%H/"
NEAR_S = 3600
"""Firehose buffers for up to 15 minutes and names an object by its oldest record: this hour or the one before."""


@dataclass(frozen=True, slots=True)
class Root:
    """A prefix below which change objects land. `hourly`: every key goes on with yyyy/MM/dd/HH/."""

    uri: str
    hourly: bool

    def prefix(self, hour: datetime) -> str:
        """Where the objects of an hour lie, if the root is hourly."""
        return join(self.uri, hour.strftime(HOURLY))

    def has_in_place(self, ref: ObjectRef, hour: datetime) -> bool:
        """Whether listing `hour` finds the object."""
        return self.hourly and ref.uri.startswith(self.prefix(hour))


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Objects that are not applied. `hours`: of those that listing these hours finds; `strays`: all others."""

    refs: tuple[ObjectRef, ...] = ()
    hours: tuple[datetime, ...] = ()
    strays: int = 0

    def of_hours(self, hours: Iterable[datetime]) -> list[ObjectRef]:
        """Those of some hours."""
        wanted = set(hours)
        return [ref for ref in self.refs if arrival_hour(ref.uri) in wanted]

    @property
    def oldest_us(self) -> int | None:
        """When the first of them was written (UTC microseconds)."""
        return min((ref.modified_us for ref in self.refs), default=None)


def roots(lake: Lake, table: TableSettings) -> list[Root]:
    """The prefixes below which a table's objects land, and how keys go on there."""
    changes = table.changes
    if changes is None:
        return []
    ours = lake.settings.stream_landing(table)
    layouts = {uri: "hourly" if uri == ours else changes.layout for uri in lake.settings.change_uris(table)}
    return [Root(uri, _is_hourly(lake, uri, layout)) for uri, layout in layouts.items()]


def _is_hourly(lake: Lake, uri: str, layout: str) -> bool:
    """As declared; `auto`: as the first key is. Folders are listed whole: that costs no requests."""
    if layout != "auto" or not uri.startswith("s3://"):
        return layout == "hourly" and uri.startswith("s3://")
    first = next(iter(lake.objects.list(uri)), None)
    hour = arrival_hour(first.uri) if first is not None else None
    return first is not None and hour is not None and Root(uri, True).has_in_place(first, hour)


def landed(lake: Lake, table: TableSettings, places: Sequence[Root], scope: Scope) -> Iterator[ObjectRef]:
    """The change objects in scope. A folder that is not there yet has none."""
    for root in places:
        if scope == "all" or not root.hourly:
            yield from _listed(lake, root.uri)
        else:
            hours = _hours(lake, table, scope)  # keys sort as the hours do: one listing has all of them
            yield from lake.objects.list_span(root.uri, root.prefix(hours[0]), root.prefix(hours[-1]))


def hinted(lake: Lake, places: Sequence[Root], uris: Sequence[str]) -> Iterator[ObjectRef]:
    """The objects where notifications say that something landed: whole hours, where keys lie by the hour."""
    prefixes: dict[str, None] = {}
    for root in places:
        for uri in by_place(uris, [root.uri])[root.uri] if root.hourly else ():
            hour = arrival_hour(uri)
            in_place = hour is not None and uri.startswith(root.prefix(hour))
            prefixes[root.prefix(hour) if in_place and hour is not None else uri] = None
    for prefix in prefixes:
        yield from _listed(lake, prefix)


def landed_in(lake: Lake, table: TableSettings, hours: Sequence[datetime]) -> list[str]:
    """URIs that have all change objects of some arrival hours at or below them."""
    wanted = set(hours)
    found: list[str] = []
    for root in roots(lake, table):
        if root.hourly:
            found += [root.prefix(hour) for hour in hours]
        else:
            found += [ref.uri for ref in _listed(lake, root.uri) if arrival_hour(ref.uri) in wanted]
    return found


def unapplied(lake: Lake, table: TableSettings, refs: Sequence[ObjectRef], places: Sequence[Root]) -> Arrivals:
    """Those of `refs` that the changelog has not ingested as they are now."""
    if not refs:
        return Arrivals()
    with lake.session() as session:
        fresh: list[ObjectRef] = unseen(lake, session, table.name, refs)
    hours = {ref: arrival_hour(ref.uri) for ref in fresh}
    now = lake.now()
    listable = {
        ref: hour
        for ref, hour in hours.items()
        if hour is not None and has_partition(hour, now) and any(_finds(root, ref, hour) for root in places)
    }
    return Arrivals(tuple(fresh), tuple(sorted(set(listable.values()))), len(fresh) - len(listable))


def _finds(root: Root, ref: ObjectRef, hour: datetime) -> bool:
    """Whether `landed_in` of `hour` covers the object."""
    return root.has_in_place(ref, hour) or (not root.hourly and _is_below(ref, root))


def _is_below(ref: ObjectRef, root: Root) -> bool:
    return not root.uri.startswith("s3://") or ref.uri.startswith(root.uri)


def _hours(lake: Lake, table: TableSettings, scope: Scope) -> list[datetime]:
    assert table.changes is not None, "a table with roots has changes"
    return hours_back(lake.now(), NEAR_S if scope == "near" else seconds(table.changes.lookback))


def _listed(lake: Lake, uri: str) -> Iterator[ObjectRef]:
    try:
        yield from lake.objects.list(uri)
    except UsageError:
        if "://" in uri and not uri.startswith("file://"):
            raise
