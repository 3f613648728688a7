"""Tasks on Spark: a function and its arguments to a partition each, and groups of rows brought together by bucket.

Arguments and answers are pickled; answers are small (paths, counts), for the driver collects them. A task may run more
than once (a worker died, or was slow and Spark started a second one), so what it writes has a name of its own each time,
and only the answer of one attempt is heard: what others wrote are orphans, which `compact` removes.
"""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa

from ddb_lake.errors import DdbLakeError, TerminalError, TransientError

T = TypeVar("T")
R = TypeVar("R")

ANSWERS = pa.schema([("number", pa.int64()), ("answer", pa.binary())])
_ANSWERS_DDL = "number long, answer binary"
WATCH_S = 0.5

Progress = Callable[[int, int], None]
"""Is told how many tasks of how many are done, now and then."""


def unwatched(_done: int, _total: int) -> None:
    """Progress that nobody looks at."""


def run_tasks(spark: Any, work: Callable[[T], R], tasks: Sequence[T], progress: Progress = unwatched) -> list[R]:
    """What `work` gives for each of `tasks`, in their order. `work` must be importable where Spark runs it.

    Raises the DdbLakeError that a task raised, or TerminalError if Spark gave up on one.
    """
    if not tasks:
        return []
    with _spoken(spark, progress):
        rows = task_rows(spark, tasks).mapInArrow(_worker(work), _ANSWERS_DDL).toArrow()
    return _heard(rows)


def run_groups(rows: Any, by: str, work: Callable[[int, pa.Table], R], progress: Progress = unwatched) -> list[R]:
    """What `work` gives for each group of a DataFrame's rows with equal `by` (a long), in order of `by`."""

    def group(key: tuple[Any, ...], table: pa.Table) -> pa.Table:
        number = int(key[0].as_py())
        return pa.Table.from_batches([_answer(number, lambda: work(number, table))])

    with _spoken(rows.sparkSession, progress):
        answers = rows.groupBy(by).applyInArrow(group, _ANSWERS_DDL).toArrow()
    return _heard(answers)


def scan_rows(spark: Any, work: Callable[[T], Iterable[pa.RecordBatch]], tasks: Sequence[T], ddl: str) -> Any:
    """A DataFrame of the rows that `work` yields for each of `tasks`; nothing runs until it is used."""

    def scan(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column("task").to_pylist():
                yield from work(pickle.loads(task))

    with _quietly():
        return task_rows(spark, tasks).mapInArrow(scan, ddl)


def task_rows(spark: Any, tasks: Sequence[Any]) -> Any:
    """A DataFrame with one pickled task a partition."""
    numbers = pa.array(range(len(tasks)), type=pa.int64())
    pickled = pa.array([pickle.dumps(task, pickle.HIGHEST_PROTOCOL) for task in tasks], type=pa.binary())
    with _quietly():
        frame = spark.createDataFrame(pa.table({"number": numbers, "task": pickled}))
        return frame.repartitionById(len(tasks), frame.number.cast("int"))


def _worker(work: Callable[[Any], Any]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number, task in zip(batch.column("number").to_pylist(), batch.column("task").to_pylist(), strict=True):
                yield _answer(number, lambda task=task: work(pickle.loads(task)))  # type: ignore[misc]

    return run


def _answer(number: int, work: Callable[[], Any]) -> pa.RecordBatch:
    """What `work` gives, or what it refuses: that is an answer too, for trying again would not help."""
    try:
        answer: Any = work()
    except TransientError:
        raise
    except DdbLakeError as refusal:
        answer = refusal
    pickled = pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    return pa.RecordBatch.from_arrays(
        [pa.array([number], pa.int64()), pa.array([pickled], pa.binary())], schema=ANSWERS
    )


def _heard(rows: pa.Table) -> list[Any]:
    numbered = sorted(zip(rows["number"].to_pylist(), rows["answer"].to_pylist(), strict=True))
    answers = [pickle.loads(answer) for _, answer in numbered]
    for answer in answers:
        if isinstance(answer, DdbLakeError):
            raise answer
    return answers


@contextmanager
def _spoken(spark: Any, progress: Progress) -> Iterator[None]:
    """Runs a job; says how far it is, and in our words if it fails."""
    from pyspark.errors import PySparkException

    with _quietly(), _watched(spark, progress):
        try:
            yield
        except PySparkException as error:
            fault = f"Spark gave a task up, which it had tried again: {_last_line(str(error))}"
            raise TerminalError(f"{fault}", hint="see Spark's logs, and run it again when that is mended") from error


def _last_line(text: str) -> str:
    """The exception that a task ended with, without Spark's stack trace and without its message (it may hold values)."""
    named = re.findall(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Killed|lost))\b", text, re.MULTILINE)
    return str(named[-1]) if named else text.strip().partition("\n")[0][:200]


@contextmanager
def _quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySpark's remarks on pandas, which is not used here
        yield


@contextmanager
def _watched(spark: Any, progress: Progress) -> Iterator[None]:
    if progress is unwatched or not hasattr(spark, "sparkContext"):
        yield
        return
    ended = threading.Event()
    tracker = spark.sparkContext.statusTracker()

    def watch() -> None:
        while not ended.wait(WATCH_S):
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            known = [stage for stage in stages if stage is not None]
            if known:
                progress(sum(s.numCompletedTasks for s in known), sum(s.numTasks for s in known))

    watcher = threading.Thread(target=watch, name="spark-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
