"""What several roles' statements are put together of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ddb_lake.core.operations.policies.estate import Estate, Place, Source, Statement


def key_use(sid: str, wanted: tuple[str, ...], key_arn: str, service: str, domain: str) -> Statement:
    """What a service may do with a key in the caller's name, and the caller without the service may not.

    `domain`: what follows the service's name in its endpoint, as `Estate.domain` has it.
    """
    return Statement(sid, wanted, (key_arn,), via(service, domain))


def direct_tables(estate: Estate) -> tuple[str, ...]:
    """The tables reached directly: those behind a role are in that role's policy."""
    return distinct(source.table_arn for source in estate.sources if source.role_arn is None)


def streamed_sources(estate: Estate) -> list[Source]:
    """The tables whose streams are read; all tables if none is configured, for a policy printed before the configuration."""
    return [source for source in estate.sources if source.streams] or list(estate.sources)


def as_places(place: Place | None) -> tuple[Place, ...]:
    """The place, if there is one."""
    return () if place is None else (place,)


def lake_places(estate: Estate) -> tuple[Place, ...]:
    """Where the lake's tables are, and what ddb_lake itself lands beside them."""
    return tuple(dict.fromkeys((*as_places(estate.warehouse), *as_places(estate.own_landing))))


def objects(places: Iterable[Place]) -> tuple[str, ...]:
    """The ARN patterns of the objects below the places."""
    return distinct(place.objects for place in places)


def listing(sid: str, places: Iterable[Place]) -> list[Statement]:
    """Listing below the places' prefixes: one statement a bucket, as the condition belongs to it."""
    by_bucket: dict[str, list[str]] = {}
    for place in places:
        named = [place.prefix.rstrip("/")] if place.prefix else []  # first, the prefix may be an object
        by_bucket.setdefault(place.bucket_arn, []).extend([*named, f"{place.prefix}*"])
    return [
        Statement(
            sid if number == 0 else f"{sid}{number + 1}",
            ("s3:ListBucket",),
            (bucket,),
            {"StringLike": {"s3:prefix": list(dict.fromkeys(prefixes))}},
        )
        for number, (bucket, prefixes) in enumerate(by_bucket.items())
    ]


def key_in_s3(sid: str, wanted: tuple[str, ...], places: Iterable[Place], domain: str) -> list[Statement]:
    """Use, through S3, of the keys of the places that have one."""
    keys = distinct(place.kms_key_arn for place in places if place.kms_key_arn)
    return [Statement(sid, wanted, keys, via("s3", domain))] if keys else []


def hash_key(estate: Estate) -> list[Statement]:
    """Reading the key of hashed attributes, if it is in AWS."""
    key = estate.hash_key
    if key is None:
        return []
    decrypted = (key.kms_key_arn,) if key.kms_key_arn else ()
    return [
        Statement("ReadHashKey", (key.action,), key.arns),
        Statement("DecryptHashKey", ("kms:Decrypt",), decrypted, via(key.service, estate.domain)),
    ]


def decrypt_tables(estate: Estate) -> list[Statement]:
    """`decrypt` of the tables reached directly."""
    return decrypt([source for source in estate.sources if source.role_arn is None], estate.domain)


def decrypt(sources: Iterable[Source], domain: str) -> list[Statement]:
    """DynamoDB decrypts a table with a customer managed key with the permissions of the reader."""
    keys = distinct(source.kms_key_arn for source in sources)
    return [Statement("DecryptTable", ("kms:Decrypt",), keys, via("dynamodb", domain))] if keys else []


def via(service: str, domain: str) -> dict[str, dict[str, str]]:
    """The condition that only a service makes the request, on behalf of the principal.

    https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html
    """
    return {"StringEquals": {"kms:ViaService": f"{service}.{domain}"}}


def merged(found: Iterable[Statement]) -> list[Statement]:
    """Statements on equal resources under equal conditions become one; the first one's name stays."""
    groups: dict[tuple[Any, ...], Statement] = {}
    taken: set[str] = set()
    for statement in found:
        known = groups.get((statement.resources, repr(statement.conditions)))
        sid = statement.sid if known is None else known.sid
        while known is None and sid in taken:
            sid += "Too"
        taken.add(sid)
        together = distinct((*(known.actions if known else ()), *statement.actions))
        groups[statement.resources, repr(statement.conditions)] = Statement(
            sid, together, statement.resources, statement.conditions
        )
    return list(groups.values())


def distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    """The values that are there, each once, in their order."""
    return tuple(dict.fromkeys(value for value in values if value))
