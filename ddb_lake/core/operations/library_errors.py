"""Translation of errors of libraries and of the operating system to `ddb_lake.errors`. Pure: class names and texts only.

pyarrow, DuckDB, pyiceberg, botocore and the operating system report a missing object, denied access and a failing
service with different classes and texts. Only this module has their list. A translation never repeats a message that
may contain an item's values: DuckDB quotes them if a data file is damaged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ddb_lake.core.operations.system import is_disk_full, is_out_of_memory
from ddb_lake.errors import (
    CommitConflict,
    CommitStateUnknown,
    ConfigError,
    DamagedError,
    DdbLakeError,
    DeniedError,
    MemoryLimitError,
    TerminalError,
    TransientError,
    UnreachableError,
)

_AWS_ERROR = re.compile(r"AWS Error (?P<code>[A-Z_]+)(?: \(HTTP status (?P<status>\d+)\))?")
_BUCKET_AND_KEY = re.compile(r"key '(?P<key>[^']*)' in bucket '(?P<bucket>[^']*)'")
_MISSING_PATH = re.compile(r"Path does not exist '(?P<path>[^']+)'")
"""A message of pyarrow, with bucket and key for an object."""

_HTTP_STATUS = re.compile(r"\bHTTP (?:status )?(?:code )?(?P<a>[1-5]\d\d)\b|: (?P<b>[1-5]\d\d) \(")
_PATH = re.compile(r"""["'](?P<path>(?:s3[an]?://|https?://|file://|/)[^"'\n]+)["']""")

_TRANSIENT_CODES = {
    "SLOW_DOWN", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE", "THROTTLING", "REQUEST_TIMEOUT", "REQUEST_TIME_TOO_SKEWED",
    "NETWORK_CONNECTION", "REQUEST_EXPIRED", "OPERATION_ABORTED",
}  # fmt: skip
_DENIED_CODES = {
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT", "INVALID_SIGNATURE",
    "MISSING_AUTHENTICATION_TOKEN", "INVALID_CLIENT_TOKEN_ID", "EXPIRED_TOKEN", "OPT_IN_REQUIRED", "VALIDATION",
}  # fmt: skip
_MISSING_CODES = {"NO_SUCH_KEY", "NO_SUCH_BUCKET", "RESOURCE_NOT_FOUND"}

_MISSING_TEXTS = (
    "no files found that match",
    "no such file or directory",
    "failed to open local file",
    "does not exist",
)
_DENIED_TEXTS = ("permission denied", "operation not permitted")
_TRANSIENT_TEXTS = (
    "connection", "timed out", "timeout", "could not establish", "couldn't resolve", "network", "curlcode", "try again",
    "too many open files", "temporarily", "ssl", "request was cancelled",
)  # fmt: skip
_DAMAGED_TEXTS = (
    "parquet", "magic bytes", "decompression failure", "corrupted", "out of buffer", "thrift", "invalid string encoding",
    "failed to read file", "bit width", "dictionary", "page header", "unexpected end", "couldn't deserialize", "avro",
)  # fmt: skip
_DUCKDB_OTHER_FAULTS = {
    "BinderException",
    "CatalogException",
    "ParserException",
    "ConstraintException",
    "OutOfMemoryException",
}


def translate(error: BaseException, uri: str | None = None, table: str | None = None) -> DdbLakeError | None:
    """Translate an error of a library or the operating system.

    Args:
        error: as it was raised.
        uri: the file that was read or written, if it is known; otherwise it comes from the error's text.
        table: the table that the file belongs to, if it is known.

    Returns:
        The translation; None if the error is a `DdbLakeError` already, or has no translation.
    """
    if isinstance(error, DdbLakeError):
        return None
    if is_out_of_memory(error):
        return MemoryLimitError()
    text, origin = str(error), type(error).__module__.partition(".")[0].lstrip("_")
    file = uri or _uri_in_message(text)
    if is_disk_full(error):
        return None
    if type(error).__module__ == "pyiceberg.exceptions":
        return _translate_catalog_error(error, table)
    if isinstance(error, OSError) or origin == "duckdb":
        return _translate_storage_error(error, text, file, table) or _translate_duckdb_error(error, text, file, table)
    return None


GET_CREDENTIALS = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or log in with `aws sso login`"
"""The next step without credentials for AWS."""

_NOT_SET_UP = {
    "NoCredentialsError": GET_CREDENTIALS,
    "PartialCredentialsError": GET_CREDENTIALS,
    "ProfileNotFound": GET_CREDENTIALS,
    "NoRegionError": "set AWS_REGION, AWS_DEFAULT_REGION, or the profile's `region`",
}
"""The next step for errors of botocore that say nothing of AWS: this process is not set up to call it."""


def translate_aws(error: BaseException) -> DdbLakeError | None:
    """Translate an error of botocore, whose messages name services and requests, never an item's values.

    Returns:
        ConfigError if this process is not set up to call AWS, TerminalError for a refusal, UnreachableError for any other
        error of botocore; None for an error of another library.
    """
    name, text = type(error).__name__, _one_line(str(error))
    if type(error).__module__.partition(".")[0] != "botocore":
        return None
    if name in _NOT_SET_UP:
        return ConfigError(f"AWS cannot be called: {text}", hint=_NOT_SET_UP[name])
    if hasattr(error, "response"):
        return TerminalError(f"AWS refuses: {text}", hint="`ddb-lake doctor` shows what is missing")
    return UnreachableError(f"AWS cannot be reached: {text}")


def translate_commit(error: BaseException, table: str) -> DdbLakeError | None:
    """Translate an error of a catalog during a commit.

    Each kind of catalog reports a conflict in another way. An error after which it is not certain that nothing was committed
    is CommitStateUnknown.

    Args:
        error: as pyiceberg, SQLAlchemy, botocore or requests raised it.
        table: the table.

    Returns:
        The translation; None if the error is none of the catalog.
    """
    name, origin = type(error).__name__, type(error).__module__.partition(".")[0]
    if origin == "pyiceberg":
        if name in ("ServerError", "ServiceUnavailableError"):
            return CommitStateUnknown("the catalog failed during the commit", table=table)
        return _translate_catalog_error(error, table)
    if origin == "sqlalchemy":
        return _translate_sql_commit(error, table)
    if origin in ("botocore", "boto3"):
        return _translate_glue_commit(error, table)
    if origin in ("requests", "urllib3"):
        return CommitStateUnknown(f"the catalog did not answer the commit ({name})", table=table)
    return None


def _translate_sql_commit(error: BaseException, table: str) -> DdbLakeError:
    """An error of a SQL catalog. https://www.postgresql.org/docs/current/errcodes-appendix.html has the codes."""
    origin = getattr(error, "orig", None) or error
    text, state = _one_line(str(origin)), str(getattr(origin, "sqlstate", None) or "")
    if "locked" in text:  # SQLite reports a lock before it changes anything
        return TransientError(f"the catalog is in use: {text}", table=table)
    if state in ("40001", "40P01", "55P03"):  # serialization failure, deadlock, lock not available
        return CommitConflict(f"another writer committed at the same time: {text}", table=table)
    if state == "42501":
        return DeniedError(f"the catalog's database denies the commit: {text}", table=table)
    if state[:2] in ("22", "23", "25", "42"):  # the server refused the statement, so nothing was committed
        return TerminalError(f"the catalog's database refuses the commit: {text}", table=table)
    return CommitStateUnknown(f"the catalog failed: {text}", table=table)


