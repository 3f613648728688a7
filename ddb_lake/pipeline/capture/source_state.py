"""The state of a source table, and the newest change that the lake has of it: what an observation in Dagster shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from ddb_lake.aws.kinesis import observe_destination
from ddb_lake.aws.source import describe_source
from ddb_lake.config import TableSettings
from ddb_lake.core.operations.library_errors import translate_aws, translate_uncaught
from ddb_lake.errors import DdbLakeError, DeniedError, TerminalError, TransientError
from ddb_lake.lake.state import changes_state
from ddb_lake.pipeline.open_lake import Lake


@dataclass(slots=True)
class SourceState:
    """The state of a source table. What is None is unknown, or does not exist.

    Attributes:
        items: the number of items, which DynamoDB updates about every six hours.
        status: of the table, such as ACTIVE.
        stream_view: which images the DynamoDB stream has, such as NEW_AND_OLD_IMAGES; None if it is off.
        destination: the ARN of the Kinesis stream that receives the changes; None without one.
        destination_status: its status, such as ACTIVE.
        newest_change_us: the time of the newest change record in the lake (UTC microseconds).
        unknown: for what could not be read, the reason.
    """

    items: int | None = None
    status: str | None = None
    stream_view: str | None = None
    destination: str | None = None
    destination_status: str | None = None
    newest_change_us: int | None = None
    unknown: dict[str, str] = field(default_factory=dict)


SOURCE, DESTINATION, NEWEST_CHANGE = "the source table", "the Kinesis destination", "the newest change in the lake"
"""What can be unknown."""


def read_source_state(lake: Lake, table: TableSettings) -> SourceState:
    """Read the state of a table's source. What AWS does not return now is unknown, with the reason.

    Raises:
        DamagedError: the changelog is damaged.
    """
    found = SourceState()
    described = describe_source(table)
    if described.unreachable is None:
        found.items, found.status, found.stream_view = described.items, described.status, described.stream_view
        now_us = int(lake.now().timestamp() * 1_000_000)
        try:
            seen = observe_destination(table, now_us)
            found.destination, found.destination_status = seen.stream, seen.status
        except TerminalError as error:
            found.unknown[DESTINATION] = str(error)
    else:
        found.unknown[SOURCE] = described.unreachable
    try:
        found.newest_change_us = changes_state(lake.changes(table.name)).last_change_us
    except Exception as error:
        of_aws = translate_aws(error)
        known = of_aws or (error if isinstance(error, DdbLakeError) else translate_uncaught(error))
        if of_aws is None and not isinstance(known, TransientError | DeniedError):
            raise
        found.unknown[NEWEST_CHANGE] = str(known)
    return found
