"""Verifies a table by a sample of keys, which are read from the source itself. Nothing is written.

The keys come from both sides: keys of the lake find rows that are wrong or superfluous, items of the source find missing rows.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from ddb_lake.aws.items import CLOCK_SLACK_US, TableItems
from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.verify.equality import key_text
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.session import Session
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import View
from ddb_lake.pipeline.read.verification_report import Cost, Report
from ddb_lake.pipeline.verify.compare import (
    Comparison,
    Findings,
    Reading,
    compare_keys,
    compare_until_certain,
    make_report,
    open_items,
    require_same_source,
    require_view,
    stage_source_items,
)

DEFAULT_SAMPLE = 100
SEGMENT_ITEMS = 50
MAX_SEGMENTS = 1_000_000
SMALL_ROWS = 1_000_000
SAMPLED_FILES = 8

STALE_US = 60_000_000
"""How much older than the read an eventually consistent image is taken to be at most, before the key is read again."""


def verify_sample(
    lake: Lake,
    name: str,
    size: int = DEFAULT_SAMPLE,
    *,
    read_rate: float | None = DEFAULT_READ_RATE,
    settle_s: float = 0.0,
    seed: int | None = None,
) -> Report:
    """Compare random keys of the lake and of the source, read with strong consistency.

    Args:
        lake: the open lake.
        name: the table.
        size: the number of keys chosen from the lake's rows, and about as many from the source's items.
        read_rate: read units a second at most; None for no limit.
        settle_s: how long to wait for changes under way. What differs after that is certain; with 0 it may be in doubt.
        seed: of the choice of keys.

    Returns:
        The report. Nothing is written.

    Raises:
        UsageError: the source cannot be reached, was created again, or nothing is in the lake yet.
    """
    started = time.monotonic()
    source = require_same_source(lake, name)
    items = open_items(lake, name, read_rate)
    seen = require_view(lake, name)
    chance = random.Random(seed)
    with lake.session() as session:
        keys = _random_lake_keys(session, seen, size, chance)
        from_us = items.served_us()
        lake.progress(f"{name}: keys of the lake read from the source", 0, len(keys))
        known = {key_text(key, seen.state.schema.key): item for key, item in items.get(keys)}
        for item in _random_source_items(items, size, source.items or 0, chance):
            known[key_text(item, seen.state.schema.key)] = item
        reading = Reading(from_us, items.served_us() + 2 * CLOCK_SLACK_US)
        stage_source_items(session, known)
        findings = compare_until_certain(lake, session, name, reading, settle_s)
    read_units = items.consumed.units
    comparison = Comparison(name, "sample", f"{items.name} read by key", reading, findings, len(known), read_units)
    return make_report(lake, comparison, started)


def verify_daily_sample(
    lake: Lake, name: str, keys: int, *, read_rate: float | None = DEFAULT_READ_RATE, seed: int | None = None
) -> KeysRead:
    """Compare about `keys` random keys, half of the lake and half of the source, at the least cost.

    The source is read with eventual consistency, which costs 0.5 read units for each 4 KB of an item: at most 50 units for 100
    items of up to 4 KB. Where items are larger, fewer are read, so that this budget holds. An image that eventual consistency
    left behind must not count as a difference: keys that differ are read again with strong consistency (`verify_keys`).

    Args:
        lake: the open lake.
        name: the table.
        keys: the number of keys of both sides together, 1 or more.
        read_rate: read units a second at most; None for no limit.
        seed: of the choice of keys.

    Raises:
        UsageError: as `verify_sample`.
    """
    started = time.monotonic()
    source = require_same_source(lake, name)
    items = open_items(lake, name, read_rate)
    items.consistent = False
    seen = require_view(lake, name)
    chance = random.Random(seed)
    size = affordable_keys(keys, source.size_bytes or 0, source.items or 0)
    key_names = seen.state.schema.key
    with lake.session() as session:
        wanted = _random_lake_keys(session, seen, (size + 1) // 2, chance)
        from_us = items.served_us() - STALE_US
        known = {key_text(key, key_names): item for key, item in items.get(wanted)}
        for item in _random_source_items(items, size // 2, source.items or 0, chance, size // 2):
            known[key_text(item, key_names)] = item
        reading = Reading(from_us, items.served_us() + 2 * CLOCK_SLACK_US)
        stage_source_items(session, known)
        findings = compare_keys(lake, session, name, seen, reading)
    described = f"{items.name}, read by key with eventual consistency"
    comparison = Comparison(name, "sample", described, reading, findings, len(known), items.consumed.units)
    report = make_report(lake, comparison, started)
    if not report.differences:
        return KeysRead(report, reading, {})
    again = verify_keys(lake, name, [difference.key for difference in report.differences], read_rate=read_rate)
    units = Cost(read_units=report.cost.read_units + again.report.cost.read_units)
    explained = report.explained + again.report.explained
    return replace(again, report=replace(again.report, compared=len(known), explained=explained, cost=units))


@dataclass(frozen=True, slots=True)
class KeysRead:
    """A comparison of some keys, and the state of the source that it read.

    Attributes:
        report: the result.
        reading: when the source was read.
        digests: digests of the source's items, by the text of their keys; those of absent items are empty.
    """

    report: Report
    reading: Reading
    digests: Mapping[str, str]


def verify_keys(
    lake: Lake,
    name: str,
    keys: Sequence[Item],
    *,
    read_rate: float | None = DEFAULT_READ_RATE,
    earlier: KeysRead | None = None,
) -> KeysRead:
    """Compare some keys, read from the source with strong consistency.

    Args:
        lake: the open lake.
        name: the table.
        keys: distinct keys of the table.
        read_rate: read units a second at most; None for no limit.
        earlier: an earlier comparison of them. A difference of an item that is the same as then is judged as of that time: it is
            certain as soon as the lake has later changes, of any key.

    Raises:
        UsageError: as `verify_sample`.
    """
    started = time.monotonic()
    require_same_source(lake, name)
    items, seen = open_items(lake, name, read_rate), require_view(lake, name)
    from_us = items.served_us()
    known = {key_text(key, seen.state.schema.key): item for key, item in items.get(keys)}
    reading = Reading(from_us, items.served_us() + 2 * CLOCK_SLACK_US)
    digests = {text: _digest(item) for text, item in known.items()}
    same = {text for text, digest in digests.items() if earlier is not None and earlier.digests.get(text) == digest}
    findings = Findings()
    with lake.session() as session:
        for texts, read in ((same, earlier.reading if earlier else reading), (known.keys() - same, reading)):
            if texts:
                stage_source_items(session, {text: known[text] for text in texts})
                findings += compare_keys(lake, session, name, require_view(lake, name), read)
    described = f"{items.name}, read by key with strong consistency"
    comparison = Comparison(name, "sample", described, reading, findings, len(known), items.consumed.units)
    # the time of the earlier reading is kept for items that did not change since then
    kept = earlier.reading if earlier is not None and same == known.keys() else reading
    return KeysRead(make_report(lake, comparison, started), kept, digests)


def _digest(item: Item | None) -> str:
    return "" if item is None else hashlib.sha256(orjson.dumps(item, option=orjson.OPT_SORT_KEYS)).hexdigest()


def affordable_keys(keys: int, table_bytes: int, items: int) -> int:
    """The number of items whose eventually consistent reads take no more units than `keys` reads of up to 4 KB; at least 2.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html
    """
    blocks = max(1, math.ceil(table_bytes / max(items, 1) / 4096))
    return min(keys, max(2, keys // blocks))


def _random_lake_keys(session: Session, seen: View, size: int, chance: random.Random) -> list[Item]:
    """The keys of randomly chosen rows. Of a large table, only a few files are read, chosen by their number of rows."""
    assert seen.table is not None, "the view is of require_view"
    scan = scan_table(seen.table)
    live = scan.live
    if not live.data or size == 0:
        return []
    weights = [f.record_count for f in live.data]
    chosen = live.data if live.rows <= SMALL_ROWS else chance.choices(live.data, weights, k=SAMPLED_FILES)
    paths = sorted({f.file_path for f in chosen})
    rows = scan.sql(paths)
    parts = [c for c in seen.state.schema.columns if c.path in {(k,) for k in seen.state.schema.key}]
    schema = replace(seen.state.schema, columns=tuple(parts))
    seed = chance.randrange(1 << 31)
    found = session.rows(
        f"SELECT {item_sql(schema)}, CASE WHEN {key_text_sql(schema, 'NULL')} IS NULL THEN _rescued END"
        f" FROM {rows} USING SAMPLE reservoir({int(size)} ROWS) REPEATABLE ({seed})"
    )
    whole = (orjson.loads(complete(item, rescued)) for item, rescued in found)
    distinct = {key_text(item, schema.key): {part: item[part] for part in schema.key} for item in whole}
    return list(distinct.values())


def _random_source_items(
    items: TableItems, size: int, count: int, chance: random.Random, most_reads: int | None = None
) -> Iterable[Item]:
    """About `size` items of randomly chosen segments of the source, by at most as many requests.

    `most_reads`: of items of up to 4 KB; a request that returns no item counts as one, because DynamoDB charges for it.
    """
    segments = max(1, min(MAX_SEGMENTS, count // SEGMENT_ITEMS))
    count_read, reads = 0, 0
    for _ in range(size):
        limit = min(size - count_read, SEGMENT_ITEMS, size if most_reads is None else most_reads - reads)
        if limit < 1:
            return
        for page in items.scan(chance.randrange(segments), segments, limit=limit):
            yield from page
            count_read += len(page)
            reads += max(1, len(page))
