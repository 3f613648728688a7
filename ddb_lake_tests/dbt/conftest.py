"""A lake of orders and web analytics, and dbt's models of it: built once when half has landed, and again after all."""

from __future__ import annotations

import pytest

from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake_tests.support.dbt_lake import DAY_US, WINDOW_US, Built, dbt, opened, prepare
from ddb_lake_tests.support.export_files import increment


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The models after three builds, between which records landed: late ones among them.

    After the second an incremental export was loaded, which says of the last day what the stream has said.
    """
    folder = tmp_path_factory.mktemp("dbt")
    found, second = prepare(folder)
    dbt(folder, "run", "--select", "+orders_history", "orders_daily_changes")
    window = increment(*found.source.window(WINDOW_US), at_us=WINDOW_US + DAY_US, window=WINDOW_US)
    with opened(folder) as lake:
        apply_objects(lake, "orders", second[:-1])
        load_export(lake, "orders", str(window.write(folder / "windows")))
    dbt(folder, "run", "--select", "orders_history", "orders_daily_changes")
    with opened(folder) as lake:
        apply_objects(lake, "orders", second[-1:])
    dbt(folder, "build")
    return found
