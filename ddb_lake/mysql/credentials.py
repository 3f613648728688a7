"""The password of a database: from the environment, from Secrets Manager, or a token signed by IAM.

It is in memory while a connection is opened, and never logged. The caller makes the AWS clients
(`make_client("secretsmanager")`), so this module does not need boto3.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddb_lake.errors import ConfigError

if TYPE_CHECKING:
    from ddb_lake.mysql.connection import Server


@dataclass(frozen=True, slots=True)
class Login:
    """The source of the password: exactly one of the three.

    Args:
        password_env: the name of an environment variable.
        secret_arn: a secret of Secrets Manager: the password itself, or a JSON document with `password`, as RDS creates.
            https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
        iam_auth: use a token that IAM signs, which is valid for 15 minutes.
            https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.html
    """

    password_env: str | None = None
    secret_arn: str | None = None
    iam_auth: bool = False

    def __post_init__(self) -> None:
        if sum(map(bool, (self.password_env, self.secret_arn, self.iam_auth))) != 1:
            raise ConfigError("aurora: give exactly one of password_env, secret_arn, iam_auth")

    def password(self, server: Server, environment: Mapping[str, str], make_client: Callable[[str], Any]) -> Password:
        """Fetch the password. Raises ConfigError if it is missing or the secret has another form."""
        if self.password_env:
            found = environment.get(self.password_env)
            if found is None:
                raise ConfigError(f"aurora: the environment variable {self.password_env} (password_env) is not set")
            return Password(found)
        if self.secret_arn:
            answer = make_client("secretsmanager").get_secret_value(SecretId=self.secret_arn)
            return Password(_in_secret(answer.get("SecretString"), self.secret_arn))
        token = make_client("rds").generate_db_auth_token(
            DBHostname=server.host, Port=server.port, DBUsername=server.user
        )
        return Password(token)


@dataclass(frozen=True, slots=True)
class Password:
    """A password that `repr` does not show."""

    text: str = field(repr=False)


def _in_secret(text: Any, arn: str) -> str:
    if not isinstance(text, str):
        raise ConfigError(f"aurora: the secret {arn} is binary; expected the password, or JSON with `password`")
    if not text.lstrip().startswith("{"):
        return text
    try:
        found = json.loads(text).get("password")
    except ValueError:
        return text
    if not isinstance(found, str):
        raise ConfigError(f"aurora: the secret {arn} is JSON without a text `password`")
    return found
