"""Decides which rows of `current` change: the order of `core.merge.ordering` in SQL, for many keys at once.

`plan_merge` takes relations of change records and of `current` as SQL text (`MergeInput`). It returns a `MergePlan`, whose
tables in the session have the new state of each changed key.

Only keys with new records are read. If one new record of a key is later than all other records of the key, it decides the
key. The other keys are *conflicting*: they have late records, equal times, sequence numbers of DynamoDB Streams, or lines of
incremental exports or repairs. A conflicting key is decided over all its records in the changelog. If several records
have the same greatest time (a *tie*), `core.merge.ordering.winner` decides in Python by the trail of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import orjson
import pyarrow as pa

from ddb_lake.core.merge.ordering import ABSENT, Version, winner
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.engine.session import Session
from ddb_lake.errors import CheckFailed

REMOVAL = "event_name IN ('REMOVE', 'DELETE')"
ABSENCE = f"(asserted_at IS NOT NULL AND {REMOVAL})"
"""SQL condition: the record is a line of an incremental export or of a repair without an item."""

EXPIRY = f"(ttl AND old_image IS NOT NULL AND {REMOVAL})"
"""SQL condition: the record is a removal by Time to Live, and has the old image, so the row can be kept."""

SEQUENCE_ORDER = "length(ltrim(sequence_number, '0')), ltrim(sequence_number, '0')"
"""SQL order of the sequence numbers of one stream, which are decimal numbers with too many digits for a BIGINT."""

_TIE_ROWS, _TIE_KEYS, _TIE_BYTES = 64, 1000, 32 * 1024 * 1024
"""For tied keys: the records that are fetched at once; the keys, and the bytes of images, that are decided at once."""


def version_us(clock_skew_us: int) -> str:
    """SQL of the time by which a record is ordered: that of the change, or `core.merge.ordering.assertion_us`."""
    return (
        "CASE WHEN asserted_at IS NULL THEN epoch_us(changed_at)"
        f" ELSE greatest(epoch_us(changed_at), epoch_us(asserted_at) - {clock_skew_us}) END"
    )


# --- the input


BaseImages: TypeAlias = Callable[[list[str]], dict[str, bytes]]
"""Returns the base's canonical images of some keys, by `_key`. Keys without an item are left out."""

Removals: TypeAlias = Callable[[int], str]
"""Returns a relation (_key, _key_hash, removed_us) of the REMOVE records that are applied to `current`.

It has at least those of a time (inclusive, microseconds) or later, of keys in `CHANGED_KEYS`. It must not have new records: they
would make the keys that they remove conflicting.
"""

NO_REMOVALS = "(SELECT NULL::VARCHAR AS _key, NULL::BIGINT AS _key_hash, NULL::BIGINT AS removed_us WHERE false)"

ExportedKeys: TypeAlias = Callable[[int], Sequence[str]]
"""Takes a time. Returns a relation (_key, exported_us) for each full export of that time or later: its items with changed
keys."""


@dataclass(frozen=True, slots=True)
class MergeRules:
    """What decides a merge, apart from the records.

    Attributes:
        snapshot_cutoff_us: change records at or before it never win over the base; None without a base.
        base_us: the time of the base. A line of an incremental export or of a repair wins over the base only if
            `asserted_at` is later. None without a base.
        clock_skew_us: the clock skew allowance.
        time_ordered: time alone orders the records: none is from DynamoDB Streams, an incremental export or a repair.
        redecide_all: decide every key over all its records.
        keep_expired: items that Time to Live removed stay as rows.
    """

    snapshot_cutoff_us: int | None
    base_us: int | None
    clock_skew_us: int
    time_ordered: bool
    redecide_all: bool = False
    keep_expired: bool = False

    @property
    def decides_by_new_records(self) -> bool:
        """Whether new records alone may decide a key. If not, each changed key is decided over all its records."""
        return self.time_ordered and not self.redecide_all

    @property
    def wins_over_base(self) -> str:
        """SQL condition: a record (with `version_us`) can win over the base."""
        if self.snapshot_cutoff_us is None:
            return "true"
        asserted = f"epoch_us(asserted_at) > {self.base_us}"
        return f"CASE WHEN asserted_at IS NULL THEN version_us > {self.snapshot_cutoff_us} ELSE {asserted} END"


