"""A dbt project's models as assets downstream of the lake's: active where `dbt.project` is set and dagster-dbt is there.

The models' sources are the assets `current/<t>` and `changes/<t>`, their tests are asset checks, and a run reports the
columns of each model with their source columns.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping

import dagster as dg

from ddb_lake.config import LakeSettings
from ddb_lake.orchestration.specs import TableAssets

_LOG = logging.getLogger(__name__)


def dbt_definitions(lake: str, settings: LakeSettings, tables: Mapping[str, TableAssets]) -> dg.Definitions | None:
    """The assets, checks, job and schedule of the lake's dbt project; None if there is none.

    The project is parsed by dbt if its manifest is older than its files. Raises ConfigError if that fails.
    """
    if not settings.dbt.project:
        return None
    if importlib.util.find_spec("dagster_dbt") is None:
        _LOG.warning("dbt.project is set, and dagster-dbt is not installed: pip install '.[dbt]' in a checkout")
        return None
    from ddb_lake.orchestration.dbt.assets import model_definitions

    return model_definitions(lake, settings, tables)
