"""What is examined: the lake of a configuration and each of its tables, with the look-ups that examinations share.

Each look-up is made once. The predicates at the end are the preconditions that the registry names.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ddb_lake.errors import DdbLakeError

if TYPE_CHECKING:
    from pathlib import Path

    from ddb_lake.aws.diagnostics import Identity, TableState
    from ddb_lake.config import LakeSettings, TableSettings


class LakeSubject:
    """The lake of a configuration, and the AWS account behind it."""

    def __init__(self, file: Path, settings: LakeSettings) -> None:
        self.file, self.settings = file, settings

    @cached_property
    def credentials(self) -> str | None:
        """The source of the AWS credentials; None without any. Raises TerminalError."""
        from ddb_lake.aws.diagnostics import credentials_source

        return credentials_source()

    @cached_property
    def identity(self) -> Identity:
        """The identity of the credentials, as STS reports it. Raises TerminalError."""
        from ddb_lake.aws.diagnostics import identity

        region = next((table.source.region for table in self.settings.tables if table.source.region), None)
        return identity(region)

    @cached_property
    def has_credentials(self) -> bool:
        """Whether something configured needs AWS, and there are credentials."""
        try:
            return bool(self.aws_needs) and self.credentials is not None
        except DdbLakeError:  # the examination of credentials reports it
            return False

    @cached_property
    def aws_answers(self) -> bool:
        """Whether there are credentials, and AWS accepts them."""
        try:
            return self.has_credentials and bool(self.identity.arn)
        except DdbLakeError:  # the examination of the identity reports it
            return False

    @property
    def on_s3(self) -> bool:
        """Whether the warehouse is on S3, or the catalog is Glue."""
        return self.settings.warehouse.startswith("s3://") or self.settings.catalog.type == "glue"

    @cached_property
    def aws_needs(self) -> list[str]:
        """The parts of the configuration that need AWS, in words."""
        needs = ["the warehouse on S3"] if self.on_s3 else []
        for table in self.settings.tables:
            parts = ["source"] if "source" in table.model_fields_set else []
            parts += ["export"] if table.export else []
            parts += ["changes"] if _lands_on_s3(table) else []
            parts += ["stream"] if table.changes and table.changes.reads_stream else []
            needs += [f"{part} of {table.name}" for part in parts]
        return needs


class TableSubject:
    """One configured table of a lake."""

    def __init__(self, lake: LakeSubject, settings: TableSettings) -> None:
        self.lake = lake
        self.settings = settings

    @cached_property
    def source(self) -> TableState:
        """The source table, as DescribeTable reports it. Raises TerminalError."""
        from ddb_lake.aws.diagnostics import table_state

        return table_state(self.settings)

    @cached_property
    def source_answers(self) -> bool:
        """Whether DescribeTable of the source table succeeds."""
        try:
            return uses_source(self) and bool(self.source.arn)
        except DdbLakeError:  # the examination of the source reports it
            return False


def _lands_on_s3(table: TableSettings) -> bool:
    return table.changes is not None and (table.changes.uri or "").startswith("s3://")


# --- preconditions of examinations of the lake


def has_local_warehouse(subject: LakeSubject) -> bool:
    """The warehouse is a folder of this machine."""
    return subject.settings.has_local_warehouse


def is_on_s3(subject: LakeSubject) -> bool:
    """The warehouse is not a folder of this machine."""
    return not has_local_warehouse(subject)


def runs_spark(subject: LakeSubject) -> bool:
    """Whether a table's work is done on Spark from this machine. A job on AWS makes the same checks when it starts."""
    launch = subject.settings.spark.launch
    here = launch is None or launch.type == "process"
    return here and any(table.engine == "spark" for table in subject.settings.tables)


def has_warehouse_bucket(subject: LakeSubject) -> bool:
    """The warehouse is on S3, and AWS answers."""
    return subject.aws_answers and subject.settings.warehouse.startswith("s3://")


def has_credentials(subject: LakeSubject) -> bool:
    """Something configured needs AWS, and there are credentials."""
    return subject.has_credentials


def aws_answers(subject: LakeSubject) -> bool:
    """AWS accepts the credentials."""
    return subject.aws_answers


def captures_to_s3(subject: LakeSubject) -> bool:
    """AWS answers, and the changes of some table land on S3."""
    return subject.aws_answers and any(map(_lands_on_s3, subject.settings.tables))


# --- preconditions of examinations of a table


def omits_key(subject: TableSubject) -> bool:
    """The configuration leaves the key out."""
    return not subject.settings.key


def is_fed_by_hand(subject: TableSubject) -> bool:
    """The table has neither `changes` nor `export`, and the catalog can be read."""
    return subject.settings.changes is None and subject.settings.export is None and has_catalog_here(subject)


def has_catalog_here(subject: TableSubject) -> bool:
    """The catalog and the metadata of the tables can be read."""
    local = has_local_warehouse(subject.lake) and subject.lake.settings.catalog_type != "glue"
    return local or subject.lake.aws_answers


def has_rows_here(subject: TableSubject) -> bool:
    """The rows of the table are read on this machine, and not by Spark."""
    return subject.settings.engine == "duckdb" and has_catalog_here(subject)


def lands_locally(subject: TableSubject) -> bool:
    """Changes land in a folder of this machine."""
    changes = subject.settings.changes
    return changes is not None and changes.uri is not None and not changes.uri.startswith("s3://")


def lands_on_s3(subject: TableSubject) -> bool:
    """Changes land below an S3 prefix, and AWS answers."""
    return subject.lake.aws_answers and _lands_on_s3(subject.settings)


def has_landing(subject: TableSubject) -> bool:
    """Changes land in a folder, or below an S3 prefix and AWS answers."""
    return lands_locally(subject) or lands_on_s3(subject)


def has_notifications(subject: TableSubject) -> bool:
    """A queue of S3 notifications is configured, and AWS answers."""
    changes = subject.settings.changes
    return subject.lake.aws_answers and changes is not None and changes.notifications is not None


def has_export_bucket(subject: TableSubject) -> bool:
    """Exports are configured, and AWS answers."""
    return subject.lake.aws_answers and subject.settings.export is not None


def uses_source(subject: TableSubject) -> bool:
    """The source table is named, exported or captured, and AWS answers."""
    table = subject.settings
    named = "source" in table.model_fields_set or table.export is not None or _lands_on_s3(table)
    return subject.lake.aws_answers and (named or (table.changes is not None and table.changes.reads_stream))


def is_exported(subject: TableSubject) -> bool:
    """Exports are configured, and the source table answers."""
    return subject.source_answers and subject.settings.export is not None


def has_export_key(subject: TableSubject) -> bool:
    """Exports are encrypted with a configured KMS key, and the source table answers."""
    export = subject.settings.export
    return subject.source_answers and export is not None and export.kms_key_id is not None


def is_captured(subject: TableSubject) -> bool:
    """Changes land below an S3 prefix, and the source table answers."""
    return subject.source_answers and _lands_on_s3(subject.settings)


def reads_stream(subject: TableSubject) -> bool:
    """Changes are read from a stream directly, and the source table answers."""
    changes = subject.settings.changes
    return subject.source_answers and changes is not None and changes.reads_stream
