"""Examinations of the place where changes land, and of the queue with notifications about it."""

from __future__ import annotations

from collections.abc import Iterator

from ddb_lake.cli.doctor.finding import Finding, ok, warn
from ddb_lake.cli.doctor.subject import TableSubject
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import DdbLakeError


def examine_folder(subject: TableSubject) -> Iterator[Finding]:
    """The local folder of `changes.uri` exists."""
    from ddb_lake.aws.objects import local_path

    folder = local_path(_uri(subject))
    if continued := _continued_keys(subject):
        yield continued
    elif folder.is_dir():
        yield ok(f"{folder}")
    else:
        yield warn(f"{folder} does not exist", "correct `changes.uri`, or wait for the first delivery")


def examine_prefix(subject: TableSubject) -> Iterator[Finding]:
    """The S3 prefix of `changes.uri` has objects."""
    from ddb_lake.aws.diagnostics import has_objects

    uri = _uri(subject)
    if continued := _continued_keys(subject):
        yield continued
    elif has_objects(uri):
        yield ok(f"{uri} has objects")
    else:
        yield warn(f"no object is below {uri}", "check Firehose's destination, or wait for a delivery")


def examine_notifications(subject: TableSubject) -> Iterator[Finding]:
    """The queue of notifications can be read. Without it objects are found too, but later."""
    from ddb_lake.aws.diagnostics import waiting_messages

    changes = subject.settings.changes
    assert changes is not None and changes.notifications is not None, "the registry requires a queue"
    try:
        waiting = waiting_messages(changes.notifications)
    except DdbLakeError as error:
        step = "correct `changes.notifications`, and allow sqs:ReceiveMessage, DeleteMessage and GetQueueAttributes"
        yield warn(str(error), f"{step}; until then objects are found by listing, which is later")
        return
    yield ok(f"{changes.notifications} answers; about {count_text(waiting, 'message waits', 'messages wait')}")


def _uri(subject: TableSubject) -> str:
    changes = subject.settings.changes
    assert changes is not None and changes.uri is not None, "the registry requires a location"
    return changes.uri


def _continued_keys(subject: TableSubject) -> Finding | None:
    """A warning if keys continue `changes.uri` without its final slash."""
    from ddb_lake.aws.objects import ObjectStore
    from ddb_lake.pipeline.plan.arrivals import continued_key

    uri = _uri(subject)
    example = continued_key(ObjectStore(), uri)
    if example is None:
        return None
    return warn(
        f"keys continue {uri} without its slash, such as {example}; they are not read",
        f"write `uri: {uri.rstrip('/')}` if they are this table's: Firehose appends yyyy/MM/dd/HH/ to a prefix without a slash",
    )
