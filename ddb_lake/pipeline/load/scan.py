"""Reads a table by a scan into files in the form of a full export: the initial load of a table without point-in-time recovery.

A scan is no snapshot: each page has the state of its own time. The files state `exportTime` = the start of the scan minus
`LAG_US`: everything that was written until then is in them. So a load applies every change after that time over the scanned items:

- An item that has no change after `exportTime` is the same at each time since. The scan has it, whenever it read it.
- An item that has one is decided by its last change. It does not matter which state the scan read, or whether it read one.

Both hold for each key once the changes up to the end of the scan (`scan_until_us`) are applied, if the stream has all changes from
`exportTime` on. Before that, older changes may be applied over newer items; the lake reports that it is catching up. The lake has
no state of an instant before the end of the scan.

Each data file is written together with the key after which its segment goes on, so an interrupted scan continues there.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Scan.html
"""

from __future__ import annotations

import gzip
import hashlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

import orjson

from ddb_lake.aws.items import CLOCK_SLACK_US, ScanPage, ScanRequest, TableItems
from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.objects import ObjectStore, join, local_path, split_s3
from ddb_lake.aws.source import SourceTable, require_source, restorable_since_s, source_client
from ddb_lake.config import TableSettings
from ddb_lake.core.layout.export_manifest import DataFile, ExportSummary, build_files, build_summary, md5_text
from ddb_lake.core.layout.scan_files import START, ScanPart, ScanStart, is_progress, last_parts
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE, READ_UNIT_BYTES, RateLimit
from ddb_lake.core.values.change_record import Item
from ddb_lake.errors import CommitConflict, ConfigError, ExportError, UsageError
from ddb_lake.pipeline.load.export_files import SUMMARY
from ddb_lake.pipeline.open_lake import Lake

LAG_US = 60_000_000
"""How long before the start of a scan every write is certainly in it: eventually consistent reads and clocks may lag.

DynamoDB states that reads are consistent usually within one second or less:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html
"""

FILE_BYTES = 16 * 1024 * 1024
"""Size of a data file before compression: what an interrupted scan reads again at most, for each segment."""

DEFAULT_SEGMENTS = 4
_PAGE_BYTES = 1024 * 1024
_UNKNOWN_ITEM_BYTES = 1024


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """How a table is scanned.

    Attributes:
        segments: the number of parallel segments. A scan that is continued keeps its own.
        read_rate: read units a second at most, of all segments together; None for no limit.
        consistent: strongly consistent reads, for twice the units.
        restart: begin a new scan even if an unfinished one is there.
        place: the folder or prefix to write below; None for the table's `export` setting.
    """

    segments: int = DEFAULT_SEGMENTS
    read_rate: float | None = DEFAULT_READ_RATE
    consistent: bool = False
    restart: bool = False
    place: str | None = None


@dataclass(frozen=True, slots=True)
class ScanEstimate:
    """The expected cost of a scan.

    Attributes:
        read_units: from the size that DynamoDB states, which is up to about six hours old.
        items: the number of items that DynamoDB states.
        size_bytes: the size that DynamoDB states.
        restorable: whether point-in-time recovery is on, so that an export is possible, which uses no read capacity.
    """

    read_units: float
    items: int
    size_bytes: int
    restorable: bool


@dataclass(frozen=True, slots=True)
class ScannedTable:
    """The result of a scan. Times are UTC microseconds.

    Attributes:
        manifest_uri: the `manifest-summary.json`, for `load_export`.
        items: the number of items.
        resumed_items: how many of them were read before this call.
        read_units: the read units of this call.
        started_us: all items were read after this time.
        until_us: all items were read before this time.
    """

    manifest_uri: str
    items: int
    resumed_items: int
    read_units: float
    started_us: int
    until_us: int


