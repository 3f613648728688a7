"""The one registry of the doctor: every examination, in the order of the report, with its preconditions.

A new examination is one function in the module of its subject, and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from ddb_lake.cli.doctor import (
    aws_account,
    configuration,
    contents,
    exports,
    health,
    installation,
    landing,
    source_table,
    spark,
    subject,
    table_values,
    warehouse,
)
from ddb_lake.cli.doctor.finding import Finding, fail
from ddb_lake.cli.doctor.subject import LakeSubject, TableSubject
from ddb_lake.core.operations.library_errors import GET_CREDENTIALS, translate_aws
from ddb_lake.errors import ConfigError, DdbLakeError

if TYPE_CHECKING:
    from ddb_lake.cli.invocation import Invocation

Subject = TypeVar("Subject", LakeSubject, TableSubject, None)


@dataclass(frozen=True, slots=True)
class Examination(Generic[Subject]):
    """One entry of the registry.

    Args:
        check: the name of its findings; for a table, the table's name precedes it.
        examine: yields the findings.
        on_error: the next step if it raises.
        requires: the precondition; without it the examination has no finding.
    """

    check: str
    examine: Callable[[Subject], Iterable[Finding]]
    on_error: str
    requires: Callable[[Subject], bool] | None = None

    def run(self, examined: Subject, prefix: str = "") -> Iterator[Finding]:
        """The findings; an error of this project, of AWS or of the operating system is a failed check."""
        check = f"{prefix}{self.check}"
        try:
            if self.requires is None or self.requires(examined):
                for finding in self.examine(examined):
                    yield finding if finding.check else replace(finding, check=check)
        except Exception as error:
            known = error if isinstance(error, DdbLakeError | OSError) else translate_aws(error)
            if known is None:
                raise
            yield fail(str(known), self.on_error, check)


def _alone(examine: Callable[[], Iterable[Finding]]) -> Callable[[None], Iterable[Finding]]:
    """An examination that needs no configuration."""
    return lambda _: examine()


S3_EXTENSION_STEP = "pip install '.[s3]' in a checkout"
REINSTALL = "install ddb-lake again, with its dependencies"

INSTALLATION: tuple[Examination[None], ...] = (
    Examination("python", _alone(installation.examine_python), REINSTALL),
    Examination("packages", _alone(installation.examine_packages), REINSTALL),
    Examination("record kernel", _alone(installation.examine_record_kernel), REINSTALL),
    Examination("clock", _alone(installation.examine_clock), "set the clock"),
    Examination("work folder", _alone(installation.examine_work_folder), "set TMPDIR to a folder that exists"),
)

LAKE: tuple[Examination[LakeSubject], ...] = (
    Examination("configuration", configuration.examine_configuration, "correct the file"),
    Examination("warehouse", warehouse.examine_folder, warehouse.MAKE_ROOM, subject.has_local_warehouse),
    Examination("warehouse room", warehouse.examine_room, warehouse.MAKE_ROOM, subject.has_local_warehouse),
    Examination("duckdb extension", installation.examine_s3_extension, S3_EXTENSION_STEP, subject.is_on_s3),
    Examination(
        "spark",
        spark.examine_spark,
        "correct `spark` in the configuration, or what the message names",
        subject.runs_spark,
    ),
    Examination("catalog", warehouse.examine_catalog, "see `catalog` in the configuration"),
    Examination("files", warehouse.examine_files, "correct what the checks above report"),
)

ACCOUNT: tuple[Examination[LakeSubject], ...] = (
    Examination("aws credentials", aws_account.examine_credentials, GET_CREDENTIALS),
    Examination("aws identity", aws_account.examine_identity, GET_CREDENTIALS, subject.has_credentials),
    Examination("clock", aws_account.examine_clock, "set the clock by NTP", subject.aws_answers),
    Examination(
        "warehouse",
        warehouse.examine_bucket,
        "create the bucket, or allow s3:ListBucket, GetObject and PutObject to this identity",
        subject.has_warehouse_bucket,
    ),
)

TABLE: tuple[Examination[TableSubject], ...] = (
    Examination("arrival", configuration.examine_arrival, "run `ddb-lake status`", subject.is_fed_by_hand),
    Examination("values", table_values.examine_values, "run `ddb-lake status`", subject.has_rows_here),
    Examination(
        "protected attributes",
        table_values.examine_protection,
        "correct `hash_key`, or allow this identity to read the key",
        subject.has_catalog_here,
    ),
    Examination("daily", table_values.examine_days, "allow this identity to list `landing`", subject.has_rows_here),
    Examination("erasures", table_values.examine_erasures, "run `ddb-lake status`", subject.has_rows_here),
    Examination("settings", table_values.examine_settings, "run `ddb-lake status`", subject.has_rows_here),
    Examination("key", source_table.examine_key, "add `key: [...]` to the table", subject.omits_key),
    Examination("changes", landing.examine_folder, "correct `changes.uri`", subject.lands_locally),
    Examination(
        "changes",
        landing.examine_prefix,
        "correct `changes.uri`, or allow s3:ListBucket and s3:GetObject there to this identity",
        subject.lands_on_s3,
    ),
    Examination(
        "landed records",
        contents.examine_landed_contents,
        "correct `changes.uri`, or allow s3:GetObject there to this identity",
        subject.has_landing,
    ),
    Examination(
        "notifications", landing.examine_notifications, "correct `changes.notifications`", subject.has_notifications
    ),
    Examination(
        "export bucket",
        exports.examine_bucket,
        "create the bucket, correct `export.bucket`, or allow s3:ListBucket on it to this identity",
        subject.has_export_bucket,
    ),
    Examination(
        "export contents",
        contents.examine_export_contents,
        "copy the export again, or allow s3:GetObject there to this identity",
        subject.has_export_bucket,
    ),
    Examination("source", source_table.examine_source, "check `source`", subject.uses_source),
    Examination(
        "point-in-time recovery",
        source_table.examine_recovery,
        "allow dynamodb:DescribeContinuousBackups to this identity",
        subject.is_exported,
    ),
    Examination(
        "export bucket owner",
        exports.examine_bucket_owner,
        "allow s3:ListBucket on the bucket to this identity",
        subject.is_exported,
    ),
    Examination("export key", exports.examine_key, "check `export.kms_key_id`", subject.has_export_key),
    Examination(
        "last export",
        exports.examine_last_export,
        "allow dynamodb:ListExports and DescribeExport to this identity",
        subject.is_exported,
    ),
    Examination(
        "kinesis destination",
        source_table.examine_kinesis_destinations,
        "allow dynamodb:DescribeKinesisStreamingDestination to this identity",
        subject.is_captured,
    ),
    Examination(
        "stream",
        source_table.examine_stream,
        "allow dynamodb:ListStreams, DescribeStream, GetShardIterator and GetRecords on `<table>/stream/*`"
        " to this identity",
        subject.reads_stream,
    ),
)

CAPTURE = Examination("capture", health.examine_capture, "correct what the checks above report", subject.captures_to_s3)
SENSORS = Examination("sensors", _alone(health.examine_sensors), "correct DAGSTER_HOME")


def examine(invocation: Invocation) -> Iterator[Finding]:
    """Every finding about this installation and its lake, in order. It reads only."""
    for examination in INSTALLATION:
        yield from examination.run(None)
    try:
        file, settings = invocation.file(), invocation.settings()
    except ConfigError as error:
        step = "correct the file, or write one with `ddb-lake init`"
        yield fail(str(error), step, check="configuration")
        return
    yield from examine_lake(LakeSubject(file, settings))
    yield from SENSORS.run(None)


def examine_lake(lake: LakeSubject) -> Iterator[Finding]:
    """The findings about a lake: its catalog and files, its AWS account, and each table with its source."""
    for lake_examination in LAKE:
        yield from lake_examination.run(lake)
    yield from _examine_account(lake)


def _examine_account(lake: LakeSubject) -> Iterator[Finding]:
    """The findings about the AWS account of a lake, and about each table and its source."""
    for examination in ACCOUNT:
        yield from examination.run(lake)
    for settings in lake.settings.tables:
        table = TableSubject(lake, settings)
        for table_examination in TABLE:
            yield from table_examination.run(table, f"{settings.name}: ")
    yield from CAPTURE.run(lake)
