"""The settings of a lake: its warehouse and catalog, what works on it, and its tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Memory, Settings, memory_bytes
from ddb_lake.config.locations import is_within
from ddb_lake.config.tables import TableSettings
from ddb_lake.core.decode.routing import Source, arn_parts, matching
from ddb_lake.core.layout.table_names import (
    LANDING_FOLDER,
    derived_names,
    name_collision,
    namespace_fault,
)
from ddb_lake.errors import ConfigError


class CatalogSettings(Settings):
    """The Iceberg catalog; default: SQLite beside a local warehouse, AWS Glue for one on S3."""

    type: Literal["sql", "glue", "rest"] | None = Field(
        None, description="Kind of catalog; default: SQLite beside a local warehouse, Glue for one on S3."
    )
    uri: str | None = Field(None, description="Of a REST catalog, or of another SQL database than the one beside it.")
    namespace: str = Field("ddb_lake", description="The Iceberg namespace; in Glue the database.")
    properties: dict[str, str] = Field(default_factory=dict, description="Passed on to pyiceberg.")

    @field_validator("namespace")
    @classmethod
    def _valid_namespace(cls, namespace: str) -> str:
        fault = namespace_fault(namespace)
        if fault:
            raise ValueError(fault)
        return namespace


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
    memory: Memory = Field("1GB", description="What DuckDB may take of memory in each task, at least 320MB.")
    launch: SparkLaunchSettings | None = Field(
        None, description="Dagster runs the work as a job of its own there; default: in its own process."
    )

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return memory_bytes(self.memory)


class LakeSettings(Settings):
    """A lake: a warehouse, its catalog, and its tables."""

    warehouse: str = Field(description="Where the lake is: a folder, `file://` or `s3://bucket/prefix`.")
    catalog: CatalogSettings = Field(default_factory=lambda: CatalogSettings())
    dbt: DbtSettings = Field(default_factory=lambda: DbtSettings())
    key_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_]{0,50}$",
        description="First part of all asset keys in Dagster, and of the names of jobs, sensor and pools: for several lakes in"
        " one code location.",
    )
    memory: Memory = Field(
        "1GB", description="What DuckDB may take of memory, at least 320MB; a process takes about 500 MB more."
    )
    spark: SparkSettings = Field(default_factory=lambda: SparkSettings())
    tables: tuple[TableSettings, ...] = ()

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return memory_bytes(self.memory)

    @field_validator("tables")
    @classmethod
    def _unique_names(cls, tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        collision = name_collision((table.name, table.daily_states is not None) for table in tables)
        if collision:
            raise ValueError(collision)
        return tables

    @model_validator(mode="after")
    def _landing_is_apart(self) -> Self:
        """Compaction removes files below a table's location that the table does not name: nothing else may be there."""
        for table in self.tables:
            for uri in self.landed_uris(table):
                for owner in self.tables:
                    for location in map(self.location, derived_names(owner.name, daily=False)):
                        if is_within(uri, location):
                            raise ValueError(
                                f"table {table.name!r}: {uri} is within {location}, where the lake stores {owner.name!r};"
                                " let changes and exports land outside it"
                            )
        return self

    @field_validator("tables")
    @classmethod
    def _different_sources(cls, tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        known: dict[Source, str] = {}
        for table in tables:
            source = replace(table.identity, table="")
            if source in known:
                raise ValueError(
                    f"{known[source]} and {table.name} have the same source, the DynamoDB table {source.name}: remove one of"
                    " them, or set `source.region` or `source.account` to tell two DynamoDB tables of one name apart"
                )
            known[source] = table.name
        return tables

    def with_engine(self, engine: Literal["duckdb", "spark"]) -> LakeSettings:
        """The same lake, with one engine for all tables: for one run."""
        return self.model_copy(update={"tables": tuple(t.model_copy(update={"engine": engine}) for t in self.tables)})

    def location(self, name: str) -> str:
        """Where the Iceberg table of a name is, or will be."""
        return f"{self.warehouse.rstrip('/')}/{self.catalog.namespace}/{name}"

    def landed_uris(self, table: TableSettings) -> list[str]:
        """The folders and prefixes that a table's changes and exports are read from."""
        export = table.export
        return self.change_uris(table) + ([f"s3://{export.bucket}/{export.prefix}"] if export else [])

    def stream_landing(self, table: TableSettings) -> str | None:
        """Where the records land that are read from the table's DynamoDB stream; None if they are not."""
        changes = table.changes
        if changes is None or not changes.streams:
            return None
        root = changes.landing or f"{self.warehouse.rstrip('/')}/{LANDING_FOLDER}/{table.name}"
        return root.rstrip("/") + "/"

    def change_uris(self, table: TableSettings) -> list[str]:
        """The folders and prefixes below which a table's change objects land."""
        changes = table.changes
        known = [changes.uri, changes.errors_uri, self.stream_landing(table)] if changes else []
        return [uri for uri in known if uri is not None]

    def is_source_of(self, table: TableSettings, arn: str) -> bool:
        """Whether the DynamoDB table of an ARN is a table's source: its name, and Region and account as far as known."""
        name = arn.rpartition(":table/")[2]
        same = [one.identity for one in self.tables if one.source_name == name]
        return table.identity in matching(same, *arn_parts(arn))

    def table(self, name: str) -> TableSettings:
        """The settings of one table. Raises ConfigError if there is none of that name."""
        for table in self.tables:
            if table.name == name:
                return table
        known = ", ".join(sorted(t.name for t in self.tables)) or "none"
        raise ConfigError(f"table {name!r} is not configured; configured tables: {known}. Add it below `tables:`.")
