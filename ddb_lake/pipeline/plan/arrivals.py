"""The lister of landed change objects: which objects a table has not applied, for sync, the sensor, checks and daily states.

A change object's key begins with the hour in which its oldest record arrived. Objects may appear late, sort before
others, be in folders of another layout, and be rewritten. So no position is stored as "listed up to here": listings are
compared by name *and version* with the ledger. The recent hours are listed often, the look-back window less often,
everything below the prefix rarely.

Under `layout: auto` each listing examines the folders directly below the prefix. Those that are years are listed by
hour; all other objects and folders are listed entirely. A listing of everything finds every object, whatever the
layout is.

Firehose's default key prefix is `yyyy/MM/dd/HH/` (UTC):
https://docs.aws.amazon.com/firehose/latest/dev/s3-object-name.html
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
from ddb_lake.engine.sql import literal
from ddb_lake.errors import UnreachableError
from ddb_lake.pipeline.apply.changelog import not_ingested
from ddb_lake.pipeline.apply.ledger import read_ledger
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.work import hours_back

Scope: TypeAlias = Literal["recent", "lookback", "all"]
"""The scope of a listing: the hours in which objects may still appear, the look-back window, or everything."""

RECENT_S = 3600
"""Firehose buffers for up to 15 minutes and names an object by its oldest record: this hour or the one before.

