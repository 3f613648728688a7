"""The configuration of a lake: typed, checked, and the same for the Dagster component and the command line.

The file is a Dagster component's YAML (`type:` and `attributes:`); a file of the attributes alone is read as well.
Credentials never stand in it: `{{ env.NAME }}` takes a value from the environment, and AWS clients follow the
standard AWS variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ddb_lake.core.ordering import DEFAULT_MARGIN_US
from ddb_lake.core.schema import SchemaOptions
from ddb_lake.errors import ConfigError

COMPONENT_TYPE = "ddb_lake.DynamoDBLakeComponent"
DEFAULT_FILES = ("ddb_lake/defs/lake/defs.yaml", "ddb_lake.yaml", "defs.yaml")
"""Where the project's own configuration is looked for, below the working folder."""

_TABLE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,255}")
_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COLUMN_TYPE = re.compile(r"string|long|double|json|decimal\(38,\s*(?:\d|[12]\d|3[0-7])\)")


class Settings(BaseModel):
    """Base of all settings: unknown names are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(Settings):
    """The source table: where it is and how to reach it."""

    table: str | None = Field(None, description="The DynamoDB table's name, where it differs from the lake table's.")
    region: str | None = Field(None, description="AWS Region; default: the standard AWS variables.")
    role_arn: str | None = Field(None, description="Role to assume for reaching the table (another account, say).")
    external_id: str | None = Field(None, description="External id that the role's trust policy asks for.")


class ExportSettings(Settings):
    """Where full exports go and when they are taken."""

    bucket: str = Field(description="Bucket that DynamoDB exports into.")
    prefix: str = Field("", description="Key prefix before `AWSDynamoDB/`.")
    schedule: str | None = Field(None, description="Cron expression (UTC) for new exports.")
    bucket_owner: str | None = Field(None, description="Account that owns the bucket, if it is another one.")
    kms_key_id: str | None = Field(None, description="KMS key for the exported objects.")


class ChangesSettings(Settings):
    """Where landed change objects are found."""

    uri: str | None = Field(None, description="Firehose's destination: a folder, file:// or s3:// prefix.")
    errors_uri: str | None = Field(None, description="Firehose's error prefix, where it lies outside `uri`.")
    layout: Literal["auto", "hourly", "flat"] = Field(
        "auto", description="`hourly`: keys below `uri` start with yyyy/MM/dd/HH/; `flat`: list everything."
    )
    lookback: str = Field("48h", description="How far back the sensor looks for late objects.")


class CheckSettings(Settings):
    """Bounds of the checks."""

    max_lag: str = Field("30m", description="Newest landed object not yet applied: how old it may be.")
    count_tolerance: float = Field(0.05, ge=0, description="Allowed share between lake and DescribeTable's item count.")


class TableSettings(Settings):
    """One table of the lake."""

    name: str = Field(
        description="The lake table's name; the DynamoDB table's too unless `source.table` says otherwise."
    )
    key: tuple[str, ...] = Field((), description="Key attributes: partition key, then sort key.")
    source: SourceSettings = Field(default_factory=lambda: SourceSettings())
    export: ExportSettings | None = None
    changes: ChangesSettings | None = None
    columns: dict[str, str] = Field(default_factory=dict, description="Column types by attribute (`a.b` for members).")
    nested: Literal["flatten", "json"] = "flatten"
    flatten_depth: int = Field(5, ge=1, le=32)
    schema_evolution: Literal["add_columns", "rescue", "fail"] = "add_columns"
    ttl_deletes: Literal["apply", "keep"] = "apply"
    snapshot_margin: str = "5m"
    checks: CheckSettings = Field(default_factory=lambda: CheckSettings())

    @field_validator("name")
    @classmethod
    def _valid_name(cls, name: str) -> str:
        if not _TABLE_NAME.fullmatch(name):
            raise ValueError("a table's name has 1 to 255 letters, digits, '_', '-' and '.'")
        if re.search(r"_(changes|quarantine)$", name):
            raise ValueError("a table's name may not end in _changes or _quarantine: the lake uses those")
        return name

    @field_validator("key")
    @classmethod
    def _valid_key(cls, key: tuple[str, ...]) -> tuple[str, ...]:
        if len(key) > 2 or len(set(key)) != len(key) or not all(key):
            raise ValueError("a key is one or two different attribute names")
        return key

    @field_validator("columns")
    @classmethod
    def _valid_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        for path, column_type in columns.items():
            if not _COLUMN_TYPE.fullmatch(column_type):
                raise ValueError(
                    f"{path}: {column_type!r} is none of string, long, double, decimal(38,S) with S up to 37, json"
                )
        return {path: column_type.replace(" ", "") for path, column_type in columns.items()}

    @field_validator("snapshot_margin")
    @classmethod
    def _valid_margin(cls, text: str) -> str:
        seconds(text)
        return text

    @property
    def source_name(self) -> str:
        """The DynamoDB table's name."""
        return self.source.table or self.name

    @property
    def margin_us(self) -> int:
        """The snapshot margin in microseconds."""
        return seconds(self.snapshot_margin) * 1_000_000

    @property
    def schema_options(self) -> SchemaOptions:
        """How items become columns."""
        return SchemaOptions(nested=self.nested, depth=self.flatten_depth, overrides=self.columns)


