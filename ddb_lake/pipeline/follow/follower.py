"""Follows tables without an end: reads their streams in threads, and lands, applies and maintains in one thread.

One thread uses the lake. It gives each table whose turn is due one turn (`pipeline.follow.table`), and does the work that the
planner finds: landed objects that another service or an earlier process wrote, finished exports, and compaction in slices, so that
changes do not wait for all of it. So commits do not conflict with each other, and while the catalog is slow, records wait in memory
until `FollowOptions.waiting_bytes` and reading stops. The next object is larger then, which makes catching up faster.

Leases (`pipeline.follow.leases`) keep a second follower idle. They are no lock: a follower that was paused and continues
without its lease lands duplicates at most, which the changelog does not take, and a checkpoint is replaced by compare-and-swap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Protocol

from ddb_lake.core.capture.gaps import Gap
from ddb_lake.core.capture.leases import RENEWAL_S
from ddb_lake.errors import MemoryLimitError, UsageError
from ddb_lake.lake.compaction_policy import SLICE_BYTES
from ddb_lake.pipeline.apply.apply import ApplyResult, apply_refs
from ddb_lake.pipeline.capture.streams import POLL_S
from ddb_lake.pipeline.follow.leases import LeaseKeeper
from ddb_lake.pipeline.follow.table import FollowedTable, FollowOptions, Turn, followed_table
from ddb_lake.pipeline.maintain.compact import CompactResult, clean_up_table, compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.arrivals import list_unapplied, prefixes_of_hours
from ddb_lake.pipeline.plan.cursor import SensorCursor
from ddb_lake.pipeline.plan.due import compaction_work
from ddb_lake.pipeline.plan.notifications import receive_notifications
from ddb_lake.pipeline.plan.planner import Busy, Planner, Tick
from ddb_lake.pipeline.plan.sightings import Seen
from ddb_lake.pipeline.plan.work import Work, WorkKind
from ddb_lake.pipeline.sync import run_work

MOST_THREADS = 16
"""The most threads that read streams; with more tables, a thread reads several."""

STEP_S = 0.1
TICK_S = 60.0
"""The interval of planning for tables to which no other service delivers objects."""

COMPACT_EVERY_S = 120.0
"""The interval at which the files of each table are examined. A table that is committed every 5 s has 24 more of each kind then."""

CLEAN_EVERY_S = 3600.0
"""The interval of removing the files that no snapshot names. Listing them takes long, so a thread of its own does it."""

TICK_BUDGET_S = 10.0
ONCE_S = 300.0
"""How long `Follower.once` reads at most; it then applies what was read."""

ONCE_ATTEMPTS = 4
"""The turns in succession that `Follower.once` gives a table while they fail by throttling or another transient error."""

STUCK_S = 600.0
"""Leases are not renewed if no turn or piece of work ended for so long: another follower takes over from a process that hangs."""


class Listener(Protocol):
    """Receives what a follower does. A call is cheap and raises nothing."""

    def turn(self, turn: Turn) -> None:
        """A table had a turn in which something was landed or applied, or its open gaps changed."""

    def work(self, work: Work, result: Any) -> None:
        """Planned work was done."""

    def failed(self, table: str, error: Exception) -> None:
        """A turn or planned work failed; it is tried again."""

    def ticked(self, lags_s: Mapping[str, float]) -> None:
        """The minute's planning is done: this thread may use the lake. `lags_s`: how far each followed table is behind; empty while
        another follower has all of them."""

    def holds(self, tables: Sequence[str], waiting: Sequence[str]) -> None:
        """The tables that are followed from now on, and those that another follower has."""


@dataclass(slots=True)
class Follower:
    """Follows some tables of a lake.

    Args:
        lake: an open lake.
        tables: the tables, by name.
        listener: receives what is done.
        options: intervals and limits.
        keeper: the leases; None: follow without any.
        kinds: kinds of work that are added to the pipeline's own.
        clock: a clock that does not go back, in seconds.
        pause: waits for seconds.
    """

    lake: Lake
    tables: Mapping[str, FollowedTable]
    listener: Listener
    options: FollowOptions = field(default_factory=FollowOptions)
    keeper: LeaseKeeper | None = None
    kinds: Sequence[WorkKind] = ()
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    _held: set[str] = field(default_factory=set)
    _renewed_at: float = float("-inf")
    _ticked_at: float = float("-inf")
    _ticked_all_at: float = float("-inf")
    _cursor: SensorCursor = field(default_factory=SensorCursor)
    _stepped_at: float = 0.0
    _leased: set[str] | None = None
    _gaps: dict[str, tuple[Gap, ...]] = field(default_factory=dict)
    _examined_at: dict[str, float] = field(default_factory=dict)
    _worked: set[str] = field(default_factory=set)
    _stop: Event = field(default_factory=Event)

    def run(self, stop: Event) -> None:
        """Follow until `stop` is set. The turn or work that is in progress then is completed, and the leases are released.

        Raises:
            UsageError: a table that this process has not followed yet cannot be followed with this configuration.
        """
        self._stop = stop
        self._renew()
        threads = [
            *self._start_reading(stop),
            Thread(target=self._keep_leases, args=(stop,), name="leases", daemon=True),
            Thread(target=self._keep_clean, args=(stop,), name="cleaner", daemon=True),
        ]
        try:
            for thread in threads:
                thread.start()
            while not stop.is_set():
                if not self.step():
                    stop.wait(STEP_S)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            self.close()

    def step_age_s(self) -> float:
        """Seconds since the last turn or piece of work ended. It is great if one takes long, or if the loop hangs."""
        return self.clock() - self._stepped_at

    def once(self) -> None:
        """Read the streams to their present end, apply everything, do all other work that is due, and return.

        Raises:
            UsageError: as `run`.
        """
        self._renew()
        until = self.clock() + ONCE_S
        try:
            while self.clock() < until and (due := [t for t in self._followed() if _is_read_once(t)]):
                moved = [table.read(self.options.batch_bytes) for table in due]
                for table in due:
                    if table.is_due(self.options) or not (any(moved) or table.failures):
                        self._turn(table)
                if not any(moved):
                    self.pause(POLL_S / 4)
            for table in self._followed():
                if table.waiting_bytes:
                    self._turn(table)
            self._tick(sorted(self._held), ONCE_S)
            for name in sorted(self._held):
                self._compact(name, None)
            self.listener.ticked({table.name: table.lag_s() for table in self._followed()})
        finally:
            self.close()

    def close(self) -> None:
        """Release the leases. If that fails, another follower takes over when they expire."""
        if self.keeper is None:
            return
        try:
            self.keeper.release()
        except Exception as error:  # whatever it is: all that was read is applied, or is found by the next follower
            self.listener.failed("", error)

    def step(self) -> bool:
        """Do one piece of what is due: renew the leases, one turn of each due table, planned work; whether there was any."""
        self._renew()
        due = [table for table in self._followed() if table.is_due(self.options)]
        for table in due:
            if self._stop.is_set():
                return True
            self._turn(table)
            self._renew()
        return self._stop.is_set() or self._compact_if_due() or self._tick_if_due() or bool(due)

    # --- reading

    def _start_reading(self, stop: Event) -> list[Thread]:
        readers = [table for table in self.tables.values() if table.reader is not None]
        shares = [readers[number::MOST_THREADS] for number in range(min(MOST_THREADS, len(readers)))]
        return [Thread(target=self._read, args=(share, stop), name="reader", daemon=True) for share in shares]

    def _read(self, share: Sequence[FollowedTable], stop: Event) -> None:
        while not stop.is_set():
            moved = [t for t in share if t.name in self._held and t.read(self._limit_bytes(t))]
            stop.wait(max(t.page_pause_s for t in moved) if moved else max(t.poll_s for t in share))

    def _limit_bytes(self, table: FollowedTable) -> int:
        """So much may this table have that has not landed."""
        others = sum(one.waiting_bytes for one in self.tables.values()) - table.waiting_bytes
        return max(0, self.options.waiting_bytes - others)

    # --- turns

    def _followed(self) -> list[FollowedTable]:
        return [table for name, table in self.tables.items() if name in self._held]

    def _turn(self, table: FollowedTable) -> None:
        try:
            turn = table.turn()
        except Exception as error:  # the other tables continue after any error
            self._failed(table.name, error)
            return
        self._worked.add(table.name)
        landed = turn.streams is not None and turn.streams.records
        if landed or turn.applied is not None or turn.gaps != self._gaps.get(table.name, ()):
            self._gaps[table.name] = turn.gaps
            self.listener.turn(turn)

    def _failed(self, name: str, error: Exception) -> None:
        """Report an error of a table, which is tried again; raise it if this process was started with a wrong configuration."""
        if isinstance(error, UsageError) and not isinstance(error, MemoryLimitError) and name not in self._worked:
            raise error
        self.listener.failed(name, error)

    def _renew(self) -> None:
        """Renew the leases if it is time, and follow the tables that this follower has from now on."""
        self._stepped_at = self.clock()
        first = self._renewed_at == float("-inf")
        if self.clock() - self._renewed_at >= RENEWAL_S:
            self._renew_leases()
        before = self._held
        self._held = set(self.tables) if self._leased is None else self._leased
        for name in before - self._held:
            self.tables[name].stop()
        if self._held - before:
            self._ticked_all_at = float("-inf")  # a table that it has from now on is planned for at once
        if first or self._held != before:
            self.listener.holds(sorted(self._held), sorted(set(self.tables) - self._held))

    def _renew_leases(self) -> None:
        self._renewed_at = self.clock()
        if self.keeper is None:
            return
        try:
            self._leased = self.keeper.renew({name: self.tables[name].lag_s() for name in self._held})
        except Exception as error:  # whatever it is: work continues without harm, and the next renewal tries again
            self._leased = self._leased or set()
            self.listener.failed("", error)

    def _keep_leases(self, stop: Event) -> None:
        """Renew the leases while a step takes long."""
        while not stop.wait(RENEWAL_S / 2):
            if self.clock() - self._renewed_at >= RENEWAL_S and self.clock() - self._stepped_at < STUCK_S:
                self._renew_leases()

    # --- planned work

    def _tick_if_due(self) -> bool:
        now, held = self.clock(), sorted(self._held)
        if now - self._ticked_all_at >= TICK_S:
            if held:
                self._tick(held)
            self.listener.ticked({name: self.tables[name].lag_s() for name in held})
            self._ticked_all_at = self._ticked_at = self.clock()
            return bool(held)
        delivered = [name for name in held if self._is_delivered(name)]
        if delivered and now - self._ticked_at >= self.options.list_every_s:
            self._tick(delivered)
            self._ticked_at = self.clock()
        return False

    def _compact_if_due(self) -> bool:
        """Do a slice of the compaction of one table, if its files are due for examination; whether there was anything to do.

        The table whose slice is the longest ago comes first, and is due again at once until nothing is left.
        """
        now = self.clock()
        examined = {name: self._examined_at.setdefault(name, now) for name in sorted(self._held)}
        name = min(examined, key=examined.__getitem__, default=None)
        if name is None or now - examined[name] < COMPACT_EVERY_S:
            return False
        self._examined_at[name] = now
        if self._compact(name, SLICE_BYTES):
            self._examined_at[name] = now - COMPACT_EVERY_S
            return True
        return False

    def _compact(self, name: str, most_bytes: int | None) -> bool:
        """Compact a table or do a slice of it; whether files were rewritten."""
        try:
            work = compaction_work(self.lake, self.lake.table(name))
            if work is None:
                return False
            self.listener.work(work, compact_table(self.lake, name, most_bytes=most_bytes))
        except Exception as error:  # the other tables continue after any error
            self._failed(name, error)
            return False
        return True

    def _keep_clean(self, stop: Event) -> None:
        """Remove the files that no snapshot names."""
        while not stop.wait(CLEAN_EVERY_S):
            for name in sorted(self._held):
                if stop.is_set():
                    return
                try:
                    cleaned = clean_up_table(
                        self.lake, CompactResult(name, True, "removing files that no snapshot names")
                    )
                except Exception as error:  # whatever it is: the next hour's attempt finds the files again
                    self.listener.failed(name, error)
                else:
                    self.listener.work(Work(name, "clean", cleaned.reason), cleaned)

    def _is_delivered(self, name: str) -> bool:
        """Whether another service writes objects of the table."""
        changes = self.lake.table(name).changes
        return changes is not None and (changes.uri is not None or changes.errors_uri is not None)

    def _tick(self, names: Sequence[str], budget_s: float = TICK_BUDGET_S) -> None:
        """Plan the work of some tables as the sensor does, and do it."""
        try:
            self._plan_and_do(names, budget_s)
        except Exception as error:  # whatever it is: the next tick plans again
            self._failed("", error)

    def _plan_and_do(self, names: Sequence[str], budget_s: float) -> None:
        notifications = receive_notifications(self.lake, names)
        seen, busy = Seen(), Busy(compacting=True, reading=set(self.tables))  # it reads and compacts itself
        tick = Tick(self._cursor, busy, notifications.hints, budget_s, self.clock, frozenset(names))
        plan = Planner(self.lake, self.kinds, seen.add).tick(tick)
        for warning in seen.remember(self.lake):
            self.lake.warn(warning)
        for table, error in plan.failed.items():
            self._failed(table, error)
        for number, work in enumerate(plan.work):
            if self._stop.is_set():  # the next follower plans the rest again, so notifications of it stay
                plan.examined.difference_update(left.table for left in plan.work[number:])
                break
            try:
                self.listener.work(work, self._do(work))
            except Exception as error:  # the work of the other tables continues after any error
                plan.failed.setdefault(work.table, error)
                self._failed(work.table, error)
            self._renew()
        self._worked |= {"", *plan.examined} - plan.failed.keys()
        for problem in (*notifications.errors, *notifications.delete_handled(plan, busy)):
            self.lake.warn(str(problem))

    def _do(self, work: Work) -> Any:
        return apply_planned(self.lake, work) if work.kind == "apply" else run_work(self.lake, work, self.kinds)


def _is_read_once(table: FollowedTable) -> bool:
    """Whether `Follower.once` has something to read of it, at once or after the pause that follows a transient error."""
    if table.failures:
        return table.is_transient and table.failures < ONCE_ATTEMPTS
    return not table.is_caught_up


def apply_planned(lake: Lake, work: Work) -> ApplyResult:
    """Apply the landed objects that a tick of the planner found, all of them."""
    table = lake.table(work.table)
    if work.everything:
        return apply_refs(lake, work.table, list_unapplied(lake, table).refs)
    places = [place for place in prefixes_of_hours(lake, table, work.hours) if lake.objects.reachable(place)]
    refs = [ref for place in places for ref in lake.objects.list(place)]
    return apply_refs(lake, work.table, list(dict.fromkeys(refs)))


def follower(
    lake: Lake,
    names: Sequence[str],
    listener: Listener,
    options: FollowOptions | None = None,
    kinds: Sequence[WorkKind] = (),
) -> Follower:
    """A follower of the tables of these names (all if empty), with leases."""
    chosen = list(names) or [table.name for table in lake.settings.tables]
    tables = {name: followed_table(lake, name) for name in chosen}
    return Follower(lake, tables, listener, options or FollowOptions(), LeaseKeeper(lake, chosen), kinds)
