"""The settings of a lake: warehouse, catalog, dbt, Spark, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Duration, Location, Memory, Settings, seconds
from ddb_lake.config.tables import TableSettings
from ddb_lake.core.decode.routing import Source, arn_parts, matching
from ddb_lake.core.layout.locations import is_local_uri, is_within, spelled
from ddb_lake.core.layout.table_names import (
    LANDING_FOLDER,
    catalog_name_fault,
    entity_table,
    glue_name,
    name_collision,
    namespace_fault,
)
from ddb_lake.core.operations.system import memory_bytes
from ddb_lake.core.protection.rules import Hash
from ddb_lake.errors import ConfigError

_AWS_CATALOG = re.compile(r"https://(s3tables|glue)\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?(?:[/:]|$)")
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-tables-integrating-open-source.html
https://docs.aws.amazon.com/glue/latest/dg/connect-glu-iceberg-rest.html"""


class CatalogSettings(Settings):
    """The Iceberg catalog; default: SQLite beside a local warehouse, AWS Glue for one on S3."""

    type: Literal["sql", "glue", "rest"] | None = Field(
        None, description="Kind of catalog; default: SQLite beside a local warehouse, Glue for one on S3."
    )
    uri: str | None = Field(
        None, description="Address of a REST catalog, or of a SQL database; default: SQLite beside the warehouse."
    )
    warehouse: str | None = Field(
        None,
        description="REST: the warehouse as the catalog knows it, for example the ARN of a table bucket; default: the lake's"
        " `warehouse`.",
    )
    location: Location | None = Field(
        None,
        description="Folder or `s3://` prefix below which each new Iceberg table gets a folder of its name; default: the catalog"
        " chooses the location.",
    )
    namespace: str = Field("ddb_lake", description="Namespace of the Iceberg tables; in Glue the database.")
    signing_name: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]+$",
        description="REST: sign requests with AWS Signature Version 4 for this service: `s3tables`, `glue` or `execute-api`.",
    )
    signing_region: str | None = Field(
        None, description="REST: AWS Region of the signatures; default: that of the AWS variables."
    )
    properties: dict[str, str] = Field(
        default_factory=dict, description="Further properties of the catalog, passed to pyiceberg."
    )

    @property
    def signing_service(self) -> str | None:
        """The AWS service for which requests to a REST catalog are signed; None if they are not signed."""
        return self.signing_name or self.properties.get("rest.signing-name")

    @field_validator("namespace")
    @classmethod
    def _valid_namespace(cls, namespace: str) -> str:
        fault = namespace_fault(namespace)
        if fault:
            raise ValueError(fault)
        return namespace

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.type != "rest":
            only_rest = [
                name for name in ("warehouse", "signing_name", "signing_region") if getattr(self, name) is not None
            ]
            if only_rest:
                raise ValueError(f"{only_rest[0]} is a setting of REST catalogs; set `type: rest`")
            return self
        if self.uri is None:
            raise ValueError("a REST catalog needs `uri`")
        if self.signing_region is not None and self.signing_name is None:
            raise ValueError(
                "signing_region needs `signing_name`, the service to sign for: s3tables, glue or execute-api"
            )
        service = _AWS_CATALOG.match(self.uri)
        if service and self.signing_name != service[1]:
            raise ValueError(f"{self.uri} is an endpoint of AWS: set `signing_name: {service[1]}`")
        if self.signing_name == "s3tables" and self.location is not None:
            raise ValueError("S3 Tables places its tables itself; remove `location`")
        return self


class SnapshotSettings(Settings):
    """How many Iceberg snapshots of a table are kept. The branches of exports are always kept."""

    keep: int = Field(
        100,
        ge=1,
        description="The most snapshots of an Iceberg table's rows. Each commit rewrites the list of snapshots, so its time grows with"
        " their number.",
    )
    keep_for: Duration = Field("7d", description="Age after which a snapshot expires, except the newest ten.")

    @cached_property
    def keep_for_s(self) -> int:
        """`keep_for` in seconds."""
        return seconds(self.keep_for)


