"""The configuration of a lake: typed, validated, and the same for the Dagster component and the command line.

The file is a Dagster component's YAML (`type:` and `attributes:`); a file of the attributes alone is valid too.
It has no credentials: `{{ env.NAME }}` inserts an environment variable, and AWS clients follow the standard AWS
variables.
"""

from __future__ import annotations

from ddb_lake.config.base import Settings, seconds
from ddb_lake.config.entities import EntitySettings
from ddb_lake.config.files import fill_in, find_file, load_entries, load_settings, parse_entries, parse_settings
from ddb_lake.config.lake import (
    CatalogSettings,
    DbtSettings,
    LakeSettings,
    SnapshotSettings,
    SparkLaunchSettings,
    SparkSettings,
)
from ddb_lake.config.table_sections import (
    AuroraSettings,
    CanarySettings,
    ChangesSettings,
    CheckSettings,
    DailyStatesSettings,
    ExportSettings,
    FullCheckSettings,
    IncrementalExportSettings,
    PartitionsSettings,
    SourceSettings,
    ValidateSettings,
)
from ddb_lake.config.tables import TableSettings
from ddb_lake.core.operations.config_document import COMPONENT_TYPE, DEFAULT_FILES

__all__ = [
    "COMPONENT_TYPE",
    "DEFAULT_FILES",
    "AuroraSettings",
    "CanarySettings",
    "CatalogSettings",
    "ChangesSettings",
    "CheckSettings",
    "DailyStatesSettings",
    "DbtSettings",
    "EntitySettings",
    "ExportSettings",
    "FullCheckSettings",
    "IncrementalExportSettings",
    "LakeSettings",
    "PartitionsSettings",
    "Settings",
    "SnapshotSettings",
    "SourceSettings",
    "SparkLaunchSettings",
    "SparkSettings",
    "TableSettings",
    "ValidateSettings",
    "fill_in",
    "find_file",
    "load_entries",
    "load_settings",
    "parse_entries",
    "parse_settings",
    "seconds",
]
