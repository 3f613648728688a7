"""The configuration of a lake: typed, checked, and the same for the Dagster component and the command line.

The file is a Dagster component's YAML (`type:` and `attributes:`); a file of the attributes alone is read as well.
Credentials never stand in it: `{{ env.NAME }}` takes a value from the environment, and AWS clients follow the
standard AWS variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ddb_lake.core.configured import DEFAULT_FILES
from ddb_lake.core.ordering import DEFAULT_MARGIN_US
from ddb_lake.core.schema import SchemaOptions
from ddb_lake.core.validation import Rule, Validator
from ddb_lake.core.windows import LONGEST_S, SHORTEST_S
from ddb_lake.errors import ConfigError

COMPONENT_TYPE = "ddb_lake.DynamoDBLakeComponent"

_TABLE_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,255}")
_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEAST_MEMORY_MB = 320  # below, DuckDB's buffers for reading JSON do not fit
_MEMORY = re.compile(r"([1-9]\d*) ?(MB|GB)")
_COLUMN_TYPE = re.compile(r"string|long|double|json|decimal\(38,\s*(?:\d|[12]\d|3[0-7])\)")
_OWNER = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|team:[A-Za-z0-9_-]+")
_SQL_TYPE = re.compile(r"[A-Za-z]+( [A-Za-z]+)?(\(\d+(, ?\d+)?\))?( [A-Za-z0-9_ ]+)?")


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


class IncrementalExportSettings(Settings):
    """Incremental exports as the way in of changes: no stream is needed. They go where `export` says."""

    every: str = Field("15m", description="Length of the exported windows: 15m to 24h.")
    view: Literal["NEW_AND_OLD_IMAGES", "NEW_IMAGE"] = Field(
        "NEW_AND_OLD_IMAGES", description="Which images a line has; NEW_IMAGE costs less and leaves out the old ones."
    )

    @field_validator("every")
    @classmethod
    def _valid_length(cls, text: str) -> str:
        if not SHORTEST_S <= seconds(text) <= LONGEST_S:
            raise ValueError("DynamoDB exports windows of 15m to 24h")
        return text


class ChangesSettings(Settings):
    """Where landed change objects are found."""

    uri: str | None = Field(None, description="Firehose's destination: a folder, file:// or s3:// prefix.")
    errors_uri: str | None = Field(None, description="Firehose's error prefix, where it lies outside `uri`.")
    layout: Literal["auto", "hourly", "flat"] = Field(
        "auto", description="`hourly`: keys below `uri` start with yyyy/MM/dd/HH/; `flat`: list everything."
    )
    lookback: str = Field("48h", description="How far back the sensor looks for late objects.")
    delivery_stream: str | None = Field(
        None, description="Name of the Firehose stream that delivers to `uri`: a check looks at its data freshness."
    )
    streams: bool = Field(False, description="Changes are read from DynamoDB Streams directly.")
    landing: str | None = Field(
        None, description="Where what is read from the stream lands; default: `landing/<table>/` below the warehouse."
    )
    incremental_exports: IncrementalExportSettings | None = Field(
        None, description="Changes come by incremental exports, to the place that `export` names."
    )
    notifications: str | None = Field(
        None, description="URL of an SQS queue of S3 notifications, to look sooner at what has landed."
    )

    @field_validator("notifications")
    @classmethod
    def _valid_queue(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^/]+/.+", url):
            raise ValueError("an SQS queue is named by its URL, https://sqs.<region>.amazonaws.com/<account>/<name>")
        return url


class CanarySettings(Settings):
    """An item that is written to the source again and again, to see that changes still arrive in the lake."""

    key: dict[str, dict[str, str]] = Field(
        description="The item's key in DynamoDB JSON, `{id: {S: canary}}`; one that no other item has."
    )

    @field_validator("key")
    @classmethod
    def _valid_key(cls, key: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        if not 1 <= len(key) <= 2 or not all(len(v) == 1 and set(v) <= {"S", "N", "B"} for v in key.values()):
            raise ValueError("a key has one or two attributes in DynamoDB JSON, such as {id: {S: canary}}")
        return key


class FullCheckSettings(Settings):
    """A check that compares every key with the source: the check `content`."""

    against: Literal["export", "new_export", "scan"] = Field(
        "export",
        description="The newest finished full export, an export taken for the check, or a scan of the source (small"
        " tables).",
    )
    schedule: str | None = Field(None, description="Cron expression (UTC); without it the check runs when asked for.")
    settle: str = Field("0s", description="How long to wait for changes under way before what differs is a fault.")

    @field_validator("settle")
    @classmethod
    def _valid_settle(cls, text: str) -> str:
        seconds(text)
        return text


class CheckSettings(Settings):
    """Bounds of the checks."""

    max_lag: str = Field("30m", description="Newest landed object not yet applied: how old it may be.")
    count_tolerance: float = Field(0.05, ge=0, description="Allowed share between lake and DescribeTable's item count.")
    sample: int = Field(0, ge=0, description="Keys of each side that a check reads from the source; 0: it reads none.")
    read_rate: float = Field(100, ge=1, description="Read units a second that a check takes at most.")
    full: FullCheckSettings | None = Field(None, description="Compare every key with the source.")
    canary: CanarySettings | None = Field(None, description="Write an item to the source and see that it arrives.")
    freshness: str | None = Field(
        None, description="Dagster's freshness policy of `current`: it changes at least so often; not for idle tables."
    )

    @field_validator("freshness")
    @classmethod
    def _valid_freshness(cls, text: str | None) -> str | None:
        if text is not None and seconds(text) < 60:
            raise ValueError("Dagster looks at freshness once a minute: 1m or more")
        return text


class DailyStatesSettings(Settings):
    """The items as of the end of each day (UTC), one Parquet file a day: the asset `daily/<table>`."""

    start: date = Field(description="The first day, `2026-01-01`; not before the first full export.")
    schedule: str | None = Field(
        None, description="Cron expression (UTC) for the day before; without it days are made when asked for."
    )


class AuroraSettings(Settings):
    """A table of a MySQL-compatible database (Aurora, MariaDB) that is kept equal to the lake's current items."""

    host: str = Field(description="The database's host; for Aurora the cluster's (writer) endpoint.")
    port: int = Field(3306, ge=1, le=65535, description="The database's port.")
    database: str = Field(description="The database (schema), which must exist.")
    table: str | None = Field(None, description="The table's name there; default: the lake table's.")
    user: str = Field(description="The user to log in as.")
    password_env: str | None = Field(None, description="Name of the environment variable that holds the password.")
    secret_arn: str | None = Field(
        None, description="Secret of Secrets Manager: the password, or JSON with `password`."
    )
    iam_auth: bool = Field(False, description="Log in with a token that IAM signs (Aurora, RDS).")
    region: str | None = Field(None, description="AWS Region of the secret and of IAM; default: the AWS variables.")
    tls: bool | None = Field(None, description="Encrypt the connection; default: yes, but not to this machine.")
    tls_ca: str | None = Field(None, description="File of certificates to trust; for Aurora, AWS's RDS bundle.")
    columns: tuple[str, ...] = Field((), description="The lake's columns to replicate; default: all.")
    types: dict[str, str] = Field(default_factory=dict, description="SQL types of columns, where others are wanted.")

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if sum(map(bool, (self.password_env, self.secret_arn, self.iam_auth))) != 1:
            raise ValueError("aurora: give exactly one of password_env, secret_arn, iam_auth")
        return self

    @field_validator("types")
    @classmethod
    def _valid_types(cls, types: dict[str, str]) -> dict[str, str]:
        for column, sql_type in types.items():
            if not _SQL_TYPE.fullmatch(sql_type):
                raise ValueError(f"{column}: {sql_type!r} is no SQL type such as varchar(100), int or decimal(20,2)")
        return types