class HashKeySettings(Settings):
    """Where the key of hashes is: exactly one of the three. The key itself is in no configuration."""

    env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the environment variable that has the key."
    )
    secret: str | None = Field(None, min_length=1, description="Name or ARN of a secret in Secrets Manager.")
    parameter: str | None = Field(
        None, min_length=1, description="Name or ARN of a parameter (SecureString) of Systems Manager."
    )

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if sum(place is not None for place in (self.env, self.secret, self.parameter)) != 1:
            raise ValueError("give exactly one of env, secret, parameter")
        return self

    @property
    def place(self) -> str:
        """The place in words."""
        if self.env is not None:
            return f"the environment variable {self.env}"
        return f"the secret {self.secret}" if self.secret is not None else f"the parameter {self.parameter}"


class DbtSettings(Settings):
    """A dbt project that reads the lake; Dagster shows and builds its models. Without `project` there is none."""

    project: str = Field("", description="Folder of the dbt project; empty: none.")
    profiles: str | None = Field(None, description="Folder of profiles.yml; default: that of the project.")
    target: str | None = Field(None, description="Target in profiles.yml; default: that of the profile.")
    select: str = Field("fqn:*", description="Models to include, in the syntax of dbt's --select.")
    exclude: str = Field("", description="Models to exclude, in the syntax of dbt's --exclude.")
    vars: dict[str, Any] = Field(default_factory=dict, description="Variables, as for dbt's --vars.")
    schedule: str | None = Field(None, description="Cron expression (UTC) for building all models.")
    column_lineage: bool = Field(True, description="Record column lineage, which takes seconds a run.")