@dataclass(frozen=True, slots=True)
class MergeInput:
    """The input of a merge: relations as SQL text, and the rules.

    Attributes:
        table: the table's name, for messages.
        new_records: change records that are not applied yet.
        changelog: gives all change records that the merge may need, the new ones included; called if a key is conflicting.
        current: rows (file_path, pos, _key, _changed_at, _source). It has at least the living rows of the keys in
            `CHANGED_KEYS`, which the relation may join by `_key_hash`.
        removals: `Removals`.
        rules: what decides, apart from the records.
        base_images: the base's images of some keys; called if records of one instant form a closed trail.
        exported_keys: the keys of full exports; called if expired items are kept.
    """

    table: str
    new_records: str
    changelog: Callable[[], str]
    current: str
    rules: MergeRules
    removals: Removals = lambda _from_us: NO_REMOVALS
    base_images: BaseImages = lambda _keys: {}
    exported_keys: ExportedKeys = lambda _from_us: ()


def deciding_records(rules: MergeRules, records: str) -> str:
    """A query of the `record_id` of those records of a relation of new records by which a merge decides as by all of them.

    It is for `MergeRules.decides_by_new_records`. The relation may have a part of the new records; the parts together then decide.
    These are the two newest records of each key, so that equal times are noticed. Records that cannot win over the base are
    chosen apart: if expired items are kept, one of them makes its key conflicting, and otherwise they decide nothing.
    """
    versions = f"SELECT record_id, _key, {version_us(rules.clock_skew_us)} AS version_us, asserted_at FROM {records}"
    over_base = f"SELECT *, {rules.wins_over_base} AS over_base FROM ({versions})"
    newest = "row_number() OVER (PARTITION BY _key, over_base ORDER BY version_us DESC)"
    return f"SELECT record_id FROM ({over_base}) WHERE {'true' if rules.keep_expired else 'over_base'} QUALIFY {newest} <= 2"


# --- the plan


@dataclass(frozen=True, slots=True)
class SessionTable:
    """The name and the columns of a table in a session. An f-string inserts the name.

    It is not a TEMPORARY table of SQL, because all cursors of the session must be able to read it.
    """

    name: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def create(self, session: Session, query: str) -> None:
        """Fill the table with the rows of a query, in place of those it has. The query must have the table's columns."""
        session.con.execute(f"CREATE OR REPLACE TABLE {self.name} AS SELECT {', '.join(self.columns)} FROM ({query})")

    def insert(self, session: Session, query: str) -> None:
        """Add the rows of a query, which must have the table's columns."""
        session.con.execute(f"INSERT INTO {self.name} SELECT {', '.join(self.columns)} FROM ({query})")

    def keep(self, session: Session, query: str, text: str | None = None) -> None:
        """As `create`, with the rows in a file of the work folder (`Session.keep`). `text`: a column of large texts."""
        session.keep(self.name, f"SELECT {', '.join(self.columns)} FROM ({query})", text=text)

    def count(self, session: Session) -> int:
        """The number of rows."""
        rows: int = session.value(f"SELECT count(*) FROM {self.name}")
        return rows


CHANGED_KEYS = SessionTable(
    "changed_keys", ("_key", "_key_hash", "latest_us", "latest_id", "latest_at", "tied", "late")
)
"""Keys with new records, and the newest of these. `tied`: several have the greatest time. `late`: a new record cannot win over
the base, and expired items are kept; false if they are not kept."""

