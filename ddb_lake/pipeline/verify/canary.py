"""The canary of a table: an item that is written to the source to see whether its change arrives in `current`.

The state is the item itself: the source has the last one written and its time, `current` the last one that arrived. Only
tables with `checks.canary` have one, because it writes to the source. `core.capture.health` judges it.
"""

from __future__ import annotations

import uuid

import orjson

from ddb_lake.config import TableSettings, seconds
from ddb_lake.core.capture import health
from ddb_lake.core.capture.health import Sign
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.key_text import key_text_sql
from ddb_lake.engine.sql import literal
from ddb_lake.errors import ConfigError
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import view
from ddb_lake.pipeline.table_key import table_key
from ddb_lake.pipeline.verify.compare import living_rows_sql, open_items

NONCE, WRITTEN = "ddb_lake_canary", "ddb_lake_written_us"
RATE = 100.0


def canary_sign(lake: Lake, table: TableSettings) -> Sign:
    """Judge the last canary, and write the next one if it has arrived.

    Raises:
        ConfigError: `checks.canary.key` is not a key of the table, or the key of an item that is no canary.
        TerminalError: DynamoDB refuses to read or write the item.
    """
    settings = table.checks.canary
    assert settings is not None, "the registry of checks requires it"
    key: Item = {name: dict(value) for name, value in settings.key.items()}
    wanted = table_key(lake, table.name)
    if set(key) != set(wanted):
        raise ConfigError(f"checks.canary.key has {sorted(key)}, the table's key is {list(wanted)}", table=table.name)
    if lake.protection(table.name).leaves_out(key):
        raise ConfigError("checks.canary.key is left out of the lake by `filter`", table=table.name)
    items = open_items(lake, table.name, RATE)
    ((_, source_item),) = items.get([key])
    now_us = int(lake.now().timestamp() * 1_000_000)
    step = health.canary_step(
        _written(source_item), _arrived(lake, table.name, key), now_us, seconds(table.checks.max_lag)
    )
    if step.write:
        items.put([{**key, NONCE: {"S": uuid.uuid4().hex}, WRITTEN: {"N": str(now_us)}}])
    return step.sign


def _written(item: Item | None) -> tuple[str, int] | None:
    """The nonce and time of a canary; None if there is none, or an item that is no canary."""
    if item is None:
        return None
    if NONCE not in item or WRITTEN not in item:
        raise ConfigError("checks.canary.key is the key of an item that is no canary: choose one that no item has")
    return str(item[NONCE]["S"]), int(item[WRITTEN]["N"])


def _arrived(lake: Lake, name: str, key: Item) -> str | None:
    """The nonce of the canary in `current`."""
    seen = view(lake, name)
    if seen.table is None:
        return None
    schema = seen.state.schema
    text = key_text(key, schema.key)
    with lake.session() as session:
        found = session.rows(
            f"SELECT {item_sql(schema)}, _rescued FROM {living_rows_sql(seen)}"
            f" WHERE _key_hash = {key_hash(text)} AND {key_text_sql(schema)} = {literal(text)}"
        )
    whole = [orjson.loads(complete(item, rescued)) for item, rescued in found]
    return next((str(item[NONCE]["S"]) for item in whole if NONCE in item), None)
