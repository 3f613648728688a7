"""What lies at a location: exports and landed change objects, with their tables, keys, layout, containers and some items.

`ddb-lake init` writes a configuration from it, and `ddb-lake doctor` compares it with the configuration. Only samples are read: at
most `MOST_LISTED` objects are listed for a location, and a few are opened. Nothing is written.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice, zip_longest
from typing import Any, TypeVar

import orjson

from ddb_lake.aws.objects import ObjectRef, ObjectStore, local_path
from ddb_lake.core.decode.compression import container_name
from ddb_lake.core.decode.export_lines import read_full_line
from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.decode.routing import arn_parts
from ddb_lake.core.layout.export_manifest import ION, MARKER
from ddb_lake.core.layout.firehose_paths import arrival_hour, hour_folder_root
from ddb_lake.core.schema.key_candidates import KeyCandidate, key_of_items, key_of_records
from ddb_lake.core.schema.table_schema import Projector, SchemaOptions, TableSchema
from ddb_lake.core.values.change_record import ChangeRecord, Item, Rejected
from ddb_lake.engine.schema_fitting import guess
from ddb_lake.errors import UndecodableError, UsageError
from ddb_lake.pipeline.load.export_files import SUMMARY, Export, open_export

T = TypeVar("T")

MOST_LISTED = 10_000
"""The most objects that are listed for a location."""

OBJECTS_PER_ROOT = 4
"""The objects that are opened of one landing: the first and the last ones."""

MOST_OBJECT_BYTES = 64 * 1024 * 1024
"""A larger change object is not opened."""

EXPORT_FILES = 4
"""The data files that are opened of one export, from the first to the last at equal distances."""

EXPORT_BYTES = 1024 * 1024
"""The bytes that are read of the data files of one export, in all."""

MOST_CONTENT_BYTES = 16 * 1024 * 1024
"""The bytes that those of one file are decompressed to, at most."""

MOST_ITEMS = 400
"""The items that are kept of each export and of each landing."""


@dataclass(frozen=True, slots=True)
class FoundExport:
    """A finished export.

    Attributes:
        export: its manifests.
        location: the folder or prefix that has `AWSDynamoDB/`, without a final slash.
        items: some of its items, of all sampled data files in turn; none of an incremental export, or in Amazon Ion.
        container: how its data files are compressed; empty without a data file.
        fault: why its items could not be read; None if they were.
    """

    export: Export
    location: str
    items: tuple[Item, ...] = ()
    container: str = ""
    fault: str | None = None

    @property
    def region(self) -> str | None:
        """The Region of its table."""
        return arn_parts(self.export.summary.table_arn)[0]


@dataclass(slots=True)
class FoundLanding:
    """The change objects below one prefix, as far as they were opened.

    Attributes:
        uri: the prefix: what precedes the folders of the hours, if there are such folders.
        is_hourly: whether the keys of all listed objects have their arrival hour.
        objects: the number of listed objects.
        first_hour: the earliest arrival hour (UTC) of the listed objects; None if no key has one.
        opened: the objects that were opened.
        containers: how they are compressed.
        records: the number of change records by source table; None for records without a table's name.
        rejected: reasons of bytes that are no change record, with their number.
        keys: the key attributes that the records of each table name.
        images: some images of each table.
        regions: the Regions that the records of each table name.
    """

    uri: str
    is_hourly: bool
    objects: int
    first_hour: datetime | None = None
    opened: list[str] = field(default_factory=list)
    containers: set[str] = field(default_factory=set)
    records: Counter[str | None] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    keys: dict[str | None, tuple[str, ...]] = field(default_factory=dict)
    images: dict[str | None, list[Item]] = field(default_factory=dict)
    regions: dict[str | None, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A source table that exports or change records name.

    Attributes:
        name: its name; None if the change records do not have it and there is no export.
        exports: its finished exports, the oldest first.
        landings: where its change records are.
        key: its key; None if nothing shows it.
        items: some of its items.
    """

    name: str | None
    exports: tuple[FoundExport, ...]
    landings: tuple[FoundLanding, ...]
    key: KeyCandidate | None
    items: tuple[Item, ...]

    @property
    def region(self) -> str | None:
        """Its Region, if all exports and records name the same one."""
        regions = {export.region for export in self.exports if export.region}
        for landing in self.landings:
            regions |= landing.regions.get(self.name, set())
        return regions.pop() if len(regions) == 1 else None


@dataclass(frozen=True, slots=True)
class Discovery:
    """The tables at some locations. `cut`: the locations with more objects than were listed."""

    tables: tuple[FoundTable, ...]
    landings: tuple[FoundLanding, ...]
    cut: tuple[str, ...]


