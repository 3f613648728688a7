"""Which rows of `current` change: the order of `core.merge.ordering`, for many keys at once.

Works on relations (SQL text) of change records and of `current`, and leaves its answer in temporary tables:

- `winners` (_key, _key_hash, record_id, changed_at, tie, gone): the new state of each key that changes; `gone`: an export
  says that the item is absent, and this overrides the record
- `standing` (file_path, pos, _key, …): the rows of `current` those keys have now

Only keys with new records are looked at. A key whose one newest record is later than all that was known is decided by
that record; any other (late records, equal times, Streams sequence numbers, assertions) is decided over all records
of the key in the changelog, and records of one instant go to `core.merge.ordering.winner` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
import pyarrow as pa

from ddb_lake.core.merge.ordering import ABSENT, Version, winner
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.engine.session import Session

REMOVAL = "event_name IN ('REMOVE', 'DELETE')"
ABSENCE = f"(asserted_at IS NOT NULL AND {REMOVAL})"
"""SQL condition: the record is an export's or a repair's assertion that the item is absent."""

EXPIRY = f"(ttl AND old_image IS NOT NULL AND {REMOVAL})"
"""SQL condition: the record is a removal by Time to Live whose row can be kept."""

SEQUENCE_ORDER = "length(ltrim(sequence_number, '0')), ltrim(sequence_number, '0')"


def version_us(clock_skew_us: int) -> str:
    """SQL of where a record stands in time (`core.merge.ordering.assertion_us` for assertions)."""
    return (
        "CASE WHEN asserted_at IS NULL THEN epoch_us(changed_at)"
        f" ELSE greatest(epoch_us(changed_at), epoch_us(asserted_at) - {clock_skew_us}) END"
    )


BaseImages: TypeAlias = Callable[[list[str]], dict[str, bytes]]
"""Gives the snapshot's canonical images of some keys (by `_key`)."""

ShownKeys: TypeAlias = Callable[[int], Sequence[str]]
"""Gives, for each full export of an instant or later, a relation (_key, shown_us) of its items with keys in `touched`."""


@dataclass(frozen=True, slots=True)
class MergeInput:
    """What the merge works on, as SQL relations.

    `fresh`: records not yet applied. `changelog`: all records. `current`: rows with `file_path`, `pos`, `_key`,
    `_changed_at`, `_source`, a superset of the living rows of the keys in the table `touched`. `tombstones`: rows of
    `lake.sidecar.TOMBSTONE_COLUMNS`. `snapshot_cutoff_us`: change records at or before it never win. `base_us`: the base's own
    time; an assertion replaces the base's rows only if it speaks of a later one. Both None without a base. `simple`:
    the records' times alone order them (no Streams, no assertions). `recheck`: decide every key over all its records.
    `keep_expired`: items that Time to Live removed stay as rows. `shown`: for this, the items of all full exports, as
    pairs of the latest export time in a relation, and the relation (_key, shown_us) of the keys in `touched`.
    """

    fresh: str
    changelog: str
    current: str
    tombstones: str
    snapshot_cutoff_us: int | None
    base_us: int | None
    clock_skew_us: int
    simple: bool
    recheck: bool = False
    keep_expired: bool = False

    @property
    def standing_over_base(self) -> str:
        """SQL of whether a record (with `version_us`) can win over the base at all."""
        if self.snapshot_cutoff_us is None:
            return "true"
        asserted = f"epoch_us(asserted_at) > {self.base_us}"
        return f"CASE WHEN asserted_at IS NULL THEN version_us > {self.snapshot_cutoff_us} ELSE {asserted} END"


@dataclass(frozen=True, slots=True)
class MergeCounts:
    """`touched`: keys with new records. `late`: keys whose new records were not simply the newest. `ties`: decided by
    the image chain."""

    touched: int
    late: int
    ties: int


def plan_merge(session: Session, given: MergeInput, base_images: BaseImages, shown: ShownKeys) -> MergeCounts:
    """Fill `winners` and `standing`, and `expired` if expired items are kept."""
    late = find_undecided(session, given)
    ties = _decide_over_changelog(session, given, base_images) if late else 0
    if late and given.keep_expired:
        _keep_expired(session, given, shown)
    touched = session.value("SELECT count(*) FROM touched")
    return MergeCounts(touched, late, ties)


