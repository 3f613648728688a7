"""This deployment's Dagster definitions: whatever stands below `defs`."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import dagster as dg


def _tells_nothing(record: logging.LogRecord) -> bool:
    """Dagster warns, several times, that `-m ddb_lake.definitions` is not the location's name in pyproject.toml.

    The name matters to components that are managed in the UI of Dagster+, of which there are none here.
    """
    return "does not match the name" not in record.getMessage()


logging.getLogger("dagster.components.core.component_tree").addFilter(_tells_nothing)
# A notice of Dagster's about a call of its own, for every asset with checks.
warnings.filterwarnings("ignore", message="Parameter `execution_type` of function `AssetsDefinition")


@dg.definitions
def defs() -> dg.Definitions:
    """Load the definitions. Reaches nothing: neither AWS nor a warehouse.

    What is materialized by hand runs in one process, as what the sensors and schedules ask for does: starting one for
    each step takes longer than most steps.
    """
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
