"""Run functions on Spark: one call for each task, or one for each group of rows with the same bucket.

A task is an object that is pickled, as is the result of its call. Results must be small (paths, counts): the driver
collects them. Spark may run a task more than once, because a worker died or was slow, and uses the result of one of the
attempts. So a task gives the files that it writes new names each time; the files of the other attempts are orphans, which
`compact` removes.
"""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa

from ddb_lake.errors import DdbLakeError, TerminalError, TransientError

T = TypeVar("T")
R = TypeVar("R")

RESULTS = pa.schema([("number", pa.int64()), ("result", pa.binary())])
_RESULTS_DDL = "number long, result binary"
PROGRESS_INTERVAL_S = 0.5

Progress: TypeAlias = Callable[[int, int], None]
"""Is called every half second with the number of finished tasks, and of all tasks."""


def no_progress(_done: int, _total: int) -> None:
    """Do nothing."""


def run_tasks(spark: Any, work: Callable[[T], R], tasks: Sequence[T], progress: Progress = no_progress) -> list[R]:
    """Call `work` with each task on Spark.

    Args:
        spark: the SparkSession.
        work: a function that workers can import.
        tasks: its arguments.
        progress: is called while the tasks run.

    Returns:
        The results, in the order of the tasks.

    Raises:
        DdbLakeError: a task raised it.
        TerminalError: Spark gave up a task that ended several times, by a TransientError or with its worker.
    """
    if not tasks:
        return []
    with _reported_errors(), _progress_of(spark, progress):
        rows = task_rows(spark, tasks).mapInArrow(_caller(work), _RESULTS_DDL).toArrow()
    return _results(rows)


def run_groups(rows: Any, by: str, work: Callable[[int, pa.Table], R], progress: Progress = no_progress) -> list[R]:
    """Call `work` with each group of a DataFrame's rows that have an equal value of the column `by`, a long.

    Returns the results in the order of these values. Raises as `run_tasks`.
    """

    def call(key: tuple[Any, ...], table: pa.Table) -> pa.Table:
        number = int(key[0].as_py())
        return pa.Table.from_batches([_result_row(number, lambda: work(number, table))])

    with _reported_errors(), _progress_of(rows.sparkSession, progress):
        results = rows.groupBy(by).applyInArrow(call, _RESULTS_DDL).toArrow()
    return _results(results)


def scan_rows(spark: Any, work: Callable[[T], Iterable[pa.RecordBatch]], tasks: Sequence[T], ddl: str) -> Any:
    """A DataFrame, with the columns `ddl`, of the rows that `work` yields for each task. Tasks run when it is used."""

    def scan(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column("task").to_pylist():
                yield from work(pickle.loads(task))

    with _without_pyspark_warnings():
        return task_rows(spark, tasks).mapInArrow(scan, ddl)


def task_rows(spark: Any, tasks: Sequence[Any]) -> Any:
    """A DataFrame with one pickled task in each partition."""
    numbers = pa.array(range(len(tasks)), type=pa.int64())
    pickled = pa.array([pickle.dumps(task, pickle.HIGHEST_PROTOCOL) for task in tasks], type=pa.binary())
    with _without_pyspark_warnings():
        frame = spark.createDataFrame(pa.table({"number": numbers, "task": pickled}))
        return frame.repartitionById(len(tasks), frame.number.cast("int"))


def _caller(work: Callable[[Any], Any]) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number, task in zip(batch.column("number").to_pylist(), batch.column("task").to_pylist(), strict=True):
                yield _result_row(number, lambda task=task: work(pickle.loads(task)))  # type: ignore[misc]

    return run


def _result_row(number: int, work: Callable[[], Any]) -> pa.RecordBatch:
    """The result of a call, or the error that it raised: the driver raises it, and Spark does not repeat the task.

    A TransientError leaves the task, so that Spark repeats it.
    """
    try:
        result: Any = work()
    except TransientError:
        raise
    except DdbLakeError as error:
        result = error
    pickled = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    return pa.RecordBatch.from_arrays(
        [pa.array([number], pa.int64()), pa.array([pickled], pa.binary())], schema=RESULTS
    )


def _results(rows: pa.Table) -> list[Any]:
    numbered = sorted(zip(rows["number"].to_pylist(), rows["result"].to_pylist(), strict=True))
    results = [pickle.loads(result) for _, result in numbered]
    for result in results:
        if isinstance(result, DdbLakeError):
            raise result
    return results


@contextmanager
def _reported_errors() -> Iterator[None]:
    """Translate the failure of a job to TerminalError."""
    from pyspark.errors import PySparkException  # PySpark is optional

    with _without_pyspark_warnings():
        try:
            yield
        except PySparkException as error:
            message = f"Spark gave up a task after repeating it: {_last_error(str(error))}"
            raise TerminalError(
                message, hint="see Spark's logs, remove the cause, and run the command again"
            ) from error


def _last_error(text: str) -> str:
    """The type of the exception with which a task ended. Its message is left out, because it may contain values."""
    named = re.findall(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Killed|lost))\b", text, re.MULTILINE)
    return str(named[-1]) if named else text.strip().partition("\n")[0][:200]


@contextmanager
def _without_pyspark_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySpark warns about pandas, which is not used here
        yield


@contextmanager
def _progress_of(spark: Any, progress: Progress) -> Iterator[None]:
    """Call `progress` from a thread while a job runs. Spark Connect has no status tracker."""
    if progress is no_progress or not hasattr(spark, "sparkContext"):
        yield
        return
    ended = threading.Event()
    tracker = spark.sparkContext.statusTracker()

    def report() -> None:
        while not ended.wait(PROGRESS_INTERVAL_S):
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            known = [stage for stage in stages if stage is not None]
            if known:
                progress(sum(s.numCompletedTasks for s in known), sum(s.numTasks for s in known))

    reporter = threading.Thread(target=report, name="spark-progress", daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()
