"""Planned work as run requests: few, batched, each under a key that names the state that called for it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from ddb_lake.core.operations.count_text import count_text
from ddb_lake.orchestration.heartbeats import end_dead_run, run_health
from ddb_lake.orchestration.specs import TableAssets, python_name
from ddb_lake.pipeline.plan.planner import Busy
from ddb_lake.pipeline.plan.work import Work, digest

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
LAKE_TAG = "ddb_lake/lake"
WAREHOUSE_TAG = "ddb_lake/warehouse"
"""A digest of where the lake is: two code locations may have lakes of one name."""

REASON_TAG = "ddb_lake/reason"

TABLES_PER_RUN = 20
"""Launching a run costs seconds: tables with something new in the same recent hours share one."""

FOLLOW_S = 240.0
"""How long a run goes on reading streams, its tables together; then the sensor asks for the next."""

LEAST_S = 5.0
RECENT = timedelta(hours=2)
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.MANAGED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class Requests:
    """Makes the run requests of one lake, and reads from its runs which work is under way.

    `lake`: the name that its jobs begin with; `tables`: its assets by table. `warehouse`: names where the lake is.
    """

    def __init__(self, lake: str, tables: Mapping[str, TableAssets], warehouse: str = "") -> None:
        self._lake = lake
        self._tables = tables
        self._warehouse = warehouse
        self._sync_jobs = sync_jobs(lake, tables)

    def busy(self, instance: dg.DagsterInstance, now_s: float, location: str | None = None) -> tuple[Busy, list[str]]:
        """The work of runs that have not ended, and messages about the runs that nothing waits for any more.

        If the work of a run were requested again, both runs would wait for each other. So its tables count as busy. A run
        whose process is gone is marked as failed, and its pool slots are freed. Runs of a lake with
        another warehouse do not count, even if the lake has the same name.

        Args:
            location: the caller's code location.
        """
        filters = dg.RunsFilter(tags={LAKE_TAG: self._lake}, statuses=UNFINISHED)
        at_work: list[tuple[dg.DagsterRun, str]] = []
        messages: list[str] = []
        for record in instance.get_run_records(filters):
            run = record.dagster_run
            if run.tags.get(WAREHOUSE_TAG, self._warehouse) != self._warehouse:
                continue
            origin = run.remote_job_origin
            is_own = location is None or origin is None or origin.location_name == location
            health = run_health(instance, record, now_s, is_own)
            if health.state == "working":
                at_work.append((run, health.text))
            elif health.state == "silent":
                messages.append(f"{health.text}: its work is requested again; terminate the run if it does nothing")
            elif end_dead_run(instance, run, health.text):
                messages.append(f"{health.text}: it is marked as failed, and its work is requested again")
        return self._busy(at_work), messages

    def _busy(self, at_work: Sequence[tuple[dg.DagsterRun, str]]) -> Busy:
        selected = [set(run.asset_selection or ()) for run, _ in at_work]
        loading = {name for name, t in self._tables.items() if _selected(t.keys("snapshot"), selected)}
        applying = {name for name, t in self._tables.items() if _selected(t.keys("changes"), selected)}
        reading = {name for name, t in self._tables.items() if _selected(t.keys("streams"), selected)}
        compacting = any(run.job_name == compact_job_name(self._lake) for run, _ in at_work)
        runs = {
            name: text
            for name, t in self._tables.items()
            for (_, text), keys in zip(at_work, selected, strict=True)
            if not keys.isdisjoint(t.keys("snapshot", "changes", "streams"))
        }
        return Busy(loading, applying, compacting, reading, runs)

    def requests(self, work: Iterable[Work]) -> Iterator[dg.RunRequest]:
        """The run requests for some work."""
        together: dict[tuple[str, str, str], list[Work]] = defaultdict(list)
        compactions: list[Work] = []
        reads: list[Work] = []
        for one in work:
            if one.kind == "load":
                yield self._load(one)
            elif one.kind == "merge":
                yield self._merge(one)
            elif one.kind == "export":
                yield self._window(one)
            elif one.kind == "replicate":
                yield self._replicate(one)
            elif one.kind == "read":
                reads.append(one)
            elif one.kind == "compact":
                compactions.append(one)
            elif one.everything or one.hours[-1] - one.hours[0] > RECENT:
                yield self._apply([one])
            else:
                together[self._sync_jobs[one.table], *self._range(one)].append(one)
        for group in together.values():
            for start in range(0, len(group), TABLES_PER_RUN):
                yield self._apply(group[start : start + TABLES_PER_RUN])
        if reads:
            yield self._read(reads)
        if compactions:
            yield self._compact(compactions)

    def _apply(self, work: Sequence[Work]) -> dg.RunRequest:
        first, last = self._range(work[0])
        keys = [key for one in work for key in self._tables[one.table].keys("changes", "current", "aurora")]
        config = {apply_op_name(self._lake, one.table): {"config": _apply_config(one)} for one in work}
        return dg.RunRequest(
            run_key=f"{self._lake}/apply/{_span(work)}/{_state(work)}",
            job_name=self._sync_jobs[work[0].table],
            asset_selection=keys,
            run_config={"ops": config},
            tags={**self._tags(work), RANGE_START: first, RANGE_END: last},
        )

    def _range(self, work: Work) -> tuple[str, str]:
        """The first and the last partition that the hours are in. The run reads these hours only."""
        partitions = self._tables[work.table].partitions
        assert partitions is not None, "work of `apply` is for tables with changes"
        return partitions.key(work.hours[0]), partitions.key(work.hours[-1])

    def _load(self, work: Work) -> dg.RunRequest:
        config = {load_op_name(self._lake, work.table): {"config": {"uri": work.uris[0]}}}
        return dg.RunRequest(
            run_key=f"{self._lake}/load/{_state([work])}",
            job_name=self._sync_jobs[work.table],
            asset_selection=self._tables[work.table].keys("snapshot", "current", "aurora"),
            run_config={"ops": config},
            tags=self._tags([work]),
        )

    def _merge(self, work: Work) -> dg.RunRequest:
        return dg.RunRequest(
            run_key=f"{self._lake}/merge/{_state([work])}",
            job_name=self._sync_jobs[work.table],
            asset_selection=self._tables[work.table].keys("current", "aurora"),
            tags=self._tags([work]),
        )

    def _window(self, work: Work) -> dg.RunRequest:
        return dg.RunRequest(
            run_key=f"{self._lake}/window/{_state([work])}",
            job_name=self._sync_jobs[work.table],
            asset_selection=self._tables[work.table].keys("increments"),
            tags=self._tags([work]),
        )

    def _replicate(self, work: Work) -> dg.RunRequest:
        return dg.RunRequest(
            run_key=f"{self._lake}/replicate/{_state([work])}",
            job_name=self._sync_jobs[work.table],
            asset_selection=self._tables[work.table].keys("aurora"),
            tags=self._tags([work]),
        )

    def _read(self, work: Sequence[Work]) -> dg.RunRequest:
        """One run for all streams: it reads one table after the other, and each gets its share of the time."""
        config = {"seconds": max(LEAST_S, FOLLOW_S / len(work)), "follow": True}
        return dg.RunRequest(
            run_key=f"{self._lake}/read/{_state(work)}",
            job_name=streams_job_name(self._lake),
            asset_selection=[key for one in work for key in self._tables[one.table].keys("streams")],
            run_config={"ops": {streams_op_name(self._lake, one.table): {"config": config} for one in work}},
            tags={**self._tags(work), REASON_TAG: "read streams: " + ", ".join(one.table for one in work)},
        )

    def _compact(self, work: Sequence[Work]) -> dg.RunRequest:
        config: dict[str, Any] = {"tables": [one.table for one in work]}
        return dg.RunRequest(
            run_key=f"{self._lake}/compact/{_state(work)}",
            job_name=compact_job_name(self._lake),
            run_config={"ops": {compact_op_name(self._lake): {"config": config}}},
            tags={**self._tags(work), REASON_TAG: "compact " + "; ".join(f"{one.table}: {one.reason}" for one in work)},
        )

    def _tags(self, work: Sequence[Work]) -> dict[str, str]:
        named = (
            f"{work[0].table}: {work[0].reason}"
            if len(work) == 1
            else f"{count_text(len(work), 'table has', 'tables have')} landed objects"
        )
        return {LAKE_TAG: self._lake, WAREHOUSE_TAG: self._warehouse, REASON_TAG: named}


def sync_job_name(lake: str) -> str:
    """The job that loads and applies the tables with the partitions that most tables have."""
    return f"{lake}_sync"


def sync_jobs(lake: str, tables: Mapping[str, TableAssets]) -> dict[str, str]:
    """The job that loads and applies each table, by table.

    The assets of a Dagster job have the same partitions, so there is one job for each value of `changes.partitions`. The most frequent
    value, of several equally frequent ones that of the first table, has the plain name; tables without changes are in its job.
    """
    changes = {name: one.table.changes for name, one in tables.items()}
    partitions = {name: found.partitions for name, found in changes.items() if found is not None}
    usual = Counter(partitions.values()).most_common(1)
    names = {value: f"{sync_job_name(lake)}_{value.every}_{value.start:%Y%m%d}" for value in partitions.values()}
    names |= {value: sync_job_name(lake) for value, _ in usual}
    return {name: names[partitions[name]] if name in partitions else sync_job_name(lake) for name in tables}


def compact_job_name(lake: str) -> str:
    """The job that compacts."""
    return f"{lake}_compact"


def compact_op_name(lake: str) -> str:
    """The op of the job that compacts."""
    return f"{lake}_compact_tables"


def export_op_name(lake: str, table: str) -> str:
    """The op that takes exports of a table. Two lakes may have tables of one name."""
    return f"{lake}__export__{python_name(table)}"


def increments_op_name(lake: str, table: str) -> str:
    """The op that starts incremental exports of a table."""
    return f"{lake}__increments__{python_name(table)}"


def streams_job_name(lake: str) -> str:
    """The job that reads DynamoDB Streams."""
    return f"{lake}_streams"


def streams_op_name(lake: str, table: str) -> str:
    """The op that reads a table's streams."""
    return f"{lake}__streams__{python_name(table)}"


