"""What all settings have in common, and how durations and sizes of memory are spelled."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

_DURATION = re.compile(r"(\d+)\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEAST_MEMORY_MB = 320  # below, DuckDB's buffers for reading JSON do not fit
_MEMORY = re.compile(r"([1-9]\d*) ?(MB|GB)")


class Settings(BaseModel):
    """Base of all settings: unknown names are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def seconds(text: str) -> int:
    """Seconds of a duration such as `90s`, `5m`, `48h` or `7d`. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no duration such as 90s, 5m, 48h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _checked_memory(text: str) -> str:
    match = _MEMORY.fullmatch(text)
    if not match or (match[2] == "MB" and int(match[1]) < _LEAST_MEMORY_MB):
        raise ValueError(f"{text!r} is no size such as 512MB or 4GB, of at least {_LEAST_MEMORY_MB}MB")
    return text


Memory = Annotated[str, AfterValidator(_checked_memory)]
"""How much memory may be taken: `512MB`, `4GB`."""


def memory_bytes(memory: Memory) -> int:
    """Bytes of a `Memory`."""
    match = _MEMORY.fullmatch(memory)
    assert match is not None, "checked when the settings were made"
    return int(match[1]) * {"MB": 10**6, "GB": 10**9}[match[2]]
