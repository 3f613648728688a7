"""The settings of columns: how the values of an attribute are in columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Settings

_COLUMN_TYPE = re.compile(r"string|long|double|json|decimal\(38,\s*(?:\d|[12]\d|3[0-7])\)")


class ColumnSettings(Settings):
    """How the values of an attribute are in columns. Text in place of the mapping is the type."""

    type: str | None = Field(
        None, description="Type of the column: string, long, double, decimal(38,S) or json; default: from the values."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_type(cls, given: Any) -> Any:
        return {"type": given} if isinstance(given, str) else given

    @field_validator("type")
    @classmethod
    def _valid_type(cls, column_type: str | None) -> str | None:
        if column_type is not None and not _COLUMN_TYPE.fullmatch(column_type):
            raise ValueError(f"{column_type!r} is none of string, long, double, decimal(38,S) with S up to 37, json")
        return column_type and column_type.replace(" ", "")


def column_types(columns: Mapping[str, ColumnSettings]) -> dict[str, str]:
    """The types of the columns that have one in the configuration, by attribute."""
    return {path: column.type for path, column in columns.items() if column.type is not None}
