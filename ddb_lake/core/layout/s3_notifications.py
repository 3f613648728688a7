"""Messages of S3 about new objects, as an SQS queue gives them: which objects they name. Pure.

A message is a hint where to look sooner and never a fact to act upon: messages come twice, late, out of order or not
at all, a multipart upload can send two, and messages may be forged. Therefore no function here raises, and of a
message only the name of the object is read.

Forms: S3 straight to SQS (https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html:
keys are URL-encoded), S3 through EventBridge (keys are as they are), either through SNS, and S3's test message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote_plus

from ddb_lake.core.layout.firehose_paths import continues, is_below

MessageKind: TypeAlias = Literal["created", "test", "other"]
"""created: names objects that were written. test: S3 tries its configuration. other: anything else."""

_MOST_WRAPPERS = 3


@dataclass(frozen=True, slots=True)
class Notification:
    """What a message says: its kind and the URIs (`s3://bucket/key`) that it names, each once, in its order."""

    kind: MessageKind
    uris: tuple[str, ...] = ()


OTHER = Notification("other")


def parse_message(body: str) -> Notification:
    """The notification in a message's body. Removals, and whatever is none, are `other`; nothing raises."""
    return _parse(body, 0)


def _parse(body: Any, wrappers: int) -> Notification:
    try:
        document = json.loads(body) if isinstance(body, str) else body
    except (ValueError, RecursionError):
        return OTHER
    if not isinstance(document, dict):
        return OTHER
    if document.get("Type") == "Notification" and "Message" in document and wrappers < _MOST_WRAPPERS:
        return _parse(document["Message"], wrappers + 1)
    if document.get("Event") == "s3:TestEvent":
        return Notification("test")
    found = tuple(dict.fromkeys(_uris(document)))
    return Notification("created", found) if found else OTHER


def _uris(document: dict[str, Any]) -> Iterator[str]:
    records = document.get("Records")
    if isinstance(records, list):
        for record in records:
            event = record.get("eventName") if isinstance(record, dict) else None
            if isinstance(event, str) and event.removeprefix("s3:").startswith("ObjectCreated:"):
                yield from _uri(record.get("s3"), encoded=True)
    elif document.get("source") == "aws.s3" and document.get("detail-type") == "Object Created":
        yield from _uri(document.get("detail"), encoded=False)


def _uri(described: Any, encoded: bool) -> Iterator[str]:
    if not isinstance(described, dict):
        return
    bucket, thing = described.get("bucket"), described.get("object")
    name = bucket.get("name") if isinstance(bucket, dict) else None
    key = thing.get("key") if isinstance(thing, dict) else None
    if isinstance(name, str) and isinstance(key, str) and name and key and "/" not in name:
        yield f"s3://{name}/{unquote_plus(key) if encoded else key}"


def by_location(uris: Iterable[str], locations: Sequence[str]) -> dict[str, list[str]]:
    """The URIs at or below each of some `s3://` locations, each once; what lies below none of them is in no list.

    A location contains the keys that continue it with a slash, or with Firehose's hour: `s3://b/orders` contains
    `s3://b/orders/x` and `s3://b/orders2026/03/01/09/x`, but not `s3://b/orders-old/x`.
    """
    found: dict[str, list[str]] = {location: [] for location in locations}
    for uri in dict.fromkeys(uris):
        for location in found:
            if is_below(location, uri) or continues(location, uri):
                found[location].append(uri)
    return found
