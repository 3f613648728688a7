"""The key of hashed attributes: from an environment variable, Secrets Manager, or Systems Manager."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Final

from ddb_lake.aws.session import client
from ddb_lake.config.lake import HashKeySettings
from ddb_lake.core.decode.routing import arn_parts
from ddb_lake.core.operations.library_errors import translate_aws
from ddb_lake.errors import ConfigError

LEAST_BYTES: Final = 16
"""The shortest key. A shorter one can be found by trying."""


def read_hash_key(settings: HashKeySettings) -> bytes:
    """The key of hashes: the text without white space around it, in UTF-8, or the bytes of a binary secret.

    A secret or parameter is read once in a process.

    Raises:
        ConfigError: the key is missing or shorter than `LEAST_BYTES`, or AWS refuses to show it. The message does not have the key.
        UnreachableError: AWS does not answer.
    """
    key = _read(settings) if settings.env is None else os.environ.get(settings.env, "").strip().encode()
    if not key:
        raise ConfigError(f"hash_key: {settings.place} is not set or empty", hint=_hint(settings))
    if len(key) < LEAST_BYTES:
        raise ConfigError(
            f"hash_key: {settings.place} has {len(key)} bytes, and a key has at least {LEAST_BYTES}",
            hint="make one with `openssl rand -hex 32`",
        )
    return key


def _hint(settings: HashKeySettings) -> str:
    if settings.env is not None:
        return (
            f"export {settings.env}; a new key is made by `openssl rand -hex 32`, and every process needs the same one"
        )
    return "store a key there; `openssl rand -hex 32` makes one"


@lru_cache(maxsize=8)
def _read(settings: HashKeySettings) -> bytes:
    name = settings.secret or settings.parameter or ""
    region = arn_parts(name)[0] if name.startswith("arn:") else None
    try:
        if settings.secret is not None:
            answer = client("secretsmanager", region).get_secret_value(SecretId=name)
            text = answer.get("SecretString")
            return bytes(answer["SecretBinary"]) if text is None else str(text).strip().encode()
        found = client("ssm", region).get_parameter(Name=name, WithDecryption=True)
        return str(found["Parameter"]["Value"]).strip().encode()
    except Exception as error:
        known = translate_aws(error)
        if known is None:
            raise
        if isinstance(known, ConfigError):
            raise known from error
        action = "secretsmanager:GetSecretValue" if settings.secret is not None else "ssm:GetParameter"
        if hasattr(error, "response"):
            raise ConfigError(
                f"hash_key: {settings.place}: {known}",
                hint=f"check the name, the Region, and {action} for this identity",
            ) from error
        raise known from error
