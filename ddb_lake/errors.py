"""Every error that this project raises on purpose, in one tree.

    DdbLakeError
    ├── UsageError              the caller requested something that cannot be done (exit status 2)
    │   ├── ConfigError         the configuration is wrong or incomplete
    │   └── MemoryLimitError    the operating system refuses memory to this process
    ├── TerminalError           another attempt fails too; the message says what helps
    │   ├── ExportError         an export is incomplete, damaged, or in a format that is not read
    │   ├── UndecodableError    bytes that are no record; the caller puts them into quarantine
    │   ├── DamagedError        a file of the lake is missing, or is not what was written
    │   ├── DeniedError         this identity may not read or write a file
    │   ├── DatabaseError       a database refuses a statement or a row; nothing of the file or step was applied
    │   └── CheckFailed         an invariant does not hold; nothing was committed
    ├── TransientError          another attempt may succeed (network, throttling)
    │   ├── CommitConflict      another writer committed first; plan again from the new state
    │   └── UnreachableError    a service or the disk failed after several attempts; a later run may succeed
    └── CommitStateUnknown      the catalog did not report whether the commit succeeded; never remove its files

The attributes of an error say what happened, and its message is built from them:

    table orders: s3://landing/a.gz, byte 512: no JSON, expected an object, found a list; correct the file

A message never has an item's values.
"""

from __future__ import annotations

from typing import Any, TypedDict, Unpack

__all__ = [
    "CheckFailed",
    "CommitConflict",
    "CommitStateUnknown",
    "ConfigError",
    "DamagedError",
    "DatabaseError",
    "DdbLakeError",
    "DeniedError",
    "ExportError",
    "Facts",
    "MemoryLimitError",
    "TerminalError",
    "TransientError",
    "UndecodableError",
    "UnreachableError",
    "UsageError",
]


class Facts(TypedDict, total=False):
    """The facts of an error, beside what happened.

    Attributes:
        table: the lake's table.
        uri: the file or object.
        offset: the place in the decompressed object, in bytes.
        expected: what was expected.
        found: what was found instead.
        hint: the next step, a clause in the imperative.
    """

    table: str | None
    uri: str | None
    offset: int | None
    expected: object
    found: object
    hint: str | None


class DdbLakeError(Exception):
    """Root of all errors that ddb_lake raises on purpose.

    Each argument is also an attribute; it is None if it is not given. `str()` gives the message that is built from them.

    Args:
        what: what happened, a clause without its place and without the next step.
        facts: the facts that are known (`Facts`).
    """

    transient = False
    """Whether the same call may succeed later without any change."""

    table: str | None = None
    uri: str | None = None
    offset: int | None = None
    expected: object = None
    found: object = None
    hint: str | None = None

    def __init__(self, what: object = "", **facts: Unpack[Facts]) -> None:
        if unknown := facts.keys() - Facts.__annotations__.keys():
            raise TypeError(f"an error has no such facts: {', '.join(sorted(unknown))}")
        self.what = str(what)
        self.__dict__.update(facts)
        super().__init__(self.message())

    def message(self) -> str:
        """The message: the table, the file and the offset, what happened, and the next step, as far as each is known."""
        place = f"table {self.table}: " if self.table else ""
        if self.uri:
            place += f"{self.uri}{'' if self.offset is None else f', byte {self.offset}'}: "
        expected = "" if self.expected is None else f", expected {self.expected}"
        found = "" if self.found is None else f", found {self.found}"
        return f"{place}{self.what}{expected}{found}{f'; {self.hint}' if self.hint else ''}"

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with the built message in the place of `what`, and build it again.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[DdbLakeError], arguments: tuple[Any, ...], attributes: dict[str, Any]) -> DdbLakeError:
    """An error from another process."""
    error = kind.__new__(kind)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class UsageError(DdbLakeError):
    """The caller requested something that cannot be done; another call can."""


class ConfigError(UsageError):
    """The configuration is wrong or incomplete."""


class MemoryLimitError(UsageError):
    """The operating system refuses memory to this process; DuckDB's own limit was not reached."""

    def __init__(self, what: str = "the operating system gives this process no more memory") -> None:
        super().__init__(
            what,
            hint="lower `memory`, or raise the limit of the process (`ulimit -v`, the container's or the host's memory);"
            " a larger `memory` makes it worse",
        )

    def message(self) -> str:
        """What happened, and the next step."""
        return f"{self.what}: {self.hint}"


class TerminalError(DdbLakeError):
    """Another attempt fails too, until something is changed."""


class ExportError(TerminalError):
    """An export is incomplete, damaged, or in a format that is not read."""


class UndecodableError(TerminalError):
    """Bytes that are no record of a known envelope. `str()` of it is the quarantine reason."""


RECOVER = (
    "Put the file back from a backup or from the bucket's earlier versions, or build the table again from landing by"
    " `ddb-lake rebuild TABLE`; the guide `lost-files` says when to do which"
)


class DamagedError(TerminalError):
    """A file of the lake is missing, or its bytes are not what was written. A later attempt fails too.

    Args:
        what: the fault of the file, a clause about `it`.
        uri: the file; None if the library that read it does not name it.
        table: the table of the file.
        hint: how to recover.
    """

    def __init__(self, what: str, *, uri: str | None = None, table: str | None = None, hint: str = RECOVER) -> None:
        super().__init__(what, uri=uri, table=table, hint=hint)

    def message(self) -> str:
        """The table, the file, its fault, and how to recover."""
        table = f"{self.table}: " if self.table else ""
        file = self.uri or "a file of the lake (`ddb-lake doctor` checks them all)"
        return f"{table}{file}: {self.what}. Waiting does not help. {self.hint}."


class DeniedError(TerminalError):
    """This identity may not read or write a file."""

    def __init__(self, what: str, *, uri: str | None = None, table: str | None = None) -> None:
        hint = "Give this identity access to it: `ddb-lake iam` prints the policies. Waiting does not help"
        super().__init__(what, uri=uri, table=table, hint=hint)

    def message(self) -> str:
        """The table, the file, what is denied, and the next step."""
        table = f"{self.table}: " if self.table else ""
        return f"{table}{self.uri or 'a file of the lake'}: {self.what}. {self.hint}."


class DatabaseError(TerminalError):
    """A database refuses a statement or a row; the transaction was rolled back.

    Args:
        what: what the database refuses.
        is_row_error: whether the fault is in the data of one record, so that other records may be applied.
    """

    def __init__(self, what: str, is_row_error: bool = False) -> None:
        super().__init__(what)
        self.is_row_error = is_row_error


class CheckFailed(TerminalError):
    """An invariant that must hold before a commit does not; nothing was committed."""


class TransientError(DdbLakeError):
    """Another attempt may succeed."""

    transient = True


class CommitConflict(TransientError):
    """Another writer committed first: the plan is stale and must be made again."""


class UnreachableError(TransientError):
    """A service or the disk failed, after the attempts that its client makes. A step does not try again at once."""


class CommitStateUnknown(DdbLakeError):
    """The catalog did not report whether a commit succeeded; its files must not be removed."""
