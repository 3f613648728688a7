"""A simulator of a DynamoDB table and of everything AWS lands from it: the judge of the real implementation.

It shares no code with `ddb_lake` but the shape of a change record, so that a misreading cannot hide on both sides.

    scenario = big_scenario(seed=1, keys=50, changes=1000)       # or: @given(scenarios()), or: CORNERS[name]()
    write(scenario, folder)                                      # folder/exports/<n>/AWSDynamoDB/…, folder/landing/…
    … load each exports/<n> and apply landing/, in any order, in any batches …
    assert scenario.differences(dumped_lines) == []              # lines of `ddb-lake dump`
    for probe in scenario.probes:                                # lines of `ddb-lake dump --as-of`
        assert scenario.differences(dumped_as_of(probe.time_us), probe) == []

A scenario also says how many distinct change records of its table, deliveries of other tables' records and pieces of
garbage its objects hold (`expected_records`, `expected_other_records`, `expected_garbage`).

    model       the true history: changes, states, items at an instant
    values      nasty names and values
    envelopes   change records as KDS and DynamoDB Streams write them
    exports     full and incremental exports with all their manifest files
    landing     pieces, garbage, objects: how a stream is delivered
    promises    which combinations must be exact, and why: read this before calling a difference a fault
    scenario    Plan, Probe, Scenario, write
    composing   history + Plan + Delivery -> Scenario; `arrange` for one by hand
    histories   Hypothesis strategies, and large scenarios by seed
    corners     one trap each, by hand
    reading     landed bytes back into records, for this package's own use
    reference   the winner rule of the design, quadratic and simple
    compare     dumped lines against true items
"""

from ddb_lake_tests.simulator.compare import same_items
from ddb_lake_tests.simulator.composing import arrange, compose
from ddb_lake_tests.simulator.corners import CORNERS
from ddb_lake_tests.simulator.histories import big_scenario, deliveries, histories, plans, scenarios
from ddb_lake_tests.simulator.landing import Delivery
from ddb_lake_tests.simulator.reading import read_export, read_landing
from ddb_lake_tests.simulator.reference import ReadExport, reference_current, reference_expired
from ddb_lake_tests.simulator.scenario import Mark, Plan, Probe, Scenario, write

__all__ = [
    "CORNERS",
    "Delivery",
    "Mark",
    "Plan",
    "Probe",
    "ReadExport",
    "Scenario",
    "arrange",
    "big_scenario",
    "compose",
    "deliveries",
    "histories",
    "plans",
    "read_export",
    "read_landing",
    "reference_current",
    "reference_expired",
    "same_items",
    "scenarios",
    "write",
]
