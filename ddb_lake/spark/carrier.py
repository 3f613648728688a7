"""Carry tasks to where they run: one call of a function for each task, on Spark.

A task is an object that is pickled, as is the result of its call. Results must be small (paths, counts): the driver
collects them. Rows pass from tasks to tasks in files (`spark.scratch`), not through Spark. So a job needs nothing of Spark
but its RDDs, which every release has alike; Spark Connect has none.

Spark may run a task more than once, because a worker died or was slow, and uses the result of one of the attempts. So a
task gives the files that it writes new names each time; the files of the other attempts are orphans, which `compact` removes.
"""

from __future__ import annotations

import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

from ddb_lake.errors import DdbLakeError, TerminalError, TransientError

T = TypeVar("T")
R = TypeVar("R")

PROGRESS_INTERVAL_S = 0.5

Progress: TypeAlias = Callable[[int, int], None]
"""Is called every half second with the number of finished tasks, and of all tasks."""


def no_progress(_done: int, _total: int) -> None:
    """Do nothing."""


class Carrier(Protocol):
    """Runs tasks.

    Attributes:
        cores: the number of tasks that can run at the same time.
    """

    cores: int

    def map(self, work: Callable[[T], R], tasks: Sequence[T], progress: Progress = no_progress) -> list[R]:
        """Call `work` with each task.

        Args:
            work: a function that workers can import.
            tasks: its arguments.
            progress: is called while the tasks run.

        Returns:
            The results, in the order of the tasks.

        Raises:
            DdbLakeError: a task raised it.
            TerminalError: a task was given up that ended several times, by a TransientError or with its worker.
        """


class SparkCarrier:
    """Runs each task in a partition of its own. `spark`: the SparkSession."""

    def __init__(self, spark: Any) -> None:
        self._context = spark.sparkContext
        self.cores: int = self._context.defaultParallelism

    def map(self, work: Callable[[T], R], tasks: Sequence[T], progress: Progress = no_progress) -> list[R]:
        """Call `work` with each task in a job of Spark."""
        if not tasks:
            return []
        numbered = list(enumerate(pickle.dumps(task, pickle.HIGHEST_PROTOCOL) for task in tasks))
        with _reported_errors(), _progress_of(self._context, progress):
            results = self._context.parallelize(numbered, len(numbered)).map(_Call(work)).collect()
        return results_of(results)


class _Call:
    """Calls `work` with a numbered task. A class, because workers find it by its name and do not unpickle its code."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work

    def __call__(self, numbered: tuple[int, bytes]) -> tuple[int, bytes]:
        number, task = numbered
        return number, result_of(self._work, task)


def result_of(work: Callable[[Any], Any], task: bytes) -> bytes:
    """The pickled result of a call with a pickled task, or the error that it raised: the driver raises it, and Spark does
    not repeat the task.

    A TransientError leaves the task, so that Spark repeats it.
    """
    try:
        result: Any = work(pickle.loads(task))
    except TransientError:
        raise
    except DdbLakeError as error:
        result = error
    return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)


def results_of(numbered: Sequence[tuple[int, bytes]]) -> list[Any]:
    """The results of numbered tasks in their order. Raises the first error among them."""
    results = [pickle.loads(result) for _, result in sorted(numbered)]
    for result in results:
        if isinstance(result, DdbLakeError):
            raise result
    return results


@contextmanager
def _reported_errors() -> Iterator[None]:
    """Translate the failure of a job to TerminalError."""
    from py4j.protocol import Py4JError  # PySpark is optional
    from pyspark.errors import PySparkException

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySpark warns about pandas, which is not used here
        try:
            yield
        except (Py4JError, PySparkException) as error:
            message = f"Spark gave up a task after repeating it: {_last_error(str(error))}"
            raise TerminalError(
                message, hint="see Spark's logs, remove the cause, and run the command again"
            ) from error


def _last_error(text: str) -> str:
    """The type of the exception with which a task ended. Its message is left out, because it may contain values."""
    named = re.findall(r"^(?:Caused by: )?(?:[\w.]+\.)?(\w*(?:Error|Exception|Killed|lost))\b", text, re.MULTILINE)
    named = [name for name in named if name not in _CARRIERS]
    return str(named[-1]) if named else text.strip().partition("\n")[0][:200]


_CARRIERS = {"Py4JJavaError", "PythonException", "SparkException"}
"""Exceptions that carry the one with which a task ended."""


@contextmanager
def _progress_of(context: Any, progress: Progress) -> Iterator[None]:
    """Call `progress` from a thread while a job runs."""
    if progress is no_progress:
        yield
        return
    ended = threading.Event()
    tracker = context.statusTracker()

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
