"""Decides which work of a lake is due, for `sync` and for the sensor. It only reads; other modules do the work.

`sync` calls `Planner.reads` and `Planner.due`, which list everything and return all work that is due. The sensor calls
`Planner.tick`, which decides by the same functions (`pipeline.plan.due`) within a time budget, and remembers in a cursor
what earlier ticks did. They differ where a listing takes time or a request starts a Dagster run:

- Each tick lists the recent hours; every ten minutes it lists the look-back window (`changes.lookback`) and the exports, and
  every six hours everything. `sync` always lists everything.
- A tick requests at most one load and one run that applies for each table. That run applies at most
  `due.LONGEST_SPAN` of arrival hours; later ticks request the rest.
- A tick calls DynamoDB to find the windows of incremental exports that are due. `sync` leaves this to the step that starts
  the exports.
- In a tick, an error in one kind of work does not stop the others. `sync` raises it, and does no more work of that table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.core.capture.sightings import SeenBy
from ddb_lake.errors import DatabaseError, TransientError
from ddb_lake.pipeline.load.export_files import SUMMARY
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan import due
from ddb_lake.pipeline.plan.arrivals import (
    Arrivals,
    Scope,
    hours_behind_utc,
    landing_roots,
    list_landed,
    list_notified,
    list_unapplied,
    unapplied,
)
from ddb_lake.pipeline.plan.cursor import SensorCursor, TableCursor
from ddb_lake.pipeline.plan.work import Work, WorkKind, digest

BUDGET_S = 40.0
"""Dagster ends an evaluation after 60 s. The other 20 s are for a listing that is under way and for the run requests.

https://docs.dagster.io/deployment/troubleshooting/sensor-timeouts
"""

LOOKBACK_EVERY_S = 600
"""The interval of listing the look-back window and the finished exports, and of planning added kinds and compaction."""

EXPORTS_EVERY_S = 60
"""The interval of listing DynamoDB's exports, while a window is due, under way or not loaded."""

ALL_EVERY_S = 6 * 3600
"""The interval of listing all landed objects."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The work of unfinished runs.

    Attributes:
        loading: the tables whose exports are being loaded.
        applying: the tables whose objects are being applied.
        compacting: whether any table is being compacted.
        reading: the tables whose DynamoDB streams are being read.
        runs: a sentence about the runs of each table, for messages.
    """

    loading: Collection[str] = ()
    applying: Collection[str] = ()
    compacting: bool = False
    reading: Collection[str] = ()
    runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """The input of one tick of the sensor.

    Attributes:
        cursor: what earlier ticks stored; the plan changes it in place.
        busy: the work of unfinished runs, which is not requested again.
        hints: URIs by table, from notifications; the tick lists them in addition.
        budget_s: after this many seconds no further table is examined.
        clock: a monotonic clock, in seconds.
        tables: the tables to examine; None: all.
    """

    cursor: SensorCursor
    busy: Busy = field(default_factory=Busy)
    hints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    budget_s: float = BUDGET_S
    clock: Callable[[], float] = time.monotonic
    tables: Collection[str] | None = None


@dataclass(slots=True)
class Plan:
    """The result of a tick.

    Attributes:
        work: the work to request.
        failed: the first error of each table for which a kind of work could not be planned.
        examined: the tables that were examined; the next tick begins with the first of the others.
        listed: the number of landed objects that were listed.
    """

    work: list[Work] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    examined: set[str] = field(default_factory=set)
    listed: int = 0


OnUnapplied: TypeAlias = Callable[[str, Sequence[ObjectRef], SeenBy], None]
"""Receives a table's name, objects of it that are seen and not applied, and what showed them."""


def _ignore(_table: str, _refs: Sequence[ObjectRef], _seen_by: SeenBy) -> None:
    """Do nothing with them."""


class OutOfTimeError(Exception):
    """A listing exceeded the budget of the tick. A run lists instead, or the next tick begins with this table."""