https://docs.aws.amazon.com/firehose/latest/dev/buffering-hints.html
https://docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html
"""

FARTHEST_ZONE = timedelta(hours=14)
"""The greatest distance of the folders of a CustomTimeZone from UTC: UTC+14 in the east, UTC-12 in the west."""

MOST_FOLDERS = 16
"""The most folders beside those of years that are listed one by one; with more, everything is listed."""

_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)
_YEAR = re.compile(r"\d{4}/")


@dataclass(frozen=True, slots=True)
class Root:
    """A prefix below which change objects land, and the layout of the keys there.

    `hourly`: each key continues with yyyy/MM/dd/HH/. `flat`: keys may continue in any way. `auto`: each listing decides.
    `continued`: objects whose key continues the prefix with yyyy/MM/dd/HH/ and no slash between; nothing else.
    """

    uri: str
    layout: Literal["hourly", "flat", "auto", "continued"]

    def hour_prefix(self, hour: datetime) -> str:
        """The prefix of an hour's objects, if they are in the folder of that hour."""
        return f"{self.uri}{_hour_path(hour)}"

    def folder_hour(self, uri: str) -> datetime | None:
        """The hour whose listing finds the object; None if the object is in no folder of its hour."""
        hour = arrival_hour(uri) if self.layout != "flat" else None
        return hour if hour is not None and uri.startswith(self.hour_prefix(hour)) else None

    def contains(self, uri: str) -> bool:
        """Whether the object belongs to this root."""
        return continues(self.uri, uri) if self.layout == "continued" else is_below(self.uri, uri)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Objects that are not applied.

    `hours`: the arrival hours whose listing finds objects. `outside_hours`: the number of objects that no such listing
    finds.
    """

    refs: tuple[ObjectRef, ...] = ()
    hours: tuple[datetime, ...] = ()
    outside_hours: int = 0

    def in_hours(self, hours: Iterable[datetime]) -> list[ObjectRef]:
        """The objects of some arrival hours."""
        wanted = set(hours)
        return [ref for ref in self.refs if arrival_hour(ref.uri) in wanted]

    @property
    def oldest_us(self) -> int | None:
        """When the first of them was written (UTC microseconds); None without objects."""
        return min((ref.modified_us for ref in self.refs), default=None)


def landing_roots(lake: Lake, table: TableSettings) -> list[Root]:
    """The prefixes below which a table's objects land. Reads the settings only.

    `s3://b/landing` without a final slash has two prefixes: Firehose appends yyyy/MM/dd/HH/ without a slash.
    """
    changes = table.changes
    if changes is None:
        return []
    written_by_us = lake.settings.stream_landing(table)
    roots: list[Root] = []
    for uri in lake.settings.change_uris(table):
        if not uri.startswith("s3://"):
            roots.append(Root(str(local_path(uri)), "flat"))
        else:
            roots.append(Root(f"{uri.rstrip('/')}/", "hourly" if uri == written_by_us else changes.layout))
        if not uri.endswith("/") and _has_key(uri):
            roots.append(Root(roots[-1].uri.rstrip("/"), "continued"))
    return list(dict.fromkeys(roots))


def list_landed(lake: Lake, table: TableSettings, scope: Scope, hours_behind: int = 0) -> Iterator[ObjectRef]:
    """The change objects in scope, applied or not. A folder that does not exist yet has none.

    Args:
        lake: an open lake.
        table: the table's settings.
        scope: how far back to list.
        hours_behind: how many more hours are recent, from `hours_behind_utc` of an earlier listing.
    """
    for root in landing_roots(lake, table):
        if scope == "all":
            yield from _everything(lake, root)
        else:
            yield from _since(lake, root, _first_hour(lake, table, scope, hours_behind))
    if scope == "all":
        _warn_of_continued_keys(lake, table)


def require_landing(lake: Lake, table: TableSettings) -> None:
    """Raise UnreachableError if a folder in which change objects land does not exist: an empty listing then shows nothing."""
    for root in landing_roots(lake, table):
        if root.layout == "continued" or lake.objects.reachable(root.uri):
            continue
        if next(_continued(lake.objects, Root(root.uri.rstrip("/"), "continued"), _FIRST), None) is None:
            raise UnreachableError("the folder in which changes land does not exist", uri=root.uri, table=table.name)


def has_ingested_landing(lake: Lake, table: TableSettings) -> bool:
    """Whether the ledger has an object below `changes.uri`.

    In S3 an empty listing of a prefix does not show that the prefix is right: prefixes do not exist by themselves. True if the
    settings name no prefix.
    """
    uri = table.changes.uri if table.changes is not None else None
    if uri is None:
        return True
    prefix = (uri if uri.startswith("s3://") else str(local_path(uri))).rstrip("/")
    below = f"starts_with(object, {literal(prefix + '/')})"
    continued = f"regexp_matches(substr(object, {len(prefix) + 1}), '^[0-9]{{4}}/')"
    condition = below if uri.endswith("/") else f"({below} OR (starts_with(object, {literal(prefix)}) AND {continued}))"
    with lake.session() as session:
        return bool(session.rows(f"SELECT 1 FROM {read_ledger(lake, table.name).sql()} WHERE {condition} LIMIT 1"))


def has_landed(lake: Lake, table: TableSettings) -> bool:
    """Whether there is any object where a table's change objects land."""
    return any(next(iter(_everything(lake, root)), None) is not None for root in landing_roots(lake, table))


def list_notified(lake: Lake, roots: Sequence[Root], uris: Sequence[str]) -> Iterator[ObjectRef]:
    """The objects at the URIs of notifications. Where keys are sorted by the hour, all objects of these hours."""
    prefixes: dict[str, None] = {}
    for root in roots:
        for uri in filter(root.contains, uris):
            hour = root.folder_hour(uri)
            prefixes[uri if hour is None else root.hour_prefix(hour)] = None
    for prefix in prefixes:
        yield from _listed(lake, prefix)


def prefixes_of_hours(lake: Lake, table: TableSettings, hours: Sequence[datetime]) -> list[str]:
    """URIs at or below which all change objects of some arrival hours are."""
    wanted = set(hours)
    prefixes: list[str] = []
    for root in landing_roots(lake, table):
        by_hour, rest = _split(lake, root)
        if by_hour:
            prefixes += [root.hour_prefix(hour) for hour in hours]
        prefixes += [ref.uri for ref in rest if arrival_hour(ref.uri) in wanted]
    return prefixes


