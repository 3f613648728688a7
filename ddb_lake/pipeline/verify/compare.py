"""Compares items of the source with the lake's rows, and judges every key that differs.

It uses these tables of one DuckDB session:

| table | columns | contents | made by |
| --- | --- | --- | --- |
| `source_items` | _key, _key_hash, item | items of the source, as DynamoDB JSON | the caller, or `stage_source_items` |
| `compared_hashes` | _key_hash | the key hashes of the rows to compare | the caller, or `stage_source_items` |
| `lake_rows` | _key, _key_hash, item | the lake's rows with these hashes, as `dump` writes them | `compare_keys` |
| `unequal_keys` | _key, _key_hash | keys whose items differ, or that have several rows | `compare_keys` |
| `replayed_items`, `base_items` | _key, item, _rescued | the unequal keys: items by replay, and in the base | `compare_keys` |
| `key_records` | _key, records | the change records of the unequal keys | `compare_keys` |

Items are compared as canonical DynamoDB JSON by `ddb_lake.core.verify.equality`, which shares no code with the modules that
load and merge items.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pyarrow as pa
from pyiceberg.table import Table

from ddb_lake.aws.items import TableItems
from ddb_lake.aws.source import SourceTable, require_source, source_client
from ddb_lake.core.merge.ordering import ABSENT
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.rate_limit import RateLimit
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.erased_keys import ErasedKeys
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.core.verify.equality import canonical
from ddb_lake.core.verify.verdicts import Difference, Evidence, LandedRecord, judge
from ddb_lake.engine.inverse_projection import complete, item_sql
from ddb_lake.engine.merge_plan import version_us
from ddb_lake.engine.row_diff import document_key_sql, dumped_item_sql, register_functions
from ddb_lake.engine.session import Session
from ddb_lake.errors import UsageError
from ddb_lake.lake.scan import live_files, scan_table
from ddb_lake.pipeline.apply.erasures import read_erased_keys
from ddb_lake.pipeline.merge.sources import records_sql
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.protection import changed_rules
from ddb_lake.pipeline.read.replay import View, replay, view
from ddb_lake.pipeline.read.verification_report import Cost, Outcome, Report, Strength
from ddb_lake.pipeline.table_identity import check_source

POLL_S = 2.0
FETCH_ROWS = 2_000
MAX_LISTED = 100_000
"""The most differences that a report lists. Further ones are only counted."""

_NO_ITEMS = "(SELECT NULL::VARCHAR AS _key, NULL::VARCHAR AS item, NULL::VARCHAR AS _rescued WHERE false)"


@dataclass(frozen=True, slots=True)
class Reading:
    """The time span in which the source was read, both ends inclusive. It is extended by the allowance for other clocks."""

    from_us: int
    to_us: int


@dataclass(slots=True)
class Findings:
    """The differences that a comparison found.

    Attributes:
        differences: the first `MAX_LISTED` of them.
        kinds: the number of all differences, by kind.
        doubtful: the number of differences that a change under way may explain.
        explained: the number of unequal keys that changes around the reading explain. These are not differences.
        erased: the number of keys that were erased from the lake and exist in the source. These are not differences.
    """

    differences: list[Difference] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    doubtful: int = 0
    explained: int = 0
    erased: int = 0

    @property
    def total(self) -> int:
        """The number of all differences."""
        return self.kinds.total()

    @property
    def outcome(self) -> Outcome:
        """`equal` without differences, `in doubt` if none is certain, else `different`."""
        if not self.total:
            return "equal"
        return "in doubt" if self.doubtful == self.total else "different"

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            [*self.differences, *other.differences][:MAX_LISTED],
            self.kinds + other.kinds,
            self.doubtful + other.doubtful,
            self.explained + other.explained,
            self.erased + other.erased,
        )

    def add(self, difference: Difference) -> None:
        """Count a difference, and list it if there is room."""
        self.kinds[difference.kind] += 1
        self.doubtful += not difference.certain
        if len(self.differences) < MAX_LISTED:
            self.differences.append(difference)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a table with its source.

    Attributes:
        table: the lake's name of the table.
        strength: how much was compared.
        source: the source of the items, in words, such as an export.
        reading: when the source was read.
        findings: the differences.
        compared: the number of compared keys.
        read_units: the read units that were used.
    """

    table: str
    strength: Strength
    source: str
    reading: Reading
    findings: Findings
    compared: int
    read_units: float = 0.0


