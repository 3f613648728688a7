"""The text of an error for logs and checks, without values of items."""

from __future__ import annotations

from ddb_lake.core.operations.library_errors import translate
from ddb_lake.core.operations.system import DISK_FULL, is_disk_full
from ddb_lake.errors import DdbLakeError

_SAFE_MESSAGES = ("botocore", "sqlalchemy", "urllib3", "requests")
"""Libraries whose messages name services, tables and files, never an item's values."""


def error_text(error: BaseException) -> str:
    """An error's message in one line; its type alone where the message may quote an item's values."""
    if is_disk_full(error) and not isinstance(error, DdbLakeError):
        return DISK_FULL
    if type(error).__module__ == "pyiceberg.exceptions":
        error = translate(error) or error
    is_safe = isinstance(error, DdbLakeError | OSError) or type(error).__module__.startswith(_SAFE_MESSAGES)
    text = " ".join(str(error).split()) if is_safe else ""
    return text or f"unexpected {type(error).__name__}"