def all_prefixes(lake: Lake, table: TableSettings) -> list[str]:
    """URIs at or below which all change objects of a table are that are not applied."""
    prefixes: list[str] = []
    for root in landing_roots(lake, table):
        if root.layout == "continued":  # a prefix above the hour would include other tables' objects
            refs = unapplied(lake, table, list(_everything(lake, root))).refs
            prefixes += dict.fromkeys(ref.uri[: len(root.hour_prefix(_FIRST))] for ref in refs)
        elif lake.objects.reachable(root.uri):
            prefixes.append(root.uri)
    return prefixes


def unapplied(lake: Lake, table: TableSettings, refs: Sequence[ObjectRef], first_hour: datetime = _FIRST) -> Arrivals:
    """The objects of `refs` whose present version is not in the ledger.

    Args:
        lake: an open lake.
        table: the table's settings.
        refs: listed objects.
        first_hour: the first hour that counts as one; objects of earlier and of future hours are outside of hours.
    """
    if not refs:
        return Arrivals()
    with lake.session() as session:
        fresh: list[ObjectRef] = not_ingested(lake, session, table.name, refs)
    roots, now = landing_roots(lake, table), lake.now()
    hours: list[datetime] = []
    for ref in fresh:
        hour = arrival_hour(ref.uri)
        if hour is not None and first_hour <= hour <= now and any(_finds_by_hour(root, ref.uri) for root in roots):
            hours.append(hour)
    return Arrivals(tuple(fresh), tuple(sorted(set(hours))), len(fresh) - len(hours))


def list_unapplied(lake: Lake, table: TableSettings, scope: Scope = "all") -> Arrivals:
    """The landed objects in scope that are not applied."""
    return unapplied(lake, table, list(dict.fromkeys(list_landed(lake, table, scope))))


def earliest_arrival_us(ref: ObjectRef) -> int | None:
    """The earliest time (UTC microseconds) at which the records of an object may have arrived; None if unknown.

    A key's hour is used as UTC only if the object was written soon after it. Otherwise the hour may be local time, or the
    object may be a copy.
    """
    hour = arrival_hour(ref.uri)
    if hour is None:
        return None
    hour_us, buffer_us = int(hour.timestamp()) * 1_000_000, RECENT_S * 1_000_000
    if hour_us > ref.modified_us:  # local time ahead of UTC: a copy is written after its hour
        return ref.modified_us - buffer_us
    if ref.modified_us - hour_us < 2 * buffer_us:
        return hour_us
    return hour_us - int(FARTHEST_ZONE.total_seconds()) * 1_000_000