# --- the source


def without_source(name: str) -> str:
    """What a user can do where the source of a table cannot be reached."""
    return (
        f"`ddb-lake verify {name} --full --export URI` compares with an export, `ddb-lake verify {name} --continuity`"
        f" reads the lake only, and `ddb-lake repair {name} --from-export URI` repairs from an export"
    )


def require_same_source(lake: Lake, name: str) -> SourceTable:
    """The source as DynamoDB describes it.

    Raises UsageError if it cannot be reached, or if it was deleted and created again after the lake's exports.
    """
    source = require_source(lake.table(name), without_source(name))
    check_source(lake, name, source.table_id)
    return source


def open_items(lake: Lake, name: str, read_rate: float | None) -> TableItems:
    """The items of the source as the lake is to have them. `read_rate`: read units a second; None for no limit."""
    table = lake.table(name)
    return TableItems(source_client(table), table.source_name, RateLimit(read_rate), protection=lake.protection(name))


def stage_source_items(session: Session, items: Mapping[str, Item | None]) -> None:
    """Make `source_items`, `compared_hashes` and `compared_keys` (_key).

    `items`: the items by the text of their key; None if the source does not have the item.
    """
    texts = list(items)
    hashes = pa.array([key_hash(text) for text in texts], type=pa.int64())
    documents = pa.array([None if i is None else orjson.dumps(i).decode() for i in items.values()], type=pa.string())
    session.con.register(
        "read_items", pa.table({"_key": pa.array(texts, pa.string()), "_key_hash": hashes, "item": documents})
    )
    session.con.execute("CREATE OR REPLACE TABLE source_items AS SELECT * FROM read_items WHERE item IS NOT NULL")
    session.con.execute("CREATE OR REPLACE TABLE compared_hashes AS SELECT DISTINCT _key_hash FROM read_items")
    session.con.execute("CREATE OR REPLACE TABLE compared_keys AS SELECT _key FROM read_items")
    session.con.unregister("read_items")


# --- the lake


def require_view(lake: Lake, name: str) -> View:
    """The table as it is now. Raises UsageError if nothing is in the lake yet."""
    now = view(lake, name)
    if now.table is None:
        raise UsageError(
            "nothing is in the lake yet", table=name, hint="`ddb-lake load` or `ddb-lake apply` brings it there"
        )
    return now


def keeps_expired(table: Table) -> bool:
    """Whether the table may have rows of items that Time to Live removed."""
    return any(field.name == "_expired_at" for field in table.schema().fields)


def living_rows_sql(seen: View) -> str:
    """The rows of a view, without those of items that Time to Live removed (`ttl_deletes: keep`)."""
    assert seen.table is not None, "the view is of require_view"
    rows = scan_table(seen.table).sql()
    if not keeps_expired(seen.table):
        return rows
    return f"(SELECT * FROM {rows} WHERE _expired_at IS NULL)"


def count_living(lake: Lake, seen: View) -> int:
    """The number of items in a view."""
    if seen.table is None:
        return 0
    if not keeps_expired(seen.table):
        return live_files(seen.table).rows
    with lake.session() as session:
        count: int = session.value(f"SELECT count(*) FROM {living_rows_sql(seen)}")
    return count


# --- comparing


def compare_until_certain(
    lake: Lake, session: Session, name: str, reading: Reading, settle_s: float, seen: View | None = None
) -> Findings:
    """Compare the keys of the session's tables. Repeat this while a change under way may explain the differences.

    Args:
        lake: the open lake.
        session: the session with `source_items` and `compared_hashes`.
        name: the table.
        reading: when the source was read.
        settle_s: how long to repeat. Differences after that are certain. With 0 they may be in doubt.
        seen: the view of the first comparison; by default, the table as it is now.
    """
    findings = compare_keys(lake, session, name, seen or require_view(lake, name), reading)
    deadline = time.monotonic() + settle_s
    while findings.doubtful and time.monotonic() < deadline:
        lake.progress(f"{name}: keys that may be changing", findings.doubtful)
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
        findings = compare_keys(lake, session, name, require_view(lake, name), reading)
    if findings.doubtful and settle_s > 0:
        findings.differences = [replace(difference, certain=True) for difference in findings.differences]
        findings.doubtful = 0
    return findings


