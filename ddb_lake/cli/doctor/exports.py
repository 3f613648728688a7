"""Examinations of exports: the bucket and its owner, the KMS key, and how the last export ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ddb_lake.cli.doctor.finding import Finding, fail, ok
from ddb_lake.cli.doctor.source_table import hint
from ddb_lake.cli.doctor.subject import TableSubject
from ddb_lake.errors import DdbLakeError

if TYPE_CHECKING:
    from ddb_lake.config import ExportSettings

RECENT_EXPORTS = 5
"""How many exports of the source table are described to find one into the configured bucket and prefix."""


def examine_bucket(subject: TableSubject) -> Iterator[Finding]:
    """The export bucket can be listed."""
    from ddb_lake.aws.diagnostics import check_bucket

    export = _export(subject)
    check_bucket(export.bucket, export.bucket_owner)
    yield ok(f"{export.bucket} answers")


def examine_bucket_owner(subject: TableSubject) -> Iterator[Finding]:
    """The export bucket belongs to the account of `export.bucket_owner`, else to the account of the table."""
    from ddb_lake.aws.diagnostics import owns_bucket
    from ddb_lake.core.operations.aws_hints import account_of

    export = _export(subject)
    bucket, owner, table_account = export.bucket, export.bucket_owner, account_of(subject.source.arn)
    step = "set `export.bucket_owner` to the account that owns the bucket"
    if owner is not None and not owns_bucket(bucket, owner):
        yield fail(f"{bucket} does not belong to account {owner}", step)
    elif owner is not None:
        yield ok(f"account {owner}")
    elif table_account is not None and not owns_bucket(bucket, table_account):
        found = f"{bucket} does not belong to the table's account ({table_account}), and exports would be denied"
        yield fail(found, step)


def examine_key(subject: TableSubject) -> Iterator[Finding]:
    """The KMS key of exports is enabled."""
    from ddb_lake.aws.diagnostics import key_state

    key = _export(subject).kms_key_id
    step = "set `export.kms_key_id` to the whole ARN of an enabled key in the bucket's Region"
    try:
        state = key_state(subject.settings)
    except DdbLakeError as error:
        yield fail(f"{key}: {error}", hint(subject, f"KMS: {error}") or step)
        return
    yield ok(f"{key} is {state}") if state == "Enabled" else fail(f"{key} is {state}", step)


def examine_last_export(subject: TableSubject) -> Iterator[Finding]:
    """The newest export into the configured bucket and prefix did not fail."""
    from ddb_lake.aws.export_requests import describe_export, list_exports

    table, export = subject.settings, _export(subject)
    newest = (describe_export(table, listed.arn) for listed in reversed(list_exports(table)[-RECENT_EXPORTS:]))
    last = next((state for state in newest if state.goes_to(export)), None)
    if last is None:
        return
    if last.status == "FAILED":
        reason, _, step = (last.failure or "without a reason").partition("; ")
        yield fail(f"{last.arn}: {reason}", step or "export again")
    else:
        yield ok(f"{last.arn} is {last.status}")


def _export(subject: TableSubject) -> ExportSettings:
    export = subject.settings.export
    assert export is not None, "the registry requires an export"
    return export
