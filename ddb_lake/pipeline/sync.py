"""`sync`: do all due work of some tables once, in this process. The planner decides what is due."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.capture.incremental_exports import start_due
from ddb_lake.pipeline.capture.streams import read_streams
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.planner import Planner
from ddb_lake.pipeline.plan.sightings import remember
from ddb_lake.pipeline.plan.work import Work, WorkKind


def run_work(lake: Lake, work: Work, kinds: Sequence[WorkKind] = ()) -> Any:
    """Do one piece of work.

    Args:
        lake: an open lake.
        work: from a `Planner`.
        kinds: the added kinds that the planner had.

    Returns:
        The result of the step, a frozen dataclass: StreamsResult, LoadResult, ApplyResult, Increments, CompactResult, or
        the result of an added kind.

    Raises:
        DdbLakeError: as the step that does the work.
    """
    match work.kind:
        case "read":
            return read_streams(lake, work.table)
        case "load":
            return load_export(lake, work.table, work.uris[0])
        case "apply" | "merge":  # without objects, what the changelog has is merged
            return apply_objects(lake, work.table, work.uris)
        case "export":
            return start_due(lake, work.table)
        case "compact":
            return compact_table(lake, work.table)
    return next(kind for kind in kinds if kind.name == work.kind).run(lake, work.table)


def sync(lake: Lake, tables: Sequence[str] | None = None, kinds: Sequence[WorkKind] = ()) -> list[Any]:
    """Plan and do all due work, once.

    Streams of all tables are read first. Then all work is planned, and done in the order of the plan.

    Args:
        lake: an open lake.
        tables: the names of the tables; all by default.
        kinds: kinds of work beside the pipeline's own.

    Returns:
        The results in the order in which the work was done (see `run_work`).

    Raises:
        DdbLakeError: the first error; what was done before it stays done.
    """
    planner = Planner(lake, kinds, partial(remember, lake))
    chosen = [lake.table(name) for name in tables] if tables else list(lake.settings.tables)
    read = [run_work(lake, work) for table in chosen for work in planner.reads(table)]
    planned = [work for table in chosen for work in planner.due(table)]
    return read + [run_work(lake, work, kinds) for work in planned]