CURRENT_ROWS = SessionTable("current_rows", ("file_path", "pos", "_key", "changed_us", "_source"))
"""The rows of `current` that the changed keys have before the merge."""

REMOVALS = SessionTable("removals", ("_key", "removed_us"))
"""The changed keys without a row that an applied record removed at or after the time of their newest new record."""

WINNERS = SessionTable("winners", ("_key", "_key_hash", "record_id", "changed_at", "tie", "absent"))
"""The record that decides each key that changes. `tie`: the trail of images decided. `absent`: an export or a repair states
that the item is absent, and this overrides the record."""

NEW_STATES = SessionTable("new_states", ("_key", "_key_hash", "_changed_at", "item", "_expired_at", "_source"))
"""The new state of each key of `WINNERS`. `item`: DynamoDB JSON; NULL if the item is removed."""

_NEW_RECORDS = SessionTable("new_records", ("record_id", "changed_at", "_key", "_key_hash", "version_us", "over_base"))
"""The records that are not applied yet. `over_base`: the record can win over the base."""

_CONFLICTING_KEYS = SessionTable("conflicting_keys", ("_key", "_key_hash"))
"""Changed keys that the newest record alone does not decide. They are decided over all their records."""

_DECISIONS = SessionTable("decisions", ("_key", "_key_hash", "record_id", "changed_at", "by_new_record"))
"""Each changed key and its newest new record. `by_new_record`: that record alone decides the key."""

_CANDIDATES = SessionTable(
    "candidates",
    ("_key", "_key_hash", "record_id", "changed_at", "version_us", "stream", "sequence_number", "effective_us"),
)
"""All records of the keys that are being decided. `effective_us`: the time, but in a stream no less than that of any lower
sequence number."""

_LATEST = SessionTable("latest", _CANDIDATES.columns)
"""The candidates of each key that have the greatest `effective_us`."""

_RESOLVED = SessionTable("resolved", ("_key", "_key_hash", "record_id", "changed_at"))
"""The winner of each key that has one latest candidate, or whose latest candidates are all of one stream."""

_TIED_KEYS = SessionTable("tied_keys", ("_key",))
"""The other keys: the trail of images decides which of their latest candidates wins."""

_DECIDED = (*_RESOLVED.columns, "tie")

_REDECIDED = SessionTable("redecided", _DECIDED)
"""The winner of each conflicting key over all its records. A key without a record that can win is left out."""

_ABSENT_KEYS = SessionTable("absent_keys", ("_key", "_key_hash"))
"""Conflicting keys that are absent in the base or in an export."""

_LAST_RECORDS = SessionTable("last_records", _DECIDED)
"""The last record of each absent key, apart from lines that state that the item is absent."""

_EXPIRED = SessionTable("expired", _DECIDED)
"""Those of the last records that are removals by Time to Live. The rows of their keys are kept."""


@dataclass(frozen=True, slots=True)
class MergeCounts:
    """Figures of a plan.

    Attributes:
        changed: keys whose row is added, replaced or removed: the distinct keys of the new states.
        late: conflicting keys.
        ties: keys that the trail of images decided.
        winners: records that decide a key, counted before their images were looked up. Equal to `changed`, or the merge is
            not committed.
        removed: new states without an item.
    """

    changed: int = 0
    late: int = 0
    ties: int = 0
    winners: int = 0
    removed: int = 0

    def __add__(self, other: MergeCounts) -> MergeCounts:
        return MergeCounts(
            self.changed + other.changed,
            self.late + other.late,
            self.ties + other.ties,
            self.winners + other.winners,
            self.removed + other.removed,
        )