class CatalogSettings(Settings):
    """The Iceberg catalog; default: SQLite beside a local warehouse, AWS Glue for one on S3."""

    type: Literal["sql", "glue", "rest"] | None = None
    uri: str | None = None
    namespace: str = "ddb_lake"
    properties: dict[str, str] = Field(default_factory=dict, description="Passed on to pyiceberg.")


class LakeSettings(Settings):
    """A lake: a warehouse, its catalog, and its tables."""

    warehouse: str
    catalog: CatalogSettings = Field(default_factory=lambda: CatalogSettings())
    tables: tuple[TableSettings, ...] = ()

    @field_validator("tables")
    @classmethod
    def _unique_names(cls, tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        names = [table.name.lower() for table in tables]
        if len(set(names)) != len(names):
            raise ValueError("two tables have the same name (compared without case)")
        return tables

    def table(self, name: str) -> TableSettings:
        """The settings of one table. Raises ConfigError if there is none of that name."""
        for table in self.tables:
            if table.name == name:
                return table
        known = ", ".join(sorted(t.name for t in self.tables)) or "none"
        raise ConfigError(f"table {name!r} is not configured; configured tables: {known}. Add it below `tables:`.")


__all__ = ["DEFAULT_MARGIN_US", "LakeSettings", "TableSettings", "load_settings", "seconds"]


def seconds(text: str) -> int:
    """Seconds of a duration such as `90s`, `5m`, `48h` or `7d`. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no duration such as 90s, 5m, 48h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def find_file(start: Path) -> Path:
    """The project's own configuration file. Raises ConfigError naming where it was looked for."""
    named = os.environ.get("DDB_LAKE_CONFIG")
    candidates = [Path(named)] if named else [start / name for name in DEFAULT_FILES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(str(c) for c in candidates)
    raise ConfigError(
        f"no configuration found (looked for {looked}); write one with `ddb-lake init` or give --config FILE"
    )


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> LakeSettings:
    """Read, fill in and check a configuration file. Raises ConfigError with each fault and where it stands."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a mapping with `type` and `attributes`")
    attributes = document.get("attributes", document) if "type" in document else document
    return parse_settings(fill_in(attributes, os.environ if environment is None else environment, str(path)), str(path))


def parse_settings(attributes: Any, where: str) -> LakeSettings:
    """Check the attributes of a lake. Raises ConfigError with each fault and where it stands."""
    try:
        return LakeSettings.model_validate(attributes)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'lake'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{where}: {faults}") from error


def fill_in(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """Replace `{{ env.NAME }}` and `{{ env('NAME', 'default') }}` in every string, as Dagster does."""
    if isinstance(value, str):
        return _render(value, environment, where) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: fill_in(member, environment, where) for key, member in value.items()}
    if isinstance(value, Sequence):
        return [fill_in(member, environment, where) for member in value]
    return value


_ENV = re.compile(
    r"""\{\{\s*env(?:\.(?P<dotted>\w+)|\(\s*['"](?P<called>\w+)['"]\s*(?:,\s*['"](?P<default>[^'"]*)['"]\s*)?\))\s*\}\}"""
)


def _render(text: str, environment: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match["dotted"] or match["called"]
        found = environment.get(name, match["default"])
        if found is None:
            raise ConfigError(f"{where}: the environment variable {name} is not set")
        return found

    filled = _ENV.sub(value, text)
    if "{{" in filled and not _ENV.search(text):
        raise ConfigError(f"{where}: only {{{{ env.NAME }}}} is understood in {text!r}")
    return filled
