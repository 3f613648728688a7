"""Repairs keys that a verification found: lands and applies what the source has of them, or had in an export.

A repair writes lines of its own envelope (`core.decode.export_lines`) below `repairs/<table>/` of the landing of the lake. They are
applied like every landed object: into the changelog, and by the order of changes into `current`. So a later change wins over
a repair, no record of the key is lost, and `current` can still be rebuilt from landing. Then the rows of the keys are
decided again over all their records, independent of the rows there were.

Crash points: objects that were written and not applied are applied by the next repair. Everything else is one commit each.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from ddb_lake.aws.items import CLOCK_SLACK_US, TableItems
from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.decode.export_lines import ITEM_MEMBER, Assertion, write_repair_line
from ddb_lake.core.layout.table_names import REPAIRS_FOLDER
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import check_keys, key_hash, key_text
from ddb_lake.core.verify.verdicts import Difference
from ddb_lake.engine.row_diff import document_key_sql, register_functions
from ddb_lake.errors import UndecodableError, UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.apply.erasures import read_erased_keys
from ddb_lake.pipeline.load.export_files import download_files, lines_sql, open_export, protected_files
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.compare import (
    Reading,
    compare_keys,
    open_items,
    require_same_source,
    require_view,
    stage_source_items,
)
from ddb_lake.pipeline.verify.full import check_export

LINES_PER_OBJECT = 2_000
MAX_ROUNDS = 3
"""A key that changes while it is read is read again, in at most so many rounds."""


@dataclass(frozen=True, slots=True)
class RepairResult:
    """The result of a repair.

    Attributes:
        source: where the images came from, in words.
        keys: the number of keys to repair.
        present: the number of keys that the source has.
        absent: the number of keys that it does not have.
        left: the remaining differences that no change under way explains.
        objects: the objects that were written, below the warehouse.
        rows: living rows of `current` afterwards.
        read_units: capacity that reading the source took.
    """

    table: str
    source: str
    keys: int
    present: int = 0
    absent: int = 0
    left: tuple[Difference, ...] = ()
    objects: tuple[str, ...] = ()
    rows: int = 0
    read_units: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Images:
    """What the source has of some keys.

    Attributes:
        items: by the text of the key; None where the source has no item.
        reading: when the source was read.
        seen_us: every change before this instant is in the images.
        asserted_us: the (exclusive) instant whose state the images assert.
    """

    items: Mapping[str, Item | None]
    reading: Reading
    seen_us: int
    asserted_us: int


@dataclass(slots=True)
class _Progress:
    """What a repair has done so far, over all rounds."""

    items: dict[str, Item | None] = field(default_factory=dict)
    objects: list[str] = field(default_factory=list)
    left: tuple[Difference, ...] = ()

    def result(self, lake: Lake, name: str, source: str, read_units: float, started: float) -> RepairResult:
        present = sum(item is not None for item in self.items.values())
        return RepairResult(
            table=name,
            source=source,
            keys=len(self.items),
            present=present,
            absent=len(self.items) - present,
            left=self.left,
            objects=tuple(self.objects),
            rows=update_current(lake, name).rows,
            read_units=read_units,
            seconds=time.monotonic() - started,
        )


def repair_from_source(
    lake: Lake, name: str, keys: Sequence[Item], *, read_rate: float | None = DEFAULT_READ_RATE
) -> RepairResult:
    """Repair keys by what the source has of them now, read with strong consistency.

    Args:
        lake: the open lake.
        name: the table.
        keys: the keys, as DynamoDB JSON; further attributes are ignored.
        read_rate: read units a second at most; None for no limit.

    Returns:
        What was repaired, and what still differs.

    Raises:
        UsageError: a key is not one of this table or was erased, the source cannot be reached, or it was created again.
    """
    started = time.monotonic()
    require_same_source(lake, name)
    remaining = _by_text(lake, name, keys)
    _apply_pending(lake, name)
    source = open_items(lake, name, read_rate)
    progress = _Progress()
    for number in range(MAX_ROUNDS):
        if not remaining:
            break
        if number:  # wait until what has just changed is certainly older than the next read
            source.sleep(2 * CLOCK_SLACK_US / 1e6)
        images = _read_images(lake, name, source, remaining)
        progress.items |= images.items
        progress.objects += _apply_images(lake, name, remaining, images)
        progress.left = _differences(lake, name, images)
        differing = {key_text(difference.key, _key(lake, name)) for difference in progress.left}
        remaining = {text: key for text, key in remaining.items() if text in differing}
    return progress.result(lake, name, f"{source.name} read by key", source.consumed.units, started)


def repair_from_export(lake: Lake, name: str, keys: Sequence[Item], uri: str) -> RepairResult:
    """Repair keys by what a full export has of them. Changes of later times in the lake still win.

    Args:
        lake: the open lake.
        name: the table.
        keys: the keys, as DynamoDB JSON; further attributes are ignored.
        uri: the export, as for `pipeline.load.load.load_export`. It need not be loaded.

    Returns:
        What was repaired, and what still differs.

    Raises:
        UsageError: a key is not one of this table or was erased, or the export is older than the lake's newest, which wins over it.
        ExportError: the export is incomplete or damaged.
    """
    started = time.monotonic()
    table = lake.table(name)
    export = open_export(lake.objects, uri)
    check_export(lake, name, export)
    if export.summary.scan_until_us is not None:
        raise UsageError(
            "is a scan, which has the state of no single instant", uri=uri, hint="use an export, or `--from-source`"
        )
    export_us = export.summary.as_of_us
    base = require_view(lake, name).state.base
    if base is not None and export_us < base.export_us:
        raise UsageError(
            f"is older than export {base.export_id}, the newest in the lake, which wins over it",
            uri=uri,
            hint="use that one or a newer one, or `--from-source`",
        )
    wanted = _by_text(lake, name, keys)
    _apply_pending(lake, name)
    items: dict[str, Item | None] = dict.fromkeys(wanted)
    with lake.session() as session:
        files = download_files(lake.objects, export, session.folder)
        files = protected_files(files, lake.protection(name), session.folder)
        stage_source_items(session, items)
        register_functions(session.con)
        session.con.execute(
            f"SELECT _key, item FROM (SELECT {document_key_sql(_key(lake, name))} AS _key,"
            f" json_extract(item, '/{ITEM_MEMBER}')::VARCHAR AS item FROM {lines_sql(files)}) i"
            " SEMI JOIN compared_keys c ON c._key = i._key"
        )
        while rows := session.con.fetchmany(LINES_PER_OBJECT):
            items |= {text: orjson.loads(item) for text, item in rows}
    reading = Reading(export_us - table.clock_skew_us, export_us + table.clock_skew_us)
    images = _Images(items, reading, export_us - table.clock_skew_us, export_us + 1)
    objects = _apply_images(lake, name, wanted, images)
    progress = _Progress(items, objects, _differences(lake, name, images))
    return progress.result(lake, name, f"export {export.summary.export_id}", 0.0, started)


def _by_text(lake: Lake, name: str, keys: Iterable[Item]) -> dict[str, Item]:
    """Distinct keys by their text. Raises UsageError for one that is not a key of the table, or that was erased."""
    names, protection = _key(lake, name), lake.protection(name)
    distinct: dict[str, Item] = {}
    for key in keys:
        try:
            check_keys(key)
            text = key_text(key, names)
        except UndecodableError as error:
            raise UsageError(f"not a key of this table, whose key is {list(names)}: {error}", table=name) from None
        if protection.leaves_out(key):
            raise UsageError("a key is left out of the lake by `filter`", table=name, hint="leave it out here too")
        distinct[text] = {part: key[part] for part in names}
    with lake.session() as session:
        erased = read_erased_keys(lake, session, name)
    if erased_keys := sum(map(erased.names, distinct)):  # a repair would land the item again
        raise UsageError(
            f"{count_text(erased_keys, 'of the keys was', 'of the keys were')} erased from the lake",
            table=name,
            hint="leave them out; `ddb-lake verify` does not report them",
        )
    return distinct


def _key(lake: Lake, name: str) -> tuple[str, ...]:
    return require_view(lake, name).state.schema.key


def _landing(lake: Lake, name: str) -> Landing:
    return Landing(lake.objects, f"{lake.landing}/{REPAIRS_FOLDER}/{name}")


def _apply_pending(lake: Lake, name: str) -> None:
    """Apply objects that an earlier repair wrote and did not apply."""
    uri = _landing(lake, name).uri
    if lake.objects.reachable(uri):
        apply_objects(lake, name, [uri])


def _read_images(lake: Lake, name: str, source: TableItems, keys: Mapping[str, Item]) -> _Images:
    from_us = source.served_us()
    items: dict[str, Item | None] = {}
    names = _key(lake, name)
    for key, item in source.get(list(keys.values())):
        items[key_text(key, names)] = item
        lake.progress(f"{name}: keys read from the source", len(items), len(keys))
    to_us = source.served_us() + 2 * CLOCK_SLACK_US
    base = require_view(lake, name).state.base
    # The read came after the lake's newest export, even if their clocks leave that open.
    asserted_us = max(from_us, base.export_us if base and base.export_us <= to_us else 0) + 1
    return _Images(items, Reading(from_us, to_us), from_us, asserted_us)


def _apply_images(lake: Lake, name: str, keys: Mapping[str, Item], images: _Images) -> list[str]:
    """Land and apply images of keys, and decide the rows of the keys again. Returns the objects."""
    landing = _landing(lake, name)
    hour = f"{lake.now():%Y/%m/%d/%H}"
    objects = []
    texts = list(keys)
    for first in range(0, len(texts), LINES_PER_OBJECT):
        lines = [
            write_repair_line(Assertion(keys[text], images.items[text], images.seen_us, images.asserted_us))
            for text in texts[first : first + LINES_PER_OBJECT]
        ]
        objects.append(landing.put(f"{hour}/repair-{uuid.uuid4().hex}.json", b"".join(lines)))
    if objects:
        apply_objects(lake, name, objects)
        update_current(lake, name, redecide_keys=[(text, key_hash(text)) for text in keys])
    return objects


def _differences(lake: Lake, name: str, images: _Images) -> tuple[Difference, ...]:
    """What still differs from the images."""
    with lake.session() as session:
        stage_source_items(session, images.items)
        return tuple(compare_keys(lake, session, name, require_view(lake, name), images.reading).differences)
