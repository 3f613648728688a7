"""Does the lake equal its source? A sample of keys, read from the source itself.

Items are compared as DynamoDB JSON by code that has no part in loading them. Nothing is written.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import replace

import orjson

from ddb_lake.aws.items import CLOCK_SLACK_US, TableItems
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.verify.equality import key_text
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.session import Session
from ddb_lake.lake.scan import scan_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import View
from ddb_lake.pipeline.verify.compare import (
    DEFAULT_READ_RATE,
    living_view,
    make_report,
    open_items,
    put_source_items,
    reached_source,
    settled,
)
from ddb_lake.pipeline.verify.evidence import Reading
from ddb_lake.pipeline.verify.report import Report

DEFAULT_SAMPLE = 100
SEGMENT_ITEMS = 50
MAX_SEGMENTS = 1_000_000
SMALL_ROWS = 1_000_000
SAMPLED_FILES = 8


def verify_sample(
    lake: Lake,
    name: str,
    size: int = DEFAULT_SAMPLE,
    *,
    read_rate: float | None = DEFAULT_READ_RATE,
    settle_s: float = 0.0,
    seed: int | None = None,
) -> Report:
    """`size` keys of the lake and `size` of the source, read with strong consistency and compared attribute by attribute.

    Args:
        read_rate: read units a second at most.
        settle_s: how long to wait for changes under way. What differs after that is a fault; with 0, in doubt.
        seed: of the choice of keys.
    """
    started = time.monotonic()
    source = reached_source(lake, name)
    items = open_items(lake, name, read_rate)
    seen = living_view(lake, name)
    chance = random.Random(seed)
    with lake.session() as session:
        keys = _lake_keys(session, seen, size, chance)
        from_us = items.served_us()
        lake.progress(f"{name}: keys of the lake read from the source", 0, len(keys))
        known = {key_text(key, seen.state.schema.key): item for key, item in items.get(keys)}
        for item in _source_items(items, size, source.items or 0, chance):
            known[key_text(item, seen.state.schema.key)] = item
        reading = Reading(from_us, items.served_us() + 2 * CLOCK_SLACK_US)
        put_source_items(session, known)
        findings = settled(lake, session, name, reading, settle_s)
    return make_report(lake, name, "sample", f"{items.name} read by key", findings, reading, started, len(known), items)


def _lake_keys(session: Session, seen: View, size: int, chance: random.Random) -> list[Item]:
    """The keys of randomly chosen rows; of a large table, from a few files chosen by their number of rows."""
    assert seen.table is not None, "the caller has looked"
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


def _source_items(items: TableItems, size: int, count: int, chance: random.Random) -> Iterable[Item]:
    """About `size` items of randomly chosen segments of the source, in as many requests at most."""
    segments = max(1, min(MAX_SEGMENTS, count // SEGMENT_ITEMS))
    found = 0
    for _ in range(size):
        if found >= size:
            return
        for page in items.scan(chance.randrange(segments), segments, limit=min(size - found, SEGMENT_ITEMS)):
            yield from page
            found += len(page)
