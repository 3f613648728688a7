"""The settings of columns: how the values of an attribute are in columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from ddb_lake.config.base import Settings
from ddb_lake.core.protection.rules import Drop, Hash, Mask, Rule

_COLUMN_TYPE = re.compile(r"string|long|double|json|decimal\(38,\s*(?:\d|[12]\d|3[0-7])\)")


class MaskSettings(Settings):
    """How a value is masked: `****`, and its last characters."""

    keep_last: int = Field(
        0,
        ge=0,
        le=100,
        description="Characters at the end that stay; a value with no more characters than these shows none.",
    )


class ColumnSettings(Settings):
    """How the values of an attribute are in columns. Text in place of the mapping is the type."""

    type: str | None = Field(
        None, description="Type of the column: string, long, double, decimal(38,S) or json; default: from the values."
    )

    drop: bool = Field(False, description="Leave the attribute out: the lake has no value of it.")
    hash: bool = Field(False, description="Keep a keyed hash in place of the value; needs `hash_key` of the lake.")
    mask: MaskSettings | None = Field(
        None, description="Keep the last characters of the value alone: `{keep_last: 4}`, or true for none of them."
    )

    @field_validator("mask", mode="before")
    @classmethod
    def _from_flag(cls, mask: Any) -> Any:
        return ({} if mask else None) if isinstance(mask, bool) else mask

    @model_validator(mode="after")
    def _has_one_rule(self) -> Self:
        rules = [name for name in ("drop", "hash", "mask") if getattr(self, name) not in (False, None)]
        if len(rules) > 1:
            raise ValueError(f"{rules[0]} and {rules[1]}: an attribute has one rule")
        if rules and self.type is not None:
            raise ValueError(f"type and {rules[0]}: a dropped attribute has no column, and a hash or a mask is text")
        return self

    @property
    def rule(self) -> Rule | None:
        """What is done with the values before they enter the lake; None: nothing."""
        if self.drop:
            return Drop()
        if self.hash:
            return Hash()
        return None if self.mask is None else Mask(self.mask.keep_last)

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


def protecting_rules(columns: Mapping[str, ColumnSettings]) -> dict[str, Rule]:
    """The rules of protected attributes, by attribute."""
    return {path: rule for path, column in columns.items() if (rule := column.rule) is not None}
