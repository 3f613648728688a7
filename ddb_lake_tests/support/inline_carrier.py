"""Tasks of Spark run in this process, one after another, without Spark: pickled and unpickled as there."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

from ddb_lake.spark.carrier import Progress, no_progress, result_of, results_of

T = TypeVar("T")
R = TypeVar("R")


class InlineCarrier:
    """A `ddb_lake.spark.carrier.Carrier`. `tasks`: the name of the function, and the number of tasks, of each call of `map`."""

    def __init__(self, cores: int = 3) -> None:
        self.cores = cores
        self.tasks: list[tuple[str, int]] = []

    def map(self, work: Callable[[T], R], tasks: Sequence[T], progress: Progress = no_progress) -> list[R]:
        """Call `work` with each task."""
        self.tasks.append((work.__name__, len(tasks)))
        results: list[R] = results_of([(n, result_of(work, pickle.dumps(task))) for n, task in enumerate(tasks)])
        return results
