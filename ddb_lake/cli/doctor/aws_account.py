"""Examinations of the AWS account: credentials, identity, and the clock beside that of AWS."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, fail, ok, unknown, warn
from ddb_lake.cli.doctor.subject import LakeSubject
from ddb_lake.core.operations.library_errors import GET_CREDENTIALS
from ddb_lake.errors import DdbLakeError

CLOCK_WARN_S = 30.0
CLOCK_FAIL_S = 240.0
"""AWS rejects signatures whose time is 5 minutes off
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html)."""


def examine_credentials(subject: LakeSubject) -> Iterator[Finding]:
    """There are credentials, if something configured needs AWS."""
    if not subject.aws_needs:
        yield ok("nothing configured needs AWS: no source, export, or s3:// location", check="aws")
    elif subject.credentials is not None:
        yield ok(f"found ({subject.credentials})")
    else:
        if subject.on_s3:
            yield fail("none found, and the lake itself is in AWS", GET_CREDENTIALS)
        else:
            yield warn("none found", GET_CREDENTIALS)
        yield unknown(f"whether AWS allows {', '.join(subject.aws_needs)}", "there are no credentials", check="aws")


def examine_identity(subject: LakeSubject) -> Iterator[Finding]:
    """AWS accepts the credentials."""
    try:
        identity = subject.identity
    except DdbLakeError as error:
        yield fail(str(error), f"renew the credentials, check the network; else {GET_CREDENTIALS}")
        return
    yield ok(f"{identity.arn} in account {identity.account}")


def examine_clock(subject: LakeSubject) -> Iterator[Finding]:
    """The clock of this machine agrees with that of AWS."""
    offset_s = subject.identity.clock_offset_s
    if offset_s is None:
        return
    found = f"{abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} AWS"
    step = "set the clock by NTP: AWS compares the time of requests with its own, and exports and lag depend on it"
    if abs(offset_s) >= CLOCK_FAIL_S:
        yield fail(found, step)
    elif abs(offset_s) >= CLOCK_WARN_S:
        yield warn(found, step)
    else:
        yield ok(found if abs(offset_s) >= 1 else "agrees with AWS")