def compare_keys(lake: Lake, session: Session, name: str, seen: View, reading: Reading) -> Findings:
    """Compare the rows of `compared_hashes` with `source_items`, and judge every key that is not equal."""
    _stage_lake_rows(session, seen)
    findings = Findings()
    if not _stage_unequal_keys(session):
        return findings
    _stage_evidence(lake, session, name, seen)
    erased = read_erased_keys(lake, session, name)
    for hashed, evidence in _evidence(session, seen, reading):
        if _is_erased(evidence, seen, erased):
            findings.erased += 1
            continue
        verdict = judge(evidence)
        if verdict is None:
            findings.explained += 1
            continue
        item = orjson.loads(evidence.source or evidence.row_images[0])
        key = {part: item[part] for part in seen.state.schema.key if part in item}
        findings.add(Difference(key, hashed, verdict.kind, verdict.cause, verdict.certain))
    return findings


def _is_erased(evidence: Evidence, seen: View, erased: ErasedKeys) -> bool:
    """Whether the lake has nothing of a key because it was erased. The source may still have the item."""
    if not erased or evidence.row_images or evidence.records or not evidence.source:
        return False
    return erased.names(key_text(orjson.loads(evidence.source), seen.state.schema.key))


def make_report(lake: Lake, comparison: Comparison, started: float) -> Report:
    """The report of a comparison. `started`: by the monotonic clock."""
    seen, findings = require_view(lake, comparison.table), comparison.findings
    listed = len(findings.differences)
    notes: tuple[str, ...] = ()
    if listed < findings.total:
        notes = (f"{count_text(findings.total, 'difference')}, {listed} listed",)
    if findings.erased:
        keys = count_text(findings.erased, "key of the source is", "keys of the source are")
        notes += (f"{keys} erased here (`ddb-lake erase`), which is no difference",)
    return Report(
        table=comparison.table,
        strength=comparison.strength,
        source=comparison.source,
        outcome=findings.outcome,
        read_from_us=comparison.reading.from_us,
        read_to_us=comparison.reading.to_us,
        watermark_us=seen.watermark_us,
        rows=count_living(lake, seen),
        compared=comparison.compared,
        explained=findings.explained,
        doubtful=findings.doubtful,
        kinds=dict(findings.kinds),
        differences=tuple(sorted(findings.differences, key=lambda d: (d.kind, orjson.dumps(d.key)))),
        cost=Cost(read_units=comparison.read_units),
        seconds=time.monotonic() - started,
        notes=notes,
        changed_rules=changed_rules(lake, comparison.table, lake.protection(comparison.table).stored),
    )


def _stage_lake_rows(session: Session, seen: View) -> None:
    """Make `lake_rows`. A row without a complete key gets a key that no item has, so it is an extra row."""
    schema = seen.state.schema
    register_functions(session.con)
    rows = f"(SELECT r.* FROM {living_rows_sql(seen)} r SEMI JOIN compared_hashes h ON h._key_hash = r._key_hash)"
    dumped = f"(SELECT _key_hash, {dumped_item_sql(item_sql(schema))} AS item FROM {rows})"
    key = f"coalesce({document_key_sql(schema.key, None)}, 'no key ' || _key_hash)"
    session.con.execute(f"CREATE OR REPLACE TABLE lake_rows AS SELECT {key} AS _key, _key_hash, item FROM {dumped}")


def _stage_unequal_keys(session: Session) -> int:
    """Make `unequal_keys`, and return their number."""
    session.con.execute("CREATE OR REPLACE TABLE unequal_keys (_key VARCHAR, _key_hash BIGINT)")
    cursor = session.con.cursor()
    cursor.execute(
        "SELECT coalesce(l._key, s._key), coalesce(l._key_hash, s._key_hash), l.n, l.item, s.item FROM"
        " (SELECT _key, any_value(_key_hash) AS _key_hash, count(*) AS n, first(item) AS item"
        " FROM lake_rows GROUP BY _key) l FULL JOIN source_items s ON s._key = l._key"
    )
    total = 0
    while rows := cursor.fetchmany(FETCH_ROWS):
        unequal = [(key, hashed) for key, hashed, n, item, source in rows if n != 1 or not _is_same(item, source)]
        if unequal:
            _insert(session, unequal)
            total += len(unequal)
    return total


