"""The declared environment variables of a handler.

Each handler declares its `DDB_LAKE_…` variables in `VARIABLES` and reads them with `read_variables` alone. A test compares the
declarations with the variables that the stacks set. boto3 reads the AWS variables itself. Standard library only.
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ddb_lake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a handler's environment. `form`: an example of its value, for error messages."""

    name: str
    form: str = "<value>"
    required: bool = False


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
