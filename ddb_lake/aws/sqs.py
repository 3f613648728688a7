"""SQS queues of notifications: receive and delete, nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.aws.session import client
from ddb_lake.errors import TransientError

BATCH = 10
"""What SQS gives and takes at once."""

_REGION = re.compile(r"https?://(?:sqs\.([a-z0-9-]+)\.|([a-z0-9-]+)\.queue\.)amazonaws\.com")


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `receipt` names this delivery of it; SQS delivers it again unless it is deleted."""

    body: str
    receipt: str


def receive_messages(url: str, most: int) -> list[Message]:
    """What waits in a queue, at most `most` messages and without waiting for any.

    They stay in the queue, invisible to others for its visibility timeout. Raises TransientError if the queue cannot
    be reached or read: there is nothing that must be done about it at once.
    """
    return list(_received(url, most))


def _received(url: str, most: int) -> Iterator[Message]:
    seen: set[str] = set()
    while len(seen) < most:
        try:
            answer = _client(url).receive_message(
                QueueUrl=url, MaxNumberOfMessages=min(BATCH, most - len(seen)), WaitTimeSeconds=0
            )
        except (BotoCoreError, ClientError) as error:
            raise TransientError(
                f"the queue {url} cannot be read: {' '.join(str(error).split())}; objects are found all the "
                "same, later",
                hint="check `changes.notifications`, and allow sqs:ReceiveMessage and sqs:DeleteMessage",
            ) from error
        # With a short visibility timeout the same messages come again, while others may wait: stop there.
        found = {message["MessageId"]: message for message in answer.get("Messages", [])}
        fresh = found.keys() - seen
        yield from (Message(found[name]["Body"], found[name]["ReceiptHandle"]) for name in found if name in fresh)
        seen |= fresh
        if not fresh:
            return


def delete_messages(url: str, messages: Sequence[Message]) -> None:
    """Delete messages. A message that cannot be deleted is delivered again, which is harmless."""
    for start in range(0, len(messages), BATCH):
        entries = [
            {"Id": str(number), "ReceiptHandle": message.receipt}
            for number, message in enumerate(messages[start : start + BATCH])
        ]
        try:
            _client(url).delete_message_batch(QueueUrl=url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise TransientError(
                f"messages of {url} cannot be deleted and will come again: {' '.join(str(error).split())}",
                hint="allow sqs:DeleteMessage",
            ) from error


def _client(url: str) -> Any:
    match = _REGION.match(url)
    return client("sqs", (match[1] or match[2]) if match else None)
