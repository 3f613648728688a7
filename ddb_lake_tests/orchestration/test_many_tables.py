"""Hundreds of tables cost a bounded number of requests, whatever hour it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ddb_lake.config import parse_settings
from ddb_lake_tests.benchmarks.tables import configuration, ticks
from ddb_lake_tests.support.effort import by_effort

TABLES = by_effort(25, 100, 500)


@pytest.mark.more_examples
def test_tick_over_quiet_tables_makes_one_request_a_table(tmp_path: Path) -> None:
    settings = parse_settings(yaml.safe_load(configuration(TABLES, tmp_path / "lake")), "test")

    found = {name: lists for name, _, lists in ticks(settings)}

    # the first tick looks at the top folders of each prefix too, to learn its layout
    assert found == {"first tick": 3 * TABLES, "usual tick": TABLES, "tick every ten minutes": 2 * TABLES}
