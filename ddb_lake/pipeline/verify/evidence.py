"""Keys of a lake held against what the source has: the evidence about each, and the verdict.

Works in one DuckDB session on the tables `source_items` (_key, _key_hash, item: DynamoDB JSON) and `asked` (_key_hash:
of the rows of the lake that are to be compared). Items are compared as canonical DynamoDB JSON, by `ddb_lake.core.verify.equality`,
which shares no code with what loads and merges them. The lake's side is the item that `dump` gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.core.merge.ordering import ABSENT
from ddb_lake.core.verify.equality import canonical
from ddb_lake.core.verify.verdicts import (
    Difference,
    Evidence,
    Known,
    judge,
)
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.merge_plan import version_us
from ddb_lake.engine.row_diff import document_key_sql, dumped_sql, register
from ddb_lake.engine.session import Session
from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.pipeline.merge.sources import records_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import View, replay

FETCH_ROWS = 2_000
MAX_LISTED = 100_000
"""Differences that are listed one by one; beyond, they are only counted."""

_NOTHING = "(SELECT NULL::VARCHAR AS _key, NULL::VARCHAR AS item, NULL::VARCHAR AS _rescued WHERE false)"


@dataclass(frozen=True, slots=True)
class Reading:
    """When the source was read: [from_us, to_us], with all that clocks may be off."""

    from_us: int
    to_us: int


@dataclass(slots=True)
class Findings:
    """What holding keys against the source found. `explained`: differences that changes around the reading explain."""

    differences: list[Difference] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    doubtful: int = 0
    explained: int = 0

    @property
    def total(self) -> int:
        """All differences, listed or not."""
        return self.kinds.total()

    def add(self, found: Difference) -> None:
        """Count a difference, and list it if there is room."""
        self.kinds[found.kind] += 1
        self.doubtful += not found.certain
        if len(self.differences) < MAX_LISTED:
            self.differences.append(found)


def examine(lake: Lake, session: Session, name: str, seen: View, reading: Reading) -> Findings:
    """Compare the `asked` rows of the view with `source_items`, and judge every key that is not the same."""
    _hold_rows(session, seen)
    findings = Findings()
    if not _find_unequal(session):
        return findings
    _gather(lake, session, name, seen)
    for key_hash, evidence in _evidence(session, seen, reading):
        verdict = judge(evidence)
        if verdict is None:
            findings.explained += 1
            continue
        item = orjson.loads(evidence.source or evidence.held[0])
        names = {part: item[part] for part in seen.state.schema.key if part in item}
        findings.add(Difference(names, key_hash, verdict.kind, verdict.cause, verdict.certain))
    return findings


def keeps_expired(table: Table) -> bool:
    """Whether the table may have rows of items that Time to Live removed."""
    return any(field.name == "_expired_at" for field in table.schema().fields)


def living_rows_sql(seen: View) -> str:
    """The view's living rows, without those that Time to Live removed and `ttl_deletes: keep` shows."""
    assert seen.table is not None, "the caller has looked"
    rows = scan_table(seen.table).sql()
    if not keeps_expired(seen.table):
        return rows
    return f"(SELECT * FROM {rows} WHERE _expired_at IS NULL)"


def count_living(lake: Lake, seen: View) -> int:
    """The number of items in the view's rows."""
    if seen.table is None:
        return 0
    if not keeps_expired(seen.table):
        return live_files(seen.table).rows
    with lake.session() as session:
        count: int = session.value(f"SELECT count(*) FROM {living_rows_sql(seen)}")
    return count


def _hold_rows(session: Session, seen: View) -> None:
    """Make `held_rows` (_key, _key_hash, item) of what `dump` gives for the rows. A row that lost its key has one of its own."""
    schema = seen.state.schema
    register(session.con)
    found = f"(SELECT r.* FROM {living_rows_sql(seen)} r SEMI JOIN asked a ON a._key_hash = r._key_hash)"
    dumped = f"(SELECT _key_hash, {dumped_sql(item_sql(schema))} AS item FROM {found})"
    key = f"coalesce({document_key_sql(schema.key, None)}, 'no key ' || _key_hash)"
    session.con.execute(f"CREATE OR REPLACE TABLE held_rows AS SELECT {key} AS _key, _key_hash, item FROM {dumped}")