def find_undecided(session: Session, given: MergeInput) -> int:
    """Fill `standing`, and `winners` with what new records alone decide; gives how many keys are in `undecided`.

    The changelog is not looked at.
    """
    _find_touched(session, given)
    _find_standing(session, given)
    _decide_simple(session, given)
    found: int = session.value("SELECT count(*) FROM undecided")
    return found


def _find_touched(session: Session, given: MergeInput) -> None:
    """Fill `fresh_ids` and `touched`.

    A record that cannot win over the base decides nothing, unless expired items are kept: then it may be the last known
    record of an absent item.
    """
    over, keep = given.standing_over_base, given.keep_expired
    only = " FILTER (WHERE over_base)" if keep else ""
    session.con.execute(
        "CREATE OR REPLACE TABLE fresh_ids AS"
        f" SELECT record_id, changed_at, _key, _key_hash, version_us, {over} AS over_base FROM"
        f" (SELECT *, {version_us(given.clock_skew_us)} AS version_us FROM {given.fresh}) WHERE {'true' if keep else over}"
    )
    session.con.execute(
        "CREATE OR REPLACE TABLE touched AS"
        f" SELECT _key, any_value(_key_hash) AS _key_hash, max(version_us){only} AS top_us,"
        f" arg_max(record_id, version_us){only} AS top_id, arg_max(changed_at, version_us){only} AS top_at,"
        f" len(max(version_us, 2){only}) = 2 AND (max(version_us, 2){only})[1] = (max(version_us, 2){only})[2] AS tied,"
        f" {'bool_or(NOT over_base)' if keep else 'false'} AS late"
        " FROM fresh_ids GROUP BY _key"
    )


def _find_standing(session: Session, given: MergeInput) -> None:
    session.con.execute(
        "CREATE OR REPLACE TABLE standing AS"
        " SELECT c.file_path, c.pos, c._key, epoch_us(c._changed_at) AS changed_us, c._source"
        f" FROM {given.current} c SEMI JOIN touched t ON c._key = t._key"
    )
    session.con.execute(
        "CREATE OR REPLACE TABLE buried AS"
        f" SELECT b._key, b.changed_us, b.removed FROM {given.tombstones} b"
        " SEMI JOIN touched t ON b._key_hash = t._key_hash AND b._key = t._key"
        " QUALIFY row_number() OVER (PARTITION BY b._key ORDER BY b.batch DESC) = 1"
    )


def _decide_simple(session: Session, given: MergeInput) -> None:
    """Keys with one newest record, later than what is known of them, go to `winners`; the others to `undecided`."""
    held = (
        "greatest(CASE WHEN s._source <> 'snapshot' THEN s.changed_us END, CASE WHEN b.removed THEN b.changed_us END)"
    )
    simple = (
        "false"
        if given.recheck or not given.simple
        else f"NOT t.late AND NOT t.tied AND coalesce(t.top_us > {held}, true)"
    )
    session.con.execute(
        "CREATE OR REPLACE TABLE decided AS"
        f" SELECT t._key, t._key_hash, t.top_id AS record_id, t.top_at AS changed_at, {simple} AS simple"
        " FROM touched t LEFT JOIN standing s ON s._key = t._key LEFT JOIN buried b ON b._key = t._key"
    )
    session.con.execute(
        "CREATE OR REPLACE TABLE winners AS"
        " SELECT _key, _key_hash, record_id, changed_at, false AS tie, false AS gone FROM decided WHERE simple"
    )
    session.con.execute("CREATE OR REPLACE TABLE undecided AS SELECT _key, _key_hash FROM decided WHERE NOT simple")


def _decide_over_changelog(session: Session, given: MergeInput, base_images: BaseImages) -> int:
    """Decide `undecided` keys over all their records; gives how many needed the image chain."""
    ties = _decide_all(session, given, "undecided", given.changelog, given.standing_over_base, base_images, "best")
    fresh = "" if given.recheck else " SEMI JOIN fresh_ids f ON f.record_id = b.record_id AND f._key = b._key"
    session.con.execute(
        f"INSERT INTO winners SELECT b.*, false FROM best b{fresh} WHERE NOT b.tie"
        " UNION ALL SELECT b.*, false FROM best b WHERE b.tie"
    )
    return ties


