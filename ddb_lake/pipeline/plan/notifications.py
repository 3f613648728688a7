"""S3 event notifications in SQS queues: places that a tick of the planner lists earlier than it would without them.

The listing decides. A message only adds a place to this tick's listing, and is deleted once what was found there is requested
or done. Losing the queue, or every message in it, delays objects by some minutes and loses none.

S3 delivers notifications at least once and in any order:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ddb_lake.aws.sqs import Message, delete_messages, receive_messages
from ddb_lake.config import TableSettings
from ddb_lake.core.layout.s3_notifications import by_location, parse_message
from ddb_lake.errors import TransientError
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.planner import Busy, Plan

MOST_MESSAGES = 500
"""The most messages that a tick receives from a queue: a few seconds. The next tick receives the rest."""


@dataclass(slots=True)
class Notifications:
    """The messages that one tick received.

    `hints`: the URIs to list, by table. `errors`: of the queues that could not be read.
    """

    hints: dict[str, list[str]] = field(default_factory=dict)
    errors: list[TransientError] = field(default_factory=list)
    _messages: dict[str, list[tuple[Message, frozenset[str]]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, queue_url: str, message: Message, tables: Collection[TableSettings]) -> None:
        """Add a message of a queue, for the tables below whose places its objects are."""
        uris = parse_message(message.body).uris
        concerned = set()
        for table in tables:
            below = [uri for place in by_location(uris, landing_places(table)).values() for uri in place]
            if below:
                concerned.add(table.name)
                self.hints.setdefault(table.name, []).extend(below)
        self._messages[queue_url].append((message, frozenset(concerned)))

    def delete_handled(self, plan: Plan, busy: Busy) -> Iterator[TransientError]:
        """Delete the messages whose tables the tick examined without an error, and those that concern no table.

        The queue belongs to the lake, so no other reader needs the latter. A message about a table that is busy, failed or
        was not examined stays, and is received again. Yields the errors of deletions: they only repeat a listing.
        """
        handled = plan.examined - set(plan.failed) - set(busy.applying) - set(busy.loading)
        for queue_url, messages in self._messages.items():
            try:
                delete_messages(queue_url, [message for message, tables in messages if tables <= handled])
            except TransientError as error:
                yield error


def receive_notifications(lake: Lake, names: Collection[str] | None = None) -> Notifications:
    """Receive what waits in the queues of some tables (None: all). A queue that cannot be read is an entry of `errors`."""
    received = Notifications()
    queues: dict[str, list[TableSettings]] = defaultdict(list)
    for table in lake.settings.tables:
        if names is not None and table.name not in names:
            continue
        if table.changes is not None and table.changes.notifications is not None:
            queues[table.changes.notifications].append(table)
    for url, tables in queues.items():
        try:
            for message in receive_messages(url, MOST_MESSAGES):
                received.add(url, message, tables)
        except TransientError as error:
            received.errors.append(error)
    return received


def landing_places(table: TableSettings) -> list[str]:
    """The S3 URIs below which a table's objects land: changes, failed deliveries, exports."""
    changes, export = table.changes, table.export
    places = [uri for uri in (changes.uri, changes.errors_uri) if uri is not None] if changes is not None else []
    if export is not None and not export.bucket.startswith("/") and "://" not in export.bucket:
        places.append(f"s3://{export.bucket}/{export.prefix}".rstrip("/"))
    return [uri for uri in places if uri.startswith("s3://")]