def _translate_glue_commit(error: BaseException, table: str) -> DdbLakeError | None:
    """An error of Glue. https://docs.aws.amazon.com/glue/latest/webapi/API_UpdateTable.html lists them."""
    response = getattr(error, "response", None)
    if response is None:  # a broken connection or a timeout
        return CommitStateUnknown(f"Glue did not answer the commit ({type(error).__name__})", table=table)
    code = str(response.get("Error", {}).get("Code"))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "ConcurrentModificationException":
        return CommitConflict("another writer committed to the table first", table=table)
    if code in ("AccessDeniedException", "AccessDenied"):
        return DeniedError("Glue denies the commit", table=table)
    if status >= 500 or code == "OperationTimeoutException":
        return CommitStateUnknown(f"Glue failed during the commit ({code})", table=table)
    if "Throttl" in code or code == "ResourceNumberLimitExceededException":
        return TransientError(f"Glue limits requests ({code})", table=table)
    return None


def translate_uncaught(error: BaseException) -> DdbLakeError | None:
    """`translate` for an error that no step handled. A file that Python itself could not open may be the user's: None."""
    from_python = isinstance(error, OSError) and error.errno is not None and not _AWS_ERROR.search(str(error))
    return None if from_python and not is_out_of_memory(error) else translate(error)


