"""The landed objects that a table has not applied: one definition for sync, the sensor, daily states and checks.

A change object's key begins with the hour in which its oldest record arrived. Objects may appear late, sort before
others, be in folders of another layout, and be rewritten; so no position is stored as "listed up to here". The hours
that still fill are listed often, the look-back window less often, everything below the prefix rarely, and the listed
objects are compared by name *and version* with the ledger.

Under `layout: auto` each listing looks at the folders directly below the prefix. Those that are years are listed by
hour; all other objects and folders are listed as a whole. A listing of everything finds every object, whatever
the layout is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from ddb_lake.aws.objects import ObjectRef, ObjectStore, local_path, split_s3
from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.layout.firehose_paths import arrival_hour, continues, is_below
from ddb_lake.pipeline.apply.changelog import not_ingested
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.work import hours_back

Scope: TypeAlias = Literal["near", "window", "all"]
"""The scope of a listing: the hours that still fill, the look-back window, or everything."""

NEAR_S = 3600
"""Firehose buffers for up to 15 minutes and names an object by its oldest record: this hour or the one before."""

FARTHEST_ZONE = timedelta(hours=14)
"""The greatest distances of the folders of a CustomTimeZone from UTC (UTC+14; UTC-12)."""

MOST_FOLDERS = 16
"""The most folders other than those of years that are listed one by one; with more, everything is listed."""

_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)
_YEAR = re.compile(r"\d{4}/")


@dataclass(frozen=True, slots=True)
class Root:
    """A prefix below which change objects land, and the layout of the keys there.

    `hourly`: each key continues with yyyy/MM/dd/HH/. `flat`: keys may continue in any way. `auto`: each listing looks.
    `continued`: objects whose key continues the prefix with yyyy/MM/dd/HH/ and no slash between; nothing else.
    """

    uri: str
    layout: Literal["hourly", "flat", "auto", "continued"]

    def prefix(self, hour: datetime) -> str:
        """The prefix of an hour's objects, if they lie in the folder of that hour."""
        return f"{self.uri}{_hour_path(hour)}"

    def has_in_place(self, uri: str) -> datetime | None:
        """The hour whose listing finds the object; None if the object lies in no folder of its hour."""
        hour = arrival_hour(uri) if self.layout != "flat" else None
        return hour if hour is not None and uri.startswith(self.prefix(hour)) else None

    def has(self, uri: str) -> bool:
        """Whether the object belongs to this root."""
        return continues(self.uri, uri) if self.layout == "continued" else is_below(self.uri, uri)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Objects that are not applied. `hours`: those that a listing of their hour finds; `strays`: all others."""

    refs: tuple[ObjectRef, ...] = ()
    hours: tuple[datetime, ...] = ()
    strays: int = 0

    def of_hours(self, hours: Iterable[datetime]) -> list[ObjectRef]:
        """Those of some hours."""
        wanted = set(hours)
        return [ref for ref in self.refs if arrival_hour(ref.uri) in wanted]

    @property
    def oldest_us(self) -> int | None:
        """The time at which the first of them was written (UTC microseconds)."""
        return min((ref.modified_us for ref in self.refs), default=None)


def roots(lake: Lake, table: TableSettings) -> list[Root]:
    """The prefixes below which a table's objects land. Nothing is listed for that.

    `s3://b/landing` without a final slash has two prefixes: Firehose appends yyyy/MM/dd/HH/ without a slash.
    """
    changes = table.changes
    if changes is None:
        return []
    ours = lake.settings.stream_landing(table)
    found: list[Root] = []
    for uri in lake.settings.change_uris(table):
        if not uri.startswith("s3://"):
            found.append(Root(str(local_path(uri)), "flat"))
        else:
            found.append(Root(f"{uri.rstrip('/')}/", "hourly" if uri == ours else changes.layout))
        if not uri.endswith("/") and _has_key(uri):
            found.append(Root(found[-1].uri.rstrip("/"), "continued"))
    return list(dict.fromkeys(found))


def landed(lake: Lake, table: TableSettings, scope: Scope, behind_h: int = 0) -> Iterator[ObjectRef]:
    """The change objects in scope. A folder that does not exist yet has none.

    Args:
        behind_h: the hours by which the folders' local time is behind UTC, for `near`: `hours_behind` of an earlier listing.
    """
    for root in roots(lake, table):
        if scope == "all":
            yield from _everything(lake, root)
        else:
            yield from _recent(lake, root, _since(lake, table, scope, behind_h))
    if scope == "all":
        _warn_of_continued(lake, table)


def has_landed(lake: Lake, table: TableSettings) -> bool:
    """Whether there is any object where a table's change objects land."""
    return any(next(iter(_everything(lake, root)), None) is not None for root in roots(lake, table))


