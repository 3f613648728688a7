"""Restores the items of an instant into a DynamoDB table: at a chosen rate, resumable, and read back afterwards.

Items are put in the order of their keys' hashes. A mark in the warehouse, one for each target, names the restore and its
position. It is written before the first put, when the target is known to be empty. A restart that finds the mark of the same
restore continues from it; repeating a put changes nothing. The mark is replaced by compare and swap, so that of two restores
into one target one stops. Nothing is deleted from the target.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from ddb_lake.aws.items import TableItems, make_table
from ddb_lake.aws.landing_writer import Landing
from ddb_lake.aws.source import describe_source, source_client
from ddb_lake.config import SourceSettings, TableSettings
from ddb_lake.core.layout.table_names import RESTORES_FOLDER
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.operations.rate_limit import WRITE_UNIT_BYTES, RateLimit
from ddb_lake.core.operations.restore_batches import RestoreProgress, batches
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.identity import canonical_json
from ddb_lake.core.values.primary_key import key_hash, key_text
from ddb_lake.core.values.time_text import iso_text
from ddb_lake.engine.inverse_projection import complete
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import literal
from ddb_lake.errors import CheckFailed, CommitConflict, UsageError
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.replay import replay, view

DEFAULT_WRITE_RATE = 500.0
MARK_EVERY_S = 2.0
FETCH_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore will do.

    Attributes:
        table: the lake's name of the table.
        target: the DynamoDB table to write to.
        as_of_us: the instant of the items (inclusive).
        items: their number.
        write_units: about the capacity that writing takes.
        write_rate: write units a second; None for no limit.
        resumes: items that an earlier run of the same restore has written.
    """

    table: str
    target: str
    as_of_us: int
    items: int
    write_units: int
    write_rate: float | None
    resumes: int = 0

    @property
    def seconds(self) -> float | None:
        """The least duration of the writing; None without a rate."""
        return self.write_units / self.write_rate if self.write_rate else None


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The result of a restore. `written`: items of this run; `resumed`: of earlier runs. `verified`: items read back and equal."""

    table: str
    target: str
    as_of_us: int
    items: int
    written: int
    resumed: int
    verified: int
    write_units: float
    read_units: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _StoredMark:
    """The target's mark as it was last read or written, and its version; both None if there is no mark."""

    mark: RestoreProgress | None
    version: str | None

    def resumable(self, wanted: RestoreProgress) -> RestoreProgress | None:
        """The mark, if it is of the same restore as `wanted` and that is not done."""
        return self.mark if self.mark is not None and self.mark.restores_same(wanted) and not self.mark.done else None


@dataclass(frozen=True, slots=True)
class _Target:
    """The table to write to. `key`: its key attributes. `start`: the mark of a restore from the beginning."""

    items: TableItems
    key: tuple[str, ...]
    start: RestoreProgress
    stored: _StoredMark