class SparkLaunchSettings(Settings):
    """Where Dagster runs Spark's work as a separate job."""

    type: Literal["process", "emr-serverless", "glue"] = Field(
        description="spark-submit on this machine, or a job of EMR Serverless or Glue."
    )
    application_id: str | None = Field(None, description="EMR Serverless: the application.")
    role_arn: str | None = Field(None, description="EMR Serverless: the execution role of the job.")
    entry_point: str | None = Field(None, description="EMR Serverless: location of the job's script (s3://…/job.py).")
    log_group: str | None = Field(None, description="EMR Serverless: CloudWatch log group; default: that of EMR.")
    job: str | None = Field(None, description="Glue: name of the job.")
    timeout_minutes: int | None = Field(
        None, ge=1, description="EMR Serverless, Glue: time after which the job is ended."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        needed = {"process": (), "emr-serverless": ("application_id", "role_arn", "entry_point"), "glue": ("job",)}
        missing = [name for name in needed[self.type] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"launch: {self.type} needs {', '.join(missing)}")
        return self


class SparkSettings(Settings):
    """Spark for tables with `engine: spark`."""

    master: str | None = Field(
        None,
        description="Spark's master, `spark://host:7077` or `local[4]`; default: that of spark-submit, else local.",
    )
    settings: dict[str, str] = Field(default_factory=dict, description="Spark properties (`spark.…`).")
    memory: Memory = Field("1GB", description="DuckDB's memory limit in each task, at least 320MB.")
    launch: SparkLaunchSettings | None = Field(
        None, description="Run the work as a separate job; default: in Dagster's process."
    )

    @cached_property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return memory_bytes(self.memory)


SHORTEST_SENSOR_S = 5
LONGEST_SENSOR_S = 30
"""Limits of the interval of Dagster's sensor, in seconds. The health checks expect a tick each `LONGEST_SENSOR_S`."""

Automation = Literal["sensor", "exports", "content", "daily", "checks", "sources", "compaction", "dbt", "following"]
"""What Dagster can start by itself: the sensor, the schedules by their kind, and the sensor of assets that follow others."""

Grouping = Literal["table", "stage"]
"""What the assets of a group have in common."""

Automations = bool | tuple[Automation, ...]


class LakeSettings(Settings):
    """A lake: its warehouse, catalog and tables."""

    warehouse: str = Field(description="Location of the lake: a folder, `file://` or `s3://bucket/prefix`.")
    catalog: CatalogSettings = Field(default_factory=lambda: CatalogSettings())
    snapshots: SnapshotSettings = Field(default_factory=lambda: SnapshotSettings())
    landing: Location | None = Field(
        None,
        description="Location of the files that belong to no Iceberg table: repairs, records of DynamoDB Streams, daily snapshots, reports;"
        " default: the warehouse. Required for a warehouse in a table bucket, which stores tables only.",
    )
    dbt: DbtSettings = Field(default_factory=lambda: DbtSettings())
    key_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_]{0,50}$",
        description="Prefix of the asset keys and of the names of jobs, sensor and pools in Dagster, for several lakes in one code"
        " location.",
    )
    group_by: Grouping = Field(
        "table",
        description="Groups of the assets in Dagster: one for each `table`, or one for each `stage` of all tables.",
    )
    memory: Memory = Field(
        "1GB", description="DuckDB's memory limit, at least 320MB; a process uses about 500 MB more."
    )
    spark: SparkSettings = Field(default_factory=lambda: SparkSettings())
    bucket_owner: str | None = Field(
        None,
        pattern=r"^\d{12}$",
        description="The AWS account that owns the buckets of the warehouse, of landing and of exports. Requests then fail if another"
        " account owns a bucket of that name; `export.bucket_owner` overrides it for one bucket.",
    )
    run_automatically: Automations = Field(
        False,
        description="Whether Dagster starts the sensor and the schedules by itself: true, or a list of `sensor`, `exports`, `content`,"
        " `daily`, `checks`, `sources`, `compaction`, `dbt`, `following`."
        " By default they are stopped, as Dagster's own, until they are started in its UI.",
    )
    one_process_per_run: bool = Field(
        False,
        description="Dagster: runs of the code location use one process, and not one more for each step. It sets the `executor` of the"
        " code location, so leave it out if another part of the project sets one.",
    )
    sensor_interval: Duration | None = Field(
        None,
        description="Dagster: how often the sensor looks for landed objects and finished exports, `5s` to `30s`; default: `30s`, and `5s`"
        " if a table has `changes.notifications`. Dagster's daemon looks at its sensors every 5 s.",
    )
    hash_key: HashKeySettings | None = Field(
        None,
        description="Where the key of hashed attributes is (`columns: {a: {hash: true}}`); one key for all tables.",
    )
    tables: tuple[TableSettings, ...] = ()

    @cached_property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return memory_bytes(self.memory)

    @property
    def matching_tables(self) -> tuple[TableSettings, ...]:
        """The entries with `match`, which `config.inventory` replaces by the tables that they name. An open lake has none."""
        return tuple(table for table in self.tables if table.match is not None)

    @property
    def _named_tables(self) -> tuple[TableSettings, ...]:
        return tuple(table for table in self.tables if table.match is None)

    @field_validator("sensor_interval")
    @classmethod
    def _valid_interval(cls, interval: str | None) -> str | None:
        if interval is not None and not SHORTEST_SENSOR_S <= seconds(interval) <= LONGEST_SENSOR_S:
            raise ValueError(f"{interval!r}: the sensor's interval is {SHORTEST_SENSOR_S}s to {LONGEST_SENSOR_S}s")
        return interval

    @property
    def sensor_interval_s(self) -> int:
        """The time from one tick of Dagster's sensor to the next, in seconds."""
        if self.sensor_interval is not None:
            return seconds(self.sensor_interval)
        notified = any(table.changes is not None and table.changes.notifications for table in self.tables)
        return SHORTEST_SENSOR_S if notified else LONGEST_SENSOR_S

    @field_validator("tables")
    @classmethod
    def _unique_names(cls, tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        collision = name_collision(
            (table.name, table.daily_states is not None, table.entity_names) for table in tables if table.match is None
        )
        if collision:
            raise ValueError(collision)
        return tables

    @model_validator(mode="after")
    def _hashes_have_a_key(self) -> Self:
        for table in self.tables:
            for path, rule in table.protecting_rules.items():
                if isinstance(rule, Hash) and self.hash_key is None:
                    raise ValueError(
                        f"table {table.name!r}: columns.{path}: hash needs a key: add `hash_key: {{env: NAME}}` to the lake"
                    )
        return self

    @property
    def own_landing(self) -> str:
        """The location of the files that belong to no Iceberg table: `landing`, else the warehouse."""
        return self.landing or self.warehouse

    @model_validator(mode="after")
    def _landing_is_no_table_bucket(self) -> Self:
        """A table bucket stores the files of tables only.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-tables-buckets.html
        """
        in_bucket = self.catalog.signing_service == "s3tables" and self.catalog.warehouse is None
        if self.landing is None and (in_bucket or self.warehouse.startswith("arn:")):
            raise ValueError(
                "`landing` is required: the warehouse is a table bucket, which stores tables only. Set it to an"
                " s3://bucket/prefix for repairs, records of DynamoDB Streams and reports"
            )
        return self

    @model_validator(mode="after")
    def _landing_is_apart(self) -> Self:
        """Landing is outside of every table's location, where compaction removes files that the table does not name."""
        for table in self._named_tables:
            for uri in (*self.landed_uris(table), *([self.landing] if self.landing else [])):
                for owner in self._named_tables:
                    for location in self._likely_locations(owner):
                        if is_within(uri, location):
                            raise ValueError(
                                f"table {table.name!r}: {uri} is within {location}, where the lake stores {owner.name!r};"
                                " set a location outside it for changes and exports"
                            )
        return self

    def _likely_locations(self, table: TableSettings) -> Iterator[str]:
        """Where the catalog is expected to place the Iceberg tables of a table; a REST catalog may place them elsewhere."""
        for name in table.iceberg_names:
            yield f"{self.tables_location}/{name}"
            if self.catalog_type == "glue" and self.catalog.location is None:  # of a database without a location
                yield f"{self.warehouse.rstrip('/')}/{self.catalog.namespace}.db/{glue_name(name)}"

    @model_validator(mode="after")
    def _names_fit_the_catalog(self) -> Self:
        kind = "s3tables" if self.catalog.signing_service == "s3tables" else self.catalog_type
        fault = catalog_name_fault(kind, self.catalog.namespace, [table.name for table in self._named_tables])
        if fault:
            raise ValueError(fault)
        return self

    @field_validator("tables")
    @classmethod
    def _different_sources(cls, tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        known: dict[Source, str] = {}
        for table in (one for one in tables if one.match is None):
            source = replace(table.identity, table="")
            if source in known:
                raise ValueError(
                    f"{known[source]} and {table.name} have the same source, the DynamoDB table {source.name}: remove one of"
                    " them, or set `source.region` or `source.account` to distinguish two DynamoDB tables with the same name"
                )
            known[source] = table.name
        return tables

    @field_validator("tables")
    @classmethod
    def _different_streams(cls, tables: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        """Two readers of one stream would land each record twice."""
        readers: dict[str, str] = {}
        for table in (one for one in tables if one.match is None):
            stream = table.changes.kinesis if table.changes is not None else None
            if stream is not None and stream in readers:
                raise ValueError(
                    f"{readers[stream]} and {table.name} read the Kinesis stream {stream}: name it at one of them, and at the"
                    " other `changes: {uri: <landing of the first>}`; each record goes to the table that it names"
                )
            if stream is not None:
                readers[stream] = table.name
        return tables

    @cached_property
    def bucket_owners(self) -> dict[str, str]:
        """The account that must own each bucket, as far as it is known."""
        owners = {}
        if self.bucket_owner is not None:
            uris = [
                self.warehouse,
                self.own_landing,
                *(uri for table in self.tables for uri in self.landed_uris(table)),
            ]
            places = [spelled(uri) for uri in uris]
            buckets = [place.removeprefix("s3://").partition("/")[0] for place in places if place.startswith("s3://")]
            owners = {bucket: self.bucket_owner for bucket in buckets if bucket}
        exports = (table.export for table in self.tables if table.export is not None)
        return owners | {export.bucket: export.bucket_owner for export in exports if export.bucket_owner is not None}

    def starts(self, automation: Automation) -> bool:
        """Whether Dagster starts the sensors, or the schedules, of this kind by itself."""
        chosen = self.run_automatically
        return chosen if isinstance(chosen, bool) else automation in chosen

    def with_engine(self, engine: Literal["duckdb", "spark"]) -> LakeSettings:
        """A copy of the settings with one engine for all tables, for one run."""
        return self.model_copy(update={"tables": tuple(t.model_copy(update={"engine": engine}) for t in self.tables)})

    def without_entities(self) -> LakeSettings:
        """A copy of the settings in which no table has entities."""
        return self.model_copy(update={"tables": tuple(t.model_copy(update={"entities": ()}) for t in self.tables)})

    @cached_property
    def catalog_type(self) -> Literal["sql", "glue", "rest"]:
        """The catalog's type: as configured, else `sql` for a local warehouse and `glue` for one on S3."""
        return self.catalog.type or ("sql" if self.has_local_warehouse else "glue")

    @cached_property
    def has_local_warehouse(self) -> bool:
        """Whether the warehouse is a folder of this machine."""
        return is_local_uri(self.warehouse)

    @cached_property
    def has_local_tables(self) -> bool:
        """Whether the files of all tables are in folders of this machine. A REST catalog can place them anywhere."""
        if self.catalog_type == "rest":
            return False
        return self.has_local_warehouse if self.catalog.location is None else is_local_uri(self.catalog.location)

    @cached_property
    def spells_names_as_glue(self) -> bool:
        """Whether the catalog takes only names as `core.layout.table_names.glue_name` spells them."""
        return self.catalog_type == "glue" or self.catalog.signing_service in ("glue", "s3tables")

    @cached_property
    def tables_location(self) -> str:
        """Where each new Iceberg table gets a folder of its name: as configured, or else where SQL catalogs place it by default.

        Other catalogs may place the table elsewhere, and an existing table stays where it is: `Table.location()` states it.
        Without a final slash.
        """
        return (self.catalog.location or f"{self.warehouse.rstrip('/')}/{self.catalog.namespace}").rstrip("/")

    def landed_uris(self, table: TableSettings) -> list[str]:
        """The folders and prefixes that a table's changes and exports are read from."""
        export = table.export
        return self.change_uris(table) + ([f"s3://{export.bucket}/{export.prefix}"] if export else [])

    def stream_landing(self, table: TableSettings) -> str | None:
        """Where records of the table's stream land, of DynamoDB or Kinesis; None if no stream is read directly."""
        changes = table.changes
        if changes is None or not changes.reads_stream:
            return None
        root = changes.landing or f"{self.own_landing.rstrip('/')}/{LANDING_FOLDER}/{table.name}"
        return root.rstrip("/") + "/"

    def change_uris(self, table: TableSettings) -> list[str]:
        """The folders and prefixes below which a table's change objects land."""
        changes = table.changes
        known = [changes.uri, changes.errors_uri, self.stream_landing(table)] if changes else []
        return [uri for uri in known if uri is not None]

    def is_source_of(self, table: TableSettings, arn: str) -> bool:
        """Whether an ARN names a table's source: equal name, and equal Region and account where they are configured."""
        name = arn.rpartition(":table/")[2]
        same = [one.identity for one in self.tables if one.source_name == name]
        return table.identity in matching(same, *arn_parts(arn))

    def table(self, name: str) -> TableSettings:
        """The settings of one table. Raises ConfigError if no table has the name."""
        return self.by_name[name]

    def owner_of_entity(self, full_name: str) -> str | None:
        """The table that an entity's table, such as `app_user`, belongs to; None if the name is that of no entity."""
        return next(
            (
                one.name
                for one in self.tables
                for entity in one.entity_names
                if entity_table(one.name, entity) == full_name
            ),
            None,
        )

    @cached_property
    def by_name(self) -> Mapping[str, TableSettings]:
        """The settings of each table. Another name raises ConfigError."""
        return _TablesByName({table.name: table for table in self.tables})


_ADD_IT = "add it below `tables:`; if an entry has `match`, `ddb-lake discover` finds tables that are new"


class _TablesByName(dict[str, TableSettings]):
    """The tables of a lake. The error for another name is that of the configuration."""

    def __missing__(self, name: str) -> TableSettings:
        known = ", ".join(sorted(self)) or "none"
        raise ConfigError(f"table {name!r} is not configured; configured tables: {known}", hint=_ADD_IT)
