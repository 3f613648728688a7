"""A group of landed objects read on Spark: a task reads some of them with `stages.read.GroupReader`.

Each task leaves its rows in a scratch file below the changelog; the driver brings them together on its own disk, where
`stages.ingest` finds them as if this machine had read them. Parsing is what takes the time, and is what is shared out.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from ddb_lake.aws.objects import ObjectRef, ObjectStore
from ddb_lake.engine.connection import Session
from ddb_lake.engine.spark.tasks import run_tasks
from ddb_lake.engine.sql import literal, literals
from ddb_lake.stages.lake import Lake
from ddb_lake.stages.read import GroupReader, IngestedObject, StagedGroup, StagedTable, fetch
from ddb_lake.stages.readers import ElsewhereError, ReadPlan
from ddb_lake.stages.spark_load import WAVES, place_of, spark_of
from ddb_lake.stages.spark_tasks import Place


@dataclass(frozen=True, slots=True)
class ReadTask:
    """Some objects of a group, by their number in it. `plan.folder` is of no use to a task."""

    place: Place
    plan: ReadPlan
    scratch: str
    objects: tuple[tuple[int, ObjectRef], ...]


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What a task read: objects by number, and files of its rows. None in place of all of it: see `ElsewhereError`."""

    objects: list[tuple[int, IngestedObject]]
    other_tables: Counter[str]
    key: tuple[str, ...]
    records: Counter[int]
    changes: str | None = None
    quarantine: str | None = None
    rows: tuple[int, int] = (0, 0)


def read_on_spark(
    lake: Lake, session: Session, plan: ReadPlan, refs: Sequence[ObjectRef]
) -> tuple[StagedGroup, tuple[str, ...]] | None:
    """`stages.readers.read_shared`, on Spark; None if records of another configured table are among these."""
    spark = spark_of(lake)
    location = lake.catalog.location(f"{plan.table}_changes")
    place = place_of(lake, lake.catalog.file_io(), location)
    scratch = f"{location}/scratch/{uuid.uuid4().hex}"
    numbered = list(enumerate(refs))
    count = min(len(refs), spark.sparkContext.defaultParallelism * WAVES)
    tasks = [ReadTask(place, plan, scratch, tuple(numbered[first::count])) for first in range(count)]
    told = run_tasks(spark, read_objects, tasks, partial(lake.progress, f"{plan.table}: shares of objects read"))
    answers = [answer for answer in told if answer is not None]
    try:
        if len(answers) < len(told):
            return None
        return _together(session, plan, answers), next((a.key for a in answers if a.key), ())
    finally:
        for answer in answers:
            for path in (answer.changes, answer.quarantine):
                if path is not None:
                    place.io.delete(path)


def read_objects(task: ReadTask) -> ReadAnswer | None:
    """A task: stage the rows of its objects."""
    plan, refs = task.plan, [ref for _, ref in task.objects]

    def key_of(table: str) -> tuple[str, ...]:
        if table != plan.table:
            raise ElsewhereError(table)
        return plan.key

    with task.place.session() as session, TemporaryDirectory(prefix="ddb-lake-read-") as folder:
        reader = GroupReader(Path(folder), plan.table, plan.routes, key_of, validators=lambda _table: plan.validator)
        numbers = [number for number, _ in task.objects]
        try:
            group = reader.read_numbered(zip(numbers, fetch(ObjectStore(), refs), strict=True))
        except ElsewhereError:
            return None
        staged = group.tables.get(plan.table)
        objects = list(zip(numbers, group.objects, strict=True))
        key = reader.keys.get(plan.table, ())
        if staged is None:
            return ReadAnswer(objects, group.other_tables, key, Counter())
        files = [
            _hand_over(session, part.path, part.rows, task.scratch) for part in (staged.changes, staged.quarantine)
        ]
        rows = (staged.changes.rows, staged.quarantine.rows)
        return ReadAnswer(objects, group.other_tables, key, staged.records, files[0], files[1], rows)


def _hand_over(session: Session, path: Path, rows: int, scratch: str) -> str | None:
    if not rows:
        return None
    if "://" not in scratch:
        Path(scratch).mkdir(parents=True, exist_ok=True)
    target = f"{scratch}/{uuid.uuid4().hex}.parquet"
    session.con.execute(f"COPY (FROM read_parquet({literal(str(path))})) TO {literal(target)} (FORMAT parquet)")
    return target


def _together(session: Session, plan: ReadPlan, answers: Sequence[ReadAnswer]) -> StagedGroup:
    numbered = sorted((entry for answer in answers for entry in answer.objects), key=lambda entry: entry[0])
    group = StagedGroup([entry for _, entry in numbered], {}, sum((a.other_tables for a in answers), Counter()))
    if not any(sum(answer.rows) for answer in answers):
        return group
    staged = StagedTable.empty(session.folder)
    for target, files in (
        (staged.changes.path, [a.changes for a in answers if a.changes is not None]),
        (staged.quarantine.path, [a.quarantine for a in answers if a.quarantine is not None]),
    ):
        if files:
            session.con.execute(
                f"COPY (FROM read_parquet({literals(files)})) TO {literal(str(target))} (FORMAT parquet)"
            )
    changes, quarantined = (sum(answer.rows[part] for answer in answers) for part in (0, 1))
    records = sum((answer.records for answer in answers), Counter[int]())
    group.tables[plan.table] = StagedTable.at(session.folder / "empty", changes, quarantined, records)
    return group