def scan_units(size_bytes: int, consistent: bool) -> float:
    """Read units of a scan of `size_bytes`: one for 4 KB if strongly consistent, half of that by default.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
    """
    units = -(-size_bytes // READ_UNIT_BYTES)
    return float(units) if consistent else units / 2


def estimate_scan(table: TableSettings, consistent: bool = False) -> ScanEstimate:
    """The cost of a scan, from DescribeTable. Reads no item.

    Raises:
        UsageError: the source cannot be reached.
    """
    source = require_source(table)
    size = source.size_bytes or 0
    return ScanEstimate(
        scan_units(size, consistent), source.items or 0, size, restorable=restorable_since_s(table) is not None
    )


def scan_table(lake: Lake, name: str, options: ScanOptions = ScanOptions()) -> ScannedTable:
    """Scan a table into files in the form of a full export, or continue an unfinished scan of it.

    The files are below `<place>/AWSDynamoDB/<id>/`. `load_export` loads them.

    Raises:
        ConfigError: there is no place to write to, or a permission is missing.
        UsageError: the source cannot be reached.
        TransientError: DynamoDB throttles or does not answer, or another process continues the same scan. Repeat the call: it
            continues where this one ended.
    """
    table = lake.table(name)
    place = options.place or (table.export.location if table.export else None)
    if place is None:
        raise ConfigError(
            "nowhere to write the scan", table=name, hint="add `export: {bucket: …}`, or name a place: --to URI"
        )
    if not place.startswith("s3://"):
        place = str(local_path(place))
    source = require_source(table)
    items = TableItems(
        source_client(table), table.source_name, RateLimit(options.read_rate), protection=lake.protection(name)
    )
    start = None if options.restart else unfinished_scan(lake.objects, place, source)
    if start is None:
        start = begin_scan(lake.objects, place, source, items, options)
    elif start.segments != options.segments or start.consistent != options.consistent:
        lake.warn(
            f"{name}: continues scan {start.id}, which has {start.segments} segments and"
            f" {'strongly' if start.consistent else 'eventually'} consistent reads; --restart begins a new one"
        )
    run = ScanRun(
        items=items,
        objects=lake.objects,
        place=place,
        start=start,
        limit=page_limit(source, options.read_rate, start),
        progress=lambda count: lake.progress(f"{name}: items scanned", count),
    )
    return run.finish()


def begin_scan(
    objects: ObjectStore, place: str, source: SourceTable, items: TableItems, options: ScanOptions
) -> ScanStart:
    """Write the description of a new scan. From this time on, every change must be in the stream."""
    started_us = items.served_us()
    start = ScanStart(
        id=f"0{started_us // 1000}-{uuid.uuid4().hex[:8]}",
        table_arn=str(source.arn),
        table_id=source.table_id or "",
        segments=options.segments,
        consistent=options.consistent,
        started_us=started_us,
    )
    Landing(objects, join(place, start.folder)).replace(START, start.to_json(), None)
    return start


def page_limit(source: SourceTable, read_rate: float | None, start: ScanStart) -> int | None:
    """The number of items of a page, so that the pages of all segments together cost about the units of one second.

    None for pages of 1 MB, DynamoDB's own limit.
    """
    if read_rate is None:
        return None
    size = (source.size_bytes or 0) / source.items if source.items else _UNKNOWN_ITEM_BYTES
    page_bytes = read_rate * READ_UNIT_BYTES * (1 if start.consistent else 2) / start.segments
    return None if page_bytes >= _PAGE_BYTES else max(1, int(page_bytes / max(size, 1)))


def unfinished_scan(objects: ObjectStore, place: str, source: SourceTable) -> ScanStart | None:
    """The newest scan of this table below a place that has no manifest; None if there is none."""
    root = join(place, "AWSDynamoDB/")
    if not objects.reachable(root):
        return None
    uris = [ref.uri for ref in objects.list(root)]
    finished = {uri.removesuffix(SUMMARY) for uri in uris if uri.endswith(f"/{SUMMARY}")}
    begun = [uri for uri in uris if uri.endswith(f"/{START}") and uri.removesuffix(START) not in finished]
    for uri in sorted(begun, reverse=True):
        start = ScanStart.from_json(objects.read(uri), uri)
        if (start.table_arn, start.table_id) == (source.arn, source.table_id or ""):
            return start
    return None


@dataclass(slots=True)
class ScanRun:
    """One call that reads what is left of a scan, with a thread for each segment.

    Attributes:
        items: the table.
        objects: where the files are read.
        place: the folder or prefix of exports.
        start: the scan.
        limit: items of a page at most; None for DynamoDB's own limit.
        progress: called with the number of items so far.
    """

    items: TableItems
    objects: ObjectStore
    place: str
    start: ScanStart
    limit: int | None = None
    progress: Callable[[int], None] = lambda _count: None
    file_bytes: int = FILE_BYTES
    _stop: Event = field(default_factory=Event)
    _counting: Lock = field(default_factory=Lock)
    _count: int = 0

    def finish(self) -> ScannedTable:
        """Read what is left, and write the manifests. Raises as `scan_table`."""
        before = self._parts()
        resumed = self._count = sum(part.items for part in before)
        units_before = self.items.consumed.units
        left = self._segments_left(before)
        self._read(left)
        parts = sorted(self._parts(), key=lambda part: (part.segment, part.number))
        if unread := self._segments_left(parts):
            raise ExportError(
                f"{count_text(len(unread), 'segment is', 'segments are')} not read completely",
                uri=self._folder,
                hint="run the command again",
            )
        until_us = -(-(self.items.served_us() + 2 * CLOCK_SLACK_US) // 1000) * 1000
        manifest = self._write_manifests(parts, until_us)
        return ScannedTable(
            manifest_uri=manifest,
            items=sum(part.items for part in parts),
            resumed_items=resumed,
            read_units=self.items.consumed.units - units_before,
            started_us=self.start.started_us,
            until_us=until_us,
        )

    @property
    def _folder(self) -> str:
        return join(self.place, self.start.folder)

    def _parts(self) -> list[ScanPart]:
        folder = self._folder
        refs = self.objects.list(folder) if self.objects.reachable(folder) else ()
        names = [uri for ref in refs if is_progress((uri := ref.uri).removeprefix(folder))]
        return [ScanPart.from_json(self.objects.read(uri), uri) for uri in names]

    def _segments_left(self, parts: list[ScanPart]) -> dict[int, ScanPart | None]:
        """The segments that are not complete, with the last part of each; None for one that has not begun."""
        last = last_parts(parts, self.start.segments, self._folder)
        return {
            segment: last.get(segment)
            for segment in range(self.start.segments)
            if segment not in last or last[segment].next_key is not None
        }

    def _read(self, left: dict[int, ScanPart | None]) -> None:
        """Read the segments in parallel. After an error or an interruption, each one writes what it has read and ends."""
        if not left:
            return
        with ThreadPoolExecutor(len(left), thread_name_prefix="scan") as pool:
            jobs = [pool.submit(self._read_segment, segment, last) for segment, last in left.items()]
            try:
                done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()
        for job in (*done, *jobs):
            job.result()

    def _read_segment(self, segment: int, last: ScanPart | None) -> None:
        number = 0 if last is None else last.number + 1
        for chunk in self._chunks(segment, None if last is None else last.next_key):
            self._write_part(segment, number, chunk)
            number += 1

    def _chunks(self, segment: int, key: Item | None) -> Iterator[_Chunk]:
        """The contents of each data file after a key, until the segment or the run ends."""
        chunk = _Chunk()
        while True:
            page = self.items.scan_page(
                ScanRequest(segment, self.start.segments, key, self.start.consistent, self.limit)
            )
            chunk.add(page)
            key = page.next_key
            with self._counting:
                self._count += len(page.items)
                self.progress(self._count)
            ends = key is None or self._stop.is_set()
            if ends or chunk.size >= self.file_bytes:
                yield chunk
                chunk = _Chunk()
            if ends:
                return

    def _write_part(self, segment: int, number: int, chunk: _Chunk) -> None:
        """Write a data file, and then its description, which makes it a part of the scan."""
        data = gzip.compress(b"".join(chunk.lines), mtime=0)
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        part = ScanPart(
            segment=segment,
            number=number,
            items=len(chunk.lines),
            name=f"data/{segment:06d}-{number:06d}-{digest[:8]}.json.gz",
            md5=md5_text(data),
            next_key=chunk.next_key,
            read_units=chunk.units,
        )
        landing = Landing(self.objects, self._folder)
        landing.put(part.name, data)
        _create(landing, part.progress_name, part.to_json())

    def _write_manifests(self, parts: list[ScanPart], until_us: int) -> str:
        """Write the manifests of the export; the summary is the last one. Returns its URI."""
        bucket, prefix = _bucket_and_prefix(self.place)
        root = f"{prefix}{self.start.folder}"
        files = build_files(DataFile(f"{root}{part.name}", part.items, part.md5) for part in parts)
        summary = build_summary(
            ExportSummary(
                export_arn=f"{self.start.table_arn}/scan/{self.start.id}",
                table_arn=self.start.table_arn,
                table_id=self.start.table_id,
                export_type="FULL",
                start_time_us=self.start.started_us,
                end_time_us=until_us,
                export_time_us=self.start.started_us - LAG_US,
                scan_until_us=until_us,
                bucket=bucket,
                prefix=prefix.rstrip("/") or None,
                manifest_files_key=f"{root}manifest-files.json",
                item_count=sum(part.items for part in parts),
            )
        )
        landing = Landing(self.objects, self._folder)
        landing.put("manifest-files.json", files)
        landing.put("manifest-files.md5", md5_text(files).encode())
        landing.put("manifest-summary.md5", md5_text(summary).encode())
        return landing.put(SUMMARY, summary)


@dataclass(slots=True)
class _Chunk:
    """The contents of one data file: the lines of some pages, and the key after them."""

    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    units: float = 0.0
    next_key: Item | None = None

    def add(self, page: ScanPage) -> None:
        found = [b'{"Item":' + orjson.dumps(item) + b"}\n" for item in page.items]
        self.lines += found
        self.size += sum(map(len, found))
        self.units += page.units
        self.next_key = page.next_key


def _create(landing: Landing, name: str, data: bytes) -> None:
    """Create a file that no other process has created; after a lost response it may be there already."""
    try:
        landing.replace(name, data, None)
    except CommitConflict as error:
        if landing.load(name)[0] != data:
            raise UsageError(
                "another process continues this scan",
                uri=join(landing.uri, name),
                hint="wait until it has ended, or begin a new scan: --restart",
            ) from error


def _bucket_and_prefix(place: str) -> tuple[str, str]:
    """The bucket and the prefix (with a final slash, or empty) of a place; for a folder, its name and no prefix."""
    if not place.startswith("s3://"):
        return Path(place).name or "folder", ""
    bucket, prefix = split_s3(place)
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