@dataclass(frozen=True, slots=True)
class MergePlan:
    """The new state of each changed key, in tables of the session. The next plan in the session replaces the tables.

    Attributes:
        counts: figures.
        winners: the record that decides each key that changes.
        current_rows: the rows of `current` that the changed keys have before the merge.
        new_states: the item of each key of `winners` after the merge, or NULL.
        first_expired_us: the earliest expiry of an item whose row is kept; None if none is kept.
    """

    counts: MergeCounts
    winners: SessionTable = WINNERS
    current_rows: SessionTable = CURRENT_ROWS
    new_states: SessionTable = NEW_STATES
    first_expired_us: int | None = None

    @property
    def deleted_positions(self) -> str:
        """A query of the rows of `current` that are replaced or removed, as (file_path, pos)."""
        return f"SELECT r.file_path, r.pos FROM {self.current_rows} r SEMI JOIN {self.winners} w ON w._key = r._key"

    def mean_item_bytes(self, session: Session) -> int:
        """The average length of the text of an item of `new_states`, estimated from some of them; 0 without items."""
        some = f"SELECT item FROM {self.new_states} WHERE item IS NOT NULL LIMIT 1000"
        return int(session.value(f"SELECT avg(strlen(item))::BIGINT FROM ({some})") or 0)


def empty_plan(session: Session) -> MergePlan:
    """A plan in which no key changes. Only its new states can be read."""
    NEW_STATES.create(
        session,
        "SELECT NULL::VARCHAR AS _key, NULL::BIGINT AS _key_hash, NULL::TIMESTAMP AS _changed_at, NULL::VARCHAR AS item,"
        " NULL::TIMESTAMP AS _expired_at, NULL::VARCHAR AS _source WHERE false",
    )
    return MergePlan(MergeCounts())


def plan_merge(session: Session, inputs: MergeInput) -> MergePlan:
    """Decide the new state of each key with new records.

    Returns:
        The plan. Its tables stay in the session.

    Raises:
        CheckFailed: a key has no winner, or several. This is a fault of the program.
    """
    return complete_plan(session, inputs, find_conflicting_keys(session, inputs))


def complete_plan(session: Session, inputs: MergeInput, late: int) -> MergePlan:
    """As `plan_merge`, in a session in which `find_conflicting_keys` has returned `late`."""
    ties = _redecide(session, inputs) if late else 0
    keeps = bool(late and inputs.rules.keep_expired)
    if keeps:
        _keep_expired(session, inputs)
    changed, removed = _look_up_states(session, inputs)
    counts = MergeCounts(changed, late, ties, WINNERS.count(session), removed)
    return MergePlan(counts, first_expired_us=_first_expired_us(session) if keeps else None)


def find_conflicting_keys(session: Session, inputs: MergeInput) -> int:
    """Decide the keys that new records alone decide, without reading the changelog. Returns the number of conflicting keys.

    `CONFLICTING_KEY_HASHES` is then a query of their hashes.
    """
    _find_changed_keys(session, inputs)
    _find_current_rows(session, inputs)
    _find_removals(session, inputs)
    _decide_by_new_records(session, inputs.rules)
    return _CONFLICTING_KEYS.count(session)


CONFLICTING_KEY_HASHES = f"SELECT DISTINCT _key_hash FROM {_CONFLICTING_KEYS}"
"""A query of the key hashes of conflicting keys, after `find_conflicting_keys`."""


def _find_changed_keys(session: Session, inputs: MergeInput) -> None:
    """Fill the new records and the changed keys.

    A record that cannot win over the base is left out. If expired items are kept it stays, because it may be the last
    record of an absent item.
    """
    rules, keep = inputs.rules, inputs.rules.keep_expired
    only = " FILTER (WHERE over_base)" if keep else ""
    _NEW_RECORDS.create(
        session,
        f"SELECT *, {rules.wins_over_base} AS over_base FROM"
        f" (SELECT *, {version_us(rules.clock_skew_us)} AS version_us FROM {inputs.new_records})"
        f" WHERE {'true' if keep else rules.wins_over_base}",
    )
    CHANGED_KEYS.create(
        session,
        f"SELECT _key, any_value(_key_hash) AS _key_hash, max(version_us){only} AS latest_us,"
        f" arg_max(record_id, version_us){only} AS latest_id, arg_max(changed_at, version_us){only} AS latest_at,"
        f" len(max(version_us, 2){only}) = 2 AND (max(version_us, 2){only})[1] = (max(version_us, 2){only})[2] AS tied,"
        f" {'bool_or(NOT over_base)' if keep else 'false'} AS late"
        f" FROM {_NEW_RECORDS} GROUP BY _key",
    )


