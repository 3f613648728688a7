"""Dagster definitions of this repository's own deployment: the components below `defs`. Not part of the library."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import dagster as dg

from ddb_lake.orchestration.demo.home import (
    SET_VARIABLES,
    definitions_without_aws,
    deployed_definitions,
    unset_variables,
)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Whether a log record is not the warning that `-m ddb_lake.definitions` is not the name in pyproject.toml.

    Dagster logs it several times. The name matters only to components that are managed in the UI of Dagster+.
    """
    return "does not match the name" not in record.getMessage()


logging.getLogger("dagster.components.core.component_tree").addFilter(_is_relevant)
# Dagster warns about one of its own calls, once per asset with checks.
warnings.filterwarnings("ignore", message="Parameter `execution_type` of function `AssetsDefinition")


@dg.definitions
def defs() -> dg.Definitions:
    """Load the definitions, without access to AWS or a warehouse.

    Runs use one process, also when they are started by hand: starting a process for each step takes longer than most steps.
    """
    if missing := unset_variables():
        logging.getLogger(__name__).warning(
            "%s: not set. This shows the demo's lake below .demo, without AWS; %s.", ", ".join(missing), SET_VARIABLES
        )
        return definitions_without_aws(missing)
    return deployed_definitions(Path(__file__).parent)