@contextmanager
def reading(uri: str, table: str | None = None) -> Iterator[None]:
    """A block that reads a file of the lake: every error in it is translated to one that names the file.

    An error without another translation means that the file is damaged, for which readers of Avro and JSON raise many
    classes.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DdbLakeError):
            raise
        raise translate(error, uri, table) or _fallback(error, uri, table) from error


def _fallback(error: Exception, uri: str, table: str | None) -> DdbLakeError:
    if isinstance(error, OSError):
        return UnreachableError(f"it cannot be read now ({_one_line(str(error))})", uri=uri, table=table)
    return DamagedError(f"it is damaged ({type(error).__name__})", uri=uri, table=table)


def _translate_storage_error(
    error: BaseException, text: str, uri: str | None, table: str | None
) -> DdbLakeError | None:
    """Translate an error of a file system or an object store."""
    aws, lower = _AWS_ERROR.search(text), text.lower()
    code = aws["code"] if aws else ""
    status = _status(text, aws)
    if isinstance(error, FileNotFoundError) or code in _MISSING_CODES or status == 404:
        return DamagedError("it is not there", uri=uri, table=table)
    if isinstance(error, PermissionError) or code in _DENIED_CODES or status in (401, 403):
        return DeniedError("access is denied", uri=uri, table=table)
    if code in _TRANSIENT_CODES or status == 429 or status >= 500:
        return _unreachable(f"the store fails ({_one_line(code or f'HTTP {status}')})", uri, table)
    if isinstance(error, IsADirectoryError | NotADirectoryError) or "is a directory" in lower:
        return DamagedError("it is a folder, where a file was written", uri=uri, table=table)
    if (isinstance(error, OSError) and error.errno is None) or type(error).__name__ in ("IOException", "HTTPException"):
        if any(text in lower for text in _MISSING_TEXTS):
            return DamagedError("it is not there", uri=uri, table=table)
        if any(text in lower for text in _DENIED_TEXTS):
            return DeniedError("access is denied", uri=uri, table=table)
        if isinstance(error, ConnectionError | TimeoutError) or any(text in lower for text in _TRANSIENT_TEXTS):
            return _unreachable(f"it cannot be reached ({_one_line(text)})", uri, table)
    if isinstance(error, ConnectionError | TimeoutError):
        return _unreachable(f"it cannot be reached ({_one_line(text)})", uri, table)
    return None


_CONFLICTS = {
    "CommitFailedException",
    "ValidationException",
    "WaitingForLockException",
    "ConditionalCheckFailedException",
}
_ABSENT = {
    "NoSuchTableError", "NoSuchIcebergTableError", "NoSuchViewError", "NoSuchIdentifierError", "NoSuchNamespaceError",
    "NoSuchPropertyException", "NoSuchPlanTaskError",
}  # fmt: skip
_PRESENT = {
    "TableAlreadyExistsError",
    "ViewAlreadyExistsError",
    "NamespaceAlreadyExistsError",
    "NamespaceNotEmptyError",
}
_UNAUTHORIZED = {"UnauthorizedError", "AuthorizationExpiredError", "OAuthError", "SignError"}
_CATALOG_FAILS = {
    "ServerError", "ServiceUnavailableError", "TooManyRequestsError", "RESTError", "DynamoDbError", "GenericDynamoDbError",
}  # fmt: skip


def _translate_catalog_error(error: BaseException, table: str | None) -> DdbLakeError:
    """Translate an error of pyiceberg by its class. Its message names requirements and classes of the protocol, and is left out.

    The message stays in the cause, which `--debug` prints. https://py.iceberg.apache.org/reference/pyiceberg/exceptions/
    """
    name = type(error).__name__
    if name == "CommitStateUnknownException":
        return CommitStateUnknown("the catalog did not report whether it committed", table=table)
    if name in _CONFLICTS:
        return CommitConflict(
            "another writer committed to the table first", table=table, hint="plan again from its new state"
        )
    if name in _ABSENT:
        hint = "check `catalog.namespace`; `ddb-lake status` shows the tables that it has"
        return TerminalError("the catalog has no such table or namespace any more", table=table, hint=hint)
    if name in _PRESENT:
        return CommitConflict("another writer created or filled it first", table=table, hint="run it again")
    if name == "ValidationError":
        return DamagedError("its metadata is not what an Iceberg catalog writes", table=table)
    if name in _UNAUTHORIZED:
        hint = "check the credentials in `catalog.properties` and in the environment"
        return TerminalError("the catalog does not accept the credentials", table=table, hint=hint)
    if name == "ForbiddenError":
        hint = "give this identity access to the namespace and the table"
        return TerminalError("the catalog denies access", table=table, hint=hint)
    if name == "NotInstalledError":
        return ConfigError("a library that this catalog needs is not installed", hint="see `ddb-lake doctor`")
    if name in _CATALOG_FAILS:
        return UnreachableError(f"the catalog fails ({name})", table=table, hint="run it again later")
    hint = "check `catalog`; --debug shows what the catalog returned"
    return TerminalError(f"the catalog refuses the request ({name})", table=table, hint=hint)


def _unreachable(what: str, uri: str | None, table: str | None) -> UnreachableError:
    return UnreachableError(what if uri else f"a file of the lake: {what}", uri=uri, table=table)


def _translate_duckdb_error(error: BaseException, text: str, uri: str | None, table: str | None) -> DdbLakeError | None:
    """Translate an error of DuckDB about the bytes of a file, without its message."""
    name, lower = type(error).__name__, text.lower()
    if not type(error).__module__.lstrip("_").startswith("duckdb") or name in _DUCKDB_OTHER_FAULTS:
        return None
    if name == "IOException":
        return _unreachable(_one_line(text), uri, table)
    if any(text in lower for text in _DAMAGED_TEXTS):
        return DamagedError("it is damaged: its bytes are no Parquet file, or not all of it", uri=uri, table=table)
    return None


def _status(text: str, aws: re.Match[str] | None) -> int:
    if aws is not None:
        return int(aws["status"] or 0)
    found = _HTTP_STATUS.search(text)
    return int(found["a"] or found["b"]) if found else 0


def _uri_in_message(text: str) -> str | None:
    """The file that a message names."""
    place = _BUCKET_AND_KEY.search(text)
    if place:
        return f"s3://{place['bucket']}/{place['key']}"
    gone = _MISSING_PATH.search(text)
    if gone:
        return gone["path"] if gone["path"].startswith("/") else f"s3://{gone['path']}"
    path = _PATH.search(text)
    return path["path"] if path else None


def _one_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no message")[:300].rstrip(".;")