def _find_current_rows(session: Session, inputs: MergeInput) -> None:
    CURRENT_ROWS.create(
        session,
        "SELECT c.file_path, c.pos, c._key, epoch_us(c._changed_at) AS changed_us, c._source"
        f" FROM {inputs.current} c SEMI JOIN {CHANGED_KEYS} k ON c._key = k._key",
    )


def _find_removals(session: Session, inputs: MergeInput) -> None:
    """Fill the removals that a new record must be later than, to decide its key alone.

    A key with a row needs none: of the applied records, the one of the row is the latest. A removal before the newest new
    record of its key does not matter. So only files of the changelog that reach the oldest of these records are read.
    """
    from_us = None
    if inputs.rules.decides_by_new_records:
        absent = f"{CHANGED_KEYS} k ANTI JOIN {CURRENT_ROWS} r ON r._key = k._key"
        from_us = session.value(f"SELECT min(k.latest_us) FROM {absent}")
    REMOVALS.create(
        session,
        f"SELECT r._key, max(r.removed_us) AS removed_us FROM {NO_REMOVALS if from_us is None else inputs.removals(from_us)} r"
        f" SEMI JOIN {CHANGED_KEYS} k ON r._key_hash = k._key_hash AND r._key = k._key AND r.removed_us >= k.latest_us"
        " GROUP BY r._key",
    )


def _decide_by_new_records(session: Session, rules: MergeRules) -> None:
    """Give keys their newest new record as winner if it is later than their row and removal; the others are conflicting."""
    known_us = "greatest(CASE WHEN r._source <> 'snapshot' THEN r.changed_us END, d.removed_us)"
    decides = f"NOT k.late AND NOT k.tied AND coalesce(k.latest_us > {known_us}, true)"
    _DECISIONS.create(
        session,
        "SELECT k._key, k._key_hash, k.latest_id AS record_id, k.latest_at AS changed_at,"
        f" {decides if rules.decides_by_new_records else 'false'} AS by_new_record"
        f" FROM {CHANGED_KEYS} k LEFT JOIN {CURRENT_ROWS} r ON r._key = k._key LEFT JOIN {REMOVALS} d ON d._key = k._key",
    )
    WINNERS.create(
        session,
        f"SELECT _key, _key_hash, record_id, changed_at, false AS tie, false AS absent FROM {_DECISIONS} WHERE by_new_record",
    )
    _CONFLICTING_KEYS.create(session, f"SELECT _key, _key_hash FROM {_DECISIONS} WHERE NOT by_new_record")


def _redecide(session: Session, inputs: MergeInput) -> int:
    """Decide the conflicting keys over all their records. Returns the number of those that the trail of images decided.

    If the winner is not a new record, the key already has its row and is left out, except with `redecide_all`. A tied key is
    always written: its row may be from another record of the same instant.
    """
    rules = inputs.rules
    ties = _decide_over_records(
        session,
        rules,
        _Decision(_CONFLICTING_KEYS, inputs.changelog(), rules.wins_over_base, inputs.base_images, _REDECIDED),
    )
    new = f" SEMI JOIN {_NEW_RECORDS} n ON n.record_id = d.record_id AND n._key = d._key"
    WINNERS.insert(
        session,
        f"SELECT d.*, false AS absent FROM {_REDECIDED} d{'' if rules.redecide_all else new} WHERE NOT d.tie"
        f" UNION ALL SELECT d.*, false AS absent FROM {_REDECIDED} d WHERE d.tie",
    )
    return ties