class Restore:
    """One restore: prepare it with `open_restore`, show its `plan`, then `run` it.

    Attributes:
        plan: what it will do.
    """

    def __init__(self, lake: Lake, session: Session, target: _Target, plan: RestorePlan) -> None:
        self._lake, self._session, self._items, self.plan = lake, session, target.items, plan
        self._key, self._start, self._stored = target.key, target.start, target.stored
        self._mark = target.stored.resumable(target.start) or target.start

    def run(
        self, *, create: bool = False, into_existing: bool = False, read_rate: float | None = None
    ) -> RestoreResult:
        """Write the items that are not written yet, then read the table back and compare.

        Args:
            create: create the table (on demand) if it does not exist.
            into_existing: write although the table has items. They stay, unless a restored item has their key.
            read_rate: read units a second for reading back; None for no limit.

        Raises:
            UsageError: the table does not exist, has another key, or is not empty.
            CommitConflict: another restore writes to the table.
            CheckFailed: the items that were read back are not those that were put.
        """
        started = time.monotonic()
        self._check_target(create, into_existing)
        resumed = self._mark.written
        self._store(self._mark)
        self._write()
        written_units = self._items.consumed.units
        reader = TableItems(self._items.client, self._items.name, RateLimit(read_rate), sleep=self._items.sleep)
        verified = self._read_back(reader, into_existing)
        self._store(replace(self._mark, done=True))
        plan = self.plan
        return RestoreResult(
            plan.table,
            plan.target,
            plan.as_of_us,
            plan.items,
            self._mark.written - resumed,
            resumed,
            verified,
            written_units,
            reader.consumed.units,
            time.monotonic() - started,
        )

    def _check_target(self, create: bool, into_existing: bool) -> None:
        """Check that the target exists and is empty. It may have items if this restore has begun to write to it."""
        target = self.plan.target
        begun = self._stored.resumable(self._start) is not None
        existing = describe_source(_target_settings(self._lake.table(self.plan.table), target))
        if existing.arn is None:
            if not create:
                raise UsageError(f"{existing.unreachable}", table=target, hint="`--create` makes it")
            make_table(self._items.client, target, self._key_types())
            self._mark = self._start
        elif set(existing.key) != set(self._key):
            raise UsageError(f"its key is {list(existing.key)}, that of the items is {list(self._key)}", table=target)
        elif self._items.is_empty():
            self._mark = self._start
        elif not begun and not into_existing:
            raise UsageError(
                f"has items already{self._other()}",
                table=target,
                hint="restore into an empty table, or use `--into-existing`",
            )

    def _other(self) -> str:
        """The unfinished restore of other items that the target's mark names, as the end of a message."""
        other = self._stored.mark
        if other is None or other.done:
            return ""
        return f", of an unfinished restore as of {iso_text(other.as_of_us)}"

    def _key_types(self) -> list[tuple[str, str]]:
        rows = self._session.rows(f"SELECT item FROM {self._source()} LIMIT 1")
        if not rows:
            raise UsageError(
                "no items to restore, and so no types of the key to create a table with", table=self.plan.table
            )
        item = orjson.loads(rows[0][0])
        return [(name, next(iter(item[name]))) for name in self._key]

    def _source(self) -> str:
        return f"read_parquet({literal(str(self._session.folder / 'restore.parquet'))})"

    def _rows(self) -> Iterator[tuple[int, Item, int]]:
        cursor = self._session.con.cursor()
        cursor.execute(
            f"SELECT _key_hash, item FROM {self._source()} WHERE _key_hash > {self._mark.after_hash} ORDER BY _key_hash"
        )
        while rows := cursor.fetchmany(FETCH_ROWS):
            yield from ((h, orjson.loads(text), len(text.encode())) for h, text in rows)

    def _write(self) -> None:
        kept_at, last = time.monotonic(), self._mark.after_hash
        for batch in batches(self._rows()):
            if batch[0][0] != last:  # all items with the hash before are written
                self._mark = replace(self._mark, after_hash=last)
                if time.monotonic() - kept_at >= MARK_EVERY_S:
                    self._store(self._mark)
                    kept_at = time.monotonic()
            self._items.put([item for _, item, _ in batch])
            last = batch[-1][0]
            self._mark = replace(self._mark, written=self._mark.written + len(batch))
            self._lake.progress(f"{self.plan.target}: items written", self._mark.written, self.plan.items)
        self._mark = replace(self._mark, after_hash=last)
        self._store(self._mark)

    def _read_back(self, reader: TableItems, others: bool) -> int:
        """Scan the target. It must have every item as it was put, and no other unless `others`. Returns the number of items."""
        equal = unknown = 0
        for page in reader.scan():
            texts = {key_text(item, self._key): item for item in page}
            hashes = ", ".join(str(key_hash(text)) for text in texts) or "NULL"
            rows = self._session.rows(f"SELECT item FROM {self._source()} WHERE _key_hash IN ({hashes})")
            wanted = {key_text(item, self._key): item for item in (orjson.loads(text) for (text,) in rows)}
            for text, item in texts.items():
                if text not in wanted:
                    unknown += 1
                elif canonical_json(item) == canonical_json(wanted[text]):
                    equal += 1
            self._lake.progress(f"{self.plan.target}: items read back", equal, self.plan.items)
        if equal != self.plan.items or (unknown and not others):
            raise CheckFailed(
                f"the table has {equal} of {count_text(self.plan.items, 'item')} as they were put, and "
                f"{count_text(unknown, 'other item')}; is something writing to it? Run the same restore again with `--into-existing`",
                table=self.plan.target,
            )
        return equal

    def _store(self, mark: RestoreProgress) -> None:
        """Replace the target's mark. Raises CommitConflict if another restore has replaced it."""
        landing, data = _landing(self._lake), mark.dump()
        try:
            version = landing.replace(_name(mark), data, self._stored.version)
        except CommitConflict as error:
            stored, stored_version = landing.load(_name(mark))
            if stored != data or stored_version is None:  # if equal, the response to an earlier attempt was lost
                raise CommitConflict("another restore writes to it; wait until that ends", table=mark.target) from error
            version = stored_version
        self._stored = _StoredMark(mark, version)


