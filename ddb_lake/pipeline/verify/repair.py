"""Mending keys that a verification found: what the source has now, or had in an export, lands and is applied.

A repair writes lines of its own envelope (`core.decode.export_lines`) below `repairs/<table>/` of the warehouse, and from there on
goes the way of every landed object: into the changelog, by the order into `current`. So a later change wins over a
repair, nothing else about the key is forgotten, and `current` can still be rebuilt from what landed. The rows of the
mended keys are then decided anew over all their records, whatever rows there were.

Crash points: objects that were written and not applied are applied by the next repair; all else is one commit each.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from ddb_lake.aws.items import CLOCK_SLACK_US, TableItems
from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.decode.export_lines import ITEM_MEMBER, Assertion, write_repair_line
from ddb_lake.core.layout.table_names import REPAIRS_FOLDER
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import check_keys, key_hash, key_text
from ddb_lake.core.verify.verdicts import Difference
from ddb_lake.engine.row_diff import document_key_sql, register
from ddb_lake.errors import UndecodableError, UsageError
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.export_files import download_files, lines_sql, open_export
from ddb_lake.pipeline.merge.current import update_current
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.verify.compare import (
    DEFAULT_READ_RATE,
    living_view,
    open_items,
    put_source_items,
    reached_source,
)
from ddb_lake.pipeline.verify.evidence import Reading, examine
from ddb_lake.pipeline.verify.full import check_full

LINES_PER_OBJECT = 2_000
ROUNDS = 3
"""A key that changes while it is read is read again, this often at most."""


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What a repair did.

    `keys`: that were to be mended. `present` and `absent`: what the source has of them. `left`: what still differs
    and no change under way explains. `objects`: written, below the warehouse. `rows`: living rows afterwards.
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
class _Round:
    """What the source has of some keys, and when it was read."""

    images: Mapping[str, Item | None]
    reading: Reading
    seen_us: int
    asserted_us: int


def repair_from_source(
    lake: Lake, name: str, keys: Sequence[Item], *, read_rate: float | None = DEFAULT_READ_RATE
) -> RepairResult:
    """Mend keys with what the source has of them now, read with strong consistency.

    Raises UsageError for keys that are none of this table, or if the source cannot be reached.
    """
    started = time.monotonic()
    reached_source(lake, name)
    wanted = _keyed(lake, name, keys)
    _apply_pending(lake, name)
    items = open_items(lake, name, read_rate)
    left: tuple[Difference, ...] = ()
    objects: list[str] = []
    found: dict[str, Item | None] = {}
    asked = wanted
    for attempt in range(ROUNDS):
        if not asked:
            break
        if attempt:
            items.sleep(2 * CLOCK_SLACK_US / 1e6)  # until what has just changed is certainly older than the next read
        seen = _read(lake, name, items, asked)
        found |= seen.images
        objects += _mend(lake, name, asked, seen)
        left = _unequal(lake, name, seen)
        still = {key_text(d.key, _key(lake, name)) for d in left}
        asked = {text: key for text, key in asked.items() if text in still}
    source = f"{items.name} read by key"
    return _result(lake, name, source, found, left, objects, items.consumed.units, started)


def repair_from_export(lake: Lake, name: str, keys: Sequence[Item], uri: str) -> RepairResult:
    """Mend keys with what a full export has of them. Changes that the lake has of later times still win.

    Raises UsageError for an export that is older than the lake's newest, which it could not overrule.
    """
    started = time.monotonic()
    table = lake.table(name)
    export = open_export(lake.objects, uri)
    check_full(lake, name, export)
    at_us = export.summary.as_of_us
    base = living_view(lake, name).state.base
    if base is not None and at_us < base.export_us:
        raise UsageError(
            f"is older than export {base.export_id}, on which the lake rests, and cannot overrule it",
            uri=uri,
            hint="use that one or a newer one, or `--from-source`",
        )
    wanted = _keyed(lake, name, keys)
    _apply_pending(lake, name)
    images: dict[str, Item | None] = dict.fromkeys(wanted)
    with lake.session() as session:
        files = download_files(lake.objects, export, session.folder)
        put_source_items(session, images)
        register(session.con)
        session.con.execute(
            f"SELECT _key, item FROM (SELECT {document_key_sql(_key(lake, name))} AS _key,"
            f" json_extract(item, '/{ITEM_MEMBER}')::VARCHAR AS item FROM {lines_sql(files)}) i"
            " SEMI JOIN asked_keys a ON a._key = i._key"
        )
        while rows := session.con.fetchmany(LINES_PER_OBJECT):
            images |= {text: orjson.loads(item) for text, item in rows}
    reading = Reading(at_us - table.clock_skew_us, at_us + table.clock_skew_us)
    seen = _Round(images, reading, at_us - table.clock_skew_us, at_us + 1)
    objects = _mend(lake, name, wanted, seen)
    left = _unequal(lake, name, seen)
    return _result(lake, name, f"export {export.summary.export_id}", images, left, objects, 0.0, started)


def _keyed(lake: Lake, name: str, keys: Iterable[Item]) -> dict[str, Item]:
    """Distinct keys by their text. Raises UsageError for one that is no key of the table."""
    names = _key(lake, name)
    found: dict[str, Item] = {}
    for key in keys:
        try:
            check_keys(key)
            text = key_text(key, names)
        except UndecodableError as error:
            raise UsageError(f"not a key of this table, whose key is {list(names)}: {error}", table=name) from None
        found[text] = {part: key[part] for part in names}
    return found


def _key(lake: Lake, name: str) -> tuple[str, ...]:
    return living_view(lake, name).state.schema.key


def _place(lake: Lake, name: str) -> Landing:
    return Landing(lake.objects, f"{lake.catalog.warehouse}/{REPAIRS_FOLDER}/{name}")


def _apply_pending(lake: Lake, name: str) -> None:
    """Apply what an earlier repair wrote and could not apply."""
    uri = _place(lake, name).uri
    if lake.objects.reachable(uri):
        apply_objects(lake, name, [uri])


def _read(lake: Lake, name: str, items: TableItems, keys: Mapping[str, Item]) -> _Round:
    """What the source has of the keys. All changes before `seen_us` are in it."""
    from_us = items.served_us()
    images: dict[str, Item | None] = {}
    names = _key(lake, name)
    for key, item in items.get(list(keys.values())):
        images[key_text(key, names)] = item
        lake.progress(f"{name}: keys read from the source", len(images), len(keys))
    to_us = items.served_us() + 2 * CLOCK_SLACK_US
    base = living_view(lake, name).state.base
    # The read came after the export that the lake rests on, even if their clocks leave it open.
    asserted_us = max(from_us, base.export_us if base and base.export_us <= to_us else 0) + 1
    return _Round(images, Reading(from_us, to_us), from_us, asserted_us)


def _mend(lake: Lake, name: str, keys: Mapping[str, Item], seen: _Round) -> list[str]:
    """Land and apply what was seen of the keys, and decide their rows anew."""
    place = _place(lake, name)
    hour = f"{lake.now():%Y/%m/%d/%H}"
    objects = []
    texts = list(keys)
    for first in range(0, len(texts), LINES_PER_OBJECT):
        batch = [(text, keys[text]) for text in texts[first : first + LINES_PER_OBJECT]]
        lines = [
            write_repair_line(Assertion(k, seen.images[text], seen.seen_us, seen.asserted_us)) for text, k in batch
        ]
        objects.append(place.put(f"{hour}/repair-{uuid.uuid4().hex}.json", b"".join(lines)))
    if objects:
        apply_objects(lake, name, objects)
        update_current(lake, name, redecide_keys=[(text, key_hash(text)) for text in keys])
    return objects


def _unequal(lake: Lake, name: str, seen: _Round) -> tuple[Difference, ...]:
    with lake.session() as session:
        put_source_items(session, seen.images)
        return tuple(examine(lake, session, name, living_view(lake, name), seen.reading).differences)


def _result(
    lake: Lake,
    name: str,
    source: str,
    images: Mapping[str, Item | None],
    left: tuple[Difference, ...],
    objects: Sequence[str],
    units: float,
    started: float,
) -> RepairResult:
    present = sum(image is not None for image in images.values())
    rows = update_current(lake, name).rows
    absent = len(images) - present
    seconds = time.monotonic() - started
    return RepairResult(name, source, len(images), present, absent, left, tuple(objects), rows, units, seconds)
