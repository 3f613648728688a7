"""Every error this project raises on purpose, in one tree.

    DdbLakeError
    ├── UsageError              the caller asked for something that cannot be (exit status 2)
    │   ├── ConfigError         the configuration is wrong or incomplete
    │   └── MemoryLimitError    the operating system refuses memory to this process
    ├── TerminalError           trying again will not help; the message says what will
    │   ├── ExportError         an export is incomplete, damaged, or in a format we do not read
    │   ├── UndecodableError    bytes that are no record; the caller puts them into quarantine
    │   ├── DamagedError        a file of the lake is missing, or is not what was written
    │   ├── DeniedError         this identity may not read or write a file
    │   ├── DatabaseError       a database refuses a statement or a row; nothing of the file or step was applied
    │   └── CheckFailed         an invariant does not hold; nothing was committed
    ├── TransientError          trying again may help (network, throttling)
    │   ├── CommitConflict      another writer committed first; plan again from the new state
    │   └── UnreachableError    a service, or the disk, failed after all that was tried; later it may not
    └── CommitStateUnknown      the catalog did not say whether the commit landed; never clean up after it

A message says what happened, where (table, object, offset), what was expected against what was found,
and what to do next. It never carries an item's values.
"""

from __future__ import annotations


class DdbLakeError(Exception):
    """Root of all errors raised on purpose by ddb_lake.

    Args:
        message: what happened, where, what was expected and found, and the next step.
        uri: the file or object of the error, if there is one.
        table: the lake's table of the error, if it is known.
        hint: the next step alone, if it is known; it is part of the message.
    """

    transient = False
    """Whether the same call may succeed later without any change."""

    def __init__(
        self, *message: object, uri: str | None = None, table: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(*message)
        self.uri, self.table, self.hint = uri, table, hint


class UsageError(DdbLakeError):
    """The caller asked for something that cannot be done; another call can."""


class ConfigError(UsageError):
    """The configuration is wrong or incomplete."""


class MemoryLimitError(UsageError):
    """The operating system refuses memory to this process; DuckDB's own limit was not reached."""

    def __init__(self, message: str = "the operating system gives this process no more memory") -> None:
        hint = (
            "lower `memory`, or raise the limit of the process (`ulimit -v`, the container's or the host's memory);"
            " a larger `memory` makes it worse"
        )
        super().__init__(f"{message}: {hint}", hint=hint)


class TerminalError(DdbLakeError):
    """Trying again will not help."""


class ExportError(TerminalError):
    """An export is incomplete, damaged, or in a format that is not read."""


class UndecodableError(TerminalError):
    """Bytes that are no record of a known envelope. `str()` of it is the quarantine reason."""


RECOVER = (
    "Put the file back from a backup or from the bucket's earlier versions, or build the table again from landing:"
    " the guide `on-call` says how, under `Damaged files`"
)


class DamagedError(TerminalError):
    """A file of the lake is missing, or its bytes are not what was written. Waiting does not help.

    Args:
        what: the fault of the file, a clause about `it`.
        uri: the file; None if the library that read it does not name it.
        table: the table of the file.
        hint: how to recover.
    """

    def __init__(self, what: str, *, uri: str | None = None, table: str | None = None, hint: str = RECOVER) -> None:
        named = uri or "a file of the lake (`ddb-lake doctor` checks them all)"
        whose = f"{table}: " if table else ""
        self.what = what
        super().__init__(f"{whose}{named}: {what}. Waiting does not help. {hint}.", uri=uri, table=table, hint=hint)


class DeniedError(TerminalError):
    """This identity may not read or write a file."""

    def __init__(self, message: str, *, uri: str | None = None, table: str | None = None) -> None:
        hint = "Give this identity access to it: `ddb-lake iam` prints the policies. Waiting does not help"
        super().__init__(f"{message}. {hint}.", uri=uri, table=table, hint=hint)


class DatabaseError(TerminalError):
    """A database refuses a statement or a row; the transaction was rolled back.

    `of_a_row`: the fault is in the data of some record, and other records may be applied.
    """

    def __init__(self, message: str, of_a_row: bool = False) -> None:
        super().__init__(message)
        self.of_a_row = of_a_row


class CheckFailed(TerminalError):
    """An invariant that must hold before a commit does not; nothing was committed."""


class TransientError(DdbLakeError):
    """Trying again may help."""

    transient = True


class CommitConflict(TransientError):
    """Another writer committed first: the plan is stale and must be made again."""


class UnreachableError(TransientError):
    """A service or the disk failed, after the attempts that its client makes: the stage is not tried again at once."""


class CommitStateUnknown(DdbLakeError):
    """The catalog did not answer whether a commit landed; its files must not be removed."""
