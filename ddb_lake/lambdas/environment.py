"""The variables that a handler reads from its environment, declared: what is not declared is not read.

Each handler has its `VARIABLES` and reads `DDB_LAKE_…` through `given` alone; the stacks set no others, and all that are
required (a test compares them). AWS's own variables are boto3's to read. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ddb_lake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a handler's environment. `form`: what its value looks like, for who has to write one."""

    name: str
    form: str = "<value>"
    required: bool = False


def given(variables: Sequence[Variable], environment: Mapping[str, str]) -> dict[str, str]:
    """The declared variables that are set and not empty. Raises ConfigError naming required ones that are not."""
    values = {variable.name: environment.get(variable.name, "") for variable in variables}
    lacking = [variable.name for variable in variables if variable.required and not values[variable.name]]
    if lacking:
        raise ConfigError(f"the environment lacks {', '.join(lacking)}: {expected(variables)}")
    return {name: value for name, value in values.items() if value}


def expected(variables: Sequence[Variable]) -> str:
    """What must be set, in words."""
    return "expected " + " and ".join(f"{v.name}={v.form}" for v in variables if v.required)