@dataclass(frozen=True, slots=True)
class _Decision:
    """Keys to decide, the records over which they are decided, and the table for the winners.

    `condition`: SQL that a record with `version_us` must satisfy to count.
    """

    keys: SessionTable
    records: str
    condition: str
    base_images: BaseImages
    winners: SessionTable


def _decide_over_records(session: Session, rules: MergeRules, decision: _Decision) -> int:
    """Fill `decision.winners` for each key that has a record. Returns the number of tied keys."""
    _CANDIDATES.create(
        session,
        "SELECT c._key, c._key_hash, c.record_id, c.changed_at, c.version_us, c.stream, c.sequence_number,"
        " CASE WHEN c.sequence_number IS NOT NULL THEN max(c.version_us) OVER"
        f" (PARTITION BY c._key, c.stream, c.sequence_number IS NULL ORDER BY {SEQUENCE_ORDER}, c.version_us, c.record_id"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        " ELSE c.version_us END AS effective_us"
        f" FROM (SELECT *, {version_us(rules.clock_skew_us)} AS version_us FROM {decision.records}) c"
        f" SEMI JOIN {decision.keys} k ON c._key_hash = k._key_hash AND c._key = k._key WHERE {decision.condition}",
    )
    _LATEST.create(
        session,
        f"SELECT * FROM {_CANDIDATES} QUALIFY effective_us = max(effective_us) OVER (PARTITION BY _key)",
    )
    _RESOLVED.create(
        session,
        f"SELECT * FROM {_LATEST}"
        " QUALIFY count(*) OVER (PARTITION BY _key) = 1 OR ("
        "  count(sequence_number) OVER (PARTITION BY _key) = count(*) OVER (PARTITION BY _key)"
        "  AND min(coalesce(stream, '')) OVER (PARTITION BY _key) = max(coalesce(stream, '')) OVER (PARTITION BY _key)"
        "  AND row_number() OVER (PARTITION BY _key ORDER BY length(ltrim(sequence_number, '0')) DESC,"
        "   ltrim(sequence_number, '0') DESC, version_us DESC, record_id DESC) = 1)",
    )
    decision.winners.create(session, f"SELECT *, false AS tie FROM {_RESOLVED}")
    _TIED_KEYS.create(session, f"SELECT DISTINCT _key FROM {_LATEST} ANTI JOIN {_RESOLVED} USING (_key)")
    ties = _TIED_KEYS.count(session)
    if ties:
        _decide_ties(session, decision)
    return ties


# --- expired items