def _decide_all(
    session: Session, given: MergeInput, keys: str, records: str, among: str, base_images: BaseImages, into: str
) -> int:
    """Put the winner of all of `records` that satisfy `among` into a table, for each of `keys` that has one.

    Returns the number of keys that needed the image chain.
    """
    session.con.execute(
        "CREATE OR REPLACE TABLE candidates AS"
        " SELECT c._key, c._key_hash, c.record_id, c.changed_at, c.version_us, c.stream, c.sequence_number, c.asserted_at,"
        " CASE WHEN c.sequence_number IS NOT NULL THEN max(c.version_us) OVER"
        f" (PARTITION BY c._key, c.stream, c.sequence_number IS NULL ORDER BY {SEQUENCE_ORDER}, c.version_us, c.record_id"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        " ELSE c.version_us END AS effective_us"
        f" FROM (SELECT *, {version_us(given.clock_skew_us)} AS version_us FROM {records}) c"
        f" SEMI JOIN {keys} u ON c._key_hash = u._key_hash AND c._key = u._key WHERE {among}"
    )
    session.con.execute(
        "CREATE OR REPLACE TABLE top AS SELECT * FROM"
        " (SELECT *, max(effective_us) OVER (PARTITION BY _key) AS top_us FROM candidates)"
        " WHERE effective_us = top_us"
    )
    session.con.execute(
        "CREATE OR REPLACE TABLE settled AS SELECT * FROM top"
        " QUALIFY count(*) OVER (PARTITION BY _key) = 1 OR ("
        "  count(sequence_number) OVER (PARTITION BY _key) = count(*) OVER (PARTITION BY _key)"
        "  AND min(coalesce(stream, '')) OVER (PARTITION BY _key) = max(coalesce(stream, '')) OVER (PARTITION BY _key)"
        "  AND row_number() OVER (PARTITION BY _key ORDER BY length(ltrim(sequence_number, '0')) DESC,"
        "   ltrim(sequence_number, '0') DESC, version_us DESC, record_id DESC) = 1)"
    )
    session.con.execute(
        f"CREATE OR REPLACE TABLE {into} AS SELECT _key, _key_hash, record_id, changed_at, false AS tie FROM settled"
    )
    session.con.execute(
        "CREATE OR REPLACE TABLE tied_keys AS SELECT DISTINCT _key FROM top ANTI JOIN settled USING (_key)"
    )
    ties: int = session.value("SELECT count(*) FROM tied_keys")
    if ties:
        _decide_ties(session, records, base_images, into)
    return ties


def _keep_expired(session: Session, given: MergeInput, shown: ShownKeys) -> None:
    """Keep rows of items that are absent in an export and whose last known change is an expiry.

    Such a key has neither a winner over the base nor a row of the base, or its winner is an asserted absence. Its row is
    kept if the last of its other records, including those before the base's snapshot cutoff, is a removal by Time to Live, and
    no full export has the item more than the margin later (`docs/explanation/ordering.md`).
    """
    con = session.con
    con.execute(
        "CREATE OR REPLACE TABLE absent AS"
        f" SELECT b._key, b._key_hash FROM best b SEMI JOIN (SELECT * FROM {given.changelog} WHERE {ABSENCE}) a"
        " ON a.record_id = b.record_id AND a.changed_at = b.changed_at AND a._key = b._key"
        " UNION ALL SELECT u._key, u._key_hash FROM undecided u ANTI JOIN best b ON b._key = u._key"
        " ANTI JOIN (SELECT _key FROM standing WHERE _source = 'snapshot') s ON s._key = u._key"
    )
    known = f"(SELECT * FROM {given.changelog} WHERE NOT {ABSENCE})"
    _decide_all(session, given, "absent", known, "true", lambda _keys: {}, "last_known")
    con.execute(
        "CREATE OR REPLACE TABLE expired AS SELECT l.* FROM last_known l"
        f" SEMI JOIN (SELECT * FROM {given.changelog} WHERE {EXPIRY}) c"
        " ON c.record_id = l.record_id AND c.changed_at = l.changed_at AND c._key = l._key"
    )
    first_us = first_expired_us(session)
    for keys in shown(first_us + given.clock_skew_us) if first_us is not None else ():
        con.execute(
            "CREATE OR REPLACE TABLE expired AS SELECT e.* FROM expired e"
            f" LEFT JOIN (SELECT _key, max(shown_us) AS shown_us FROM {keys} GROUP BY _key) s ON s._key = e._key"
            f" WHERE s._key IS NULL OR epoch_us(e.changed_at) > s.shown_us - {given.clock_skew_us}"
        )
    con.execute("DELETE FROM winners WHERE _key IN (SELECT _key FROM expired)")
    con.execute("INSERT INTO winners SELECT *, false FROM expired")
    # rows that were kept and are not kept any more are removed
    con.execute(
        "INSERT INTO winners SELECT a._key, a._key_hash, coalesce(b.record_id, l.record_id),"
        " coalesce(b.changed_at, l.changed_at), false, true FROM absent a"
        " SEMI JOIN standing s ON s._key = a._key ANTI JOIN winners w ON w._key = a._key"
        " LEFT JOIN best b ON b._key = a._key LEFT JOIN last_known l ON l._key = a._key"
    )


