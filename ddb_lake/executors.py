"""The engines that tables can run on, and `open_lake`, which opens a lake with all of them.

This module alone imports both the pipeline and `ddb_lake.spark`. The command line, the Python API and Dagster open
lakes here, so `engine: spark` has the same effect from each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from ddb_lake.aws.session import expect_bucket_owners, s3_endpoint
from ddb_lake.config import LakeSettings, TableSettings
from ddb_lake.errors import ConfigError
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.pipeline.executor import Executor, ExecutorFactory
from ddb_lake.pipeline.open_lake import Lake, Progress, no_progress, no_warning


def _local(lake: Lake, settings: TableSettings) -> Executor:
    # imported here for start-up time: a query opens a lake, and no step runs
    from ddb_lake.pipeline.local_executor import LocalExecutor

    return LocalExecutor(lake, settings)


def _spark(lake: Lake, settings: TableSettings) -> Executor:
    from ddb_lake.spark.executor import SparkExecutor  # start-up time, as above; PySpark itself is optional

    return SparkExecutor(lake, settings)


EXECUTORS: Mapping[str, ExecutorFactory] = MappingProxyType({"duckdb": _local, "spark": _spark})
"""The executors by the values of a table's setting `engine`."""


@contextmanager
def open_lake(
    settings: LakeSettings, progress: Progress = no_progress, warn: Callable[[str], None] = no_warning
) -> Iterator[Lake]:
    """Open a lake for the length of a `with` block.

    Args:
        settings: the lake's configuration, from `ddb_lake.config.load_settings` or `parse_settings`.
        progress: is called with the progress of long steps.
        warn: is called with each warning.

    The catalog is connected on first use: its errors are raised there. Raises ConfigError if a table is an entry with `match`.

    Example:
        with open_lake(load_settings(Path("ddb-lake.yaml"))) as lake:
            apply_objects(lake, "orders", ["s3://landing/orders/"])
    """
    if settings.matching_tables:
        raise ConfigError(
            f"the tables of `match: {settings.matching_tables[0].match}` are not known: the settings are not those of `load_settings`"
        )
    if settings.bucket_owners:
        expect_bucket_owners(settings.bucket_owners)
    with LakeCatalog(settings, s3_endpoint) as catalog:
        yield Lake(settings, catalog, EXECUTORS, progress=progress, warn=warn)