def _keep_expired(session: Session, inputs: MergeInput) -> None:
    """Keep the rows of items that an export lacks because they expired (`docs/explanation/ordering.md`, "Expired items").

    A key is absent in one of two cases: no record wins over the base and the base has no row of the key, or the winner is a
    line that states that the item is absent. The row of an absent key is kept under two conditions. The last of its other
    records, including those before the snapshot cutoff, is a removal by Time to Live. No full export has the item more than
    the clock skew allowance after that removal.
    """
    rules, changelog = inputs.rules, inputs.changelog()
    _ABSENT_KEYS.create(
        session,
        f"SELECT d._key, d._key_hash FROM {_REDECIDED} d SEMI JOIN (SELECT * FROM {changelog} WHERE {ABSENCE}) a"
        " ON a.record_id = d.record_id AND a.changed_at = d.changed_at AND a._key = d._key"
        f" UNION ALL SELECT k._key, k._key_hash FROM {_CONFLICTING_KEYS} k ANTI JOIN {_REDECIDED} d ON d._key = k._key"
        f" ANTI JOIN (SELECT _key FROM {CURRENT_ROWS} WHERE _source = 'snapshot') r ON r._key = k._key",
    )
    known = f"(SELECT * FROM {changelog} WHERE NOT {ABSENCE})"
    _decide_over_records(session, rules, _Decision(_ABSENT_KEYS, known, "true", lambda _keys: {}, _LAST_RECORDS))
    _EXPIRED.create(
        session,
        f"SELECT l.* FROM {_LAST_RECORDS} l SEMI JOIN (SELECT * FROM {changelog} WHERE {EXPIRY}) c"
        " ON c.record_id = l.record_id AND c.changed_at = l.changed_at AND c._key = l._key",
    )
    first_us = _first_expired_us(session)
    for keys in inputs.exported_keys(first_us + rules.clock_skew_us) if first_us is not None else ():
        _EXPIRED.create(
            session,
            f"SELECT e.* FROM {_EXPIRED} e"
            f" LEFT JOIN (SELECT _key, max(exported_us) AS exported_us FROM {keys} GROUP BY _key) x ON x._key = e._key"
            f" WHERE x._key IS NULL OR epoch_us(e.changed_at) > x.exported_us - {rules.clock_skew_us}",
        )
    session.con.execute(f"DELETE FROM {WINNERS} WHERE _key IN (SELECT _key FROM {_EXPIRED})")
    WINNERS.insert(session, f"SELECT *, false AS absent FROM {_EXPIRED}")
    # the other absent keys have no row: one that an earlier merge kept is removed
    WINNERS.insert(
        session,
        "SELECT a._key, a._key_hash, coalesce(d.record_id, l.record_id) AS record_id,"
        " coalesce(d.changed_at, l.changed_at) AS changed_at, false AS tie, true AS absent"
        f" FROM {_ABSENT_KEYS} a SEMI JOIN {CURRENT_ROWS} r ON r._key = a._key ANTI JOIN {WINNERS} w ON w._key = a._key"
        f" LEFT JOIN {_REDECIDED} d ON d._key = a._key LEFT JOIN {_LAST_RECORDS} l ON l._key = a._key",
    )


def _first_expired_us(session: Session) -> int | None:
    first_us: int | None = session.value(f"SELECT epoch_us(min(changed_at)) FROM {_EXPIRED}")
    return first_us


# --- the items of the winners


def _look_up_states(session: Session, inputs: MergeInput) -> tuple[int, int]:
    """Fill the new states with the images of the winners, and check that each key has exactly one winner.

    Returns the number of distinct keys, and of states without an item.
    """
    # if no key is conflicting, every winner is a new record, so the changelog is not read
    records = inputs.changelog() if _CONFLICTING_KEYS.count(session) else inputs.new_records
    expired = f"{'true' if inputs.rules.keep_expired else 'false'} AND {EXPIRY}"
    NEW_STATES.keep(
        session,
        "SELECT w._key, w._key_hash, c.changed_at AS _changed_at,"
        f" CASE WHEN w.absent THEN NULL WHEN NOT {REMOVAL} THEN c.new_image WHEN {expired} THEN c.old_image END AS item,"
        f" CASE WHEN NOT w.absent AND {expired} THEN c.changed_at END AS _expired_at,"
        " CASE WHEN c.kind = 'repair' THEN 'repair' ELSE 'change' END AS _source"
        f" FROM {WINNERS} w"
        f" JOIN {records} c ON c.record_id = w.record_id AND c.changed_at = w.changed_at AND c._key = w._key",
        text="item",
    )
    states, keys, removed = session.rows(
        f"SELECT count(*), count(DISTINCT _key), count(*) FILTER (item IS NULL) FROM {NEW_STATES}"
    )[0]
    winners = WINNERS.count(session)
    if not states == winners == keys:
        raise CheckFailed(
            f"{count_text(winners, 'key has', 'keys have')} {states} winners, {keys} distinct; nothing was committed",
            table=inputs.table,
        )
    return keys, removed


# --- records of one instant