class ValidateSettings(Settings):
    """What the changes of a table must satisfy; those that do not go to quarantine."""

    json_schema: str | dict[str, Any] = Field(
        alias="schema", description="A JSON Schema (draft-07), or the name of a JSON or YAML file with one."
    )
    attribute: str | None = Field(
        None, description="The attribute that holds the document the schema is for; default: it is for the item."
    )

    @cached_property
    def validator(self) -> Validator:
        """The schema, compiled. Raises ConfigError."""
        schema: Any = self.json_schema
        if isinstance(schema, str):
            try:
                schema = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))  # JSON is YAML
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise ConfigError(f"{schema}: no JSON Schema can be read from there: {error}") from error
        return Validator([Rule(schema, self.attribute)])

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        try:
            _ = self.validator
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


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
    nested: Literal["flatten", "json"] = Field("flatten", description="Maps: flattened to columns, or one JSON column.")
    flatten_depth: int = Field(5, ge=1, le=32, description="How deep maps are flattened, 1 to 32; below that JSON.")
    schema_evolution: Literal["add_columns", "rescue", "fail"] = Field(
        "add_columns", description="New attributes: become columns, stay in `_rescued`, or fail the run."
    )
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="What does the work: DuckDB on this machine, or Spark (`spark`) on many."
    )
    ttl_deletes: Literal["apply", "keep"] = Field(
        "apply", description="Items that Time to Live removed: delete the row, or keep it with `_expired_at`."
    )
    snapshot_margin: str = Field("5m", description="How long before an export's time change records still win over it.")
    checks: CheckSettings = Field(default_factory=lambda: CheckSettings())
    owners: tuple[str, ...] = Field((), description="Who owns the assets in Dagster: email addresses or `team:name`.")
    tags: dict[str, str] = Field(default_factory=dict, description="Tags of the assets in Dagster, beside our own.")
    mask: bool | tuple[str, ...] = Field(
        False, description="Attributes whose values no sample in Dagster shows (`a.b` for members); true: of all."
    )
    daily_states: DailyStatesSettings | None = Field(
        None, description="Keep the items as of the end of each day; needs `changes`."
    )
    aurora: AuroraSettings | None = Field(None, description="A MySQL-compatible table kept equal to the lake's.")
    validation: ValidateSettings | None = Field(
        None, alias="validate", description="A JSON Schema for changes; offenders go to quarantine."
    )

    @field_validator("owners")
    @classmethod
    def _valid_owners(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not _OWNER.fullmatch(owner):
                raise ValueError(f"{owner!r} is neither an email address nor team:name")
        return owners

    def masks(self, path: Sequence[str]) -> bool:
        """Whether the values of an attribute path are not to be shown: it, or a map that it is in, is masked."""
        if isinstance(self.mask, bool):
            return self.mask
        masked = set(self.mask)
        return any(".".join(path[: end + 1]) in masked for end in range(len(path)))

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

    @model_validator(mode="after")
    def _exports_have_a_place(self) -> Self:
        if self.changes is not None and self.changes.incremental_exports is not None and self.export is None:
            raise ValueError("changes.incremental_exports needs `export: {bucket: ...}`: windows are exported there")
        return self

    @model_validator(mode="after")
    def _days_have_changes(self) -> Self:
        if self.daily_states is not None and self.changes is None:
            raise ValueError("daily_states needs `changes`: exports alone do not tell how a day ended")
        return self

    @model_validator(mode="after")
    def _full_check_has_an_export(self) -> Self:
        full = self.checks.full
        if full is not None and full.against != "scan" and self.export is None:
            raise ValueError("checks.full needs `export: {bucket: ...}`, or `against: scan`")
        return self

    @property
    def source_name(self) -> str:
        """The DynamoDB table's name."""
        return self.source.table or self.name

    @property
    def margin_us(self) -> int:
        """The snapshot margin in microseconds."""
        return seconds(self.snapshot_margin) * 1_000_000

    @property
    def validator(self) -> Validator | None:
        """What landed changes must satisfy, if anything."""
        return None if self.validation is None else self.validation.validator

    @property
    def schema_options(self) -> SchemaOptions:
        """How items become columns."""
        return SchemaOptions(nested=self.nested, depth=self.flatten_depth, overrides=self.columns)


class CatalogSettings(Settings):
    """The Iceberg catalog; default: SQLite beside a local warehouse, AWS Glue for one on S3."""

    type: Literal["sql", "glue", "rest"] | None = Field(
        None, description="Kind of catalog; default: SQLite beside a local warehouse, Glue for one on S3."
    )
    uri: str | None = Field(None, description="Of a REST catalog, or of another SQL database than the one beside it.")
    namespace: str = Field("ddb_lake", description="The Iceberg namespace; in Glue the database.")
    properties: dict[str, str] = Field(default_factory=dict, description="Passed on to pyiceberg.")


class DbtSettings(Settings):
    """A dbt project over the lake, whose models Dagster shows and builds. Without `project` there is none."""

    project: str = Field("", description="The dbt project's folder; empty for none.")
    profiles: str | None = Field(None, description="The folder of profiles.yml; default: the project's.")
    target: str | None = Field(None, description="The target of profiles.yml; default: the profile's own.")
    select: str = Field("fqn:*", description="Which models, as dbt's --select says it.")
    exclude: str = Field("", description="Which models not, as dbt's --exclude says it.")
    vars: dict[str, Any] = Field(default_factory=dict, description="dbt's --vars.")
    schedule: str | None = Field(None, description="Cron expression (UTC) for building all models.")
    column_lineage: bool = Field(True, description="Tell what each column is made of, which takes seconds a run.")


class SparkLaunchSettings(Settings):
    """A job of its own for the work that Dagster asks Spark for, and where it runs."""

    type: Literal["process", "emr-serverless", "glue"] = Field(
        description="spark-submit on this machine, or a job of EMR Serverless or Glue."
    )
    application_id: str | None = Field(None, description="EMR Serverless: the application.")
    role_arn: str | None = Field(None, description="EMR Serverless: the role the job has.")
    entry_point: str | None = Field(None, description="EMR Serverless: where the job's script lies (s3://…/job.py).")
    log_group: str | None = Field(None, description="EMR Serverless: the CloudWatch log group; default: EMR's own.")
    job: str | None = Field(None, description="Glue: the job's name.")
    timeout_minutes: int | None = Field(None, ge=1, description="EMR Serverless, Glue: when the job is ended.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed = {"process": (), "emr-serverless": ("application_id", "role_arn", "entry_point"), "glue": ("job",)}
        missing = [name for name in needed[self.type] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"launch: {self.type} needs {', '.join(missing)}")
        return self


class SparkSettings(Settings):
    """The Spark that does the work of tables with `engine: spark`."""

    master: str | None = Field(
        None,
        description="Spark's master, `spark://host:7077` or `local[4]`; default: what spark-submit says, or local.",
    )
    settings: dict[str, str] = Field(default_factory=dict, description="Spark's own settings (`spark.…`).")
    memory: str = Field("1GB", description="What DuckDB may take of memory in each task, at least 320MB.")
    launch: SparkLaunchSettings | None = Field(
        None, description="Dagster runs the work as a job of its own there; default: in its own process."
    )

    @field_validator("memory")
    @classmethod
    def _valid_memory(cls, text: str) -> str:
        return _checked_memory(text)

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return _bytes(self.memory)


def _checked_memory(text: str) -> str:
    match = _MEMORY.fullmatch(text)
    if not match or (match[2] == "MB" and int(match[1]) < _LEAST_MEMORY_MB):
        raise ValueError(f"{text!r} is no size such as 512MB or 4GB, of at least {_LEAST_MEMORY_MB}MB")
    return text


def _bytes(memory: str) -> int:
    match = _MEMORY.fullmatch(memory)
    assert match is not None, "checked when the settings were made"
    return int(match[1]) * {"MB": 10**6, "GB": 10**9}[match[2]]


class LakeSettings(Settings):
    """A lake: a warehouse, its catalog, and its tables."""

    warehouse: str = Field(description="Where the lake is: a folder, `file://` or `s3://bucket/prefix`.")
    catalog: CatalogSettings = Field(default_factory=lambda: CatalogSettings())
    dbt: DbtSettings = Field(default_factory=lambda: DbtSettings())
    memory: str = Field(
        "1GB", description="What DuckDB may take of memory, at least 320MB; a process takes about 500 MB more."
    )
    spark: SparkSettings = Field(default_factory=lambda: SparkSettings())
    tables: tuple[TableSettings, ...] = ()

    @field_validator("memory")
    @classmethod
    def _valid_memory(cls, text: str) -> str:
        return _checked_memory(text)

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return _bytes(self.memory)

    @field_validator("tables")
    @classmethod
    def _unique_names(cls, tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        names = [table.name.lower() for table in tables]
        if len(set(names)) != len(names):
            raise ValueError("two tables have the same name (compared without case)")
        for table in tables:
            if table.daily_states is not None and f"{table.name}_daily".lower() in names:
                raise ValueError(f"{table.name}_daily: queries show the daily states of {table.name} by that name")
        return tables

    def with_engine(self, engine: Literal["duckdb", "spark"]) -> LakeSettings:
        """The same lake, with one engine for all tables: for one run."""
        return self.model_copy(update={"tables": tuple(t.model_copy(update={"engine": engine}) for t in self.tables)})

    def stream_landing(self, table: TableSettings) -> str | None:
        """Where the records land that are read from the table's DynamoDB stream; None if they are not."""
        changes = table.changes
        if changes is None or not changes.streams:
            return None
        root = changes.landing or f"{self.warehouse.rstrip('/')}/landing/{table.name}"
        return root.rstrip("/") + "/"

    def change_uris(self, table: TableSettings) -> list[str]:
        """The folders and prefixes below which a table's change objects land."""
        changes = table.changes
        known = [changes.uri, changes.errors_uri, self.stream_landing(table)] if changes else []
        return [uri for uri in known if uri is not None]

    def table(self, name: str) -> TableSettings:
        """The settings of one table. Raises ConfigError if there is none of that name."""
        for table in self.tables:
            if table.name == name:
                return table
        known = ", ".join(sorted(t.name for t in self.tables)) or "none"
        raise ConfigError(f"table {name!r} is not configured; configured tables: {known}. Add it below `tables:`.")


__all__ = ["DEFAULT_FILES", "DEFAULT_MARGIN_US", "LakeSettings", "TableSettings", "load_settings", "seconds"]


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
