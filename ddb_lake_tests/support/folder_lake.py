"""A lake in a folder, for tests: settings for one table, and the stages with short names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ddb_lake.config import LakeSettings, parse_settings
from ddb_lake.executors import open_lake
from ddb_lake.pipeline.open_lake import Lake


def settings(folder: Path, name: str, key: Sequence[str], **table: Any) -> LakeSettings:
    """A lake in `folder` with one table."""
    return parse_settings({"warehouse": str(folder), "tables": [{"name": name, "key": list(key), **table}]}, "test")


@contextmanager
def lake(folder: Path, name: str, key: Sequence[str], **table: Any) -> Iterator[Lake]:
    """An open lake in `folder` with one table."""
    with open_lake(settings(folder, name, key, **table)) as opened:
        yield opened
