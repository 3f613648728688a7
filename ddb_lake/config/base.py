"""The base class of settings, and the types of durations, memory sizes and locations.

pydantic's `timedelta` rejects `5m` and `48h`, and its `ByteSize` accepts numbers without a unit, which DuckDB rejects:
both types are defined here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from ddb_lake.core.layout.firehose_paths import static_part
from ddb_lake.core.operations.system import MEMORY_SIZE, memory_bytes
from ddb_lake.core.values.attributes import is_utf8

_UNITS: Final = (
    (1, ("s", "sec", "secs", "second", "seconds")),
    (60, ("m", "min", "mins", "minute", "minutes")),
    (3600, ("h", "hr", "hrs", "hour", "hours")),
    (86400, ("d", "day", "days")),
    (604800, ("w", "week", "weeks")),
)
_SECONDS: Final = {name: length for length, names in _UNITS for name in names}
_DURATION_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)[\s,]*")
_LEAST_MEMORY_MB = 320  # DuckDB's buffers for reading JSON need that much


class Settings(BaseModel):
    """Base of all settings: an unknown name is an error, and instances are immutable.

    Values that steps read often are derived once, as `cached_property`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_whole_characters(cls, given: Any) -> Any:
        return with_whole_characters(given)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed. pydantic copies derived values too; here the copy derives its own."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


def with_whole_characters(given: Any) -> Any:
    """A parsed YAML document whose surrogate pairs are characters. JSON writes a character beyond U+FFFF as two escapes
    (`\\ud83d\\udd11`), and YAML reads each as a code point of its own. Raises ValueError for a lone surrogate."""
    if isinstance(given, str) and not is_utf8(given):
        try:
            return given.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise ValueError(f"{given!a} has a lone surrogate, which is no character of Unicode") from None
    if isinstance(given, dict):
        return {with_whole_characters(name): with_whole_characters(member) for name, member in given.items()}
    if type(given) in (list, tuple):
        return type(given)(with_whole_characters(member) for member in given)
    return given


def seconds(text: str) -> int:
    """Seconds of a duration such as `90s`, `5 minutes`, `1h30m` or `7d`. Raises ValueError, also for parts of a second."""
    spelled, position, total = text.strip().lower(), 0, Fraction(0)
    while part := _DURATION_PART.match(spelled, position):
        if part[2] not in _SECONDS:
            break
        total += Fraction(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if not spelled or position < len(spelled) or total.denominator != 1:
        unit = f"; a number needs a unit: {spelled}s, {spelled}m" if spelled.isdigit() else ""
        raise ValueError(f"{text!r} is no duration such as 90s, 5m, 48h or 7d{unit}")
    return int(total)


def _checked_duration(given: Any) -> Any:
    """A duration as text. YAML reads a number without a unit as a number."""
    if isinstance(given, (str, int)) and not isinstance(given, bool):
        seconds(str(given))
    return given


Duration = Annotated[str, BeforeValidator(_checked_duration)]
"""A duration: `90s`, `5m`, `48h`, `7d`, `1h30m`, `2 hours`. `seconds` converts it."""


def _listed(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed, json_schema_input_type=tuple[str, ...] | str)]
"""A list of texts. One text alone is a list of one."""


def _checked_memory(text: str) -> str:
    if not MEMORY_SIZE.fullmatch(text) or memory_bytes(text) < _LEAST_MEMORY_MB * 10**6:
        raise ValueError(f"{text!r} is no size such as 512MB or 4GB, of at least {_LEAST_MEMORY_MB}MB")
    return text


Memory = Annotated[str, AfterValidator(_checked_memory)]
"""A size of memory: `512MB`, `4GB`."""


_SCHEME = re.compile(r"[sS]3[anAN]?(?=:)|[A-Za-z][A-Za-z0-9+.\-]*(?=:/|:[^/\\\\]*:)")


def _checked_location(text: str) -> str:
    """Validate a folder or S3 prefix. Raises ValueError; the message states what to write instead."""
    if text != text.strip() or not text or any(ord(char) < 32 for char in text):
        raise ValueError(f"{text!r} is empty, or has spaces around it or control characters")
    if "!{" in text:
        raise ValueError(
            f"{text!r}: Firehose's expressions (`!{{...}}`) are not allowed here; write the prefix that all keys begin with,"
            f" {static_part(text) or './'!r}"
        )
    scheme = _SCHEME.match(text)
    if scheme is not None and not re.match(r"(s3|file)://", text):
        raise ValueError(f"{text!r}: a location is a folder, file:///folder or s3://bucket/prefix{_suggestion(text)}")
    if text.startswith("s3://") and not re.match(r"s3://[A-Za-z0-9][A-Za-z0-9._\-]*(/|$)", text):
        raise ValueError(f"{text!r}: s3:// needs a bucket's name after it")
    if re.search(r"/\*+$", text):
        raise ValueError(f"{text!r} ends with a wildcard; write the prefix alone, {text.rstrip('*')!r}")
    return text


def _suggestion(text: str) -> str:
    """The end of a message: the S3 prefix that was probably meant."""
    arn = re.match(r"arn:aws[a-z\-]*:s3:::(.+)", text)
    host = re.match(r"https?://([a-z0-9.\-]+)\.s3[.\-][a-z0-9.\-]*amazonaws\.com/?(.*)", text)
    other = re.match(r"(?:s3[an]?|S3[AN]?):/*(.+)", text)
    found = arn[1] if arn else f"{host[1]}/{host[2]}" if host else other[1] if other else None
    return "" if found is None else f"; write s3://{found}"


Location = Annotated[str, AfterValidator(_checked_location)]
"""The location of objects: a folder, `file://` or `s3://bucket/prefix`, without expressions and wildcards."""
