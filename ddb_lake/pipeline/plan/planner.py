"""What is due in a lake, within a time budget: the sensor's thinking, without Dagster."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from ddb_lake.aws.objects import ObjectRef
from ddb_lake.config import TableSettings
from ddb_lake.lake.state import changes_state
from ddb_lake.mysql.replication import replication_due
from ddb_lake.pipeline.capture.incremental_exports import overdue, survey, window_text
from ddb_lake.pipeline.capture.streams import stream_checkpoint
from ddb_lake.pipeline.load.export_files import SUMMARY
from ddb_lake.pipeline.maintain.compact import needs_compaction
from ddb_lake.pipeline.merge.current import has_unmerged_changes
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import (
    Arrivals,
    Scope,
    hinted,
    hours_behind,
    landed,
    roots,
    unapplied,
)
from ddb_lake.pipeline.plan.cursor import SensorMemory, TableMemory
from ddb_lake.pipeline.plan.work import FIRST_HOUR, digest
from ddb_lake.pipeline.sync import plan_loads

Kind: TypeAlias = Literal["read", "load", "apply", "merge", "window", "replicate", "compact"]

BUDGET_S = 40.0
"""A tick may take 60 s. What is left is for a last listing and for reserving the runs."""

WINDOW_EVERY_S = 600
INCREMENTS_EVERY_S = 60
"""How often DynamoDB is asked for its exports, while a window is due, under way or not loaded."""

ALL_EVERY_S = 6 * 3600
LONGEST_SPAN = timedelta(days=7)
"""How many hours a run takes at most. It commits as it goes; this bounds what a failure leaves to do again."""


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work for one table. `digest` names the state that calls for it, `tries` how often it was asked for.

    `merge`: all objects are in the changelog, and `current` has not all of it, because a run died between the two.
    `read`: the table's DynamoDB stream is to be read. `window`: windows of incremental exports are due to
    be started. `replicate`: a database has not what the lake has.
    `hours`: arrival hours to apply, from the first to the last. `everything`: apply whatever has landed, because some
    of it is in no hour's place. `uri`: the export to load.
    """

    table: str
    kind: Kind
    reason: str
    digest: str = ""
    tries: int = 1
    hours: tuple[datetime, ...] = ()
    everything: bool = False
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """The tables that a run which has not ended is loading, applying or compacting, or whose streams it is reading.

    `runs`: a sentence about each of these runs, by table.
    """

    loading: Collection[str] = ()
    applying: Collection[str] = ()
    compacting: bool = False
    reading: Collection[str] = ()
    runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What a tick found. `looked`: the tables looked at.

    `failed`: tables that could not be looked at, and why; the others are not kept waiting.
    """

    work: list[Work] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    looked_at: int = 0
    looked: set[str] = field(default_factory=set)
    listed: int = 0


class OutOfTimeError(Exception):
    """A listing took longer than the tick has; it goes on in a run, or first thing in the next tick."""


class Planner:
    """Plans for one tick. `budget_s` counts from its making; `clock` is monotonic.

    `hints`: URIs by table where something is said to have landed; they are looked at beside what is listed anyway.
    """

    def __init__(
        self,
        lake: Lake,
        memory: SensorMemory,
        busy: Busy,
        budget_s: float = BUDGET_S,
        clock: Callable[[], float] = time.monotonic,
        hints: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._hints = hints or {}
        self._lake = lake
        self._memory = memory
        self._busy = busy
        self._clock = clock
        self._deadline = clock() + budget_s
        self._now = lake.now()
        self._now_s = int(self._now.timestamp())
        self._plan = Plan()

    def plan(self) -> Plan:
        """Look at one table after the other until all are seen or the time is up; the next tick goes on from there."""
        resume_at = None
        for name in self._memory.in_turn(table.name for table in self._lake.settings.tables):
            if self._plan.looked_at and self._clock() >= self._deadline:
                resume_at = name
                break
            try:
                self._table(self._lake.table(name))
            except OutOfTimeError:
                resume_at = name
                break
            self._plan.looked_at += 1
            self._plan.looked.add(name)
        self._memory.resume_at = resume_at
        return self._plan

    def _table(self, table: TableSettings) -> None:
        memory = self._memory.of(table.name)
        scope = self._scope(memory)
        self._try(table, self._reads(table, memory))
        if table.name not in self._busy.applying and self._try(table, self._applies(table, memory, scope)):
            memory.all_at_s = self._now_s if scope == "all" else memory.all_at_s
            memory.window_at_s = self._now_s if scope != "near" else memory.window_at_s
        if self._now_s - memory.increments_at_s >= INCREMENTS_EVERY_S:
            memory.increments_at_s = self._now_s
            self._try(table, self._increments(table, memory))
        exported = any(uri.endswith(f"/{SUMMARY}") for uri in self._hints.get(table.name, ()))
        if exported or self._now_s - memory.rest_at_s >= WINDOW_EVERY_S:
            memory.rest_at_s = self._now_s
            self._try(table, self._loads(table, memory))
            self._try(table, self._replication(table, memory))
            self._try(table, self._compaction(table, memory))

    def _try(self, table: TableSettings, found: Iterator[Work]) -> bool:
        """Plan one kind of work; whether that went well. A fault in it must keep no other work waiting."""
        try:
            self._plan.work += found
        except OutOfTimeError:
            raise
        except Exception as error:  # whatever it is, it is this table's; the caller tells it
            self._plan.failed.setdefault(table.name, error)
            return False
        return True

    def _reads(self, table: TableSettings, memory: TableMemory) -> Iterator[Work]:
        """The table's stream, read again and again; what was asked for and did not come to be, after ever longer pauses."""
        if table.changes is None or not table.changes.streams or table.name in self._busy.reading:
            return
        place = stream_checkpoint(self._lake, table)
        state = "never" if place is None else str(place.read_us)
        if memory.may_ask("read", state, self._now_s):
            tries = memory.ask("read", state, self._now_s)
            yield Work(table.name, "read", "its stream is read", state, tries)

    def _scope(self, memory: TableMemory) -> Scope:
        if self._now_s - memory.all_at_s >= ALL_EVERY_S:
            return "all"
        return "window" if self._now_s - memory.window_at_s >= WINDOW_EVERY_S else "near"

    def _loads(self, table: TableSettings, memory: TableMemory) -> Iterator[Work]:
        if table.name in self._busy.loading:
            return
        due = list(plan_loads(self._lake, table))
        for one in due[:1]:  # the next tick asks for the next
            if memory.may_ask("load", one.digest, self._now_s):
                tries = memory.ask("load", one.digest, self._now_s)
                yield Work(table.name, "load", one.reason, one.digest, tries, uri=one.uris[0])
        if not due:
            memory.asked.pop("load", None)

    def _increments(self, table: TableSettings, memory: TableMemory) -> Iterator[Work]:
        """Windows to start, and the first finished one to load; DynamoDB is asked only if the lake is behind."""
        if overdue(self._lake, table) is None:
            return
        found = survey(self._lake, table.name)
        if found.due:
            state = str(found.due[0].from_s)
            if memory.may_ask("window", state, self._now_s):
                reason = f"{len(found.due)} incremental exports are due, from {window_text(found.due[0])} on"
                yield Work(table.name, "window", reason, state, memory.ask("window", state, self._now_s))
        for one in found.finished[:1]:
            mark = digest([one.manifest_uri])
            if table.name not in self._busy.loading and memory.may_ask("load", mark, self._now_s):
                reason = f"the incremental export of {window_text(one.window)} is not loaded"
                tries = memory.ask("load", mark, self._now_s)
                yield Work(table.name, "load", reason, mark, tries, uri=one.manifest_uri)

    def _replication(self, table: TableSettings, memory: TableMemory) -> Iterator[Work]:
        """The database's counterpart, which follows every run; a run that failed on it alone is made up for here."""
        if table.name in self._busy.applying or table.aurora is None:
            return
        reason = replication_due(self._lake, table)
        if reason is None:
            memory.asked.pop("replicate", None)
        elif memory.may_ask("replicate", state := self._changelog_state(table), self._now_s):
            tries = memory.ask("replicate", state, self._now_s)
            yield Work(table.name, "replicate", reason, state, tries)

    def _compaction(self, table: TableSettings, memory: TableMemory) -> Iterator[Work]:
        if self._busy.compacting:
            return
        reason = needs_compaction(self._lake, table.name)
        if reason is None:
            memory.asked.pop("compact", None)
        elif memory.may_ask("compact", reason, self._now_s):
            yield Work(table.name, "compact", reason, reason, memory.ask("compact", reason, self._now_s))

    # --- landed objects

    def _applies(self, table: TableSettings, memory: TableMemory, scope: Scope) -> Iterator[Work]:
        if table.changes is None:
            if scope != "near" and has_unmerged_changes(self._lake, table.name):
                yield from self._merge(table, memory)
            return
        hints = self._hints.get(table.name, ())
        try:
            listed = list(self._in_time(landed(self._lake, table, scope, memory.behind_h), scope))
            refs = list(dict.fromkeys([*listed, *hinted(self._lake, roots(self._lake, table), hints)]))
        except OutOfTimeError:
            if self._plan.looked_at:
                raise  # the next tick begins with this table and has all its time
            yield from self._ask(table, memory, Arrivals(strays=1), "too much has landed to list in a tick")
            return
        self._plan.listed += len(refs)
        if scope != "near":
            memory.behind_h = hours_behind(refs, self._now)
        seen = digest(_marks(refs))
        if scope == "near" and seen == memory.quiet:
            return
        arrivals = unapplied(self._lake, table, refs, FIRST_HOUR)
        if arrivals.refs:
            reason = f"{len(arrivals.refs)} landed objects are not applied"
            yield from self._ask(table, memory, arrivals, reason)
            return
        if has_unmerged_changes(self._lake, table.name):
            yield from self._merge(table, memory)
        elif scope == "near" and not hints:
            memory.quiet = seen

    def _merge(self, table: TableSettings, memory: TableMemory) -> Iterator[Work]:
        state = self._changelog_state(table)
        if memory.may_ask("merge", state, self._now_s):
            tries = memory.ask("merge", state, self._now_s)
            yield Work(table.name, "merge", "current is behind its changelog", state, tries)

    def _in_time(self, refs: Iterator[ObjectRef], scope: Scope) -> Iterator[ObjectRef]:
        for ref in refs:
            if scope == "all" and self._clock() >= self._deadline:
                raise OutOfTimeError
            yield ref

    def _ask(self, table: TableSettings, memory: TableMemory, arrivals: Arrivals, reason: str) -> Iterator[Work]:
        """Ask for the first stretch of hours; what lies after it is asked for when that is done."""
        state = self._changelog_state(table)
        if memory.may_ask("apply", state, self._now_s):
            hours = _first_stretch(arrivals.hours)
            marks = arrivals.refs if arrivals.strays else arrivals.of_hours(hours)
            mark = digest([*_marks(marks), f"strays {arrivals.strays}", f"changelog {state}"])
            tries = memory.ask("apply", state, self._now_s)
            this_hour = self._now.replace(minute=0, second=0, microsecond=0)
            yield Work(table.name, "apply", reason, mark, tries, hours or (this_hour,), arrivals.strays > 0)

    def _changelog_state(self, table: TableSettings) -> str:
        """Which commit the changelog is at: while that stays the same, a run that was asked for has done nothing."""
        changes = self._lake.changes(table.name)
        return str(changes_state(changes).batch) if changes is not None else "none"


def _first_stretch(hours: Sequence[datetime]) -> tuple[datetime, ...]:
    """The hours that one run takes: the first, and those soon enough after it."""
    return tuple(hour for hour in hours if hour - hours[0] < LONGEST_SPAN)


def _marks(refs: Sequence[ObjectRef]) -> list[str]:
    return [f"{ref.uri}@{ref.version}" for ref in refs]