class _Record(NamedTuple):
    """A record of a tied key."""

    key: str
    key_hash: int
    record_id: str
    changed_at: datetime
    version_us: int
    stream: str | None
    sequence: str | None
    kinesis_sequence: str | None
    asserted_us: int | None
    event_name: str
    old_image: str | None
    new_image: str | None

    @property
    def image_bytes(self) -> int:
        return len(self.old_image or "") + len(self.new_image or "")

    def version(self) -> Version:
        before = ABSENT if self.event_name == "INSERT" else _canonical(self.old_image)
        after = ABSENT if self.event_name in ("REMOVE", "DELETE") else _canonical(self.new_image)
        assert after is not None, "a record that is no removal has a new image"
        return Version(
            record_id=self.record_id,
            time_us=self.version_us,
            after=after,
            before=before,
            stream=self.stream,
            sequence=_integer(self.sequence),
            kinesis_sequence=_integer(self.kinesis_sequence),
            asserted_us=self.asserted_us,
        )


def _decide_ties(session: Session, decision: _Decision) -> None:
    """Decide the tied keys by the trail of images, in Python.

    The number of keys decided at once and the size of their images are bounded. All records of a key are decided together.
    """
    cursor = session.con.cursor()
    cursor.execute(
        "SELECT r._key, r._key_hash, r.record_id, c.changed_at, c.version_us, c.stream, r.sequence_number,"
        " r.kinesis_sequence, epoch_us(r.asserted_at), r.event_name, r.old_image, r.new_image"
        f" FROM {decision.records} r JOIN {_CANDIDATES} c ON c.record_id = r.record_id AND c._key = r._key"
        f" AND c.changed_at = r.changed_at SEMI JOIN {_TIED_KEYS} t ON t._key = r._key ORDER BY r._key_hash, r._key"
    )
    batch: list[list[_Record]] = []
    batch_bytes = 0
    for _, records in groupby(_fetched(cursor), key=attrgetter("key")):
        batch.append(list(records))
        batch_bytes += sum(record.image_bytes for record in batch[-1])
        if len(batch) >= _TIE_KEYS or batch_bytes >= _TIE_BYTES:
            _insert_tie_winners(session, decision, batch)
            batch, batch_bytes = [], 0
    _insert_tie_winners(session, decision, batch)


def _fetched(cursor: Any) -> Iterator[_Record]:
    while rows := cursor.fetchmany(_TIE_ROWS):
        yield from map(_Record._make, rows)


def _insert_tie_winners(session: Session, decision: _Decision, keys: list[list[_Record]]) -> None:
    """Decide some keys, each over all its records. The base's images are read once, for the keys that need them."""
    if not keys:
        return
    needs_base: list[str] = []
    winners: dict[str, _Record] = {}

    def base_unknown(key: str) -> bytes:
        needs_base.append(key)
        return ABSENT

    for records in keys:
        winners[records[0].key] = _winner(records, partial(base_unknown, records[0].key))
    if needs_base:
        images = dict.fromkeys(needs_base, ABSENT) | decision.base_images(needs_base)
        for records in keys:
            key = records[0].key
            if key in images:
                winners[key] = _winner(records, partial(images.__getitem__, key))
    found = list(winners.values())
    columns = {
        "_key": [record.key for record in found],
        "_key_hash": pa.array([record.key_hash for record in found], type=pa.int64()),
        "record_id": [record.record_id for record in found],
        "changed_at": pa.array([record.changed_at for record in found], type=pa.timestamp("us")),
    }
    session.con.register("tie_winners", pa.table(columns))
    decision.winners.insert(session, "SELECT *, true AS tie FROM tie_winners")
    session.con.unregister("tie_winners")


def _winner(records: Sequence[_Record], base: Callable[[], bytes]) -> _Record:
    best = winner([record.version() for record in records], base)
    return next(record for record in records if record.record_id == best.record_id)


def _canonical(image: str | None) -> bytes | None:
    return None if image is None else canonical_json(orjson.loads(image))


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