def open_restore(
    lake: Lake,
    session: Session,
    name: str,
    target: str,
    as_of_us: int,
    write_rate: float | None = DEFAULT_WRITE_RATE,
) -> Restore:
    """Prepare a restore: write the items of an instant, sorted, into the session's folder. DynamoDB is only read.

    Args:
        lake: the open lake.
        session: holds the items until the restore has run.
        name: the lake's name of the table.
        target: the DynamoDB table to write to.
        as_of_us: the instant (inclusive).
        write_rate: write units a second; None for no limit.

    Raises:
        UsageError: the lake has nothing of the table at that instant, or the target is the table's own source.

    Example:
        >>> with lake.session() as session:
        ...     open_restore(lake, session, "orders", "orders-copy", as_of_us).run(create=True)
    """
    table = lake.table(name)
    if target == table.source_name:
        raise UsageError("is the source itself", table=target, hint="restore into another table")
    seen = view(lake, name)
    replayed = replay(lake, session, seen, as_of_us)
    path = session.folder / "restore.parquet"
    rows = f"SELECT _key_hash, ddb_complete(item, _rescued) AS item FROM {replayed.items} ORDER BY _key_hash"
    session.con.create_function("ddb_complete", _complete, ["VARCHAR", "VARCHAR"], "VARCHAR", null_handling="special")
    session.con.execute(f"COPY ({rows}) TO {literal(str(path))} (FORMAT parquet, ROW_GROUP_SIZE 20480)")
    items, units, digest = session.rows(
        f"SELECT count(*), coalesce(sum(greatest(1, ceil(strlen(item) / {WRITE_UNIT_BYTES}.0))), 0),"
        f" coalesce(bit_xor(md5_number(item)), 0)::VARCHAR FROM read_parquet({literal(str(path))})"
    )[0]
    fingerprint = f"{items}/{digest}"
    start = RestoreProgress(name, target, as_of_us, fingerprint)
    data, version = _landing(lake).load(_name(start))
    stored = _StoredMark(RestoreProgress.load(data) if data else None, version)
    resumed = stored.resumable(start)
    plan = RestorePlan(name, target, as_of_us, items, int(units), write_rate, resumed.written if resumed else 0)
    target_items = TableItems(source_client(table), target, RateLimit(write_rate))
    return Restore(lake, session, _Target(target_items, seen.state.schema.key, start, stored), plan)


def _complete(item: str, rescued: str | None) -> str:
    return complete(item, rescued).decode()


def _target_settings(table: TableSettings, target: str) -> TableSettings:
    source = SourceSettings(**{**table.source.model_dump(), "table": target})
    return table.model_copy(update={"source": source})


def _landing(lake: Lake) -> Landing:
    return Landing(lake.objects, f"{lake.landing}/{RESTORES_FOLDER}")


def _name(mark: RestoreProgress) -> str:
    return f"{mark.table}/{mark.target}.json"
