"""The planner of a lake: which work is due, for `sync` and for the sensor. It reads and decides; it does no work.

`sync` calls `Planner.reads` and `Planner.due`: everything is listed, and all due work is returned. The sensor calls
`Planner.tick`, which decides by the same functions (`pipeline.plan.due`), within a time budget and with a cursor. The two
differ where listing costs time or a request costs a Dagster run:

- A tick lists the recent hours each time, the look-back window and everything less often. `sync` lists everything.
- A tick requests at most one load and one stretch of hours for a table; later ticks request the rest.
- A tick asks DynamoDB which windows of incremental exports are due. `sync` does not: the step that starts them asks.
- In a tick, an error in one kind of work does not stop the others. For `sync` it is raised, and ends the table's work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
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
from ddb_lake.pipeline.plan.work import FIRST_HOUR, Work, WorkKind, digest

BUDGET_S = 40.0
"""An evaluation that takes more than 60 s is ended by Dagster. The rest is for a last listing and the run requests.

https://docs.dagster.io/deployment/troubleshooting/sensor-timeouts
"""

LOOKBACK_EVERY_S = 600
EXPORTS_EVERY_S = 60
"""How often DynamoDB's exports are listed, while a window is due, under way or not loaded."""

ALL_EVERY_S = 6 * 3600


@dataclass(frozen=True, slots=True)
class Busy:
    """The tables that unfinished runs load, apply or compact, or whose streams they read.

    `runs`: a sentence about each of these runs, by table.
    """

    loading: Collection[str] = ()
    applying: Collection[str] = ()
    compacting: bool = False
    reading: Collection[str] = ()
    runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """What bounds the plan of one tick of the sensor.

    Attributes:
        cursor: what earlier ticks stored; the plan changes it in place.
        busy: the work of unfinished runs, which is not requested again.
        hints: URIs by table, from notifications; they are listed beside what the tick lists in any case.
        budget_s: seconds from the beginning of the plan after which no further table is begun.
        clock: a monotonic clock, in seconds.
    """

    cursor: SensorCursor
    busy: Busy = field(default_factory=Busy)
    hints: Mapping[str, Sequence[str]] = field(default_factory=dict)
    budget_s: float = BUDGET_S
    clock: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Plan:
    """The result of a tick.

    Attributes:
        work: to be requested.
        failed: the tables for which some kind of work could not be planned, with the first error of each.
        examined: the tables that were examined; the next tick begins with the others.
        listed: the number of landed objects that were listed.
    """

    work: list[Work] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    examined: set[str] = field(default_factory=set)
    listed: int = 0


class OutOfTimeError(Exception):
    """A listing takes longer than the tick has; it goes on in a run, or at the beginning of the next tick."""


class Planner:
    """Decides what is due in a lake.

    Args:
        lake: an open lake.
        kinds: kinds of work beside the pipeline's own, such as replication to a database.
    """

    def __init__(self, lake: Lake, kinds: Sequence[WorkKind] = ()) -> None:
        self._lake = lake
        self._kinds = kinds

    def reads(self, table: TableSettings) -> Iterator[Work]:
        """The table's DynamoDB stream, if it is read directly. Do this before `due`, because what is read is due then."""
        yield from filter(None, [due.read_work(self._lake, table)])

    def due(self, table: TableSettings) -> Iterator[Work]:
        """All work that is due for a table, in the order in which it is to be done: loads, landed objects, the rest.

        Lists all landed objects. Raises the errors of listings and of the lake; an export that cannot be read is skipped
        with a warning.
        """
        lake = self._lake
        first = list(due.load_work(lake, table))
        first += filter(None, [due.apply_work(lake, table, list_unapplied(lake, table)) or due.merge_work(lake, table)])
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

        Examines one table after the other, until all are examined or the budget is used up; the next tick continues there.
        An error in one kind of work of one table is in the result and stops nothing else.
        """
        return _TickPlanner(self._lake, self._kinds, tick).plan()

    def _added_work(self, kind: WorkKind, table: TableSettings) -> Work | None:
        """A target that does not answer may be behind: the work is due, and its error ends the table's work."""
        try:
            return due.added_work(kind, self._lake, table)
        except (DatabaseError, TransientError) as error:
            return Work(table.name, kind.name, f"{kind.target} does not answer ({error})")


class _TickPlanner:
    def __init__(self, lake: Lake, kinds: Sequence[WorkKind], tick: Tick) -> None:
        self._lake = lake
        self._kinds = kinds
        self._tick = tick
        self._busy = tick.busy
        self._deadline = tick.clock() + tick.budget_s
        self._now_s = int(lake.now().timestamp())
        self._plan = Plan()

    def plan(self) -> Plan:
        cursor = self._tick.cursor
        resume_at = None
        for name in cursor.rotated(table.name for table in self._lake.settings.tables):
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
        """Plan each kind of work whose turn it is. A listing counts as done only if it succeeded."""
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
        """Add work to the plan; False if planning it raised an error, which belongs to this kind of work alone."""
        try:
            self._plan.work += work
        except OutOfTimeError:
            raise
        except Exception as error:  # whatever it is; the caller of the plan reports it
            self._plan.failed.setdefault(table.name, error)
            return False
        return True

    def _requested(self, cursor: TableCursor, work: Work) -> Iterator[Work]:
        """The work with its number of tries, unless it was requested in this state a short time ago."""
        if cursor.should_request(work.kind, work.state, self._now_s):
            yield replace(work, tries=cursor.record_request(work.kind, work.state, self._now_s))

    def _requested_or_done(self, cursor: TableCursor, kind: str, work: Work | None) -> Iterator[Work]:
        """As `_requested`. Work that is not due any more is done, and its next request is a first one."""
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
        """Each run that applies does the added work too; this is for a run in which that work alone failed."""
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
        if scope != "recent":
            cursor.hours_behind_utc = hours_behind_utc(refs, self._lake.now())
        listing = digest(due.versions(refs))
        if scope == "recent" and listing == cursor.applied_listing:
            return
        arrivals = unapplied(self._lake, table, refs, FIRST_HOUR)
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
        """The objects in scope and at the places in notifications, each once."""
        listed = list(self._in_time(list_landed(self._lake, table, scope, cursor.hours_behind_utc), scope))
        notified = list_notified(self._lake, landing_roots(self._lake, table), self._hints(table))
        return list(dict.fromkeys([*listed, *notified]))

    def _in_time(self, refs: Iterator[ObjectRef], scope: Scope) -> Iterator[ObjectRef]:
        for ref in refs:
            if scope == "all" and self._tick.clock() >= self._deadline:
                raise OutOfTimeError
            yield ref
