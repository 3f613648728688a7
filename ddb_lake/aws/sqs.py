"""SQS queues of notifications: receive and delete messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ddb_lake.aws.session import client
from ddb_lake.errors import TransientError

BATCH = 10
"""The number of messages in one request.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
"""

_REGION = re.compile(r"https?://(?:sqs\.([a-z0-9-]+)\.|([a-z0-9-]+)\.queue\.)amazonaws\.com")


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `receipt` identifies this delivery; SQS delivers the message again unless it is deleted."""

    body: str
    receipt: str


def receive_messages(url: str, most: int) -> list[Message]:
    """Receive at most `most` messages, without waiting for new ones.

    They stay in the queue, hidden from other receivers for its visibility timeout. Raises TransientError if the queue
    cannot be read; the planner finds the objects by listing.
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
                f"the queue {url} cannot be read: {' '.join(str(error).split())}; listing finds the objects later",
                hint="check `changes.notifications`, and allow sqs:ReceiveMessage and sqs:DeleteMessage",
            ) from error
        # With a short visibility timeout, SQS may return the same messages again: stop when all are known.
        batch = {message["MessageId"]: message for message in answer.get("Messages", [])}
        fresh = batch.keys() - seen
        yield from (Message(batch[name]["Body"], batch[name]["ReceiptHandle"]) for name in batch if name in fresh)
        seen |= fresh
        if not fresh:
            return


def delete_messages(url: str, messages: Sequence[Message]) -> None:
    """Delete messages. One that cannot be deleted is delivered again, which does no harm."""
    for start in range(0, len(messages), BATCH):
        entries = [
            {"Id": str(number), "ReceiptHandle": message.receipt}
            for number, message in enumerate(messages[start : start + BATCH])
        ]
        try:
            _client(url).delete_message_batch(QueueUrl=url, Entries=entries)
        except (BotoCoreError, ClientError) as error:
            raise TransientError(
                f"messages of {url} cannot be deleted and will be delivered again: {' '.join(str(error).split())}",
                hint="allow sqs:DeleteMessage",
            ) from error


def _client(url: str) -> Any:
    match = _REGION.match(url)
    return client("sqs", (match[1] or match[2]) if match else None)
