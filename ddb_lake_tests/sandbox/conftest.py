from collections.abc import Iterator
from datetime import timedelta

import pytest

from ddb_lake.sandbox import ExportOptions, Sandbox

QUICK_EXPORTS = ExportOptions(seconds=0, shortest_window=timedelta(seconds=1))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(exports=QUICK_EXPORTS) as running:
        yield running