def _insert(session: Session, keys: list[tuple[str, int]]) -> None:
    columns = {"k": [key for key, _ in keys], "h": pa.array([hashed for _, hashed in keys], type=pa.int64())}
    session.con.register("more_unequal", pa.table(columns))
    session.con.execute("INSERT INTO unequal_keys SELECT k, h FROM more_unequal")
    session.con.unregister("more_unequal")


def _is_same(item: str, source: str | None) -> bool:
    return source is not None and canonical(item) == canonical(source)


def _stage_evidence(lake: Lake, session: Session, name: str, seen: View) -> None:
    """Make `replayed_items`, `base_items` and `key_records` of the keys in `unequal_keys`."""
    found = replay(lake, session, seen, compared_keys="unequal_keys")
    session.con.execute(f"CREATE OR REPLACE TABLE replayed_items AS SELECT _key, item, _rescued FROM {found.items}")
    base_items = found.base_items or _NO_ITEMS
    session.con.execute(f"CREATE OR REPLACE TABLE base_items AS SELECT _key, item, _rescued FROM {base_items}")
    if seen.changes is None:
        session.con.execute(
            "CREATE OR REPLACE TABLE key_records"
            " (_key VARCHAR, records STRUCT(t BIGINT, removed BOOLEAN, o VARCHAR, n VARCHAR)[])"
        )
        return
    clock_skew_us = lake.table(name).clock_skew_us
    records = f"(SELECT *, {version_us(clock_skew_us)} AS t FROM {records_sql(seen.changes, after_us=found.snapshot_cutoff_us)})"
    session.con.execute(
        "CREATE OR REPLACE TABLE key_records AS SELECT r._key,"
        " list({t: r.t, removed: r.event_name IN ('REMOVE', 'DELETE'),"
        " o: CASE WHEN r.event_name = 'INSERT' THEN '' ELSE r.old_image END, n: r.new_image} ORDER BY r.t) AS records"
        f" FROM {records} r SEMI JOIN unequal_keys u ON u._key_hash = r._key_hash AND u._key = r._key"
        f" WHERE r._batch <= {seen.applied} AND r.t > {found.snapshot_cutoff_us or 0} GROUP BY r._key"
    )


def _evidence(session: Session, seen: View, reading: Reading) -> Iterator[tuple[int, Evidence]]:
    cursor = session.con.cursor()
    cursor.execute(
        "SELECT u._key_hash, l.rows, s.item, r.item, r._rescued, b.item, b._rescued, c.records FROM unequal_keys u"
        " LEFT JOIN (SELECT _key, list(item) AS rows FROM lake_rows GROUP BY _key) l ON l._key = u._key"
        " LEFT JOIN source_items s ON s._key = u._key LEFT JOIN replayed_items r ON r._key = u._key"
        " LEFT JOIN base_items b ON b._key = u._key LEFT JOIN key_records c ON c._key = u._key"
    )
    base = seen.state.base
    while rows := cursor.fetchmany(FETCH_ROWS):
        for hashed, lake_items, source, item, rescued, base_item, base_rescued, records in rows:
            evidence = Evidence(
                row_images=tuple(canonical(row) for row in lake_items or ()),
                source=_image(source, None),
                replayed=_image(item, rescued),
                base=_image(base_item, base_rescued),
                records=tuple(_known(record) for record in records or ()),
                from_us=reading.from_us,
                to_us=reading.to_us,
                base_us=base.export_us if base else None,
                watermark_us=seen.watermark_us,
            )
            yield hashed, evidence


def _known(record: dict[str, Any]) -> LandedRecord:
    # An empty old image: there was no item. NULL: the record does not have the old image.
    before = None if record["o"] is None else _image(record["o"] or None, None)
    return LandedRecord(record["t"], ABSENT if record["removed"] else _image(record["n"], None), before)


def _image(item: str | None, rescued: str | None) -> bytes:
    return ABSENT if item is None else canonical(complete(item, rescued))
