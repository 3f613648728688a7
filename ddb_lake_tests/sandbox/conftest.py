from collections.abc import Iterator

import pytest

from ddb_lake.sandbox import Sandbox
from ddb_lake_tests.support.sandbox_steps import QUICK_EXPORTS


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(exports=QUICK_EXPORTS) as running:
        yield running
