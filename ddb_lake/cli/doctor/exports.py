"""What the doctor asks AWS about exports: whose bucket, which key, how the last one ended; and the notifications' queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import Finding, Report, failing
from ddb_lake.errors import DdbLakeError

if TYPE_CHECKING:
    from ddb_lake.config import TableSettings


LOOKED_AT = 5
"""How many exports are looked at for one that goes where this table's are to go."""


def explained_step(table: TableSettings, said: str, otherwise: str) -> str:
    """What mends a refusal: what its text calls for, or else `otherwise`."""
    from ddb_lake.aws.source import access_of
    from ddb_lake.core.operations.aws_hints import next_step

    return next_step(said, access_of(table)) or otherwise


def examine_exports(report: Report, table: TableSettings, table_arn: str) -> None:
    """The places that exports of a table go to, seen from the table's account, and its last export."""
    _examine_owner(report, table, table_arn)
    _examine_key(report, table)
    _examine_last(report, table)


def _examine_owner(report: Report, table: TableSettings, table_arn: str) -> None:
    from ddb_lake.aws.diagnostics import owns_bucket
    from ddb_lake.core.operations.aws_hints import account_of

    assert table.export is not None, "the caller has looked"
    bucket, named, account = table.export.bucket, table.export.bucket_owner, account_of(table_arn)
    check = f"{table.name}: export bucket owner"
    with failing(report, check, "let this identity s3:ListBucket on the bucket"):
        if named is not None and not owns_bucket(bucket, named):
            said = f"{bucket} does not belong to account {named}"
            report(Finding(check, "fail", said, "set `export.bucket_owner` to the account that owns the bucket"))
        elif named is None and account is not None and not owns_bucket(bucket, account):
            said = f"{bucket} belongs to another account than the table ({account}), and exports would be denied"
            report(Finding(check, "fail", said, "set `export.bucket_owner` to the account that owns the bucket"))
        elif named is not None:
            report(Finding(check, "ok", f"account {named}"))


def _examine_key(report: Report, table: TableSettings) -> None:
    from ddb_lake.aws.diagnostics import key_state

    if table.export is None or table.export.kms_key_id is None:
        return
    check, key = f"{table.name}: export key", table.export.kms_key_id
    step = "give the whole ARN of an enabled key in the bucket's Region as `export.kms_key_id`"
    try:
        state = key_state(table)
    except DdbLakeError as error:
        report(Finding(check, "fail", f"{key}: {error}", explained_step(table, f"KMS: {error}", step)))
        return
    report(Finding(check, "ok", f"{key} is {state}") if state == "Enabled" else Finding(check, "fail", state, step))


def _examine_last(report: Report, table: TableSettings) -> None:
    from ddb_lake.aws.exports import describe_export, list_exports

    check = f"{table.name}: last export"
    with failing(report, check, "let this identity dynamodb:ListExports and DescribeExport"):
        newest = (describe_export(table, one.arn) for one in reversed(list_exports(table)[-LOOKED_AT:]))
        last = next((one for one in newest if table.export is not None and one.goes_to(table.export)), None)
        if last is None:
            return
        if last.status == "FAILED":
            reason, _, step = (last.failure or "without a reason").partition("; ")
            report(Finding(check, "fail", f"{last.arn}: {reason}", step or "export again"))
        else:
            report(Finding(check, "ok", f"{last.arn} is {last.status}"))


def examine_queue(report: Report, table: TableSettings) -> None:
    """The queue of notifications, if one is configured: without it objects are found all the same, later."""
    from ddb_lake.aws.diagnostics import waiting_messages

    url = table.changes.notifications if table.changes is not None else None
    if url is None:
        return
    check = f"{table.name}: notifications"
    try:
        report(Finding(check, "ok", f"{url} answers; about {waiting_messages(url)} messages wait"))
    except DdbLakeError as error:
        step = "mend `changes.notifications`, and allow sqs:ReceiveMessage, DeleteMessage and GetQueueAttributes"
        report(Finding(check, "warn", str(error), f"{step}; objects are found without it, later"))
