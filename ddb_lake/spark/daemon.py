"""The process from which Spark forks its Python workers. It has imported what tasks need, so that the workers do not import it.

Spark starts it in place of `pyspark.daemon`, by its property `spark.python.daemon.module` (`spark.session`).
"""

from __future__ import annotations

import gc
from contextlib import suppress

from ddb_lake.engine.import_hook import hide_pandas


def main() -> None:
    """Import the packages, then fork workers until Spark ends."""
    hide_pandas()
    with suppress(ImportError):  # the first task finds which package is missing (`requirements.check_executors`)
        import ddb_lake.spark.executor  # noqa: F401  # it imports the modules of all tasks; pandas must be hidden before
    gc.freeze()  # PySpark collects garbage after each task, which would visit all imported objects
    from pyspark.daemon import manager  # PySpark is optional

    manager()


if __name__ == "__main__":
    main()