def discover(store: ObjectStore, uris: Sequence[str]) -> Discovery:
    """Look at what lies at or below some locations.

    Args:
        store: where they are.
        uris: folders, and prefixes or objects in S3.

    Raises:
        UsageError: a folder does not exist, or there is neither an export nor a change record at any of them.
        ExportError: a manifest is damaged.
    """
    exports: list[FoundExport] = []
    landings: list[FoundLanding] = []
    cut = []
    for uri in uris:
        refs = list(islice(store.list(uri), MOST_LISTED + 1))
        if len(refs) > MOST_LISTED:
            cut.append(uri)
        exports += [read_export(store, ref.uri) for ref in refs if ref.uri.endswith(f"/{SUMMARY}")]
        landings += _landings(store, uri, [ref for ref in refs if not _is_of_an_export(ref.uri)])
    tables = _tables(exports, landings)
    if not tables:
        raise UsageError(_nothing(landings), uri=", ".join(uris), hint=_HINT)
    return Discovery(tables, tuple(landings), tuple(cut))


_HINT = "name the folder or prefix that has `AWSDynamoDB/`, and the prefix to which Firehose delivers"


def read_export(store: ObjectStore, manifest: str) -> FoundExport:
    """An export with some of its items.

    Args:
        manifest: the URI of its `manifest-summary.json`.

    Raises:
        ExportError: its manifests are damaged or contradict each other.
    """
    export = open_export(store, manifest)
    location = export.uri.partition(f"/{MARKER}")[0]
    filled = [(file, uri) for file, uri in export.files if file.item_count]
    if not filled:
        return FoundExport(export, location)
    sampled = export.summary.export_type == "FULL" and export.summary.output_format != ION
    chosen = _spread([uri for _, uri in filled], EXPORT_FILES if sampled else 1)
    limit = EXPORT_BYTES // len(chosen)
    starts = {uri: store.read_start(uri, limit) for uri in chosen}
    container = "gzip" if starts[chosen[0]].startswith(b"\x1f\x8b") else "not compressed"
    if not sampled:
        fault = "no sample is read in Amazon Ion" if export.summary.export_type == "FULL" else None
        return FoundExport(export, location, (), container, fault)
    samples = []
    for uri, start in starts.items():
        lines = _spread(_complete_lines(start, limit), MOST_ITEMS // len(chosen))
        try:
            samples.append([read_full_line(line) for line in lines])
        except UndecodableError as error:
            return FoundExport(export, location, (), container, f"{uri}: {error}")
    mixed = (item for row in zip_longest(*samples) for item in row if item is not None)
    return FoundExport(export, location, tuple(mixed), container)


def _spread(values: Sequence[T], most: int) -> list[T]:
    """At most `most` (1 or more) of some values: the first, and others at about equal distances."""
    chosen = min(most, len(values))
    return [values[number * len(values) // chosen] for number in range(chosen)]


def _complete_lines(start: bytes, limit: int) -> list[bytes]:
    """The lines that the start of a data file holds whole, without blank ones. `limit`: the bytes that were read of it, at most."""
    lines = _content(start).split(b"\n")
    is_whole = len(start) < limit and sum(map(len, lines)) < MOST_CONTENT_BYTES - len(lines)
    return [line for line in (lines if is_whole else lines[:-1]) if line.strip()]  # the last one may be cut


def read_landing(store: ObjectStore, uri: str, refs: Sequence[ObjectRef], key: Sequence[str] = ()) -> FoundLanding:
    """The first and the last ones of some change objects, opened.

    Args:
        uri: the prefix of the objects.
        refs: the objects.
        key: the table's key, which flattened records need; empty if it is not known.
    """
    hours = [hour for ref in refs if (hour := arrival_hour(ref.uri)) is not None]
    landing = FoundLanding(uri, len(hours) == len(refs), len(refs), min(hours, default=None))
    readable = [ref for ref in refs if 0 < ref.size_bytes <= MOST_OBJECT_BYTES]
    half = OBJECTS_PER_ROOT // 2
    chosen = readable if len(readable) <= OBJECTS_PER_ROOT else [*readable[:half], *readable[-half:]]
    for ref in chosen:
        data = store.fetch(ref)
        landing.opened.append(ref.uri)
        landing.containers.add(container_name(data))
        for located in read_object(data, key_names=tuple(key) or None):
            _add(landing, located.outcome)
    return landing


def first_day(store: ObjectStore, uri: str) -> date | None:
    """The day (UTC) of the earliest arrival hour of the objects below a prefix; None if no key has an hour.

    At most `MOST_LISTED` objects are listed: with folders of hours, they are the earliest ones.

    Raises:
        UsageError: the folder does not exist.
    """
    hours = (arrival_hour(ref.uri) for ref in islice(store.list(uri), MOST_LISTED))
    earliest = min((hour for hour in hours if hour is not None), default=None)
    return None if earliest is None else earliest.date()


def _add(landing: FoundLanding, outcome: object) -> None:
    if isinstance(outcome, Rejected):
        landing.rejected[outcome.reason] += 1
    elif isinstance(outcome, ChangeRecord):
        table = outcome.table
        landing.records[table] += 1
        landing.keys.setdefault(table, tuple(outcome.keys))
        images = landing.images.setdefault(table, [])
        if outcome.new_image is not None and len(images) < MOST_ITEMS:
            images.append(outcome.new_image)
        if outcome.region is not None:
            landing.regions.setdefault(table, set()).add(outcome.region)


def _landings(store: ObjectStore, uri: str, refs: Sequence[ObjectRef]) -> Iterator[FoundLanding]:
    """The change objects of a location by their prefix. Objects in no folder of an hour are below the location itself."""
    by_root: dict[str, list[ObjectRef]] = {}
    own = uri if uri.startswith("s3://") else str(local_path(uri))
    for ref in refs:
        by_root.setdefault(hour_folder_root(ref.uri) or own, []).append(ref)
    for root, inside in by_root.items():
        yield read_landing(store, root, inside)


def _tables(exports: Sequence[FoundExport], landings: Sequence[FoundLanding]) -> tuple[FoundTable, ...]:
    names: dict[str | None, None] = dict.fromkeys(export.export.summary.table_name for export in exports)
    names |= dict.fromkeys(name for landing in landings for name in landing.records)
    if None in names and len(names) == 2:  # records without a name are those of the only table that has one
        only = next(name for name in names if name is not None)
        del names[None]
        for landing in landings:
            _rename(landing, only)
    return tuple(_table(name, exports, landings) for name in names)


def _rename(landing: FoundLanding, name: str) -> None:
    """Count the records without a table's name as records of a table."""
    landing.records[name] += landing.records.pop(None, 0)
    if None in landing.keys:
        landing.keys.setdefault(name, landing.keys.pop(None))
    landing.images.setdefault(name, []).extend(landing.images.pop(None, []))
    landing.regions.setdefault(name, set()).update(landing.regions.pop(None, set()))


def _table(name: str | None, exports: Sequence[FoundExport], landings: Sequence[FoundLanding]) -> FoundTable:
    own = sorted(
        (export for export in exports if export.export.summary.table_name == name),
        key=lambda export: export.export.summary.as_of_us,
    )
    changed = [landing for landing in landings if landing.records[name]]
    exported = own[-1].items if own else ()
    images = [image for landing in changed for image in landing.images.get(name, ())]
    named = next((landing.keys[name] for landing in changed if name in landing.keys), None)
    items = exported or tuple(images)
    key = key_of_records(named, [*exported, *images]) if named else key_of_items(items)
    return FoundTable(name, tuple(own), tuple(changed), key, tuple(items))


def _is_of_an_export(uri: str) -> bool:
    return f"/{MARKER}" in uri


def _content(data: bytes) -> bytes:
    """The beginning of a data file, decompressed as far as its bytes are there."""
    return zlib.decompressobj(31).decompress(data, MOST_CONTENT_BYTES) if data.startswith(b"\x1f\x8b") else data


def _nothing(landings: Sequence[FoundLanding]) -> str:
    reasons = [reason for landing in landings for reason in landing.rejected]
    objects = sum(landing.objects for landing in landings)
    if reasons:
        return f"there is no export, and no change record was read ({reasons[0]})"
    return "there is neither an export nor a change object" if not objects else "there is no change record"


def sample_rows(items: Sequence[Item], key: Sequence[str], most: int) -> tuple[list[str], list[list[Any]]]:
    """Some items as the rows that a load makes of them, with the default settings.

    Args:
        items: the items; each of them decides the columns.
        key: the key; attributes that the items lack are left out.
        most: the number of rows, at most.

    Returns:
        The names of the columns, and the rows.
    """
    known = TableSchema(tuple(name for name in key if any(name in item for item in items)))
    schema, _ = guess(items, known, SchemaOptions())
    projector = Projector(schema)
    rows = []
    for item in items[:most]:
        values, rescued = projector.project(item)
        rows.append([*values, orjson.dumps(rescued).decode() if rescued else None])
    return [*(column.name for column in schema.columns), "_rescued"], rows
