"""Two Dagster daemons with the same sensor: both ask for the same work, and it is done once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest

from ddb_lake.orchestration.in_process_daemon import InProcessDaemon
from ddb_lake_tests.support.dagster_folders import FolderLake, inserted
from ddb_lake_tests.support.dagster_runs import DAGSTERS_OWN, quiet_runs, without_telemetry
from ddb_lake_tests.support.fault_marks import fault
from ddb_lake_tests.support.iceberg_readers import assert_readers_agree, count_rows
from ddb_lake_tests.support.landed_files import order
from ddb_lake_tests.support.several_tables import dumped

__all__ = ["quiet_runs", "without_telemetry"]


@fault("two daemons run the same sensor", "run")
@pytest.mark.filterwarnings(*DAGSTERS_OWN)
def test_two_daemons_that_ask_for_the_same_work_do_it_once(
    tmp_path: Path, quiet_runs: None, without_telemetry: None
) -> None:
    with dg.DagsterInstance.ephemeral() as one, dg.DagsterInstance.ephemeral() as other:
        lake = FolderLake(tmp_path, one)
        lake.export(order("ann", 1), order("bob", 1))
        for number in range(3):
            lake.land(f"2025/02/03/0{number}/x", inserted(number + 1), inserted(number + 2))
        tickers = [InProcessDaemon(lake.defs, instance, f"{lake.name}_arrivals") for instance in (one, other)]
        for _ in range(3):
            with ThreadPoolExecutor(2) as pool:
                ticks = list(pool.map(lambda ticker: ticker.tick(), tickers))
        runs = [run for instance in (one, other) for run in instance.get_runs()]
        assert len(runs) >= 2 and {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert [tick.runs for tick in ticks] == [(), ()]
        with lake.opened() as opened:
            assert count_rows(opened, "orders_changes") == 4
            assert len(set(dumped(opened))) == len(dumped(opened)) == count_rows(opened, "orders")
            assert_readers_agree(opened, "orders")