def hinted(lake: Lake, places: Sequence[Root], uris: Sequence[str]) -> Iterator[ObjectRef]:
    """The objects at the places in notifications; if keys lie by the hour, those of whole hours."""
    prefixes: dict[str, None] = {}
    for root in places:
        for uri in filter(root.has, uris):
            hour = root.has_in_place(uri)
            prefixes[uri if hour is None else root.prefix(hour)] = None
    for prefix in prefixes:
        yield from _listed(lake, prefix)


def landed_in(lake: Lake, table: TableSettings, hours: Sequence[datetime]) -> list[str]:
    """URIs at or below which all change objects of some arrival hours lie."""
    wanted = set(hours)
    found: list[str] = []
    for root in roots(lake, table):
        by_hour, rest = _by_hour(lake, root)
        if by_hour:
            found += [root.prefix(hour) for hour in hours]
        found += [ref.uri for ref in rest if arrival_hour(ref.uri) in wanted]
    return found


def everywhere(lake: Lake, table: TableSettings) -> list[str]:
    """URIs at or below which all change objects of a table lie that are not applied."""
    found: list[str] = []
    for root in roots(lake, table):
        if root.layout == "continued":  # no prefix above the hour has these alone
            fresh = unapplied(lake, table, list(_everything(lake, root))).refs
            found += dict.fromkeys(ref.uri[: len(root.prefix(_FIRST))] for ref in fresh)
        elif lake.objects.reachable(root.uri):
            found.append(root.uri)
    return found


def unapplied(lake: Lake, table: TableSettings, refs: Sequence[ObjectRef], first_hour: datetime = _FIRST) -> Arrivals:
    """Those of `refs` whose present version the changelog has not ingested.

    Args:
        first_hour: objects of an earlier hour count as strays, and so do those of a future hour.
    """
    if not refs:
        return Arrivals()
    with lake.session() as session:
        fresh: list[ObjectRef] = not_ingested(lake, session, table.name, refs)
    places, now = roots(lake, table), lake.now()
    hours: list[datetime] = []
    for ref in fresh:
        hour = arrival_hour(ref.uri)
        if hour is not None and first_hour <= hour <= now and any(_finds(root, ref.uri) for root in places):
            hours.append(hour)
    return Arrivals(tuple(fresh), tuple(sorted(set(hours))), len(fresh) - len(hours))


def waiting(lake: Lake, table: TableSettings, scope: Scope = "all") -> Arrivals:
    """The landed objects in scope that are not applied."""
    return unapplied(lake, table, list(dict.fromkeys(landed(lake, table, scope))))


def earliest_us(ref: ObjectRef) -> int | None:
    """The earliest time (UTC microseconds) at which the records of an object may have arrived; None if unknown.

    A key's hour is used as UTC only if the object was written soon after it. Otherwise the hour may be local time, or the
    object may be a copy.
    """
    hour = arrival_hour(ref.uri)
    if hour is None:
        return None
    hour_us, buffer_us = int(hour.timestamp()) * 1_000_000, NEAR_S * 1_000_000
    if hour_us > ref.modified_us:  # local time ahead of UTC: a copy is written after its hour
        return ref.modified_us - buffer_us
    if ref.modified_us - hour_us < 2 * buffer_us:
        return hour_us
    return hour_us - int(FARTHEST_ZONE.total_seconds()) * 1_000_000