def daily_op_name(lake: str, table: str) -> str:
    """The op that keeps the days of a table; with its schedule the job is called the same."""
    return f"{lake}__daily__{python_name(table)}"


def aurora_op_name(lake: str, table: str) -> str:
    """The op that replicates a table into a database."""
    return f"{lake}__aurora__{python_name(table)}"


def load_op_name(lake: str, table: str) -> str:
    """The op that loads exports of a table."""
    return f"{lake}__snapshot__{python_name(table)}"


def apply_op_name(lake: str, table: str) -> str:
    """The op that brings a table's changelog and its current items up to date."""
    return f"{lake}__current__{python_name(table)}"


def _apply_config(work: Work) -> dict[str, Any]:
    if work.everything:
        return {"everything": True}
    return {"hours": [f"{hour:%Y-%m-%dT%H:%MZ}" for hour in work.hours]}


def _selected(keys: Sequence[dg.AssetKey], selections: Sequence[set[dg.AssetKey]]) -> bool:
    return any(key in selection for key in keys for selection in selections)


def _span(work: Sequence[Work]) -> str:
    """The first and the last arrival hour of some work, as part of a run key."""
    first, last = min(one.hours[0] for one in work), max(one.hours[-1] for one in work)
    return f"{first:%Y-%m-%dT%HZ}/{last:%Y-%m-%dT%HZ}"


def _state(work: Sequence[Work]) -> str:
    """The part of a run key that identifies the state, and the number of requests in it. Dagster starts a run key once.

    https://docs.dagster.io/guides/automate/sensors
    """
    return digest(f"{one.table}/{one.digest or one.state}/{one.tries}" for one in work)