def hours_behind_utc(refs: Iterable[ObjectRef], now: datetime) -> int:
    """The hours by which the folders of recent objects are behind UTC: 4 for the CustomTimeZone of New York in summer."""
    since_us = int((now - timedelta(seconds=2 * RECENT_S)).timestamp()) * 1_000_000
    behind = 0
    for ref in refs:
        hour = arrival_hour(ref.uri) if ref.modified_us >= since_us else None
        if hour is not None:
            behind_us = ref.modified_us - int(hour.timestamp()) * 1_000_000
            behind = max(behind, behind_us // 3_600_000_000)
    return min(behind, int(FARTHEST_ZONE.total_seconds()) // 3600)


def continued_key(objects: ObjectStore, uri: str) -> str | None:
    """An object whose key continues a prefix that ends with a slash, but without the slash; None if there is none."""
    if not uri.endswith("/") or not _has_key(uri):
        return None
    root = Root(uri.rstrip("/") if uri.startswith("s3://") else str(local_path(uri)), "continued")
    return next((ref.uri for ref in _continued(objects, root, _FIRST)), None)


def continued_key_text(uri: str, example: str) -> str:
    """The message about objects beside a prefix that ends with a slash."""
    return (
        f"some keys continue {uri} without its slash, such as {example}; these objects are not read:"
        f" write `uri: {uri.rstrip('/')}` if they are this table's (Firehose appends yyyy/MM/dd/HH/ without a slash)"
    )


def _has_key(uri: str) -> bool:
    """Whether a URI names more than a bucket."""
    return not uri.startswith("s3://") or split_s3(uri)[1].strip("/") != ""


def _warn_of_continued_keys(lake: Lake, table: TableSettings) -> None:
    changes = table.changes
    for uri in (changes.uri, changes.errors_uri) if changes is not None else ():
        example = continued_key(lake.objects, uri) if uri is not None else None
        if uri is not None and example is not None:
            lake.warn(f"{table.name}: {continued_key_text(uri, example)}")


def _finds_by_hour(root: Root, uri: str) -> bool:
    """Whether `prefixes_of_hours` includes an object for its hour, independent of the other objects below the root."""
    if root.folder_hour(uri) is not None:
        return True
    by_hour = root.layout in ("hourly", "continued") or (
        root.layout == "auto" and _YEAR.match(uri.removeprefix(root.uri)) is not None
    )
    return not by_hour and root.contains(uri)


def _everything(lake: Lake, root: Root) -> Iterator[ObjectRef]:
    if root.layout == "continued":
        return _continued(lake.objects, root, _FIRST)
    return _listed(lake, root.uri)


def _since(lake: Lake, root: Root, first: datetime) -> Iterator[ObjectRef]:
    """The objects of the hours from `first` on, and all objects that are in no folder of an hour."""
    by_hour, rest = _split(lake, root)
    yield from rest
    if by_hour and root.layout == "continued":
        yield from _continued(lake.objects, root, first)
    elif by_hour:  # keys sort as the hours do: one listing has all of them, with those ahead of UTC
        yield from lake.objects.list_span(root.uri, root.hour_prefix(first), root.hour_prefix(_LAST))


def _split(lake: Lake, root: Root) -> tuple[bool, Iterable[ObjectRef]]:
    """Whether objects of the root are in folders of hours, and all its objects that are not."""
    if root.layout == "auto":
        level = lake.objects.level(root.uri)
        years = [] if level is None else [f for f in level.folders if _YEAR.fullmatch(f.removeprefix(root.uri))]
        if level is None or not years or len(level.folders) - len(years) > MOST_FOLDERS:
            return False, _listed(lake, root.uri)
        return True, _beside_years(lake, level.objects, [f for f in level.folders if f not in set(years)])
    if root.layout == "flat" or not root.uri.startswith("s3://"):
        return False, _everything(lake, root)
    return True, ()


def _beside_years(lake: Lake, objects: Iterable[ObjectRef], folders: Iterable[str]) -> Iterator[ObjectRef]:
    yield from objects
    for folder in folders:
        yield from _listed(lake, folder)


def _continued(objects: ObjectStore, root: Root, first: datetime) -> Iterator[ObjectRef]:
    """The objects whose keys continue the root with an hour and no slash between, from an hour on."""
    if root.uri.startswith("s3://"):
        refs = objects.list_span(root.uri, root.hour_prefix(first), root.hour_prefix(_LAST))
        yield from (ref for ref in refs if root.contains(ref.uri))
        return
    path = Path(root.uri)
    for folder in sorted(path.parent.glob(f"{_literally(path.name)}[0-9][0-9][0-9][0-9]")):
        yield from (ref for ref in objects.list(str(folder)) if root.contains(ref.uri))


def _literally(name: str) -> str:
    """A glob pattern that matches this name only."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _first_hour(lake: Lake, table: TableSettings, scope: Scope, hours_behind: int) -> datetime:
    assert table.changes is not None, "a table with roots has changes"
    recent_s = RECENT_S + hours_behind * 3600
    back_s = recent_s if scope == "recent" else max(recent_s, seconds(table.changes.lookback))
    return hours_back(lake.now(), back_s)[0]


def _hour_path(hour: datetime) -> str:
    return f"{hour.year:04d}/{hour:%m/%d/%H}/"  # %Y of a year before 1000 has fewer digits on some systems


def _listed(lake: Lake, uri: str) -> Iterator[ObjectRef]:
    return lake.objects.list(uri) if lake.objects.reachable(uri) else iter(())
