"""Notifications of landed objects: where the sensor looks sooner than it would have.

The listing stays the truth. A message only adds a place to this tick's listing, and is deleted when what was found
there has been asked for; losing the queue, or every message in it, costs some minutes and no object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ddb_lake.aws.sqs import Message, delete_messages, receive_messages
from ddb_lake.config import TableSettings
from ddb_lake.core.layout.s3_notifications import by_place, parse_message
from ddb_lake.errors import TransientError
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.planner import Busy, Plan

MOST_MESSAGES = 500
"""How many messages a tick takes from a queue: a few seconds. The rest waits for the next."""


@dataclass(slots=True)
class Heard:
    """What the queues said. `hints`: URIs to look at, by table. `silent`: queues that could not be read, and why."""

    hints: dict[str, list[str]] = field(default_factory=dict)
    silent: list[TransientError] = field(default_factory=list)
    _messages: dict[str, list[tuple[Message, frozenset[str]]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, url: str, message: Message, tables: Collection[TableSettings]) -> None:
        """Note what a message of a queue says about some tables."""
        uris = parse_message(message.body).uris
        concerned = set()
        for table in tables:
            found = [uri for below in by_place(uris, places_of(table)).values() for uri in below]
            if found:
                concerned.add(table.name)
                self.hints.setdefault(table.name, []).extend(found)
        self._messages[url].append((message, frozenset(concerned)))

    def forget(self, plan: Plan, busy: Busy) -> Iterator[TransientError]:
        """Delete the messages whose tables were looked at, so that what they named is asked for or applied.

        Also those that concern no table of ours: the queue is the lake's own. A message about a table that is busy, or
        that could not be looked at, stays and comes again. Gives what went wrong; nothing depends on it.
        """
        done = plan.looked - set(plan.failed) - set(busy.applying) - set(busy.loading)
        for url, messages in self._messages.items():
            try:
                delete_messages(url, [message for message, tables in messages if tables <= done])
            except TransientError as error:
                yield error


def listen(lake: Lake) -> Heard:
    """Receive what waits in the queues of all tables; none of them has to be there."""
    heard = Heard()
    queues: dict[str, list[TableSettings]] = defaultdict(list)
    for table in lake.settings.tables:
        if table.changes is not None and table.changes.notifications is not None:
            queues[table.changes.notifications].append(table)
    for url, tables in queues.items():
        try:
            for message in receive_messages(url, MOST_MESSAGES):
                heard.take(url, message, tables)
        except TransientError as error:
            heard.silent.append(error)
    return heard


def places_of(table: TableSettings) -> list[str]:
    """The places in S3 where a table's objects land: changes, failed deliveries, exports."""
    changes, export = table.changes, table.export
    found = [uri for uri in (changes.uri, changes.errors_uri) if uri is not None] if changes is not None else []
    if export is not None and not export.bucket.startswith("/") and "://" not in export.bucket:
        found.append(f"s3://{export.bucket}/{export.prefix}".rstrip("/"))
    return [uri for uri in found if uri.startswith("s3://")]