def first_expired_us(session: Session) -> int | None:
    """The earliest time in `expired`; None without one."""
    found: int | None = session.value("SELECT epoch_us(min(changed_at)) FROM expired")
    return found


def _decide_ties(session: Session, records: str, base_images: BaseImages, into: str) -> None:
    """Records of one instant: the image chain, in Python, a bounded number of keys at a time."""
    cursor = session.con.cursor()
    cursor.execute(
        "SELECT c._key, c._key_hash, c.record_id, k.changed_at, k.version_us, k.stream, c.sequence_number,"
        " c.kinesis_sequence, epoch_us(c.asserted_at), c.event_name, c.old_image, c.new_image"
        f" FROM {records} c JOIN candidates k ON k.record_id = c.record_id AND k._key = c._key"
        " AND k.changed_at = c.changed_at SEMI JOIN tied_keys t ON t._key = c._key ORDER BY c._key_hash, c._key"
    )
    pending: list[list[tuple[Any, ...]]] = []
    while True:
        rows = cursor.fetchmany(1000)
        for row in rows:
            if pending and pending[-1][0][0] == row[0]:
                pending[-1].append(row)
            else:
                pending.append([row])
        if not rows or len(pending) > 1000:
            held_back = [] if not rows else [pending.pop()]
            _settle(session, pending, base_images, into)
            pending = held_back
        if not rows:
            return


def _settle(session: Session, keys: list[list[tuple[Any, ...]]], base_images: BaseImages, into: str) -> None:
    asked: list[str] = []
    chosen: dict[str, tuple[Any, ...]] = {}

    def choose(rows: list[tuple[Any, ...]], base: Callable[[], bytes]) -> None:
        versions = [_version(row) for row in rows]
        best = winner(versions, base)
        chosen[rows[0][0]] = next(row for row in rows if row[2] == best.record_id)

    for rows in keys:
        key = rows[0][0]

        def ask(key: str = key) -> bytes:
            asked.append(key)
            return ABSENT

        choose(rows, ask)
    if asked:
        images = base_images(asked)
        again = set(asked)
        for rows in keys:
            key = rows[0][0]
            if key in again:
                choose(rows, lambda key=key: images.get(key, ABSENT))  # type: ignore[misc]
    if chosen:
        found = list(chosen.values())
        session.con.register(
            "chosen",
            pa.table(
                {
                    "k": [row[0] for row in found],
                    "h": pa.array([row[1] for row in found], type=pa.int64()),
                    "r": [row[2] for row in found],
                    "c": pa.array([row[3] for row in found], type=pa.timestamp("us")),
                }
            ),
        )
        session.con.execute(f"INSERT INTO {into} SELECT k, h, r, c, true FROM chosen")
        session.con.unregister("chosen")


def _version(row: tuple[Any, ...]) -> Version:
    _, _, record_id, _, time_us, stream, sequence, kinesis_sequence, asserted_us, event_name, old, new = row
    removed = event_name in ("REMOVE", "DELETE")
    before = ABSENT if event_name == "INSERT" else _canonical(old) if old is not None else None
    return Version(
        record_id=record_id,
        time_us=time_us,
        after=ABSENT if removed else _canonical(new),
        before=before,
        stream=stream,
        sequence=_integer(sequence),
        kinesis_sequence=_integer(kinesis_sequence),
        asserted_us=asserted_us,
    )


def _canonical(image: str) -> bytes:
    return canonical_json(orjson.loads(image))


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
