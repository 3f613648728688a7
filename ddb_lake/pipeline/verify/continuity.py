"""Examines the continuity of a table's changelog: is the old image of each change record the state before it?

`core.verify.continuity` has the rule. Nothing is read but the changelog and the newest full export in the lake. The
examination narrows the keys in three steps, each more expensive than the one before:

1. SQL compares hashes of the image texts of neighbouring records, for all records of the time span.
2. Keys with unequal neighbours or with records of one instant are judged in Python, by the same hashes.
3. Keys with a break by hashes are judged by canonical images, in which numbers and sets that are spelled differently are equal.

It uses these tables of one DuckDB session:

| table | contents |
| --- | --- |
| `key_steps` | each record: key hash, time, hashes of the images before and after |
| `examined_keys` | each key hash: counts, whether it is suspect, and which of its records are nearest to the export |
| `suspect_keys`, `unequal_keys` | the key hashes that are judged in steps 2 and 3 |
| `boundary_keys` | the key hashes that are compared with the export |
| `key_breaks` | the breaks |
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa

from ddb_lake.core.capture.gaps import Gap, add_gap, united_ranges
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.verify.continuity import (
    NEAREST_US,
    NO_ITEM,
    SOURCE_SKEW_US,
    Break,
    Examined,
    Explanation,
    ExportedItem,
    Image,
    KeyChange,
    KnownFaults,
    explain,
    export_breaks,
    key_breaks,
)
from ddb_lake.core.verify.equality import canonical
from ddb_lake.engine.inverse_projection import complete
from ddb_lake.engine.merge_plan import SEQUENCE_ORDER
from ddb_lake.engine.session import Session
from ddb_lake.lake.scan import TableScan, scan_table
from ddb_lake.lake.state import ChangesState
from ddb_lake.pipeline.capture.gap_log import update_log
from ddb_lake.pipeline.merge.sources import export_rows, images_sql, scan_records
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.protection import changed_rules
from ddb_lake.pipeline.read.replay import View, view

DAY_US = 86_400_000_000
FETCH_ROWS = 2_000
MAX_LISTED = 10_000
"""The most breaks that a report lists. Further ones are only counted."""

_GAP_DISTANCE_US = 15 * 60_000_000
"""Breaks that are no further apart are one gap: an incremental export of less costs as much.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport_Requesting.html
"""

_MOST_GAPS = 100
"""The gaps that one examination records at most: each is a property of the changelog, and an export."""

_IMAGE_HASHES = (
    f"CASE WHEN event_name = 'REMOVE' THEN {NO_ITEM} ELSE hash(new_image) END AS after,"
    f" CASE WHEN event_name = 'INSERT' THEN {NO_ITEM} WHEN old_image IS NOT NULL THEN hash(old_image) END AS before"
)
_SOURCE = "CASE WHEN sequence_number IS NULL THEN '' ELSE coalesce(stream, 'stream') END AS source"
_ORDER = f"source, {SEQUENCE_ORDER}, t"
_CHANGE = "event_name IN ('INSERT', 'MODIFY', 'REMOVE') AND asserted_at IS NULL"
"""SQL condition: the row is a change record, and no line of an incremental export or of a repair."""

_SUSPECT = (
    "(sequence_number IS NULL AND t = state_us) OR sequence_number = state_sequence"
    " OR (state IS NOT NULL AND before IS NOT NULL AND state <> before)"
)
"""SQL condition: the record has the place of the one before it in the order, or its old image has another text."""


@dataclass(frozen=True, slots=True)
class KeyBreak:
    """A break of one key: `from_us` and `to_us` as in `core.verify.continuity.Break`. `key`: the key attributes."""

    key: Item
    key_hash: int
    from_us: int
    to_us: int
    explanation: Explanation

    def to_json(self) -> dict[str, Any]:
        """As a JSON document."""
        return {
            "key": self.key,
            "_key_hash": self.key_hash,
            "from_us": self.from_us,
            "to_us": self.to_us,
            "explanation": self.explanation,
        }


@dataclass(frozen=True, slots=True)
class Continuity:
    """What an examination found. Times are UTC microseconds.

    Attributes:
        table: the table's name.
        records: the change records in the time span.
        keys: the keys of these records.
        compared: the records whose old image was compared with the state after the record before it.
        without_old_image: the records of updates and removals that lack the old image.
        first_us, last_us: the times of the first and the last of the records (inclusive); None without records.
        export: the id of the full export that was compared; None without one in the time span.
        exported: the keys whose records around the export could be compared with it, now or at an earlier examination.
        judged: the keys that steps 2 and 3 judged.
        breaks: the number of breaks, by explanation.
        listed: at most `MAX_LISTED` of the breaks, those that nothing explains first.
        gaps: the open gaps of kind `discontinuous` after the examination.
        seconds: the duration.
        changed_rules: the settings with which the files were not written (`pipeline.protection.changed_rules`). If there is one,
            nothing was examined and nothing recorded: images by other rules differ, although no change is missing.
    """

    table: str
    records: int = 0
    keys: int = 0
    compared: int = 0
    without_old_image: int = 0
    first_us: int | None = None
    last_us: int | None = None
    export: str | None = None
    exported: int = 0
    judged: int = 0
    breaks: Counter[Explanation] = field(default_factory=Counter)
    listed: tuple[KeyBreak, ...] = ()
    gaps: tuple[Gap, ...] = ()
    seconds: float = 0.0
    changed_rules: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """The breaks that nothing explains."""
        return self.breaks["missing"]

    def to_json(self) -> dict[str, Any]:
        """The document that `ddb-lake verify --continuity --json` prints."""
        figures = (
            "table",
            "records",
            "keys",
            "compared",
            "without_old_image",
            "first_us",
            "last_us",
            "export",
            "exported",
        )
        return {name: getattr(self, name) for name in figures} | {
            "missing": self.missing,
            "explained": {name: count for name, count in sorted(self.breaks.items()) if name != "missing"},
            "breaks": [found.to_json() for found in self.listed],
            "gaps": [gap.to_json() for gap in self.gaps],
            "seconds": self.seconds,
            "changed_rules": list(self.changed_rules),
        }


def examine_continuity(lake: Lake, name: str, span_us: int | None = None) -> Continuity:
    """Examine the change records of a time span, and record what is missing as gaps of kind `discontinuous`.

    The span ends with the newest change. An examination that found no break is recorded, and the next one judges only
    keys with later records. A gap of that kind is withdrawn if the records that it lacked have arrived since.

    Args:
        lake: an open lake.
        name: the table's name.
        span_us: the length of the span in microseconds; None examines all records, and ignores earlier examinations.

    Returns:
        The result. Only the log of gaps is written, in the changelog's state.
    """
    started = time.monotonic()
    seen = view(lake, name)
    if seen.changes is None or seen.log.last_change_us is None:
        return Continuity(name, gaps=_open_gaps(seen.log))
    if changed := changed_rules(lake, name, lake.protection(name).stored):
        return Continuity(name, gaps=_open_gaps(seen.log), changed_rules=changed)
    since_us = None
    if span_us is not None:
        since_us = min(int(lake.now().timestamp() * 1_000_000), seen.log.last_change_us) - span_us
    scan = scan_records(seen.changes, after_us=None if since_us is None else since_us - 1)
    boundary = _Boundary.of(lake, name, seen, since_us)
    after_batch = -1
    before = seen.log.continuity
    if before is not None and span_us is not None and not _open_gaps(seen.log):
        covered = before.covers(since_us, boundary.export_id if boundary else None)
        after_batch = before.batch if covered else -1
    with lake.session() as session:
        examination = _Examination(lake, session, name, seen, scan, since_us, boundary, after_batch)
        found = examination.run()
    return replace(found, gaps=_record(lake, examination, found), seconds=time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Boundary:
    """The newest full export, if its time is in the examined span. `images`: a relation of `images_sql`.

    `until_us`: the end of a scan in its place; None for an export.
    """

    export_id: str
    export_us: int
    clock_skew_us: int
    images: str
    rejected: int
    until_us: int | None = None

    @property
    def span(self) -> tuple[int, int]:
        """The time at which it may have read an item, both ends inclusive."""
        until_us = self.export_us if self.until_us is None else self.until_us
        return self.export_us - self.clock_skew_us, until_us + self.clock_skew_us

    @classmethod
    def of(cls, lake: Lake, name: str, seen: View, since_us: int | None) -> _Boundary | None:
        """The boundary of a view; None without an export, or if the span begins after it."""
        base, clock_skew_us = seen.state.base, lake.table(name).clock_skew_us
        if base is None or seen.table is None or (since_us is not None and base.export_us - clock_skew_us < since_us):
            return None
        rows = export_rows(seen.table, base)
        images = images_sql(rows.rows.sql, rows.schema)
        return cls(base.export_id, base.export_us, clock_skew_us, images, base.rejected, base.scan_until_us)


@dataclass(slots=True)
class _Examination:
    """One examination.

    Attributes:
        lake, session, name: where it is made.
        seen: the table and its changelog.
        scan: the files that may have records of the span.
        since_us: the beginning of the span (inclusive); None for all records.
        boundary: the export with which the records are compared.
        after_batch: only keys with later batches are judged; -1 judges all.
        raw: the time ranges of all breaks, whatever explains them.
        missing: those of the breaks that nothing explains, as time ranges of gaps.
    """

    lake: Lake
    session: Session
    name: str
    seen: View
    scan: TableScan
    since_us: int | None
    boundary: _Boundary | None
    after_batch: int = -1
    raw: list[tuple[int, int]] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)

    @property
    def records(self) -> str:
        """A relation of the change records of the span, with `t` and `source`."""
        span = "true" if self.since_us is None else f"changed_at >= make_timestamp({self.since_us})"
        return f"(SELECT *, epoch_us(changed_at) AS t, {_SOURCE} FROM {self.scan.sql()} WHERE {_CHANGE} AND {span})"

    @property
    def ordered(self) -> bool:
        """Whether sequence numbers order some of the records."""
        return bool(set(self.seen.log.sources) - {"time", "assertion"})

    def run(self) -> Continuity:
        """Compare, judge and explain."""
        found = self._compare()
        self.session.con.execute(
            "CREATE OR REPLACE TABLE key_breaks"
            " (_key VARCHAR, _key_hash BIGINT, from_us BIGINT, to_us BIGINT, restated BOOLEAN, exported BOOLEAN)"
        )
        judged = self._judge_suspects()
        if self.boundary is not None:
            self._judge_export(self.boundary)
        breaks, listed = self._explain()
        return replace(found, judged=judged, breaks=breaks, listed=listed)

    def _compare(self) -> Continuity:
        """Make `key_steps` and `examined_keys` (step 1), and count."""
        session, boundary = self.session, self.boundary
        session.keep(
            "key_steps",
            "SELECT _key_hash, _batch, t, source, sequence_number, event_id IS NOT NULL AS identified,"
            f" {_IMAGE_HASHES} FROM {self.records}",
        )
        window = f"_key_hash, source ORDER BY {_ORDER}" if self.ordered else "_key_hash ORDER BY t"
        low, high = boundary.span if boundary else (0, -1)
        session.con.execute(
            "CREATE OR REPLACE TABLE examined_keys AS SELECT _key_hash, count(*) AS records,"
            " count(*) FILTER (before IS NULL) AS unknown,"
            " count(*) FILTER (state IS NOT NULL AND before IS NOT NULL) AS compared,"
            f" coalesce(bool_or({_SUSPECT}), false) AS suspect, max(_batch) AS batch, min(t) AS first_us, max(t) AS last_us,"
            f" max(t) FILTER (t < {low}) AS earlier_us, min(t) FILTER (t > {high}) AS later_us,"
            f" greatest(max(_batch) FILTER (t <= {high}), arg_min(_batch, t) FILTER (t > {high})) AS boundary_batch,"
            f" coalesce(bool_and(before IS NOT NULL) FILTER (t BETWEEN {low} AND {high}), max(t) FILTER (t < {low}) IS NOT NULL"
            f" OR coalesce(arg_min(before IS NOT NULL, t) FILTER (t > {high}), false)) AS comparable"
            " FROM (SELECT *, lag(after) OVER w AS state, lag(t) OVER w AS state_us,"
            f" lag(sequence_number) OVER w AS state_sequence FROM key_steps WINDOW w AS (PARTITION BY {window}))"
            " GROUP BY _key_hash"
        )
        records, keys, comparable, compared, unknown, first_us, last_us = session.rows(
            "SELECT coalesce(sum(records), 0)::BIGINT, count(*), count(*) FILTER (comparable), coalesce(sum(compared), 0)::BIGINT,"
            " coalesce(sum(unknown), 0)::BIGINT, min(first_us), max(last_us) FROM examined_keys"
        )[0]
        return Continuity(
            self.name,
            records=records,
            keys=keys,
            compared=compared,
            without_old_image=unknown,
            first_us=first_us,
            last_us=last_us,
            export=boundary.export_id if boundary else None,
            exported=comparable if boundary else 0,
        )

    def _judge_suspects(self) -> int:
        """Judge the suspect keys by hashes (step 2), and those with a break by canonical images (step 3).

        Returns:
            The number of suspect keys.
        """
        session, several = self.session, len(self.seen.log.sources) > 1
        session.con.execute(
            "CREATE OR REPLACE TABLE suspect_keys AS SELECT _key_hash FROM examined_keys"
            f" WHERE suspect AND batch > {self.after_batch}"
        )
        session.con.execute("CREATE OR REPLACE TABLE unequal_keys (_key_hash BIGINT)")
        suspects: int = session.value("SELECT count(*) FROM suspect_keys")
        if not suspects:
            return 0
        steps = self._fetch(
            "SELECT s._key_hash, source, t, sequence_number, before, after, identified FROM key_steps s"
            f" SEMI JOIN suspect_keys k ON k._key_hash = s._key_hash ORDER BY s._key_hash, {_ORDER}"
        )
        unequal = (
            (key,)
            for key, members in groupby(steps, key=itemgetter(0))
            if key_breaks((_change(*member[1:]) for member in members), several)
        )
        self._insert("unequal_keys", unequal)
        if not session.value("SELECT count(*) FROM unequal_keys"):
            return suspects
        images = self._fetch(
            "SELECT r._key, r._key_hash, source, t, sequence_number, event_name, old_image, new_image, event_id IS NOT NULL"
            f" FROM {self.records} r SEMI JOIN unequal_keys k ON k._key_hash = r._key_hash ORDER BY r._key_hash, r._key, {_ORDER}"
        )
        breaks = (
            (*key, found.from_us, found.to_us, found.restated, False)
            for key, members in groupby(images, key=itemgetter(0, 1))
            for found in key_breaks((_imaged(*member[2:]) for member in members), several)
        )
        self._insert("key_breaks", breaks)
        return suspects

    def _judge_export(self, boundary: _Boundary) -> None:
        """Compare the records around an export with it."""
        low, high = boundary.span
        self.session.con.execute(
            "CREATE OR REPLACE TABLE boundary_keys AS SELECT _key_hash, earlier_us, later_us FROM examined_keys"
            f" WHERE boundary_batch > {self.after_batch}"
        )
        near = (
            f"(t BETWEEN k.earlier_us - {NEAREST_US} AND k.earlier_us OR t BETWEEN {low} AND {high}"
            f" OR t BETWEEN k.later_us AND k.later_us + {NEAREST_US})"
        )
        rows = self._fetch(
            "SELECT r._key, r._key_hash, false, source, t, sequence_number, event_name, old_image, new_image"
            f" FROM {self.records} r JOIN boundary_keys k ON k._key_hash = r._key_hash WHERE {near}"
            " UNION ALL SELECT i._key, i._key_hash, true, '', 0, NULL, '', item, _rescued"
            f" FROM {boundary.images} i SEMI JOIN boundary_keys k ON k._key_hash = i._key_hash ORDER BY 2, 1"
        )
        breaks = (
            (*key, found.from_us, found.to_us, found.restated, True)
            for key, members in groupby(rows, key=itemgetter(0, 1))
            for found in _export_breaks(boundary, list(members))
        )
        self._insert("key_breaks", breaks)
        # the records on both sides of the export show the same missing change, and its time less exactly
        self.session.con.execute(
            "DELETE FROM key_breaks b USING key_breaks e WHERE NOT b.exported AND e.exported AND e._key = b._key"
            " AND b.from_us <= e.from_us AND e.to_us <= b.to_us"
        )

    def _explain(self) -> tuple[Counter[Explanation], tuple[KeyBreak, ...]]:
        """Explain the breaks, and list the first of them."""
        counts: Counter[Explanation] = Counter()
        listed: list[KeyBreak] = []
        if not self.session.value("SELECT count(*) FROM key_breaks"):
            return counts, ()
        faults = self._known_faults()
        lines = f"(SELECT _key, _key_hash, epoch_us(asserted_at) AS us FROM {self.scan.sql()} WHERE asserted_at IS NOT NULL)"
        rows = self._fetch(
            "SELECT b._key_hash, b.from_us, b.to_us, b.restated, a.asserted, k.keys FROM key_breaks b"
            f" LEFT JOIN (SELECT l._key, list(us) AS asserted FROM {lines} l"
            " SEMI JOIN key_breaks b ON b._key_hash = l._key_hash AND b._key = l._key GROUP BY 1) a ON a._key = b._key"
            f" JOIN (SELECT r._key, any_value(keys) AS keys FROM {self.records} r"
            " SEMI JOIN key_breaks b ON b._key_hash = r._key_hash AND b._key = r._key GROUP BY 1) k ON k._key = b._key"
            " ORDER BY b.from_us, b.to_us, b._key"
        )
        for key_hash, from_us, to_us, restated, asserted, keys in rows:
            explanation = explain(Break(from_us, to_us, restated=restated), asserted or (), faults)
            counts[explanation] += 1
            self.raw = _bounded(self.raw, (from_us, to_us + SOURCE_SKEW_US))
            if explanation == "missing":
                self.missing = _bounded(self.missing, (from_us, to_us + SOURCE_SKEW_US))
            if len(listed) < MAX_LISTED or explanation == "missing":
                listed.append(KeyBreak(orjson.loads(keys), key_hash, from_us, to_us, explanation))
            if len(listed) >= 2 * MAX_LISTED:
                listed = _missing_first(listed)
        return counts, tuple(_missing_first(listed))

    def _known_faults(self) -> KnownFaults:
        gaps, quarantine = self.seen.log.gaps, self.lake.quarantine(self.name)
        hours: list[tuple[int, bool]] = []
        if quarantine is not None:
            hours = self.session.rows(
                f"SELECT DISTINCT epoch_us(arrival_hour), discarded_at IS NULL FROM {scan_table(quarantine).sql()}"
                " WHERE arrival_hour IS NOT NULL ORDER BY 1"
            )
        base = self.seen.state.base
        return KnownFaults(
            repaired=tuple((g.from_us, g.to_us) for g in gaps if not g.is_open),
            open=tuple((g.from_us, g.to_us) for g in gaps if g.is_open and g.kind != "discontinuous"),
            quarantined_hours=tuple(hour for hour, is_open in hours if is_open),
            discarded_hours=tuple(hour for hour, is_open in hours if not is_open),
            restated_us=base.export_us - self.lake.table(self.name).clock_skew_us if base else None,
        )

    def _fetch(self, query: str) -> Iterator[tuple[Any, ...]]:
        cursor = self.session.con.cursor()
        cursor.execute(query)
        while rows := cursor.fetchmany(FETCH_ROWS):
            yield from rows

    def _insert(self, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
        """Insert rows into a table, some thousand at a time."""
        schema = self.session.con.sql(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema
        while some := list(islice(rows, FETCH_ROWS)):
            columns = [
                pa.array(column, kind) for column, kind in zip(zip(*some, strict=True), schema.types, strict=True)
            ]
            self.session.con.register("more_rows", pa.table(columns, schema=schema))
            self.session.con.execute(f"INSERT INTO {table} SELECT * FROM more_rows")
            self.session.con.unregister("more_rows")


# --- rows of a query as changes of a key


def _change(
    source: str, time_us: int, sequence: str | None, before: Image, after: Image, identified: bool
) -> KeyChange:
    return KeyChange(source, time_us, None if sequence is None else int(sequence), before, after, identified)


def _imaged(
    source: str, time_us: int, sequence: str | None, event: str, old: str | None, new: str | None, identified: bool
) -> KeyChange:
    before = NO_ITEM if event == "INSERT" else None if old is None else _digest(old)
    after = NO_ITEM if event == "REMOVE" else _digest(new or "")
    return _change(source, time_us, sequence, before, after, identified)


@lru_cache(maxsize=4)  # the old image of a record is nearly always the new image of the one before
def _digest(image: str | bytes) -> bytes:
    return blake2b(canonical(image), digest_size=16).digest()


def _export_breaks(boundary: _Boundary, rows: list[tuple[Any, ...]]) -> list[Break]:
    """The breaks of one key: its rows of the query in `_judge_export`."""
    image: Image = NO_ITEM
    changes = []
    for _, _, exported, source, time_us, sequence, event, old, new in rows:
        if exported:
            image = _digest(complete(old, new))
        else:
            changes.append(_imaged(source, time_us, sequence, event, old, new, True))
    if image == NO_ITEM and boundary.rejected:  # a rejected line of the export may have the item
        return []
    return export_breaks(ExportedItem(image, boundary.export_us, boundary.clock_skew_us, boundary.until_us), changes)


# --- the log of gaps


def _bounded(ranges: list[tuple[int, int]], added: tuple[int, int]) -> list[tuple[int, int]]:
    ranges.append(added)
    return _gap_ranges(ranges) if len(ranges) > MAX_LISTED else ranges


def _missing_first(listed: list[KeyBreak]) -> list[KeyBreak]:
    return sorted(listed, key=lambda found: found.explanation != "missing")[:MAX_LISTED]


def _open_gaps(log: ChangesState) -> tuple[Gap, ...]:
    return tuple(gap for gap in log.gaps if gap.is_open and gap.kind == "discontinuous")


def _record(lake: Lake, examination: _Examination, found: Continuity) -> tuple[Gap, ...]:
    """Record the missing ranges as gaps, withdraw gaps without a break, and record an examination without one.

    Returns:
        The open gaps of kind `discontinuous`.
    """
    now_us = int(lake.now().timestamp() * 1_000_000)
    reason = f"the old images of {count_text(found.missing, 'change record')} differ from the states before them"
    new = [Gap("discontinuous", low, high, reason, now_us) for low, high in _gap_ranges(examination.missing)]
    log, since_us = examination.seen.log, examination.since_us
    withdrawn = [
        gap
        for gap in _open_gaps(log)
        if (since_us is None or since_us <= gap.from_us)
        and not any(low < gap.to_us and gap.from_us < high for low, high in examination.raw)
    ]

    def change(state: ChangesState) -> ChangesState:
        gaps = tuple(gap for gap in state.gaps if gap not in withdrawn)
        for gap in new:
            gaps = add_gap(gaps, gap)
        changed = replace(state, gaps=gaps)
        if examination.raw or _open_gaps(changed):
            return changed
        return replace(changed, continuity=Examined(log.batch, since_us, found.export))

    return _open_gaps(update_log(lake, examination.name, change))


def _gap_ranges(missing: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """At most `_MOST_GAPS` time ranges that cover all of `missing`."""
    distance_us = _GAP_DISTANCE_US
    ranges = united_ranges(missing, distance_us)
    while len(ranges) > _MOST_GAPS:
        distance_us *= 2
        ranges = united_ranges(ranges, distance_us)
    return ranges
