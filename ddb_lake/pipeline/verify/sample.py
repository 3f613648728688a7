"""Verifies a table by a sample of keys, which are read from the source itself. Nothing is written.

The keys come from both sides: keys of the lake find rows that are wrong or superfluous, items of the source find missing rows.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import replace

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
from ddb_lake.pipeline.read.verification_report import Report
from ddb_lake.pipeline.verify.compare import (
    Comparison,
    Reading,
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


def _random_source_items(items: TableItems, size: int, count: int, chance: random.Random) -> Iterable[Item]:
    """About `size` items of randomly chosen segments of the source, by at most as many requests."""
    segments = max(1, min(MAX_SEGMENTS, count // SEGMENT_ITEMS))
    count_read = 0
    for _ in range(size):
        if count_read >= size:
            return
        for page in items.scan(chance.randrange(segments), segments, limit=min(size - count_read, SEGMENT_ITEMS)):
            yield from page
            count_read += len(page)