class Planner:
    """Decides which work of a lake is due.

    Args:
        lake: an open lake.
        kinds: *added* kinds of work, which are not the pipeline's own, such as replication to a database.
        on_unapplied: receives the landed objects that are not applied, whenever they are listed.
    """

    def __init__(self, lake: Lake, kinds: Sequence[WorkKind] = (), on_unapplied: OnUnapplied = _ignore) -> None:
        self._lake = lake
        self._kinds = kinds
        self._on_unapplied = on_unapplied

    def reads(self, table: TableSettings) -> Iterator[Work]:
        """The work of reading the table's DynamoDB stream, if it is read directly. Do it before calling `due`, which then
        finds the objects that it landed.
        """
        yield from filter(None, [due.read_work(self._lake, table)])

    def due(self, table: TableSettings) -> Iterator[Work]:
        """All work that is due for a table, in the order in which to do it: loads, landed objects, the rest.

        Lists all landed objects. Raises the errors of listings and of the lake, but skips an export that cannot be read, with
        a warning.
        """
        lake = self._lake
        first = list(due.load_work(lake, table))
        arrivals = list_unapplied(lake, table)
        self._on_unapplied(table.name, arrivals.refs, "listing")
        first += filter(None, [due.apply_work(lake, table, arrivals) or due.merge_work(lake, table)])
        yield from first
        for kind in self._kinds:
            if not kind.is_configured(table):
                continue
            if first:
                yield Work(table.name, kind.name, "it follows what is applied")
            else:
                yield from filter(None, [self._added_work(kind, table)])
        yield from filter(None, [due.export_work(lake, table), due.compaction_work(lake, table)])

    def tick(self, tick: Tick) -> Plan:
        """Plan for one tick of the sensor.

        Examines the tables in turn until all are examined or the budget is used up; the next tick continues there. An error
        in one kind of work of one table goes into the result, and the other work is planned.
        """
        return _TickPlanner(self._lake, self._kinds, tick, self._on_unapplied).plan()

    def _added_work(self, kind: WorkKind, table: TableSettings) -> Work | None:
        """Due work of an added kind. It is due too if its target does not answer: the target may be behind, and the work
        then fails with the error.
        """
        try:
            return due.added_work(kind, self._lake, table)
        except (DatabaseError, TransientError) as error:
            return Work(table.name, kind.name, f"{kind.target} does not answer ({error})")


