"""The declared environment variables of a handler.

Each handler declares its `DDB_LAKE_…` variables in `VARIABLES` and reads them with `read_variables` alone. A test compares the
declarations with the variables that the stacks set. boto3 reads the AWS variables itself. Standard library only.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ddb_lake.errors import ConfigError

ACCOUNT_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a handler's environment. `form`: an example of its value, for error messages."""

    name: str
    form: str = "<value>"
    required: bool = False


BUCKET_OWNER: Final = Variable("DDB_LAKE_BUCKET_OWNER", "<account id>")


def expected_owner(values: Mapping[str, str]) -> dict[str, str]:
    """The parameter of S3's operations by which they fail if another account owns the bucket; none if no owner is set.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html

    Raises:
        ConfigError: the value is not an account id.
    """
    owner = values.get(BUCKET_OWNER.name, "")
    if not owner:
        return {}
    if len(owner) != ACCOUNT_DIGITS or not owner.isascii() or not owner.isdecimal():
        raise ConfigError(f"{BUCKET_OWNER.name} is {owner!r}: expected an account id of {ACCOUNT_DIGITS} digits")
    return {"ExpectedBucketOwner": owner}


def read_variables(variables: Sequence[Variable], environment: Mapping[str, str]) -> dict[str, str]:
    """The declared variables that are set and not empty. Raises ConfigError if a required one is missing."""
    values = {variable.name: environment.get(variable.name, "") for variable in variables}
    lacking = [variable.name for variable in variables if variable.required and not values[variable.name]]
    if lacking:
        raise ConfigError(f"the environment lacks {', '.join(lacking)}: {describe_required(variables)}")
    return {name: value for name, value in values.items() if value}


def describe_required(variables: Sequence[Variable]) -> str:
    """A text that names the required variables."""
    return "expected " + " and ".join(f"{v.name}={v.form}" for v in variables if v.required)