def hours_behind(refs: Iterable[ObjectRef], now: datetime) -> int:
    """The hours by which the folders of recent objects are behind UTC: 4 for the CustomTimeZone of New York in summer."""
    since_us = int((now - timedelta(seconds=2 * NEAR_S)).timestamp()) * 1_000_000
    found = 0
    for ref in refs:
        hour = arrival_hour(ref.uri) if ref.modified_us >= since_us else None
        if hour is not None:
            behind_us = ref.modified_us - int(hour.timestamp()) * 1_000_000
            found = max(found, behind_us // 3_600_000_000)
    return min(found, int(FARTHEST_ZONE.total_seconds()) // 3600)


def continued_example(objects: ObjectStore, uri: str) -> str | None:
    """An object whose key continues a prefix that ends with a slash, but without the slash; None if there is none."""
    if not uri.endswith("/") or not _has_key(uri):
        return None
    root = Root(uri.rstrip("/") if uri.startswith("s3://") else str(local_path(uri)), "continued")
    return next((ref.uri for ref in _continued(objects, root, _FIRST)), None)


def continued_text(uri: str, example: str) -> str:
    """The message about objects beside a prefix that ends with a slash."""
    return (
        f"some keys continue {uri} without its slash, such as {example}; these objects are not read:"
        f" write `uri: {uri.rstrip('/')}` if they are this table's (Firehose appends yyyy/MM/dd/HH/ without a slash)"
    )


def _has_key(uri: str) -> bool:
    """Whether a URI names more than a bucket."""
    return not uri.startswith("s3://") or split_s3(uri)[1].strip("/") != ""


def _warn_of_continued(lake: Lake, table: TableSettings) -> None:
    changes = table.changes
    for uri in (changes.uri, changes.errors_uri) if changes is not None else ():
        example = continued_example(lake.objects, uri) if uri is not None else None
        if uri is not None and example is not None:
            lake.warn(f"{table.name}: {continued_text(uri, example)}")


def _finds(root: Root, uri: str) -> bool:
    """Whether `landed_in` of the object's hour includes it, independent of the other objects below the root."""
    if root.has_in_place(uri) is not None:
        return True
    by_hour = root.layout in ("hourly", "continued") or (
        root.layout == "auto" and _YEAR.match(uri.removeprefix(root.uri)) is not None
    )
    return not by_hour and root.has(uri)


def _everything(lake: Lake, root: Root) -> Iterator[ObjectRef]:
    if root.layout == "continued":
        return _continued(lake.objects, root, _FIRST)
    return _listed(lake, root.uri)


def _recent(lake: Lake, root: Root, since: datetime) -> Iterator[ObjectRef]:
    """The objects of the hours from `since` on, and all objects in no folder of an hour."""
    by_hour, rest = _by_hour(lake, root)
    yield from rest
    if by_hour and root.layout == "continued":
        yield from _continued(lake.objects, root, since)
    elif by_hour:  # keys sort as the hours do: one listing has all of them, with those ahead of UTC
        yield from lake.objects.list_span(root.uri, root.prefix(since), root.prefix(_LAST))


def _by_hour(lake: Lake, root: Root) -> tuple[bool, Iterable[ObjectRef]]:
    """Whether objects of the root are in folders of hours, and all its objects that are not."""
    if root.layout == "auto":
        level = lake.objects.level(root.uri)
        years = [] if level is None else [f for f in level.folders if _YEAR.fullmatch(f.removeprefix(root.uri))]
        if level is None or not years or len(level.folders) - len(years) > MOST_FOLDERS:
            return False, _listed(lake, root.uri)
        return True, _beside(lake, level.objects, [f for f in level.folders if f not in set(years)])
    if root.layout == "flat" or not root.uri.startswith("s3://"):
        return False, _everything(lake, root)
    return True, ()


def _beside(lake: Lake, objects: Iterable[ObjectRef], folders: Iterable[str]) -> Iterator[ObjectRef]:
    yield from objects
    for folder in folders:
        yield from _listed(lake, folder)


def _continued(objects: ObjectStore, root: Root, since: datetime) -> Iterator[ObjectRef]:
    """The objects whose keys continue the root with an hour and no slash between, from an hour on."""
    if root.uri.startswith("s3://"):
        listed = objects.list_span(root.uri, root.prefix(since), root.prefix(_LAST))
        yield from (ref for ref in listed if root.has(ref.uri))
        return
    path = Path(root.uri)
    for folder in sorted(path.parent.glob(f"{_literally(path.name)}[0-9][0-9][0-9][0-9]")):
        yield from (ref for ref in objects.list(str(folder)) if root.has(ref.uri))


def _literally(name: str) -> str:
    """A file's name as a glob pattern that matches it alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _since(lake: Lake, table: TableSettings, scope: Scope, behind_h: int) -> datetime:
    assert table.changes is not None, "a table with roots has changes"
    near_s = NEAR_S + behind_h * 3600
    return hours_back(lake.now(), near_s if scope == "near" else max(near_s, seconds(table.changes.lookback)))[0]


def _hour_path(hour: datetime) -> str:
    return f"{hour.year:04d}/{hour:%m/%d/%H}/"  # %Y of a year before 1000 has fewer digits on some systems


def _listed(lake: Lake, uri: str) -> Iterator[ObjectRef]:
    return lake.objects.list(uri) if lake.objects.reachable(uri) else iter(())