class _TickPlanner:
    def __init__(self, lake: Lake, kinds: Sequence[WorkKind], tick: Tick, on_unapplied: OnUnapplied) -> None:
        self._lake = lake
        self._kinds = kinds
        self._on_unapplied = on_unapplied
        self._tick = tick
        self._busy = tick.busy
        self._deadline = tick.clock() + tick.budget_s
        self._now_s = int(lake.now().timestamp())
        self._plan = Plan()

    def plan(self) -> Plan:
        cursor = self._tick.cursor
        resume_at = None
        chosen = self._tick.tables
        names = [table.name for table in self._lake.settings.tables if chosen is None or table.name in chosen]
        for name in cursor.rotated(names):
            if self._plan.examined and self._tick.clock() >= self._deadline:
                resume_at = name
                break
            try:
                self._examine(self._lake.table(name), cursor.table(name))
            except OutOfTimeError:
                resume_at = name
                break
            self._plan.examined.add(name)
        cursor.resume_at = resume_at
        return self._plan

    def _examine(self, table: TableSettings, cursor: TableCursor) -> None:
        """Plan each kind of work whose interval has passed. A failed listing of objects is repeated in the next tick."""
        scope = self._scope(cursor)
        self._collect(table, self._reads(table, cursor))
        if table.name not in self._busy.applying and self._collect(table, self._applies(table, cursor, scope)):
            cursor.all_at_s = self._now_s if scope == "all" else cursor.all_at_s
            cursor.lookback_at_s = self._now_s if scope != "recent" else cursor.lookback_at_s
        if self._now_s - cursor.exports_at_s >= EXPORTS_EVERY_S:
            cursor.exports_at_s = self._now_s
            self._collect(table, self._windows(table, cursor))
        has_new_export = any(uri.endswith(f"/{SUMMARY}") for uri in self._hints(table))
        if has_new_export or self._now_s - cursor.rest_at_s >= LOOKBACK_EVERY_S:
            cursor.rest_at_s = self._now_s
            self._collect(table, self._loads(table, cursor))
            for kind in self._kinds:
                self._collect(table, self._added(kind, table, cursor))
            self._collect(table, self._compactions(table, cursor))

    def _collect(self, table: TableSettings, work: Iterable[Work]) -> bool:
        """Add work to the plan. If planning it raises an error, record the error and return False."""
        try:
            self._plan.work += work
        except OutOfTimeError:
            raise
        except Exception as error:  # whatever it is; the caller of the plan reports it
            self._plan.failed.setdefault(table.name, error)
            return False
        return True

    def _requested(self, cursor: TableCursor, work: Work) -> Iterator[Work]:
        """The work with its number of tries; nothing if it was requested recently and its state has not changed since."""
        if cursor.should_request(work.kind, work.state, self._now_s):
            yield replace(work, tries=cursor.record_request(work.kind, work.state, self._now_s))

    def _requested_or_done(self, cursor: TableCursor, kind: str, work: Work | None) -> Iterator[Work]:
        """As `_requested`. If there is no work, the tries of this kind are forgotten: its next request is a first one."""
        if work is None:
            cursor.requests.pop(kind, None)
        else:
            yield from self._requested(cursor, work)

    def _hints(self, table: TableSettings) -> Sequence[str]:
        return self._tick.hints.get(table.name, ())

    def _scope(self, cursor: TableCursor) -> Scope:
        if self._now_s - cursor.all_at_s >= ALL_EVERY_S:
            return "all"
        return "lookback" if self._now_s - cursor.lookback_at_s >= LOOKBACK_EVERY_S else "recent"

    # --- one method for each kind of work

    def _reads(self, table: TableSettings, cursor: TableCursor) -> Iterator[Work]:
        work = due.read_work(self._lake, table)
        if work is not None and table.name not in self._busy.reading:
            state = due.stream_state(self._lake, table)
            yield from self._requested(cursor, replace(work, state=state))

    def _loads(self, table: TableSettings, cursor: TableCursor) -> Iterator[Work]:
        if table.name not in self._busy.loading:
            first = next(due.load_work(self._lake, table), None)
            yield from self._requested_or_done(cursor, "load", first)

    def _windows(self, table: TableSettings, cursor: TableCursor) -> Iterator[Work]:
        for work in due.window_work(self._lake, table):
            if work.kind != "load" or table.name not in self._busy.loading:
                yield from self._requested(cursor, work)

    def _added(self, kind: WorkKind, table: TableSettings, cursor: TableCursor) -> Iterator[Work]:
        """Due work of an added kind. A run that applies does it too, so it is due only if it failed in such a run."""
        if kind.is_configured(table) and table.name not in self._busy.applying:
            yield from self._requested_or_done(cursor, kind.name, due.added_work(kind, self._lake, table))

    def _compactions(self, table: TableSettings, cursor: TableCursor) -> Iterator[Work]:
        if not self._busy.compacting:
            yield from self._requested_or_done(cursor, "compact", due.compaction_work(self._lake, table))

    def _applies(self, table: TableSettings, cursor: TableCursor, scope: Scope) -> Iterator[Work]:
        if table.changes is None:
            if scope != "recent":
                yield from self._merges(table, cursor)
            return
        try:
            refs = self._listed(table, cursor, scope)
        except OutOfTimeError:
            if self._plan.examined:
                raise  # the next tick begins with this table and has all its time
            too_much = due.apply_hours_work(
                self._lake, table, Arrivals(outside_hours=1), "too much has landed to list in a tick"
            )
            yield from self._requested(cursor, too_much)
            return
        self._plan.listed += len(refs)
        self._on_unapplied(table.name, self._named_only(table, refs), "notification")
        if scope != "recent":
            cursor.hours_behind_utc = hours_behind_utc(refs, self._lake.now())
        listing = digest(due.versions(refs))
        if scope == "recent" and listing == cursor.applied_listing:
            return
        arrivals = unapplied(self._lake, table, refs, table.changes.partitions.first_hour)
        self._on_unapplied(table.name, arrivals.refs, "listing")
        if arrivals.refs:
            yield from self._requested(cursor, due.apply_hours_work(self._lake, table, arrivals))
            return
        merge = due.merge_work(self._lake, table)
        if merge is not None:
            yield from self._requested(cursor, merge)
        elif scope == "recent" and not self._hints(table):
            cursor.applied_listing = listing

    def _merges(self, table: TableSettings, cursor: TableCursor) -> Iterator[Work]:
        merge = due.merge_work(self._lake, table)
        if merge is not None:
            yield from self._requested(cursor, merge)

    def _listed(self, table: TableSettings, cursor: TableCursor, scope: Scope) -> list[ObjectRef]:
        """The objects in scope and those that notifications name, each once."""
        listed = list(self._in_time(list_landed(self._lake, table, scope, cursor.hours_behind_utc), scope))
        notified = list_notified(self._lake, landing_roots(self._lake, table), self._hints(table))
        return list(dict.fromkeys([*listed, *notified]))

    def _named_only(self, table: TableSettings, listed: Sequence[ObjectRef]) -> list[ObjectRef]:
        """The objects that notifications name and that no listing shows."""
        hints = self._hints(table)
        if not hints:
            return []
        roots, there = landing_roots(self._lake, table), {ref.uri for ref in listed}
        named = [uri for uri in hints if any(root.contains(uri) for root in roots)]
        return [ObjectRef(uri, "", 0, 0) for uri in named if uri not in there]

    def _in_time(self, refs: Iterator[ObjectRef], scope: Scope) -> Iterator[ObjectRef]:
        for ref in refs:
            if scope == "all" and self._tick.clock() >= self._deadline:
                raise OutOfTimeError
            yield ref
