"""How tasks reach the files of a table, and with how much memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyiceberg.io import FileIO

from ddb_lake.aws.session import s3_access
from ddb_lake.engine.session import Session, connect
from ddb_lake.pipeline.open_lake import Lake

WAVES = 3
"""Tasks for each core, if there is as much work: with several, the cores finish at about the same time."""


@dataclass(frozen=True, slots=True)
class TableAccess:
    """How a task accesses the files of a table. `memory`: the limit of its DuckDB."""

    io: FileIO
    location: str
    local: bool
    memory: str
    memory_bytes: int

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A DuckDB of one thread (Spark gives a task one core) that can reach the files."""
        s3 = None if self.local else s3_access()
        with connect(s3, self.memory, threads=1, memory_setting="spark.memory") as session:
            yield session


def table_access(lake: Lake, io: Any, location: str) -> TableAccess:
    """How tasks reach a table's files."""
    spark = lake.settings.spark
    return TableAccess(io, location, lake.catalog.is_local, spark.memory, spark.memory_bytes)
