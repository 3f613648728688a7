"""What the doctor asks AWS: credentials, clock, buckets, and each source table's exports and change streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.exports import examine_exports, examine_queue, explained_step
from ddb_lake.cli.doctor.finding import (
    Finding,
    Report,
    State,
    failing,
)
from ddb_lake.cli.doctor.health import examine_capture
from ddb_lake.cli.doctor.local import continued_keys
from ddb_lake.cli.doctor.streams import examine_stream
from ddb_lake.cli.failures import GET_CREDENTIALS
from ddb_lake.errors import DdbLakeError

if TYPE_CHECKING:
    from ddb_lake.config import LakeSettings, TableSettings

CLOCK_WARN_S = 30.0
CLOCK_FAIL_S = 240.0  # AWS refuses signatures that are 5 minutes off
_LIVE = ("ACTIVE", "UPDATING")


def examine_aws(report: Report, settings: LakeSettings) -> None:
    """Whatever of the configuration needs AWS; one skipped check if nothing does or there are no credentials."""
    from ddb_lake.aws.diagnostics import credentials_source

    wanted = _needs(settings)
    if not wanted:
        report(Finding("aws", "skip", "nothing configured needs AWS: no source, export, or s3:// location"))
        return
    with failing(report, "aws credentials", GET_CREDENTIALS):
        source = credentials_source()
        if source is None:
            _report_no_credentials(report, settings, wanted)
            return
        report(Finding("aws credentials", "ok", f"found ({source})"))
        if _examine_identity(report, settings):
            _examine_locations(report, settings)
            for table in settings.tables:
                _examine_table(report, table)
            examine_capture(report, settings)


def _needs(settings: LakeSettings) -> list[str]:
    """What needs AWS, in words."""
    wanted = ["the warehouse on S3"] if _on_s3(settings) else []
    for table in settings.tables:
        parts = ["source"] if "source" in table.model_fields_set else []
        parts += ["export"] if table.export else []
        parts += ["changes"] if table.changes and (table.changes.uri or "").startswith("s3://") else []
        parts += ["stream"] if table.changes and table.changes.streams else []
        wanted += [f"{part} of {table.name}" for part in parts]
    return wanted


def _on_s3(settings: LakeSettings) -> bool:
    return settings.warehouse.startswith("s3://") or settings.catalog.type == "glue"


def _report_no_credentials(report: Report, settings: LakeSettings, wanted: list[str]) -> None:
    if _on_s3(settings):
        report(Finding("aws credentials", "fail", "none found, and the lake itself is in AWS", GET_CREDENTIALS))
    else:
        report(Finding("aws credentials", "warn", "none found", GET_CREDENTIALS))
    report(Finding("aws", "skip", f"without credentials not looked at: {', '.join(wanted)}"))


def _examine_identity(report: Report, settings: LakeSettings) -> bool:
    """Whether AWS answers at all, and what it thinks of our clock."""
    from ddb_lake.aws.diagnostics import identity

    region = next((table.source.region for table in settings.tables if table.source.region), None)
    try:
        found = identity(region)
    except DdbLakeError as error:
        report(
            Finding(
                "aws identity", "fail", str(error), f"renew the credentials, check the network; else {GET_CREDENTIALS}"
            )
        )
        return False
    report(Finding("aws identity", "ok", f"{found.arn} in account {found.account}"))
    offset = found.clock_offset_s
    if offset is not None:
        state: State = "ok" if abs(offset) < CLOCK_WARN_S else "warn" if abs(offset) < CLOCK_FAIL_S else "fail"
        step = None if state == "ok" else "set the clock by NTP: requests, exports and lag rest on it"
        said = f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} AWS"
        report(Finding("clock", state, said if abs(offset) >= 1 else "agrees with AWS", step))
    return True


def _examine_locations(report: Report, settings: LakeSettings) -> None:
    from ddb_lake.aws.diagnostics import check_bucket
    from ddb_lake.aws.objects import split_s3

    if not settings.warehouse.startswith("s3://"):
        return
    bucket, _ = split_s3(settings.warehouse)
    with failing(
        report, "warehouse", "create the bucket, or give this identity s3:ListBucket, GetObject and PutObject"
    ):
        check_bucket(bucket)
        report(Finding("warehouse", "ok", f"bucket {bucket} answers"))


def _examine_table(report: Report, table: TableSettings) -> None:
    _examine_export_bucket(report, table)
    _examine_changes(report, table)
    examine_queue(report, table)
    read = table.changes is not None and table.changes.streams
    if "source" not in table.model_fields_set and table.export is None and not _expects_stream(table) and not read:
        return
    arn = _examine_source(report, table)
    if arn is None:
        return
    if table.export is not None:
        _examine_recovery(report, table)
        examine_exports(report, table, arn)
    if _expects_stream(table):
        _examine_destinations(report, table)
    if read:
        examine_stream(report, table)


def _expects_stream(table: TableSettings) -> bool:
    return table.changes is not None and (table.changes.uri or "").startswith("s3://")


def _examine_source(report: Report, table: TableSettings) -> str | None:
    """The ARN of the source table; None if it cannot be reached."""
    from ddb_lake.aws.diagnostics import table_state

    check = f"{table.name}: source"
    try:
        state = table_state(table)
    except DdbLakeError as error:
        step = "check `source` (table, region, role_arn) and that this identity may dynamodb:DescribeTable"
        report(Finding(check, "fail", f"{table.source_name}: {error}", explained_step(table, str(error), step)))
        return None
    if table.key and set(table.key) != set(state.key):
        said = f"the key of {table.source_name} is {list(state.key)}, the configuration says {list(table.key)}"
        report(Finding(check, "fail", said, f"set `key: [{', '.join(state.key)}]`, or name the right source table"))
    elif state.status not in _LIVE:
        report(Finding(check, "warn", f"{state.arn} is {state.status}", "wait until the table is ACTIVE"))
    else:
        report(Finding(check, "ok", f"{state.arn}, about {state.items:,} items"))
    return state.arn


def _examine_recovery(report: Report, table: TableSettings) -> None:
    from ddb_lake.aws.diagnostics import recovery_enabled

    check = f"{table.name}: point-in-time recovery"
    with failing(report, check, "let this identity dynamodb:DescribeContinuousBackups"):
        if recovery_enabled(table):
            report(Finding(check, "ok", "on"))
        else:
            step = (
                f"aws dynamodb update-continuous-backups --table-name {table.source_name}"
                " --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
            )
            report(Finding(check, "fail", "off: DynamoDB exports nothing without it", step))


def _examine_destinations(report: Report, table: TableSettings) -> None:
    from ddb_lake.aws.diagnostics import kinesis_destinations

    check = f"{table.name}: kinesis destination"
    command = f"aws dynamodb {{}}-kinesis-streaming-destination --table-name {table.source_name} --stream-arn {{}}"
    with failing(report, check, "let this identity dynamodb:DescribeKinesisStreamingDestination"):
        live = [found for found in kinesis_destinations(table) if found.status in _LIVE]
        if not live:
            step = f"{command.format('enable', 'ARN')}; nothing to do if the changes come by DynamoDB Streams"
            report(Finding(check, "warn", "none is active: no change records arrive through Kinesis", step))
        for found in live:
            if found.precision == "MICROSECOND":
                report(Finding(check, "ok", f"{found.stream_arn}, {found.precision}"))
                continue
            step = command.format("update", found.stream_arn) + (
                " --update-kinesis-streaming-configuration ApproximateCreationDateTimePrecision=MICROSECOND"
            )
            said = f"{found.stream_arn} has {found.precision} times, in which more changes of a key tie"
            report(Finding(check, "warn", said, step))


def _examine_export_bucket(report: Report, table: TableSettings) -> None:
    from ddb_lake.aws.diagnostics import check_bucket

    if table.export is None:
        return
    check = f"{table.name}: export bucket"
    with failing(report, check, "create the bucket, mend `export.bucket`, or give this identity s3:ListBucket on it"):
        check_bucket(table.export.bucket, table.export.bucket_owner)
        report(Finding(check, "ok", f"{table.export.bucket} answers"))


def _examine_changes(report: Report, table: TableSettings) -> None:
    from ddb_lake.aws.diagnostics import has_objects

    uri = table.changes.uri if table.changes else None
    if uri is None or not uri.startswith("s3://"):
        return
    check = f"{table.name}: changes"
    with failing(report, check, "correct `changes.uri`, or give this identity s3:ListBucket and s3:GetObject there"):
        if continued := continued_keys(uri):
            report(Finding(check, "warn", *continued))
        elif has_objects(uri):
            report(Finding(check, "ok", f"{uri} has objects"))
        else:
            report(
                Finding(
                    check, "warn", f"nothing lies below {uri}", "check Firehose's destination, or wait for a delivery"
                )
            )