def _find_unequal(session: Session) -> int:
    """Make `unequal` (_key, _key_hash): keys whose items differ, or that have more than one row. Gives their number."""
    session.con.execute("CREATE OR REPLACE TABLE unequal (_key VARCHAR, _key_hash BIGINT)")
    cursor = session.con.cursor()
    cursor.execute(
        "SELECT coalesce(h._key, s._key), coalesce(h._key_hash, s._key_hash), h.n, h.item, s.item FROM"
        " (SELECT _key, any_value(_key_hash) AS _key_hash, count(*) AS n, first(item) AS item"
        " FROM held_rows GROUP BY _key) h FULL JOIN source_items s ON s._key = h._key"
    )
    total = 0
    while rows := cursor.fetchmany(FETCH_ROWS):
        found = [(k, h) for k, h, n, item, source in rows if n != 1 or not _same(item, source)]
        if found:
            _insert(session, found)
            total += len(found)
    return total


def _insert(session: Session, keys: list[tuple[str, int]]) -> None:
    columns = {"k": [key for key, _ in keys], "h": pa.array([key_hash for _, key_hash in keys], type=pa.int64())}
    session.con.register("found_keys", pa.table(columns))
    session.con.execute("INSERT INTO unequal SELECT k, h FROM found_keys")
    session.con.unregister("found_keys")


def _same(item: str, source: str | None) -> bool:
    return source is not None and canonical(item) == canonical(source)


def _gather(lake: Lake, session: Session, name: str, seen: View) -> None:
    """Make `replayed`, `based` and `recorded`: what else is known of the keys in `unequal`."""
    found = replay(lake, session, name, keys="unequal", seen=seen)
    session.con.execute(f"CREATE OR REPLACE TABLE replayed AS SELECT _key, item, _rescued FROM {found.items}")
    based = found.base_items or _NOTHING
    session.con.execute(f"CREATE OR REPLACE TABLE based AS SELECT _key, item, _rescued FROM {based}")
    if seen.changes is None:
        session.con.execute(
            "CREATE OR REPLACE TABLE recorded (_key VARCHAR, records STRUCT(t BIGINT, removed BOOLEAN, o VARCHAR, n VARCHAR)[])"
        )
        return
    clock_skew_us = lake.table(name).clock_skew_us
    records = f"(SELECT *, {version_us(clock_skew_us)} AS t FROM {records_sql(seen.changes, after_us=found.snapshot_cutoff_us)})"
    session.con.execute(
        "CREATE OR REPLACE TABLE recorded AS SELECT r._key, list({t: r.t, removed: r.event_name IN ('REMOVE', 'DELETE'),"
        " o: CASE WHEN r.event_name = 'INSERT' THEN '' ELSE r.old_image END, n: r.new_image} ORDER BY r.t) AS records"
        f" FROM {records} r SEMI JOIN unequal u ON u._key_hash = r._key_hash AND u._key = r._key"
        f" WHERE r._batch <= {seen.applied} AND r.t > {found.snapshot_cutoff_us or 0} GROUP BY r._key"
    )


def _evidence(session: Session, seen: View, reading: Reading) -> Iterator[tuple[int, Evidence]]:
    cursor = session.con.cursor()
    cursor.execute(
        "SELECT u._key_hash, h.rows, s.item, r.item, r._rescued, b.item, b._rescued, c.records FROM unequal u"
        " LEFT JOIN (SELECT _key, list(item) AS rows FROM held_rows GROUP BY _key) h ON h._key = u._key"
        " LEFT JOIN source_items s ON s._key = u._key LEFT JOIN replayed r ON r._key = u._key"
        " LEFT JOIN based b ON b._key = u._key LEFT JOIN recorded c ON c._key = u._key"
    )
    base = seen.state.base
    while rows := cursor.fetchmany(FETCH_ROWS):
        for key_hash, held, source, item, rescued, base_item, base_rescued, records in rows:
            evidence = Evidence(
                held=tuple(canonical(row) for row in held or ()),
                source=_image(source, None),
                replayed=_image(item, rescued),
                base=_image(base_item, base_rescued),
                records=tuple(_known(record) for record in records or ()),
                from_us=reading.from_us,
                to_us=reading.to_us,
                base_us=base.export_us if base else None,
                watermark_us=seen.watermark_us,
            )
            yield key_hash, evidence


def _known(record: dict[str, Any]) -> Known:
    before = None if record["o"] is None else _image(record["o"] or None, None)
    return Known(record["t"], ABSENT if record["removed"] else _image(record["n"], None), before)


def _image(item: str | None, rescued: str | None) -> bytes:
    return ABSENT if item is None else canonical(complete(item, rescued))
