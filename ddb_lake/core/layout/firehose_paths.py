"""Keys of landed change objects: build and parse those of Firehose, and find the hour that a key belongs to.

Belongs here: Firehose's prefix expressions and object names. `export_manifest` has the keys of exports. Promises:
`parse_firehose_key` is the inverse of `firehose_key`. All instants are UTC. A stream with a CustomTimeZone writes its local time into
folders and names, and the key does not show it.

Prefixes: https://docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html
Names: https://docs.aws.amazon.com/firehose/latest/dev/s3-object-name.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, TypeAlias

from ddb_lake.errors import ConfigError

DEFAULT_LAYOUT = "yyyy/MM/dd/HH/"
"""Firehose appends this to a prefix that has no timestamp expression."""

_EXPRESSION = re.compile(r"!\{([A-Za-z]+):([^}]*)\}")
_PATTERN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")
_FILE = re.compile(
    r"(?P<stream>[A-Za-z0-9_.-]+)-(?P<version>\d+)-"
    r"(?P<at>\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)-"
    r"(?P<unique>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?P<extension>\.[^/]*)?\Z",
    re.IGNORECASE,
)
_TIME_AND_UNIQUE = re.compile(r"-\d{4}(?:-\d\d){5}-[0-9a-f]{8}-", re.IGNORECASE)
"""In every name that `_FILE` matches; other names are refused by it in less time."""

_HOUR_FOLDERS = (
    re.compile(r"(?:^|/)(\d{4})/(\d\d)/(\d\d)/(\d\d)(?=/)"),
    re.compile(r"(?:^|/)year=(\d{4})/month=(\d{1,2})/day=(\d{1,2})/hour=(\d{1,2})(?=/)"),
    re.compile(r"(?:^|/)dt=(\d{4})-?(\d\d)-?(\d\d)/(?:hr|hour)=(\d{1,2})(?=/)"),
)
_CONTINUED = re.compile(r"\d{4}/\d\d/\d\d/\d\d/")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_Kind: TypeAlias = Literal["text", "timestamp", "firehose", "partitionKeyFromLambda", "partitionKeyFromQuery"]


@dataclass(frozen=True, slots=True)
class FirehoseKey:
    """The parts of the name of an object that Firehose delivered. `delivered_at`: UTC, in whole seconds.

    Firehose puts no separator between a prefix without a final slash and the stream's name; `stream` begins with the end of
    the prefix then.
    """

    stream: str
    version: int
    delivered_at: datetime
    unique: str
    extension: str = ""


def expand_prefix(
    prefix: str,
    at: datetime,
    *,
    partition_keys: Mapping[str, str] | None = None,
    random: Callable[[], str] | None = None,
    error_output_type: str | None = None,
) -> str:
    """Evaluate a Firehose prefix at the arrival time of an object's oldest record.

    A prefix without a timestamp expression gets `yyyy/MM/dd/HH/` appended, as it stands (no slash is put
    between). With `error_output_type` it is an ErrorOutputPrefix: one without any expression gets
    `<type>/yyyy/MM/dd/HH/`, one with expressions gets nothing. `random` makes the 11 characters of each
    `!{firehose:random-string}`.

    Raises:
        ConfigError: Firehose would reject the prefix, or a value it needs is not given.
    """
    pieces = list(_pieces(prefix))
    if not any(kind == "timestamp" for kind, _ in pieces):
        pieces += _default_pieces(pieces, error_output_type)
    elif error_output_type is not None:
        _require_error_output_type(prefix, pieces)
    values = _Values(_utc(at), partition_keys or {}, random, error_output_type)
    return "".join(_expand(prefix, kind, text, values) for kind, text in pieces)


def firehose_key(prefix: str, stream: str, version: int, at: datetime, unique: str, extension: str = "") -> str:
    """The key of a delivered object: `prefix` already evaluated, `at` in UTC, `unique` a UUID's text."""
    return f"{prefix}{stream}-{version}-{_utc(at):%Y-%m-%d-%H-%M-%S}-{unique}{extension}"


