"""What AWS refuses, and whether the advice names what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.operations.aws_hints import Access, account_of, next_step

CONSUMER, PRODUCER = "111122223333", "444455556666"
ROLE = f"arn:aws:iam::{PRODUCER}:role/lake-reader"
WITH_ROLE = Access("orders", ROLE, None, "exports", CONSUMER)
WITHOUT = Access("orders", bucket="exports")
SEED = (
    f"AccessDeniedException: User: arn:aws:sts::{CONSUMER}:assumed-role/ddb-cross-account-full-load-glue-job-role/"
    "GlueJobRunnerSession is not authorized to perform: dynamodb:DescribeTable on resource: arn:aws:dynamodb:"
    f"ap-northeast-1:{CONSUMER}:table/orders because no identity-based policy allows the dynamodb:DescribeTable action"
)


def denied(account: str, action: str, resource: str) -> str:
    return (
        f"AccessDeniedException: User: arn:aws:sts::{account}:assumed-role/r/s is not authorized to perform: {action}"
        f" on resource: {resource} because no identity-based policy allows the {action} action"
    )


def test_misleading_describe_table_error_asks_for_a_role_and_not_for_permissions() -> None:
    said = next_step(SEED, WITHOUT)
    assert said is not None
    assert f"was looked for in account {CONSUMER}" in said
    assert "more permissions here will not help: set `source.role_arn`" in said


def test_denied_role_is_to_be_allowed_and_a_role_that_is_not_used_is_named() -> None:
    arn = f"arn:aws:dynamodb:eu-west-1:{PRODUCER}:table/orders"
    said = next_step(denied(PRODUCER, "dynamodb:DescribeTable", arn), WITH_ROLE)
    assert said is not None and said.startswith(f"allow dynamodb:DescribeTable on {arn}") and PRODUCER in said
    assert "made as arn:aws:sts::111122223333" in str(next_step(SEED, WITH_ROLE))


@pytest.mark.parametrize(
    ("said", "access", "wanted"),
    [
        (denied(CONSUMER, "sts:AssumeRole", ROLE), WITH_ROLE, "trust policy"),
        (denied(PRODUCER, "s3:PutObject", "arn:aws:s3:::exports/x"), WITH_ROLE, f"belongs to account {CONSUMER}"),
        (denied(PRODUCER, "s3:PutObject", "arn:aws:s3:::exports/x"), WITHOUT, "set `export.bucket_owner`"),
        (
            denied(PRODUCER, "kms:GenerateDataKey", f"arn:aws:kms:eu-west-1:{CONSUMER}:key/k"),
            WITH_ROLE,
            "named by its whole ARN",
        ),
        ("PointInTimeRecoveryUnavailableException: off", WITH_ROLE, "update-continuous-backups --table-name orders"),
        ("ResourceNotFoundException: Table: orders not found", WITHOUT, "set `source.role_arn`"),
        ("TableNotFoundException: no", WITH_ROLE, f"in the account of {ROLE}"),
        ("S3AccessDenied: Access denied", WITHOUT, "set `export.bucket_owner` to that account"),
        ("S3AccessDenied: Access denied", WITH_ROLE, "s3:PutObjectAcl"),
        ("S3NoSuchBucket: no", WITHOUT, "create the bucket exports"),
        ("KmsNotFoundException: no", WITHOUT, "`export.kms_key_id`"),
        ("KMSAccessDenied: no", WITH_ROLE, "kms:GenerateDataKey and kms:Decrypt"),
        ("AccessDeniedException: Access is denied", WITH_ROLE, "dynamodb:ExportTableToPointInTime"),
        ("InvalidExportTimeException: Export Time is invalid", WITHOUT, "take a new full export"),
    ],
)
def test_each_known_misconfiguration_has_its_next_step(said: str, access: Access, wanted: str) -> None:
    assert wanted in str(next_step(said, access))


def test_refusal_that_speaks_for_itself_is_left_alone() -> None:
    assert next_step("ValidationException: S3Prefix is too long", WITHOUT) is None


@given(st.text(max_size=200), st.booleans())
def test_nothing_makes_it_raise(said: str, role: bool) -> None:
    step = next_step(said, WITH_ROLE if role else WITHOUT)
    assert step is None or step


@given(st.from_regex(r"\d{12}", fullmatch=True))
def test_account_is_read_from_an_arn_that_has_one(account: str) -> None:
    assert account_of(f"arn:aws:iam::{account}:role/x") == account
    assert account_of("arn:aws:s3:::bucket") is None
    assert account_of(None) is None
