"""Every error this project raises on purpose, in one tree.

    DdbLakeError
    ├── UsageError              the caller asked for something that cannot be (exit status 2)
    │   └── ConfigError         the configuration is wrong or incomplete
    ├── TerminalError           trying again will not help; the message says what will
    │   ├── ExportError         an export is incomplete, damaged, or in a format we do not read
    │   ├── UndecodableError    bytes that are no record; the caller puts them into quarantine
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
    """Root of all errors raised on purpose by ddb_lake."""


class UsageError(DdbLakeError):
    """The caller asked for something that cannot be done; another call can."""


class ConfigError(UsageError):
    """The configuration is wrong or incomplete."""


class TerminalError(DdbLakeError):
    """Trying again will not help."""


class ExportError(TerminalError):
    """An export is incomplete, damaged, or in a format that is not read."""


class UndecodableError(TerminalError):
    """Bytes that are no record of a known envelope. `str()` of it is the quarantine reason."""


class DatabaseError(TerminalError):
    """A database refuses a statement or a row; what was begun was rolled back.

    `of_a_row`: the fault is in the data of some record, and other records may be applied.
    """

    def __init__(self, message: str, of_a_row: bool = False) -> None:
        super().__init__(message)
        self.of_a_row = of_a_row


class CheckFailed(TerminalError):
    """An invariant that must hold before a commit does not; nothing was committed."""


class TransientError(DdbLakeError):
    """Trying again may help."""


class CommitConflict(TransientError):
    """Another writer committed first: the plan is stale and must be made again."""


class UnreachableError(TransientError):
    """A service or the disk failed, after the attempts that its client makes: the stage is not tried again at once."""


class CommitStateUnknown(DdbLakeError):
    """The catalog did not answer whether a commit landed; its files must not be removed."""