def parse_firehose_key(key: str) -> FirehoseKey | None:
    """The parts of a key Firehose named, whatever its prefix; None if Firehose did not name it."""
    name = key.rpartition("/")[2]
    match = _FILE.search(name) if _TIME_AND_UNIQUE.search(name) else None
    if match is None:
        return None
    try:
        at = datetime(*map(int, match["at"].split("-")), tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:
        return None
    return FirehoseKey(match["stream"], int(match["version"]), at, match["unique"], match["extension"] or "")


def arrival_hour(key: str) -> datetime | None:
    """The UTC hour a landed change object belongs to; None when its key does not say.

    The time in Firehose's file name wins over folders, which people lay out as they like. Of folders,
    `yyyy/MM/dd/HH/`, `year=/month=/day=/hour=/` and `dt=/hr=/` are read; the innermost that is a date wins.
    """
    named = parse_firehose_key(key)
    if named is not None:
        return named.delivered_at.replace(minute=0, second=0)
    return _hour_of_folder(key[: key.rfind("/") + 1])


@lru_cache(maxsize=64)
def _hour_of_folder(folder: str) -> datetime | None:
    """The innermost hour in the folders of a key, which end with a slash; many objects have the same."""
    found = [match for pattern in _HOUR_FOLDERS for match in pattern.finditer(folder)]
    for match in sorted(found, key=re.Match.start, reverse=True):
        try:
            return datetime(*(int(part) for part in match.groups()), tzinfo=UTC)  # type: ignore[misc, arg-type]
        except ValueError:
            continue  # digits that are no date are part of some other name
    return None


def hour_folder_root(key: str) -> str | None:
    """What precedes the folders of the arrival hour in a key, such as `orders/` of `orders/2024/05/14/12/name`.

    The folders are those that `arrival_hour` reads. None if the key has none of them.
    """
    found = [match for pattern in _HOUR_FOLDERS for match in pattern.finditer(key)]
    return key[: max(found, key=re.Match.start).start(1)].rpartition("/")[0] + "/" if found else None


def is_below(root: str, uri: str) -> bool:
    """Whether `uri` is `root` or below it: `s3://b/orders/x` is below `s3://b/orders`, `s3://b/orders-old/x` is not."""
    return uri == root or uri.startswith(root if root.endswith("/") else f"{root}/")


def continues(root: str, uri: str) -> bool:
    """Whether `uri` continues `root`, which has no final slash, as Firehose continues such a prefix: yyyy/MM/dd/HH/.

    https://docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html
    """
    return uri.startswith(root) and _CONTINUED.match(uri, len(root)) is not None


def static_part(prefix: str) -> str:
    """The longest prefix without expressions below which all keys of a Firehose prefix lie.

    It ends with a slash unless the first expression is yyyy/MM/dd/HH/, which Firehose appends to a prefix by itself.
    """
    static, _, rest = prefix.partition("!{")
    if static.endswith("/") or rest.startswith(f"timestamp:{DEFAULT_LAYOUT.rstrip('/')}"):
        return static
    return static[: static.rfind("/") + 1]


def _pieces(prefix: str) -> Iterator[tuple[_Kind, str]]:
    """Split a prefix into literal texts and expressions, in order."""
    end = 0
    for match in _EXPRESSION.finditer(prefix):
        if match.start() > end:
            yield _literal(prefix, prefix[end : match.start()])
        namespace = match[1]
        if namespace not in ("timestamp", "firehose", "partitionKeyFromLambda", "partitionKeyFromQuery"):
            raise ConfigError(f"prefix {prefix!r}: namespace {namespace!r} is not one of Firehose's")
        yield namespace, match[2]  # type: ignore[misc]  # narrowed by the check above
        end = match.end()
    if end < len(prefix):
        yield _literal(prefix, prefix[end:])


def _literal(prefix: str, text: str) -> tuple[_Kind, str]:
    if "!{" in text:
        raise ConfigError(f"prefix {prefix!r}: '!{{' begins no complete !{{namespace:value}} expression")
    return "text", text


def _default_pieces(pieces: list[tuple[_Kind, str]], error_output_type: str | None) -> list[tuple[_Kind, str]]:
    if error_output_type is None:
        return [("timestamp", DEFAULT_LAYOUT)]
    if any(kind != "text" for kind, _ in pieces):
        _require_error_output_type("".join(text for _, text in pieces), pieces)
        return []
    return [("text", f"{error_output_type}/"), ("timestamp", DEFAULT_LAYOUT)]


def _require_error_output_type(prefix: str, pieces: list[tuple[_Kind, str]]) -> None:
    if ("firehose", "error-output-type") not in pieces:
        raise ConfigError(f"error prefix {prefix!r} has expressions, so it must have !{{firehose:error-output-type}}")


@dataclass(frozen=True, slots=True)
class _Values:
    """The values of a prefix's expressions; as in `expand_prefix`."""

    at: datetime
    partition_keys: Mapping[str, str]
    random: Callable[[], str] | None
    error_output_type: str | None


def _expand(prefix: str, kind: _Kind, text: str, values: _Values) -> str:
    if kind == "text":
        return text
    if kind == "timestamp":
        return _format(text, values.at)
    if kind != "firehose" and text in values.partition_keys:
        return values.partition_keys[text]
    if text == "random-string" and values.random is not None:
        return values.random()
    if text == "error-output-type" and values.error_output_type is not None:
        return values.error_output_type
    raise ConfigError(f"prefix {prefix!r}: !{{{kind}:{text}}} has no value here")


def _format(pattern: str, at: datetime) -> str:
    """Format `at` by a Java DateTimeFormatter pattern: letters are fields, quoted text is literal."""
    parts: list[str] = []
    end = 0
    for match in _PATTERN.finditer(pattern):
        if match.start() != end:
            break
        end = match.end()
        parts.append(_field(pattern, match, at))
    if end != len(pattern):
        raise ConfigError(f"timestamp format {pattern!r}: a quote is not closed")
    return "".join(parts)


def _field(pattern: str, match: re.Match[str], at: datetime) -> str:
    if match[1] is not None:
        return match[1].replace("''", "'") or "'"
    if match[2] is None:
        if set(match[0]) & set("{}#[]"):
            raise ConfigError(f"timestamp format {pattern!r}: the characters {{ }} # [ ] are reserved, quote them")
        return match[0]
    letter, width = match[2], len(match[0])
    if letter in "ML" and width in (3, 4):
        return _MONTHS[at.month - 1][: 3 if width == 3 else None]
    if letter == "E" and width <= 4:
        return _DAYS[at.weekday()][: None if width == 4 else 3]
    if letter in "yu" and width == 2:
        return f"{at.year % 100:02d}"
    if letter == "S" and width <= 9:
        return f"{at.microsecond:06d}000"[:width]
    text = _textual(letter, width, at)
    if text is not None:
        return text
    number = _number(letter, at)
    if number is None or (width > 2 and letter not in "yuDnNA") or width > 19:
        raise ConfigError(f"timestamp format {pattern!r}: field {match[0]!r} is not supported")
    return str(number).rjust(width, "0")


def _textual(letter: str, width: int, at: datetime) -> str | None:
    if letter == "a" and width == 1:
        return "AM" if at.hour < 12 else "PM"
    if letter == "X" and width <= 5:
        return "Z"
    if letter == "x" and width <= 5:
        return "+00" if width == 1 else "+0000" if width in (2, 4) else "+00:00"
    if letter == "Z" and width <= 3:
        return "+0000"
    return "UTC" if letter in "zV" and width <= 3 else None


def _number(letter: str, at: datetime) -> int | None:
    nanos_of_day = ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000_000 + at.microsecond * 1000
    return {
        "y": at.year,
        "u": at.year,
        "M": at.month,
        "L": at.month,
        "d": at.day,
        "D": at.timetuple().tm_yday,
        "H": at.hour,
        "k": at.hour or 24,
        "K": at.hour % 12,
        "h": at.hour % 12 or 12,
        "m": at.minute,
        "s": at.second,
        "n": at.microsecond * 1000,
        "A": nanos_of_day // 1_000_000,
        "N": nanos_of_day,
        "Q": (at.month + 2) // 3,
        "q": (at.month + 2) // 3,
    }.get(letter)


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ConfigError("an instant without a time zone is ambiguous", hint="give it in UTC")
    return at.astimezone(UTC)
