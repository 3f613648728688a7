"""Next steps for errors of AWS: from the text of an error to advice. Pure.

A table, a bucket and a key may belong to three accounts, each with policies of its own, and what AWS says names the
call that failed and not always what is wrong. The plainest case: without the role of the table's account, a call
looks for the table in the caller's own account, and the answer asks for `dynamodb:DescribeTable` there, which would
not help (https://github.com/HsiehShuJeng/dynamodb-streaming-datalake, "Misleading error message").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_DENIED = re.compile(
    r"(?:User: )?(?P<caller>arn:[\w-]+:(?:sts|iam)::(?P<account>\d{12})?:\S+) is not authorized to perform: "
    r"(?P<action>[\w-]+:\w+)(?: on (?:resource|table): (?P<resource>arn:\S+))?"
)
_ACCOUNT = re.compile(r"arn:[\w-]+:[\w-]*:[\w-]*:(\d{12}):")


@dataclass(frozen=True, slots=True)
class Access:
    """What is configured of a table's source and exports: enough to say where to look."""

    table: str
    role_arn: str | None = None
    external_id: str | None = None
    bucket: str | None = None
    bucket_owner: str | None = None
    kms_key_id: str | None = None

    @property
    def caller(self) -> str:
        """Who asks DynamoDB, and writes the export."""
        return f"the role {self.role_arn}" if self.role_arn else "this identity"


def next_step(error: str, access: Access) -> str | None:
    """What to do about a refusal; None for one that speaks for itself.

    Args:
        error: the code and the message of an error, or of a failed export: `AccessDeniedException: User: … is not …`.
    """
    code = error.partition(":")[0].strip()
    denied = _DENIED.search(error)
    if denied is not None:
        return _denied(denied, error, access)
    known = _KNOWN.get(code)
    if known is not None:
        return known(access)
    if re.search("kms", code, re.IGNORECASE) or "kms:" in error:
        return _key(access)
    if code in ("AccessDenied", "AccessDeniedException"):
        return _exports(access)
    return None


def recovery_command(table: str) -> str:
    """The command that turns point-in-time recovery on."""
    return (
        f"aws dynamodb update-continuous-backups --table-name {table}"
        " --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
    )


def account_of(arn: str | None) -> str | None:
    """The account that an ARN names; None if it names none."""
    match = _ACCOUNT.match(arn or "")
    return match[1] if match else None


def _denied(denied: re.Match[str], error: str, access: Access) -> str:
    action, caller = denied["action"], denied["caller"]
    service = action.partition(":")[0]
    if action == "sts:AssumeRole":
        condition = " with the condition sts:ExternalId that `source.external_id` gives" if access.external_id else ""
        return (
            f"let {caller} assume {access.role_arn or 'the role'}: sts:AssumeRole in its own policy, and its name in the"
            f" role's trust policy{condition}; if the trust policy asks for an external id, set `source.external_id`"
        )
    if service == "dynamodb":
        return _table(denied, access)
    if service == "s3":
        return f"allow {action} to {caller}; {_bucket(access)}"
    if service == "kms":
        return f"allow {action} to {caller}; {_key(access)}"
    boundary = "; a permissions boundary or service control policy denies it" if "explicit deny" in error else ""
    return f"allow {action} to {caller}{boundary}"


def _table(denied: re.Match[str], access: Access) -> str:
    """A call to DynamoDB was denied: where was the table looked for?"""
    action, caller, account = denied["action"], denied["caller"], denied["account"]
    place = account_of(denied["resource"])
    role_account = account_of(access.role_arn)
    if access.role_arn is None and place is not None and place == account:
        return (
            f"{access.table} was looked for in account {place}, where {caller} belongs. If the table is in another"
            f" account, more permissions here will not help: set `source.role_arn` to a role of that account which"
            f" may read and export it. If it is in {place}, allow {action} to {caller}"
        )
    if access.role_arn is not None and account != role_account:
        return f"the call was made as {caller} and not as {access.role_arn}: see that the role can be assumed"
    return (
        f"allow {action} on {denied['resource'] or access.table} to {caller}, in account {account},"
        " and kms:Decrypt on the table's own key if it has one"
    )


def _bucket(access: Access) -> str:
    if access.bucket_owner is None:
        owner = (
            f"if {access.bucket or 'the bucket'} belongs to another account than the table,"
            " set `export.bucket_owner` to that account"
        )
    else:
        owner = f"check that {access.bucket} belongs to account {access.bucket_owner} (`export.bucket_owner`)"
    return (
        f"{owner}, and allow {access.caller} s3:PutObject, s3:PutObjectAcl and s3:AbortMultipartUpload there,"
        " in its own policy and in the bucket's"
    )


def _key(access: Access) -> str:
    return (
        f"check `export.kms_key_id` ({access.kms_key_id or 'none is set: the bucket encrypts with its own key'}): a key"
        f" of another account is named by its whole ARN, is in the bucket's Region, enabled, and its policy as well as"
        f" that of {access.caller} allow kms:GenerateDataKey and kms:Decrypt"
    )


def _exports(access: Access) -> str:
    return (
        f"allow {access.caller} dynamodb:ExportTableToPointInTime, DescribeTable, DescribeContinuousBackups,"
        f" DescribeExport and ListExports on the table; {_bucket(access)}"
    )


def _recovery(access: Access) -> str:
    return f"turn point-in-time recovery on, in the table's account: {recovery_command(access.table)}"


def _absent(access: Access) -> str:
    where = f"in the account of {access.role_arn}" if access.role_arn else "in this identity's account"
    return (
        f"{access.table} was looked for {where}: check `source.table` and `source.region`, and set `source.role_arn` if"
        " the table is in another account"
    )


_KNOWN: dict[str, Callable[[Access], str]] = {
    "PointInTimeRecoveryUnavailableException": _recovery,
    "TableNotFoundException": _absent,
    "ResourceNotFoundException": _absent,
    "ExportConflictException": lambda _: "an export with this token and other parameters exists; try again",
    "ExportNotFoundException": lambda _: "DynamoDB forgets exports after 90 days; load it from its folder",
    "LimitExceededException": lambda _: "too many exports at once; try again later",
    "InvalidExportTimeException": lambda _: (
        "choose a time inside the table's point-in-time recovery window and not later than now; if the window no"
        " longer reaches back, take a new full export; if it does, check this machine's clock"
    ),
    "S3NoSuchBucket": lambda access: f"create the bucket {access.bucket}, or correct `export.bucket`",
    "S3AccessDenied": _bucket,
}
"""Advice by the code of an error or of a failed export (`FailureCode`)."""
